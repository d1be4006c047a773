"""Judging by a model: scores from 1 to 5, at one token of decoding where the server gives probabilities."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any

from foveal.errors import Dropped
from foveal.models.model import Model, Scale, Score
from foveal.prompts import Prompt
from foveal.record import Image, keep

FIVE = Scale(1, 5)


async def rated(judge: Model, prompt: Prompt, images: Sequence[Image], at_least: float, reason: str) -> Score:
    """Return the judge's score; the branch ends under `reason` where it is below `at_least`.

    Args:
        judge: who judges.
        prompt: asks for one number from 1 to 5.
        images: what the judge sees, () for what can be judged by the words alone.
        at_least: lowest score that is kept.
        reason: why the branch ends.

    Raises:
        Dropped: the score is too low.
    """
    score = await judge.ask(prompt, images, out=FIVE)
    keep(score >= at_least, reason)
    return score


async def objection(check: Awaitable[Any]) -> str:
    """Return the reason under which a check ends, "" where it passes: for parts whose failing ends nothing else."""
    try:
        await check
    except Dropped as end:
        return end.reason
    return ""
