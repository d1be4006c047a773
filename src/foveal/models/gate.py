"""Where requests wait for a free place: the most urgent goes to the endpoint with the most room."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from foveal.models.limits import Limiter, Outcome, Ticket


class Place(Protocol):
    """Something with a limit, that may be gone for a while."""

    limiter: Limiter
    alive: bool


P = TypeVar("P", bound=Place)


class Gate(Generic[P]):
    """Lets requests through to places, smaller priority first, first come first served within one priority."""

    def __init__(self, places: Sequence[P]) -> None:
        self._places = places
        self._waiting: list[tuple[int, int, asyncio.Future[tuple[P, Ticket]]]] = []
        self._count = 0
        self._closed: Exception | None = None

    async def enter(self, priority: int) -> tuple[P, Ticket]:
        """Wait for a free place and take it; give it back with `leave`."""
        if self._closed:
            raise self._closed
        if not self._waiting and (place := self._freest()):
            return place, place.limiter.begin(_now())
        future: asyncio.Future[tuple[P, Ticket]] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._waiting, (priority, self._count, future))
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and not future.exception():
                self.leave(*future.result(), "void")
            raise

    def leave(self, place: P, ticket: Ticket, outcome: Outcome, kind: int = 0) -> None:
        """Give a place back and let the next ones through."""
        place.limiter.end(ticket, outcome, _now(), kind)
        self.pump()

    def pump(self) -> None:
        """Let through whoever there is room for."""
        while self._waiting and (place := self._freest()):
            future = heapq.heappop(self._waiting)[2]
            if not future.done():
                future.set_result((place, place.limiter.begin(_now())))

    def close(self, reason: Exception) -> None:
        """Turn away everyone who waits or comes."""
        self._closed = reason
        while self._waiting:
            if not (future := heapq.heappop(self._waiting)[2]).done():
                future.set_exception(reason)

    def _freest(self) -> P | None:
        best, most = None, 0.0
        for place in self._places:
            if place.alive and (free := place.limiter.free) > 0 and (share := free / place.limiter.limit) > most:
                best, most = place, share
        return best


def _now() -> float:
    return asyncio.get_running_loop().time()
