"""Who is let through, and where to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from foveal.models.gate import Gate
from foveal.models.limits import Limiter
from tests.models.servers import run


@dataclass
class Place:
    limiter: Limiter = field(default_factory=lambda: Limiter(pinned=1))
    alive: bool = True


def test_smaller_priority_first_and_in_order_within_it() -> None:
    async def work() -> list[str]:
        gate, order = Gate([Place()]), []

        async def one(name: str, priority: int) -> None:
            place, ticket = await gate.enter(priority)
            order.append(name)
            await asyncio.sleep(0)
            gate.leave(place, ticket, "ok")

        names = [("first", 9), ("late", 5), ("a", 1), ("b", 1), ("urgent", 0)]
        await asyncio.gather(*(one(n, p) for n, p in names))
        return order

    assert run(work()) == ["first", "urgent", "a", "b", "late"]


def test_the_place_with_most_room_is_taken_and_dead_ones_are_not() -> None:
    async def work() -> list[int]:
        places = [Place(Limiter(pinned=2)), Place(Limiter(pinned=4)), Place(Limiter(pinned=99), alive=False)]
        gate = Gate(places)
        for _ in range(6):
            await gate.enter(0)
        return [p.limiter.busy for p in places]

    assert run(work()) == [2, 4, 0]


def test_who_gives_up_waiting_takes_no_place() -> None:
    async def work() -> None:
        place = Place()
        gate = Gate([place])
        held = await gate.enter(0)
        waiting = [asyncio.create_task(gate.enter(0)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        gate.leave(*held, "ok")  # goes to the second
        waiting[1].cancel()  # which gives it up again, for the third
        await asyncio.gather(*waiting[:2], return_exceptions=True)
        assert (await waiting[2])[0] is place
        assert place.limiter.busy == 1

    run(work())


def test_a_closed_gate_turns_everyone_away() -> None:
    async def work() -> None:
        gate = Gate([Place(alive=False)])
        waiting = asyncio.create_task(gate.enter(0))
        await asyncio.sleep(0)
        gate.close(RuntimeError("shut"))
        for one in (waiting, gate.enter(0)):
            with pytest.raises(RuntimeError, match="shut"):
                await one

    run(work())
