"""Caption (MM-INF, 2503.08741): a description of the picture, asked for in varied words and checked against it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from foveal.models.model import Model
from foveal.prompts import beside
from foveal.record import Chat, Record, branches, keep, once
from foveal.steps.describe import described
from foveal.steps.judge import rated
from foveal.steps.text import plain

MAKES = Chat
P = beside(__file__, "caption_true", "caption_rich")


async def caption(
    image: Record,
    vlm: Model,
    *,
    samples: int = 1,
    temperature: float = 0.0,
    top_p: float = 1.0,
    max_tokens: int = 1024,
    true: float = 4,
    rich: float = 0,
) -> AsyncIterator[Record]:
    """Describe a picture.

    Args:
        image: a record with pictures; what else it holds is not used.
        vlm: sees the picture: describes, and judges what was written.
        samples: descriptions of each picture; with several, a temperature above 0 makes them differ.
        temperature: of descriptions.
        top_p: of descriptions that are sampled.
        max_tokens: longest description.
        true: lowest score for agreement with the picture, 0 for no check.
        rich: lowest score for how much is told, 0 for no check.
    """
    keep(image.images, "no picture")
    sampling = {"temperature": temperature, "max_tokens": max_tokens} | ({"top_p": top_p} if temperature > 0 else {})

    async def row(sample: int) -> Record:
        request, said = await described(image, vlm, sample, **sampling)
        text, scores = plain(said), dict[str, Any]()
        for name, at_least, images in (("rich", rich, ()), ("true", true, image.images)):
            if at_least > 0:
                prompt = P[f"caption_{name}"](caption=text)
                score = await rated(vlm, prompt, images, at_least, f"caption: not {name} enough")
                scores[f"caption_{name}"] = round(score, 3)
        return image.make(Chat((("user", request), ("assistant", text))), sample=sample, **scores)

    async for child in branches(once(row(sample)) for sample in range(samples)):
        yield child
