"""Describing a picture: how it is asked for, and what of the reply can be used."""

from __future__ import annotations

from typing import Any

from foveal.models.model import Model, Text
from foveal.record import Chat, Record, keep
from foveal.steps.text import garbled, plain

DESCRIBE = (
    "Describe the picture in detail.",
    "What does this picture show? Tell me everything you can see.",
    "Write a thorough description of this image.",
    "Walk me through the picture: what is in it, where, and how does it look?",
    "Give a full account of what can be seen here.",
    "I cannot see this image. Describe it so that I can picture it.",
    "Explain the contents of the picture, the main things first and then the details.",
    "Look closely and describe the scene, its objects and how they are arranged.",
)
"""Requests for a description; our own wording."""


async def described(record: Record, vlm: Model, sample: int = 0, **sampling: Any) -> tuple[str, Text]:
    """Return a request, drawn for the sample, and what the model tells of the record's pictures.

    Args:
        record: has pictures.
        vlm: sees them.
        sample: number of the description.
        **sampling: of the reply.

    Raises:
        Dropped: the reply is garbled or was cut off at its token limit.
    """
    request = record.rng("describe", sample).choice(DESCRIBE)
    said = await vlm.ask(request, record.images, **sampling)
    keep(said.finish != "length", "caption: cut off at its token limit")
    keep(not garbled(plain(said)), "caption: garbled")
    return request, said


async def caption_of(record: Record, vlm: Model, **sampling: Any) -> str:
    """Return what a conversation already says of the picture (its last answer), else what the model tells of it.

    Raises:
        Dropped: there is no picture, or as `described`.
    """
    keep(record.images, "no picture")
    if isinstance(record.body, Chat) and record.body.answer.strip():
        return record.body.answer
    return plain((await described(record, vlm, **sampling))[1])
