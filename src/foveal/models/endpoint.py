"""One server behind one URL: what it is, whether it is there, and one exchange with it."""

from __future__ import annotations

import asyncio
import base64
import os
import urllib.request
from collections.abc import Mapping
from typing import Any, Protocol

import aiohttp
import orjson
from yarl import URL as Url

from foveal.errors import ModelSetupError
from foveal.models import body, plain, reading
from foveal.models.dialect import HOSTS, Dialect, suspects
from foveal.models.limits import Limiter
from foveal.models.reading import Fault
from foveal.models.wire import Reply, Request

REPLY_LIMIT = 4 * 2**20
"""Bytes of a reply that are read; no model says more than this."""
IDLE_SECONDS = 4.0
"""Connections idle for longer are not used again; many servers close theirs after 5 s."""
LOOPBACK = ("localhost", "127.0.0.1", "::1", "[::1]")
LOST_BEFORE_DEAD = 4


class Hook(Protocol):
    """A way to leave the user's turn open on one kind of server."""

    async def ask(self, endpoint: Endpoint, request: Request, url: body.URL) -> Reply:
        """Let the model continue the user's turn.

        Raises:
            Fault: it did not work.
        """


class Endpoint:
    """One server. Its URL may hold a password or a key; `name` does not.

    Attributes:
        name: the URL as it may be shown.
        model: the model's name there.
        alive: False while nobody answers.
        hook: how the user's turn is left open here, once that is tested.
    """

    def __init__(self, url: str, dialect: Dialect, limiter: Limiter, key_env: str = "", timeout: float = 300.0) -> None:
        given = _parsed(url)
        self.host = given.host or ""
        self._query = given.query
        self._base = given.with_user(None).with_query(None).with_fragment(None)
        self.name = str(self._base)
        key_env = key_env or HOSTS.get(self.host, ("", ""))[1]
        self.key_env = key_env
        self._key = os.environ.get(key_env, "").strip() if key_env else ""
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self._key:
            self._headers["Authorization"] = f"Bearer {self._key}"
        elif given.user:
            pair = f"{given.user}:{given.password or ''}".encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        self._secrets = [s for s in (self._key, given.password or "", *given.query.values()) if len(s) >= 4]
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=10)
        self._proxy = _proxy(self._base)
        self._chat = self.route("chat/completions")
        self.dialect, self.limiter = dialect, limiter
        self.model = ""
        self.alive = True
        self.lost = 0
        self.hook: Hook | None = None
        self._http: aiohttp.ClientSession | None = None
        clear = self._base.scheme == "http" and self._proxy is None
        self._pool = (
            plain.Pool(self._base.raw_host or "", self._base.port or 80, IDLE_SECONDS, REPLY_LIMIT) if clear else None
        )
        self._head = _head(self._base, self._headers)

    def __repr__(self) -> str:
        return f"Endpoint({self.name})"

    def attach(self, http: aiohttp.ClientSession) -> None:
        """Use this session from now on."""
        self._http = http

    def close(self) -> None:
        """Let go of the connections of its own."""
        if self._pool is not None:
            self._pool.close()

    def route(self, path: str, root: bool = False) -> Url:
        """Return the URL of a path under the base; under the server's root for those that are not of /v1."""
        base = self._base.parent if root and self._base.name == "v1" else self._base
        return base.joinpath(*path.split("/")).with_query(self._query)

    def scrubbed(self, text: str) -> str:
        """Return the text without this endpoint's secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    # --- exchanges ---

    async def exchange(
        self, url: Url, data: bytes | list[bytes] | None, timeout: aiohttp.ClientTimeout | None = None
    ) -> bytes:
        """POST `data` (whole or in pieces; GET when None) and return the body of a good answer.

        Raises:
            Fault: anything else.
        """
        assert self._http is not None, "open() first"
        method = "GET" if data is None else "POST"
        try:
            if data is not None and self._pool is not None:
                pieces = data if isinstance(data, list) else [data]
                return await self._in_the_clear(self._pool, url, pieces, timeout or self._timeout)
            async with self._http.request(
                method, url, data=_payload(data), headers=self._headers, timeout=timeout or self._timeout,
                allow_redirects=False, proxy=self._proxy,
            ) as answer:  # fmt: skip
                raw = await _read(answer)
                reading.check(answer.status, answer.headers, raw)
                return raw
        except Fault as fault:
            fault.detail, fault.raw = self.scrubbed(fault.detail), self.scrubbed(fault.raw)
            raise
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise _lost(error) from None

    async def _in_the_clear(
        self, pool: plain.Pool, url: Url, data: list[bytes], timeout: aiohttp.ClientTimeout
    ) -> bytes:
        head = self._head % url.raw_path_qs.encode()
        try:
            answer = await pool.post(head, data, timeout.total or 0.0)
        except plain.TooLarge as error:
            raise _too_large(error.args[0]) from None
        except plain.NotThere as error:
            raise Fault("dead", "connection refused", str(error)) from None
        if answer.status != 200:
            reading.check(answer.status, answer.headers, answer.body)
        return answer.body

    async def get(self, path: str, root: bool = False, timeout: float = 5.0) -> Any:
        """Return the JSON value at a path.

        Raises:
            Fault: there is none.
        """
        return reading.load(await self.exchange(self.route(path, root), None, aiohttp.ClientTimeout(total=timeout)))

    async def post(self, path: str, value: Mapping[str, Any], root: bool = False, timeout: float = 60.0) -> Any:
        """Post a JSON value and return the one that comes back.

        Raises:
            Fault: none does.
        """
        url = self.route(path, root)
        return reading.load(await self.exchange(url, orjson.dumps(value), aiohttp.ClientTimeout(total=timeout)))

    async def ask(self, request: Request, url: body.URL, extra: Mapping[str, Any]) -> Reply:
        """Send a request the way this server takes it.

        Raises:
            Fault: it did not work.
        """
        if not request.open_turn:
            return await self.chat(request, url, extra)
        if self.hook is None:
            raise Fault("wrong", "cannot hook", f"{self.name} was not tested for open turns")
        return await self.hook.ask(self, request, url)

    async def chat(self, request: Request, url: body.URL, extra: Mapping[str, Any]) -> Reply:
        """Send a chat request and read the reply; leave out what the server turns out not to take.

        Raises:
            Fault: it did not work.
        """
        fields = {**self.dialect.fields(request), **extra}
        for _ in range(8):
            sent = frozenset(fields)
            try:
                raw = await self.exchange(self._chat, body.chat(self.model, request, fields, url))
            except Fault as fault:
                fewer = self._fewer(fields, fault, frozenset(extra))
                if fewer is None:
                    raise
                fields = fewer
                continue
            self._learn(request, sent, extra)
            return reading.reply(raw, request)
        raise Fault("wrong", "bad request 400", "the server refuses one field after the other")

    def _fewer(self, fields: dict[str, Any], fault: Fault, extra: frozenset[str]) -> dict[str, Any] | None:
        """Return the fields to try next after a refusal, None when leaving more out is no use."""
        if fault.status not in (400, 422):
            return None
        if "max_tokens" in fields and "max_completion_tokens" in fault.detail:
            self.dialect.renamed["max_tokens"] = "max_completion_tokens"
            return {"max_completion_tokens" if k == "max_tokens" else k: v for k, v in fields.items()}
        out = suspects(fault.detail, frozenset(fields) - extra)
        if not out or (frozenset(fields) in self.dialect.proven and not out & GUIDING):
            return None
        return {k: v for k, v in fields.items() if k not in out}

    def _learn(self, request: Request, sent: frozenset[str], extra: Mapping[str, Any]) -> None:
        if sent in self.dialect.proven:
            return
        wanted = frozenset(self.dialect.fields(request))
        # What a server took before in another request it does not refuse as such: it minded this request's value.
        known = frozenset().union(*self.dialect.proven)
        self.dialect.refused |= wanted - sent - known
        self.dialect.proven.add(sent)


GUIDING = frozenset({"structured_outputs", "guided_choice", "regex", "grammar", "response_format"})


def _parsed(url: str) -> Url:
    try:
        given = Url(url)
        if given.scheme not in ("http", "https") or not given.host:
            raise ValueError
    except ValueError:
        raise ModelSetupError("a model's url must look like http://host:port/v1") from None
    path = given.path.rstrip("/").removesuffix("/chat/completions")
    return given.with_path(path or "/v1", keep_query=True)


def _head(base: Url, headers: Mapping[str, str]) -> bytes:
    """Return the head of a POST request with a place for the path.

    Raises:
        ModelSetupError: a key holds what cannot be sent.
    """
    fields = {"Host": base.authority, "User-Agent": "foveal", "Accept": "*/*", **headers}
    lines = [f"{name}: {value}" for name, value in fields.items()]
    if any(c in line for line in lines for c in "\r\n\0"):
        raise ModelSetupError("a model's key holds a line break")
    return b"POST %b HTTP/1.1\r\n" + "".join(f"{line}\r\n" for line in lines).replace("%", "%%").encode()


def _proxy(base: Url) -> Url | None:
    """Return the proxy the environment names for a host; never one for this machine."""
    host = base.host or ""
    if host in LOOPBACK or urllib.request.proxy_bypass(host):
        return None
    named = urllib.request.getproxies().get(base.scheme)
    return Url(named) if named else None


class _Bytes(aiohttp.BytesPayload):
    """A body of any size in one piece; several pictures easily pass what aiohttp warns of."""

    def __init__(self, value: bytes) -> None:
        super().__init__(b"", content_type="application/json")
        self._value, self._size = value, len(value)


def _payload(data: bytes | list[bytes] | None) -> bytes | _Bytes | None:
    data = b"".join(data) if isinstance(data, list) else data
    return data if data is None or len(data) < 2**20 else _Bytes(data)


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    """Read a body up to the limit.

    Raises:
        Fault: it is larger.
    """
    length = answer.content_length
    if length is not None and length <= REPLY_LIMIT:
        return await answer.read()
    pieces: list[bytes] = []
    size = 0
    while length is None and size <= REPLY_LIMIT:
        piece = await answer.content.readany()
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
        size += len(piece)
    answer.close()
    raise _too_large(b"".join(pieces))


def _too_large(start: bytes) -> Fault:
    shown = start[: reading.RAW_KEPT].decode("utf-8", "replace")
    return Fault("wrong", "reply too large", f"more than {REPLY_LIMIT // 2**20} MB", raw=shown)


def _lost(error: Exception) -> Fault:
    """Name a transport error; its own text may hold the URL with its secrets, so it is not shown."""
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        reason = getattr(error, "os_error", None)
        return Fault("dead", "connection refused", getattr(reason, "strerror", None) or type(error).__name__)
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return Fault("broken", "timed out")
    return Fault("broken", "connection lost", type(error).__name__)
