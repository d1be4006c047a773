"""Evolving prompts (MM-INF, 2503.08741): an instruction is criticised, improved and answered anew, if that pays.

How well instruction, answer and picture match is scored before and after; the gain decides.
"""

from __future__ import annotations

from typing import Any

from foveal.models.model import Model
from foveal.prompts import beside
from foveal.record import Chat, Record, Turn, keep
from foveal.steps.exchanges import Exchange, exchanges
from foveal.steps.judge import FIVE, rated
from foveal.steps.pairs import normal
from foveal.steps.propose import proposal
from foveal.steps.text import asking, garbled, plain

MAKES = Chat
P = beside(__file__, "match", "solvable")


async def evolve_prompt(
    seed: Record,
    vlm: Model,
    judge: Model,
    *,
    gain: float = 0.5,
    enough: float = 4.75,
    solvable: float = 3,
    rounds: int = 1,
    languages: tuple[str, ...] = ("English",),
    temperature: float = 0.7,
    max_tokens: int = 1024,
) -> Record:
    """Improve a conversation's instruction until its answer matches the picture better.

    Args:
        seed: a conversation whose first exchange is taken, or a bare picture about which something is asked first.
        vlm: sees the picture: criticises, improves, answers.
        judge: sees the picture: scores the match before and after. Another model than `vlm` does not judge itself.
        gain: least rise of the match score (1 to 5) for the new instruction and answer to be kept.
        enough: a match from which on nothing is changed: the row is kept as it is, with `evolved` false.
        solvable: lowest score for whether the picture suffices for the new instruction.
        rounds: how often it is tried; each starts from the last instruction, and the first that gains ends it.
        languages: of proposed questions; drawn from.
        temperature: of the new instruction.
        max_tokens: longest criticism and answer, each.
    """
    keep(seed.images, "no picture")
    first = await _first(seed, vlm, languages, max_tokens)
    before = await judge.ask(P.match(instruction=first.question, answer=first.answer), seed.images, out=FIVE)
    tags: dict[str, Any] = {"before": round(float(before), 3), "read": before.read}
    if before >= enough:
        body = Chat((Turn("user", first.question), Turn("assistant", first.answer)))
        return seed.make(body, evolved=False, after=tags["before"], **tags)
    now, after = first, before
    for _ in range(rounds):
        now = await _improved(seed, vlm, now, temperature, max_tokens)
        await rated(judge, P.solvable(instruction=now.question), seed.images, solvable, "new instruction: not solvable")
        after = await judge.ask(P.match(instruction=now.question, answer=now.answer), seed.images, out=FIVE)
        if after - before >= gain:
            break
    keep(after - before >= gain, "no better than before")
    body = Chat((Turn("user", now.question), Turn("assistant", now.answer)))
    lineage: dict[str, Any] = {"was": {"question": first.question, "answer": first.answer}}
    return seed.make(body, evolved=True, after=round(float(after), 3), **tags, **lineage)


async def _first(seed: Record, vlm: Model, languages: tuple[str, ...], max_tokens: int) -> Exchange:
    """Return the exchange to improve: the record's own, or one that the model makes up."""
    if isinstance(seed.body, Chat):
        found = exchanges(seed.body)
        keep(found, "no exchange")
        return found[0]
    keep(seed.body is None, "no conversation")
    said = await vlm.ask(proposal(P, seed, 0, languages), seed.images, temperature=1.0, max_tokens=256)
    keep(not garbled(plain(said)), "question: garbled")
    return await _answered(seed, vlm, plain(said), max_tokens)


async def _answered(seed: Record, vlm: Model, question: str, max_tokens: int) -> Exchange:
    reply = await vlm.ask(question, seed.images, max_tokens=max_tokens)
    keep(reply.finish != "length", "answer: cut off at its token limit")
    return Exchange((), Turn("user", question), reply)


async def _improved(seed: Record, vlm: Model, now: Exchange, temperature: float, max_tokens: int) -> Exchange:
    """Return a better instruction with its answer."""
    values = {"instruction": now.question, "answer": now.answer}
    criticism = plain(await vlm.ask(P.criticise(**values), seed.images, max_tokens=max_tokens))
    said = await vlm.ask(P.improve(**values, criticism=criticism), seed.images, temperature=temperature, max_tokens=256)
    asked = asking(said)
    keep(asked and not garbled(asked[0]), "new instruction: asks for nothing")
    keep(normal(asked[0]) != normal(now.question), "new instruction: the same as before")
    return await _answered(seed, vlm, asked[0], max_tokens)
