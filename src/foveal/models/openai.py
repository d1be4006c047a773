"""Any OpenAI-compatible server, or several that serve the same model: requests are spread, repeated and never lost."""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

import aiohttp

from foveal.errors import ModelFailed, ModelSetupError, Unreachable, nearest
from foveal.models import probe
from foveal.models.dialect import SERVERS, Dialect
from foveal.models.endpoint import IDLE_SECONDS, LOST_BEFORE_DEAD, Endpoint
from foveal.models.gate import Gate
from foveal.models.hooks import open_hook
from foveal.models.limits import Limiter, Outcome, Ticket
from foveal.models.reading import Fault
from foveal.models.spec import ModelSpec
from foveal.models.wire import Reply, Request
from foveal.picture import at_a_glance
from foveal.record import Image, digest

BACKOFF, BACKOFF_TOP = 0.25, 20.0


class OpenAIBackend:
    """A model behind one or several URLs.

    Args:
        spec: who, where and how patient; `spec.urls` names at least one.
        encode: turns a picture's bytes into (mime type, bytes that every server can decode).
    """

    def __init__(self, spec: ModelSpec, encode: Callable[[bytes], tuple[str, bytes]]) -> None:
        if not spec.urls:
            raise ModelSetupError(f"model {spec.model!r} needs a url, such as http://localhost:8000/v1")
        self._spec = spec
        self._model = spec.model
        self._shrinks = spec.max_pixels is not None
        self._url = partial(Image.data_url, encode=encode) if spec.max_pixels is None else Shrunk(encode)
        self.endpoints = [self._endpoint(u) for u in spec.urls]
        self._gate = Gate(self.endpoints)
        self._http: aiohttp.ClientSession | None = None
        self._hooking = False
        self._dark_since: float | None = None
        self._revivals: set[asyncio.Task[None]] = set()
        self._rng = random.Random()  # spreads retries in time; never part of what a result is

    def _endpoint(self, url: str) -> Endpoint:
        spec = self._spec
        return Endpoint(
            url,
            Dialect(spec.dialect if spec.dialect in SERVERS else "unknown"),
            Limiter(spec.concurrency),
            spec.key_env,
            spec.timeout,
        )

    def __repr__(self) -> str:
        return f"OpenAIBackend({self._model!r}, {self.endpoints})"

    @property
    def identity(self) -> str:
        """The model's name and revision, and a digest of settings that change what it says."""
        spec = self._spec
        settings = {"extra": spec.extra or None, "max_pixels": spec.max_pixels}
        changed = {k: v for k, v in settings.items() if v is not None}
        mark = f"+{digest(repr(sorted(changed.items())))[:8]}" if changed else ""
        return self._model + (f"@{spec.revision}" if spec.revision else "") + mark

    @property
    def slots(self) -> int:
        """How many requests the living endpoints take at once at present."""
        return sum(e.limiter.limit for e in self.endpoints if e.alive) or 1

    async def open(self, hooking: bool) -> None:
        """Find out who is there, what they serve and how they are spoken to.

        Raises:
            ModelSetupError: nobody is there, the key or the model's name is wrong, or hooking is impossible.
        """
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS, ttl_dns_cache=300)
        self._http = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        for endpoint in self.endpoints:
            endpoint.attach(self._http)
        self._hooking = hooking
        try:
            found = await asyncio.gather(*(self._ready(e) for e in self.endpoints), return_exceptions=True)
            for endpoint, error in zip(self.endpoints, found, strict=True):
                if isinstance(error, BaseException) and not isinstance(error, Fault):
                    raise error
                if error is not None:
                    self._gone(endpoint)
            self._agree(found)
        except BaseException:
            await self.close()
            raise

    async def _ready(self, endpoint: Endpoint) -> None:
        """Find out what an endpoint is and test what is asked of it.

        Raises:
            Fault: nobody is there.
            ModelSetupError: it cannot play its part.
        """
        endpoint.model = self._named(endpoint, await probe.survey(endpoint, self._spec))
        if self._hooking:
            endpoint.hook = await open_hook(endpoint, self._spec)

    def _agree(self, found: Sequence[object]) -> None:
        """Settle on one model that all living endpoints serve.

        Raises:
            ModelSetupError: none is alive, or they serve different ones.
        """
        if not (living := [e for e in self.endpoints if e.alive]):
            where = ", ".join(f"{e.name} ({why})" for e, why in zip(self.endpoints, found, strict=True))
            raise ModelSetupError(f"no server answers at {where}: start it, or correct the url")
        if len(names := {e.model for e in living}) > 1:
            raise ModelSetupError(f"the urls of one role serve different models ({', '.join(sorted(names))})")
        self._model = living[0].model

    def _named(self, endpoint: Endpoint, names: list[str]) -> str:
        if self._model:
            if names and self._model not in names and endpoint.dialect.server not in probe.LISTS_LOOSELY:
                raise ModelSetupError(f"{endpoint.name} does not serve {self._model!r}{nearest(self._model, names)}")
            return self._model
        if len(names) == 1:
            return names[0]
        offer = (
            f"serves {len(names)} models; name one of {', '.join(names[:24])}" if names else "lists no models; name one"
        )
        raise ModelSetupError(f"{endpoint.name} {offer}")

    async def close(self) -> None:
        """Let go of all connections."""
        for task in self._revivals:
            task.cancel()
        for endpoint in self.endpoints:
            endpoint.close()
        if self._http is not None:
            await self._http.close()

    # --- sending ---

    async def send(self, request: Request) -> Reply:
        """Send one request to whichever endpoint has room, again while that may help.

        Raises:
            ModelFailed: it cannot be answered.
            Unreachable: nobody has answered for `patience` seconds, or the key is no longer accepted.
        """
        await self._encode_ahead(request)
        trial = Trial(self._spec.attempts, self._spec.patience)
        while True:
            endpoint, ticket = await self._gate.enter(request.priority)
            try:
                reply = await endpoint.ask(request, self._url, self._spec.extra)
            except Fault as fault:
                await self._after(fault, endpoint, ticket, trial)
            except BaseException:
                self._gate.leave(endpoint, ticket, "void")
                raise
            else:
                endpoint.lost = 0
                self._gate.leave(endpoint, ticket, "ok", _kind(request, reply))
                return reply

    async def _encode_ahead(self, request: Request) -> None:
        # Decoding a turned photograph or a TIFF takes longer than a hundred requests: not on the event loop.
        for message in request.messages:
            for part in message.parts:
                if isinstance(part, Image) and not part.encoded and (self._shrinks or not at_a_glance(part.data())):
                    await asyncio.to_thread(self._url, part)

    async def _after(self, fault: Fault, endpoint: Endpoint, ticket: Ticket, trial: Trial) -> None:
        """Leave the gate after a fault; return when it is time to try again, else raise."""
        outcome: Outcome = "void" if fault.kind in ("wrong", "dead", "barred") or fault.status == 200 else "bad"
        try:
            if fault.kind == "busy":  # the place stays taken a moment, so that a full server is asked less
                await asyncio.sleep(min(trial.pause(fault), max(endpoint.limiter.typical, 0.05), 1.0))
        finally:
            if fault.kind == "dead":
                self._gone(endpoint)
            self._gate.leave(endpoint, ticket, outcome)
        if fault.kind == "broken" and fault.cause not in ("not JSON", "empty reply"):
            endpoint.lost += 1
            if endpoint.lost >= LOST_BEFORE_DEAD * max(1, endpoint.limiter.limit // 16):
                self._gone(endpoint)
        if fault.kind == "barred":
            raise Unreachable(f"{endpoint.name} {fault.cause}: {fault.detail}")
        if fault.kind == "wrong" or trial.over(fault):
            raise ModelFailed(fault.cause, fault.detail, fault.raw)
        await asyncio.sleep(trial.wait(fault, self._rng))

    # --- endpoints that are gone ---

    def _gone(self, endpoint: Endpoint) -> None:
        """Send nothing more to this endpoint until it answers again."""
        if not endpoint.alive:
            return
        endpoint.alive = False
        if not any(e.alive for e in self.endpoints):
            self._dark_since = _now()
        task = asyncio.get_running_loop().create_task(self._revive(endpoint))
        self._revivals.add(task)
        task.add_done_callback(self._revivals.discard)

    async def _revive(self, endpoint: Endpoint) -> None:
        pause = BACKOFF
        while not await self._back(endpoint):
            if self._dark_since is not None and _now() - self._dark_since >= self._spec.patience:
                where = ", ".join(e.name for e in self.endpoints)
                self._gate.close(Unreachable(f"no server has answered for {self._spec.patience:g} s at {where}"))
                return
            await asyncio.sleep(pause * self._rng.uniform(0.7, 1.3))
            pause = min(2 * pause, 10.0)
        endpoint.alive, endpoint.lost, self._dark_since = True, 0, None
        self._gate.pump()

    async def _back(self, endpoint: Endpoint) -> bool:
        """Whether an endpoint answers again and, if it was never met, can play its part."""
        if not await probe.answers(endpoint):
            return False
        try:
            if not endpoint.model or (self._hooking and endpoint.hook is None):
                await self._ready(endpoint)
        except (Fault, ModelSetupError):
            return False
        return endpoint.model == self._model


class Trial:
    """What one request has been through."""

    def __init__(self, attempts: int, patience: float) -> None:
        self._attempts, self._patience = attempts, patience
        self._failures = 0
        self._refused_since: float | None = None

    def pause(self, fault: Fault) -> float:
        """Return the seconds the server asks to wait, or a guess."""
        return 1.0 if fault.wait is None else fault.wait

    def over(self, fault: Fault) -> bool:
        """Count a fault; whether it was the last that is borne (`patience` seconds of being busy are)."""
        if fault.kind == "dead":
            return False  # the gate waits for the endpoint, and knows when to give up
        if fault.kind == "busy":
            self._refused_since = _now() if self._refused_since is None else self._refused_since
            return _now() + self.pause(fault) - self._refused_since > self._patience
        self._failures += 1
        return self._failures >= self._attempts

    def wait(self, fault: Fault, rng: random.Random) -> float:
        """Return the seconds to wait before the next attempt."""
        if fault.kind == "dead" or (fault.cause == "connection lost" and self._failures == 1):
            return 0.0
        if fault.kind == "busy":
            return self.pause(fault) * rng.uniform(0.9, 1.2)
        backoff: float = min(BACKOFF * 2.0 ** (self._failures - 1), BACKOFF_TOP)
        return max(fault.wait or 0.0, backoff * rng.uniform(0.5, 1.0))


class Shrunk:
    """Data URLs of pictures made smaller for one model; the last few are kept, as a record's calls come together."""

    def __init__(self, encode: Callable[[bytes], tuple[str, bytes]], keep: int = 64) -> None:
        self._encode, self._keep = encode, keep
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    def __call__(self, image: Image) -> bytes:
        """Return the picture's data URL."""
        if (known := self._kept.get(image.digest)) is None:
            known = Image.of(image.data()).data_url(self._encode)
            self._kept[image.digest] = known
            if len(self._kept) > self._keep:
                self._kept.popitem(last=False)
        return known


def _kind(request: Request, reply: Reply) -> int:
    """Return a number that requests of about the same work share: pictures or not, and the answer's length."""
    return 2 * reply.tokens_out.bit_length() + any(not isinstance(p, str) for m in request.messages for p in m.parts)


def _now() -> float:
    return asyncio.get_running_loop().time()
