"""HTTP/1.1 in the clear, which is what a model's own server speaks: one request after another on each kept connection.

Less work for each request than a general client; aiohttp carries everything else (TLS, proxies). See decision 005.
"""

from __future__ import annotations

import asyncio
import socket
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from multidict import CIMultiDict

HEAD_LIMIT = 64 * 2**10


class Answer(NamedTuple):
    """What came back."""

    status: int
    head: bytes
    body: bytes

    @property
    def headers(self) -> CIMultiDict[str]:
        """The header fields."""
        lines = (line.decode("latin-1").partition(":") for line in self.head.split(b"\r\n")[1:])
        return CIMultiDict((name.strip(), value.strip()) for name, _, value in lines)


class NotThere(Exception):
    """No connection can be made; the system's own word is the text."""


class TooLarge(Exception):
    """The body is longer than allowed; the argument is its beginning."""


class Pool:
    """Connections to one server, kept while it lets them.

    Args:
        host: name or address.
        idle: seconds after which a connection that was not used is not used again.
        limit: bytes of a body that are read.
    """

    def __init__(self, host: str, port: int, idle: float, limit: int) -> None:
        self._host, self._port, self._idle, self._limit = host, port, idle, limit
        self._free: list[_Connection] = []
        self._all: set[_Connection] = set()

    async def post(self, head: bytes, body: Sequence[bytes], timeout: float) -> Answer:
        """Send a request and return the answer.

        Args:
            head: request line and header fields but Content-Length, each with its line end.
            body: in pieces, which are not copied.
            timeout: seconds for everything.

        Raises:
            NotThere: the server cannot be reached.
            ConnectionError: it went away, or does not speak HTTP.
            TimeoutError: it did not answer in time.
            TooLarge: more came than is read.
        """
        connection = self._kept() or await self._connect()
        try:
            length = b"Content-Length: %d\r\n\r\n" % sum(map(len, body))
            return await connection.exchange((head, length, *body), timeout)
        finally:
            if connection.reusable:
                self._free.append(connection)
            else:
                self._all.discard(connection)
                connection.close()

    def close(self) -> None:
        """Close all connections."""
        for connection in self._all:
            connection.close()
        self._all.clear()
        self._free.clear()

    def _kept(self) -> _Connection | None:
        oldest = asyncio.get_running_loop().time() - self._idle
        while self._free:
            connection = self._free.pop()
            if connection.reusable and connection.used >= oldest:
                return connection
            self._all.discard(connection)
            connection.close()
        return None

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            opening = loop.create_connection(lambda: _Connection(loop, self._limit), self._host, self._port)
            transport, connection = await asyncio.wait_for(opening, 10)
        except (OSError, TimeoutError) as error:
            raise NotThere(getattr(error, "strerror", None) or type(error).__name__) from None
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._all.add(connection)
        return connection


