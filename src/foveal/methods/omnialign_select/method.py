"""Selecting pictures (OmniAlign-V, 2502.18411): how complex a picture is, and how many different things it shows.

The row step measures; two `percentile` steps in the recipe choose, by the user's own pool.
"""

from __future__ import annotations

import re
from typing import Any

from foveal.models.model import Model
from foveal.prompts import beside
from foveal.record import Image, Record, keep
from foveal.steps.complexity import measured
from foveal.steps.text import listed, plain

MAKES = Image
P = beside(__file__)

_GENERAL = frozenset(
    {"image", "picture", "photo", "photograph", "scene", "object", "objects", "thing", "things", "none"}
)


async def omnialign_select(
    image: Record,
    tagger: Model,
    *,
    most: int = 40,
    max_tokens: int = 256,
) -> Record:
    """Measure a picture: tags `complexity` (0 to 1, and its parts), `labels` (what is in it), `richness` (how many).

    Args:
        image: a record with a picture; of several, the first is measured. What else it holds stays as it is.
        tagger: sees the picture and names what is in it: any VLM, or a tagger behind the same door.
        most: labels that are counted; a model that goes on and on does not make a picture rich.
        max_tokens: longest list.
    """
    keep(image.images, "no picture")
    sizes = await measured(image.images[0])
    said = await tagger.ask(P.labels(most=most), image.images[:1], max_tokens=max_tokens)
    labels = names(said)[:most]
    how: dict[str, Any] = dict(sizes)
    return image.make(image.body, labels=labels, richness=len(labels), **how)


def names(text: str) -> list[str]:
    """Return the different names in a list, by lines or commas, in lower case and without articles and numbers."""
    parts = [part for line in listed(plain(text)) for part in re.split(r"[,;、，]|\band\b", line)]
    found = (
        re.sub(r"^(?:an?|the|some|several|many|two|three|four|five|six|\d+)\s+", "", part.strip(" .\"'*").casefold())
        for part in parts
    )
    short = (name for name in found if name and name not in _GENERAL and len(name.split()) <= 4)
    return list(dict.fromkeys(_singular(name) for name in short))


def _singular(name: str) -> str:
    """Return a name without its plural's s, so that a cup and cups are one thing."""
    return re.sub(r"(?<=[^su])s$", "", name) if len(name) > 3 else name
