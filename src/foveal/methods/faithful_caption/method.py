"""Faithful captions (MM-INF, 2503.08741): a description is taken apart, each part held against the picture alone.

Parts that are not true are taken out, or written again by the model that sees the picture; what was taken out stays
in the row's tags, so that it can be counted and read.
"""

from __future__ import annotations

from typing import Any, Literal

from foveal.models.model import Model
from foveal.prompts import beside
from foveal.record import Chat, Record, gather, keep
from foveal.steps.describe import DESCRIBE, caption_of
from foveal.steps.judge import FIVE
from foveal.steps.text import garbled, paragraphs, plain, told

MAKES = Chat
P = beside(__file__, "caption_true")


async def faithful_caption(
    image: Record,
    vlm: Model,
    judge: Model,
    *,
    unit: Literal["sentence", "paragraph"] = "sentence",
    true: float = 4,
    mend: Literal["remove", "rewrite"] = "remove",
    share: float = 0.5,
    least: int = 1,
    temperature: float = 0.0,
    max_tokens: int = 1024,
) -> Record:
    """Describe a picture and leave out what cannot be seen.

    Args:
        image: a picture, or a conversation about one whose last answer is taken for the description.
        vlm: sees the picture: describes, and writes parts again.
        judge: sees the picture: says how true each part is. Another model than `vlm` does not share its mistakes.
        unit: what is judged by itself; parts are judged at the same time and see the picture, not each other.
        true: lowest score of a part.
        mend: what happens to a part that is not true: it is taken out, or written again and judged once more.
        share: least share of the parts that is true at first; below it the description is dropped as a whole.
        least: fewest parts that remain.
        temperature: of the description.
        max_tokens: longest description.
    """
    text = await caption_of(image, vlm, temperature=temperature, max_tokens=max_tokens)
    blocks = [[part] if unit == "paragraph" else told(part) for part in paragraphs(text)]
    parts = [part for block in blocks for part in block]
    keep(parts, "caption: empty")

    async def score(part: str) -> float:
        return float(await judge.ask(P.caption_true(caption=part), image.images, out=FIVE))

    async def again(part: str) -> str:
        said = plain(await vlm.ask(P.rewrite(caption=text, part=part), image.images, max_tokens=max_tokens))
        return said if not garbled(said) and said != part and await score(said) >= true else ""

    scores = await gather(*(score(part) for part in parts))
    wrong = [part for part, value in zip(parts, scores, strict=True) if value < true]
    keep(len(wrong) <= (1 - share) * len(parts), "caption: too much of it is not true")
    mended = dict(zip(wrong, await gather(*(again(part) for part in wrong)), strict=True)) if mend == "rewrite" else {}
    left = [[mended.get(part, "") if part in wrong else part for part in block] for block in blocks]
    whole = "\n\n".join(joined for block in left if (joined := " ".join(part for part in block if part)))
    kept = sum(1 for block in left for part in block if part)
    keep(kept >= least, "caption: nothing true is left")
    tags: dict[str, Any] = {
        "parts": len(parts),
        "removed": [part for part in wrong if not mended.get(part)],
        "rewritten": [part for part in wrong if mended.get(part)],
        "true_share": round(1 - len(wrong) / len(parts), 3),
    }
    request = image.rng("describe").choice(DESCRIBE)
    if isinstance(image.body, Chat) and image.body.question.strip():
        request = image.body.question
    return image.make(Chat((("user", request), ("assistant", whole))), **tags)
