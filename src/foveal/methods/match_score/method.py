"""Match score (MM-INF, 2503.08741): how well a conversation's answers match its picture and questions, from 1 to 5."""

from __future__ import annotations

from typing import Any

from foveal.models.model import Model
from foveal.prompts import beside
from foveal.record import Chat, Record, gather, keep
from foveal.steps.describe import described
from foveal.steps.exchanges import exchanges
from foveal.steps.judge import FIVE
from foveal.steps.text import plain

MAKES = Chat
P = beside(__file__, "match")


async def match_score(
    chat: Record,
    judge: Model,
    *,
    at_least: float = 3.0,
    over: str = "match",
    max_tokens: int = 1024,
) -> Record:
    """Score a conversation, and keep it where it matches.

    Args:
        chat: a conversation about pictures, each of whose answers is scored; a bare picture is described first, by
            the judge, and the description scored.
        judge: sees the picture.
        at_least: lowest score, of the worst answer; 0 keeps all, to look at the distribution first.
        over: name of the tag that holds the score.
        max_tokens: longest description of a bare picture.
    """
    keep(chat.images, "no picture")
    keep(isinstance(chat.body, Chat) or chat.body is None, "no conversation")
    body = chat.body
    if not isinstance(body, Chat):
        request, said = await described(chat, judge, max_tokens=max_tokens)
        body = Chat((("user", request), ("assistant", plain(said))))
    found = exchanges(body)
    keep(found, "no answer to score")
    prompts = [P.match(instruction=e.question, answer=e.answer) for e in found]
    scores = await gather(*(judge.ask(prompt, chat.images, out=FIVE) for prompt in prompts))
    worst = min(scores)
    keep(worst >= at_least, "does not match the picture")
    tags: dict[str, Any] = {over: round(float(worst), 3), f"{over}_each": [round(float(s), 3) for s in scores]}
    return chat.make(body, read=scores[0].read, **tags)