class _Connection(asyncio.Protocol):
    """One connection, with at most one request under way."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int) -> None:
        self._loop, self._limit = loop, limit
        self._transport: Any = None
        self._open = True
        self._waiting: asyncio.Future[Answer] | None = None
        self._have = b""
        self._head = b""
        self._status = 0
        self._length: int | None = None
        self._chunks: list[bytes] | None = None
        self._size = 0
        self._packed = False
        self._keep = True
        self.used = 0.0

    @property
    def reusable(self) -> bool:
        """Whether another request may follow."""
        return self._open and self._keep and self._waiting is None

    async def exchange(self, pieces: Sequence[bytes], timeout: float) -> Answer:
        """Send a request and wait for the answer."""
        waiting = self._waiting = self._loop.create_future()
        self._have, self._head = b"", b""
        timer = self._loop.call_later(timeout, self._fail, TimeoutError())
        try:
            self._transport.writelines(pieces)
            answer: Answer = await waiting
            return answer
        except asyncio.CancelledError:
            self._keep = False
            raise
        finally:
            timer.cancel()
            self._waiting = None
            self.used = self._loop.time()

    def close(self) -> None:
        """Close at once; nothing worth keeping is under way."""
        self._open = False
        if self._transport is not None:
            self._transport.abort()

    # --- what the transport tells ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self._open = False
        if self._head and self._length is None and self._chunks is None and error is None:
            self._done(self._have)  # a body that ends with the connection
        self._fail(ConnectionResetError())

    def data_received(self, data: bytes) -> None:
        if self._waiting is None or self._waiting.done():
            self.close()  # nobody asked
            return
        self._have = self._have + data if self._have else data
        try:
            self._read()
        except (ValueError, zlib.error):
            self._fail(ConnectionError("not HTTP"))

    # --- reading ---

    def _read(self) -> None:
        while not self._head:
            end = self._have.find(b"\r\n\r\n")
            if end < 0:
                if len(self._have) > HEAD_LIMIT:
                    raise ValueError
                return
            self._begin(self._have[:end])
            self._have = self._have[end + 4 :]
            if self._status < 200:  # an interim answer: the real one follows
                self._head = b""
        if self._chunks is not None:
            self._read_chunks(self._chunks)
        elif self._length is not None and len(self._have) >= self._length:
            self._keep = self._keep and len(self._have) == self._length
            self._done(self._have[: self._length])
        elif len(self._have) > self._limit:
            self._fail(TooLarge(self._have))

    def _begin(self, head: bytes) -> None:
        if not head.startswith(b"HTTP/1."):
            raise ValueError
        low = head.lower()
        self._head, self._status = head, int(head[9:12])
        self._chunks = [] if b"chunked" in _field(low, b"transfer-encoding") else None
        length = _field(low, b"content-length")
        if length and not length.isdigit():
            raise ValueError
        self._length = int(length) if length and self._chunks is None else None
        self._packed = _field(low, b"content-encoding") in (b"gzip", b"deflate")
        self._size = 0
        if self._status in (204, 304):
            self._length = 0
        ends = self._chunks is None and self._length is None
        said = _field(low, b"connection")
        self._keep = not ends and b"close" not in said and (head.startswith(b"HTTP/1.1") or b"keep-alive" in said)
        if self._length is not None and self._length > self._limit:
            self._fail(TooLarge(b""))

    def _read_chunks(self, chunks: list[bytes]) -> None:
        while (end := self._have.find(b"\r\n")) >= 0:
            size = int(self._have[:end].partition(b";")[0], 16)
            if size == 0:
                if (last := self._have.find(b"\r\n\r\n", end)) >= 0:  # trailers, if any, are nothing to us
                    self._keep = self._keep and last + 4 == len(self._have)
                    self._done(b"".join(chunks))
                return
            self._size += size
            if size < 0 or self._size > self._limit:
                self._fail(TooLarge(b"".join([*chunks, self._have[end + 2 :]])))
                return
            if len(self._have) < end + size + 4:
                self._size -= size
                return
            chunks.append(self._have[end + 2 : end + 2 + size])
            self._have = self._have[end + size + 4 :]

    def _done(self, body: bytes) -> None:
        if self._packed:  # though we did not ask for it
            body = zlib.decompressobj(wbits=47).decompress(body, self._limit + 1)
            if len(body) > self._limit:
                self._fail(TooLarge(body))
                return
        if self._waiting and not self._waiting.done():
            self._waiting.set_result(Answer(self._status, self._head, body))

    def _fail(self, error: Exception) -> None:
        if self._waiting and not self._waiting.done():
            self._keep = False
            self._waiting.set_exception(error)


def _field(low: bytes, name: bytes) -> bytes:
    """Return a header field's value out of a head in lower case, b"" when it is not there."""
    at = low.find(b"\r\n" + name + b":")
    return low[at + len(name) + 3 :].partition(b"\r\n")[0].strip() if at >= 0 else b""
