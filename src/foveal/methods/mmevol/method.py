"""MMEvol (2409.05840): questions evolve over rounds, finer, deeper or in another form; what is no better is eliminated.

The judge sees the picture and compares with the round before (see the README beside this file for why both matter).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any, Literal

from foveal.errors import RecipeError
from foveal.methods.mmevol.evolution import (
    FORMS,
    SKILLS,
    USUAL_FORM,
    Direction,
    Evolved,
    Skill,
    boxes_of,
    invented,
    read,
)
from foveal.models.model import Model
from foveal.prompts import beside
from foveal.record import Chat, Record, Turn, branches, keep, once
from foveal.steps.exchanges import exchanges
from foveal.steps.judge import rated
from foveal.steps.pairs import normal
from foveal.steps.propose import proposal
from foveal.steps.text import garbled, plain

MAKES = Chat
P = beside(__file__, "answer_good")


async def mmevol(
    seed: Record,
    evolver: Model,
    judge: Model,
    *,
    directions: tuple[Direction, ...] = ("perception", "reasoning", "interaction"),
    rounds: int = 3,
    rows: Literal["each", "last"] = "each",
    turns: Literal["first", "each"] = "each",
    eliminate: bool = True,
    right: float = 4.0,
    improved: float = 3.5,
    boxes: str = "boxes",
    languages: tuple[str, ...] = ("English",),
    temperature: float = 1.0,
    max_tokens: int = 1024,
) -> AsyncIterator[Record]:
    """Evolve the exchanges of a conversation about a picture.

    Args:
        seed: a conversation, each exchange of which evolves by itself; for a bare picture one is made up.
        evolver: sees the picture and writes.
        judge: sees the picture, says whether an answer is right and whether the exchange is better than the one
            before. Another model than the evolver does not share its mistakes.
        directions: drawn from, anew for each exchange and round: finer "perception", deeper "reasoning", another form
            of "interaction". Equal thirds are the paper's best; a direction named twice is drawn twice as often.
        rounds: how often an exchange evolves, each time from the last version that was kept.
        rows: "each" kept version is a row, or the "last" of an exchange alone.
        turns: of a conversation, the "first" exchange or "each".
        eliminate: whether the judge is asked at all.
        right: lowest score of an answer against question and picture.
        improved: lowest score of the improvement on the version before (3: about the same).
        boxes: name of the tag with what a detector found, [{"label", "box": [left, top, right, bottom]}] from 0 to 1;
            coordinates that are neither there nor in the seed's words are not accepted.
        languages: of proposed questions; drawn from.
        temperature: of evolved exchanges (paper: 1).
        max_tokens: longest reply (paper: 4096).
    """
    if not directions or rounds < 1:
        raise RecipeError(f"mmevol: directions={list(directions)} needs one, rounds={rounds} at least 1")
    keep(seed.images, "no picture")
    found = boxes_of(seed.tags.get(boxes))

    async def evolve(now: Evolved, round_: int, direction: Direction) -> Evolved:
        def check(good: object, reason: str) -> None:
            keep(good, f"round {round_}: {reason}")

        values = {"question": now.question, "answer": now.answer, "boxes": found, "direction": direction}
        said = await evolver.ask(
            P.evolve(**values, forms=FORMS.items(), skills=SKILLS),
            seed.images, temperature=temperature, max_tokens=max_tokens,
        )  # fmt: skip
        check(said.finish != "length", "cut off at its token limit")
        new = read(said)
        check(new.question and not garbled(new.question), "no question could be read")
        check(normal(new.question) != normal(now.question), "the same question again")
        new = await filled(new)
        check(new.answer and not garbled(new.answer, 1), "no answer")
        check(not invented(new, (now.question, now.answer), found), "coordinates that were not given")
        return replace(new, form=new.form or USUAL_FORM) if direction == "interaction" else replace(new, form="")

    async def filled(new: Evolved) -> Evolved:
        """Fill in what the reply left out, for the price of what is missing."""
        if not new.answer:
            reply = await evolver.ask(new.question, seed.images, max_tokens=max_tokens)
            new = replace(new, answer=plain(reply) if reply.finish != "length" else "")
        if not new.skills and new.answer:
            prompt = P.skill(question=new.question, answer=new.answer, skills=SKILLS)
            new = replace(new, skills=(str(await evolver.ask(prompt, out=Skill)),))
        return new

    async def judged(new: Evolved, old: Evolved, round_: int) -> dict[str, Any]:
        if not eliminate:
            return {}
        why = f"round {round_}: "
        prompt = P.answer_good(instruction=new.question, answer=new.answer)
        true = await rated(judge, prompt, seed.images, right, why + "the answer is not right")
        prompt = P.improved(question=new.question, answer=new.answer, old_question=old.question, old_answer=old.answer)
        better = await rated(judge, prompt, seed.images, improved, why + "no improvement on the version before")
        return {"right": round(true, 3), "improved": round(better, 3), "read": better.read}

    async def lineage(number: int, first: Evolved) -> AsyncIterator[Record]:
        now = first

        async def version(round_: int) -> Record:
            nonlocal now
            direction = seed.rng("direction", number, round_).choice(directions)
            new = await evolve(now, round_, direction)
            scores = await judged(new, now, round_)
            tags = {"round": round_, "direction": direction, "exchange": number, "evolved_from": now.question}
            how: dict[str, Any] = {**_told(new), **tags, **scores}
            now = new
            return seed.make(Chat((Turn("user", new.question), Turn("assistant", new.answer))), **how)

        last = None
        async for row in branches(once(version(r)) for r in range(1, rounds + 1)):
            last = row
            if rows == "each":
                yield row
        if rows == "last" and last is not None:
            yield last

    starts = await _seeds(seed, evolver, languages, max_tokens)
    keep(starts, "no exchange to evolve")
    picked: Sequence[Evolved] = starts[:1] if turns == "first" else starts
    async for child in branches(lineage(number, first) for number, first in enumerate(picked)):
        yield child


def _told(new: Evolved) -> dict[str, Any]:
    """Return what a row's tags tell of an exchange."""
    lists = {"objects": list(new.objects), "skills": list(new.skills), "steps": list(new.steps)}
    return {**lists, "form": new.form}


async def _seeds(seed: Record, evolver: Model, languages: tuple[str, ...], max_tokens: int) -> list[Evolved]:
    """Return the exchanges to begin with: the conversation's, or one made up for a bare picture."""
    if isinstance(seed.body, Chat):
        return [Evolved(e.question, e.answer.strip()) for e in exchanges(seed.body)]
    keep(seed.body is None, "no conversation")
    asked = plain(await evolver.ask(proposal(P, seed, 0, languages), seed.images, temperature=1.0, max_tokens=256))
    keep(not garbled(asked), "seed: garbled")
    reply = await evolver.ask(asked, seed.images, max_tokens=max_tokens)
    keep(reply.finish != "length", "seed: cut off at its token limit")
    return [Evolved(asked, plain(reply))]
