"""How many records are worked on at once follows what the models can use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import foveal
from foveal.models.scripted import Scripted, words_of
from foveal.models.wire import Reply, Request

METHOD = """
from foveal import Chat, Model, Record, Turn

async def twice(image: Record, vlm: Model) -> Record:
    one = await vlm.ask("first", image.images)
    two = await vlm.ask("second", image.images)
    return image.make(Chat((Turn("user", str(one)), Turn("assistant", str(two)))))
"""
ENOUGH = 20
"""More records than are let in at one slot."""


@dataclass
class Widening(Scripted):
    """A model with one slot until its first reply, then many; "second" is answered once enough were asked "first"."""

    slots: int = 1
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, request: Request) -> Reply:
        """Answer, "second" only late."""
        if words_of(request) == "second":
            async with asyncio.timeout(20):
                await self.reached.wait()
        reply = await super().send(request)
        self.slots = 64
        if sum(words_of(r) == "first" for r in self.asked) >= ENOUGH:
            self.reached.set()
        return reply


def test_a_reply_that_widens_the_limits_lets_records_in_before_any_ends(
    pictures: Callable[..., Path], tmp_path: Path
) -> None:
    method = tmp_path / "mine.py"
    method.write_text(METHOD)
    model = Widening(lambda _: "words")
    run = foveal.run(f"{method}:twice", pictures(30), model=model, out=tmp_path / "out")
    assert run.rows == 30
