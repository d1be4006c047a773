"""A server on loopback whose every answer, or failure to answer, is written in the test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import orjson
from aiohttp import web

from foveal.models.connect import ModelSpec
from foveal.models.openai import OpenAIBackend
from foveal.models.wire import Message, Request
from foveal.record import Image

T = TypeVar("T")
Chat = Callable[[dict[str, Any], int], Any]
PIXEL = Image.of(b"\x89PNG not really", "test")


def run(work: Coroutine[Any, Any, T], seconds: float = 20) -> T:
    return asyncio.run(asyncio.wait_for(work, seconds))


def encode(data: bytes) -> tuple[str, bytes]:
    return "image/png", data


def said(text: str | None, **more: Any) -> dict[str, Any]:
    message = {"role": more.pop("role", "assistant"), "content": text, **more.pop("message", {})}
    usage = {"prompt_tokens": more.pop("tokens", 7), "completion_tokens": 3}
    return {
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", **more}],
        "usage": usage,
    }


def answer(value: Any = None, status: int = 200, body: bytes | None = None, **headers: str) -> web.Response:
    raw = orjson.dumps(value) if body is None else body
    kind = headers.pop("kind", "application/json")
    return web.Response(body=raw, status=status, headers={"Content-Type": kind, **headers})


def error(status: int, message: str, **headers: str) -> web.Response:
    return answer({"error": {"message": message, "type": "x", "code": status}}, status, **headers)


class Server:
    """Answers POST /v1/chat/completions by `chat(body, nth)`, and further paths by `paths`."""

    def __init__(
        self,
        chat: Chat = lambda body, n: said("hello"),
        models: tuple[str, ...] = ("m",),
        owned_by: str = "test",
        paths: dict[str, Callable[[Any], Any]] | None = None,
        list_models: Callable[[], web.Response] | None = None,
        port: int = 0,
    ) -> None:
        self.chat, self.names, self.owned_by, self.paths, self.port = chat, models, owned_by, paths or {}, port
        self.list_models = list_models
        self.seen: list[dict[str, Any]] = []
        self.raw: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.busy = self.most = 0

    async def __aenter__(self) -> Server:
        app = web.Application(client_max_size=2**28)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        app.router.add_route("*", "/{path:.*}", self._other)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port).start()
        self.port = self.runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.runner.cleanup()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def _models(self, request: web.Request) -> web.Response:
        self.headers.append(dict(request.headers))
        if self.list_models:
            return self.list_models()
        return answer({"data": [{"id": n, "owned_by": self.owned_by} for n in self.names]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.headers.append(dict(request.headers))
        self.busy += 1
        self.most = max(self.most, self.busy)
        try:
            self.raw.append(await request.read())
            self.seen.append(orjson.loads(self.raw[-1]))
            return await self._finish(request, self.chat(self.seen[-1], len(self.seen)))
        finally:
            self.busy -= 1

    async def _finish(self, request: web.Request, made: Any) -> web.StreamResponse:
        if isinstance(made, Awaitable):
            made = await made
        if made == "reset":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return made if isinstance(made, web.StreamResponse) else answer(made)

    async def _other(self, request: web.Request) -> web.Response:
        if (handler := self.paths.get(request.path.strip("/"))) is None:
            return answer({"error": "no such path"}, 404)
        body = await request.read()
        made = handler(orjson.loads(body) if body else None)
        return made if isinstance(made, web.Response) else answer(made)


@contextlib.asynccontextmanager
async def backend(*servers: Server | str, hooking: bool = False, **spec: Any) -> AsyncIterator[OpenAIBackend]:
    urls = [s if isinstance(s, str) else s.url for s in servers]
    made = OpenAIBackend(ModelSpec(url=urls, **spec), encode)
    await made.open(hooking)
    try:
        yield made
    finally:
        await made.close()


def ask(text: str = "What?", image: bool = False, **more: Any) -> Request:
    sampling = more.pop("sampling", {"temperature": 0.0, "max_tokens": 64})
    parts = (PIXEL, text) if image else (text,)
    return Request((Message("user", parts),), sampling=sampling, **more)
