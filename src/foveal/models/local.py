"""A network in this process: requests that come close together are answered in one batch, on one thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from foveal.errors import FovealError, ModelFailed, ModelSetupError
from foveal.models.wire import Message, Reply, Request
from foveal.record import Image

SENTINEL = "zq7 sentinel q7z"


class Engine(Protocol):
    """What answers: the embedded model, or any network that takes a batch of requests."""

    @property
    def identity(self) -> str:
        """Name and revision of the weights."""

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """Answer requests together; called from one thread."""

    def render(self, messages: Sequence[Message], open_turn: bool = False) -> str:
        """Return the chat template's text."""


class LocalBackend:
    """A Backend over an engine in this process."""

    def __init__(self, make: Callable[[], Engine], batch: int = 16, tick: float = 0.003) -> None:
        """Make a backend.

        Args:
            make: makes the engine; called once, in the engine's own thread, when it is first needed.
            batch: most requests answered at once.
            tick: seconds to wait for company after a request comes in.
        """
        self._make, self._batch, self._tick = make, batch, tick
        self._engine: Engine | None = None
        self._thread = ThreadPoolExecutor(1, "local-model")
        self._waiting: list[tuple[Request, asyncio.Future[Reply]]] = []
        self._worker: asyncio.Task[None] | None = None

    @property
    def identity(self) -> str:
        """Name and revision of the weights; the backend must be open."""
        return self._ready.identity

    @property
    def slots(self) -> int:
        """Two batches: one being answered, one being gathered."""
        return 2 * self._batch

    @property
    def _ready(self) -> Engine:
        if self._engine is None:
            raise ModelSetupError("the local model is asked before it is open")
        return self._engine

    async def open(self, hooking: bool) -> None:
        """Load the engine; with `hooking`, check that its template lets a user turn stay open.

        Raises:
            ModelSetupError: it cannot be loaded, or cannot hook though it is asked to.
        """
        if self._engine is None:
            self._engine = await asyncio.get_running_loop().run_in_executor(self._thread, self._make)
        if hooking:
            check_open_turn(self._engine)

    async def send(self, request: Request) -> Reply:
        """Answer one request, together with others that wait.

        Raises:
            ModelFailed: the engine could not answer it.
        """
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def close(self) -> None:
        """Let the thread end after its present batch; what still waits is cancelled."""
        for _, future in self._waiting:
            future.cancel()
        self._waiting.clear()
        if self._worker is not None and not self._worker.done():
            await asyncio.wait([self._worker])
        self._thread.shutdown(wait=False)

    async def _work(self) -> None:
        await asyncio.sleep(self._tick)
        while self._waiting:
            self._waiting.sort(key=lambda pair: pair[0].priority)
            taken, self._waiting = self._waiting[: self._batch], self._waiting[self._batch :]
            asked = [(r, f) for r, f in taken if not f.done()]
            if asked:
                answers = await asyncio.get_running_loop().run_in_executor(
                    self._thread, self._answer, [r for r, _ in asked]
                )
                for (_, future), answer in zip(asked, answers, strict=True):
                    if not future.done():
                        settle(future, answer)

    def _answer(self, requests: list[Request]) -> list[Reply | FovealError]:
        """Answer a batch; when it fails, answer one by one, so that one bad picture fails alone."""
        try:
            return list(self._ready.generate(requests))
        except Exception as error:
            if len(requests) > 1:
                return [answer for request in requests for answer in self._answer([request])]
            if isinstance(error, FovealError):
                return [error]
            return [ModelFailed("local model failed", f"{type(error).__name__}: {error}")]


def settle(future: asyncio.Future[Reply], answer: Reply | FovealError) -> None:
    """Give a future its answer."""
    if isinstance(answer, FovealError):
        future.set_exception(answer)
    else:
        future.set_result(answer)


def check_open_turn(engine: Engine) -> None:
    """Check by a sentinel that an open user turn ends with the user's words, the picture before them.

    Raises:
        ModelSetupError: the template closes the turn, trims it, or puts the picture after it.
    """
    message = Message("user", (Image.of(b"", "sentinel"), SENTINEL))
    opened, closed = engine.render([message], True), engine.render([message], False)
    before, found, after = opened.partition(SENTINEL)
    if not found or after or not before or not closed.startswith(opened) or closed == opened:
        raise ModelSetupError(f"{engine.identity} cannot leave a user's turn open: its template closes or trims it")
