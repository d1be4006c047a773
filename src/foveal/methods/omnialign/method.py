"""OmniAlign-V (2502.18411): open-ended questions by kind of picture: knowledge, inference, creation, infographics.

Instructions are augmented with constraints that code checks; answers about infographics are kept where two models
agree.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

from foveal.errors import RecipeError, nearest
from foveal.methods.omnialign.tasks import CREATIONS, DETAIL, LEVELS, TASKS, numbers_in
from foveal.models.model import Model
from foveal.prompts import beside
from foveal.record import Chat, Record, Turn, branches, gather, keep, once
from foveal.steps.constraints import FAMILIES, broken, draw
from foveal.steps.describe import described
from foveal.steps.judge import FIVE, rated
from foveal.steps.pairs import normal
from foveal.steps.text import asking, declines, garbled, listed, plain

MAKES = Chat
P = beside(__file__, "answer_good", "grounded")
Kind = Literal["natural", "art", "chart", "diagram", "poster"]
INFOGRAPHICS = ("chart", "diagram", "poster")


async def omnialign(
    image: Record,
    vlm: Model,
    llm: Model,
    second: Model,
    *,
    tasks: tuple[str, ...] = TASKS,
    infographics: bool = True,
    questions: int = 2,
    creations: int = 3,
    follow: Literal["also", "instead", "never"] = "also",
    constraints: int = 2,
    families: tuple[str, ...] = tuple(FAMILIES),
    enrich: bool = True,
    agree: float = 0.75,
    good: float = 0.0,
    temperature: float = 1.0,
    max_tokens: int = 512,
    answer_tokens: int = 1024,
) -> AsyncIterator[Record]:
    """Make questions and answers that fit the kind of picture.

    Args:
        image: a record with pictures; what else it holds is not used.
        vlm: sees the picture: sorts, asks, answers.
        llm: sees words only: chooses creative tasks, rewrites answers, extracts and compares facts.
        second: sees the picture: answers about infographics once more. Of another family than `vlm`, or agreement
            says little.
        tasks: for natural pictures: knowledge, inferential, creation, detail (works of art: knowledge of art).
        infographics: whether charts, diagrams and posters are worked on.
        questions: for each task but creation.
        creations: creative tasks for a picture, drawn from those that suit it, at rising levels of difficulty.
        follow: a knowledge question with constraints that code checks comes beside the plain one ("also"), in its
            place ("instead"), or "never".
        constraints: how many of them a question has, of different families.
        families: of constraints.
        enrich: inferential answers are extended with background and logic, and judged against the picture again.
        agree: least agreement of two answers about an infographic, from 0 to 1; below it the row is flagged for a
            person (`for_a_person`), which the recipe's last step takes out.
        good: lowest score of any answer, 0 for no check.
        temperature: of questions.
        max_tokens: longest list of questions.
        answer_tokens: longest answer.
    """
    for task in tasks:
        if task not in TASKS:
            raise RecipeError(f"omnialign: no task is called {task!r}{nearest(task, TASKS)}")
    keep(image.images, "no picture")
    kind: str = await vlm.ask(P.kind(), image.images, out=Kind)
    keep(infographics or kind not in INFOGRAPHICS, f"{kind}: infographics are left out")

    async def asked(name: str, n: int, **values: Any) -> list[str]:
        prompt = P[name](n=n, **values)
        said = await vlm.ask(prompt, image.images, temperature=temperature, max_tokens=max_tokens)
        found = list({normal(q): q for q in asking(said) if not garbled(q)}.values())[:n]
        keep(found, f"{name}: no question could be read")
        return found

    async def answered(question: str, by: Model = vlm) -> str:
        reply = await by.ask(question, image.images, max_tokens=answer_tokens)
        keep(reply.finish != "length", "answer: cut off at its token limit")
        keep(not declines(reply), "answer: the model declines")
        return plain(reply)

    async def row(question: str, answer: str, task: str, **tags: Any) -> Record:
        if good > 0:
            prompt = P.answer_good(instruction=question, answer=answer)
            score = await rated(vlm, prompt, image.images, good, f"{task}: answer rated low")
            tags["answer_good"] = round(score, 3)
        body = Chat((Turn("user", question), Turn("assistant", answer)))
        return image.make(body, picture_kind=kind, task=task, **tags)

    # --- natural pictures and art ---

    async def knowledge(name: str) -> AsyncIterator[Record]:
        found = await asked(name, questions)
        async for child in branches(known(question, name, number) for number, question in enumerate(found)):
            yield child

    async def known(question: str, name: str, number: int) -> AsyncIterator[Record]:
        answer = await answered(question)
        if follow != "instead":
            yield await row(question, answer, name)
        if follow != "never":
            yield await following(question, answer, name, number)

    async def following(question: str, answer: str, name: str, number: int) -> Record:
        drawn = draw(image.rng("constraints", name, number), answer, constraints, families)
        wanted = " ".join(c.says for c in drawn)
        left, text = drawn, answer
        for _ in range(2):
            failed = [c.says for c in left]
            prompt = P.comply(question=question, answer=text, constraints=[c.says for c in drawn], failed=failed)
            said = await llm.ask(prompt, max_tokens=answer_tokens)
            text = plain(said)
            if said.finish != "length" and not (left := broken(drawn, text)):
                break
        keep(not left, f"constraint not kept: {left[0].name}" if left else "")
        keep(not declines(text), "following: the model declines")
        tags = {"constraints": [{"family": c.family, "name": c.name, "says": c.says} for c in drawn]}
        return await row(f"{question} {wanted}", text, "following", **tags)

    async def inferential() -> AsyncIterator[Record]:
        found = await asked("inferential", questions)
        async for child in branches(once(inferred(question)) for question in found):
            yield child

    async def inferred(question: str) -> Record:
        answer = await answered(question)
        longer = await enriched(question, answer) if enrich else ""
        return await row(question, longer or answer, "inferential", enriched=bool(longer))

    async def enriched(question: str, answer: str) -> str:
        """Return the answer made longer, "" where that was cut off or came to be untrue: the plain one stays."""
        said = await llm.ask(P.enrich(question=question, answer=answer), max_tokens=answer_tokens)
        longer = plain(said)
        if said.finish == "length" or garbled(longer) or declines(longer):
            return ""
        prompt = P.answer_good(instruction=question, answer=longer)
        return longer if await vlm.ask(prompt, image.images, out=FIVE) >= 4 else ""

    async def creation() -> AsyncIterator[Record]:
        _, caption = await described(image, vlm, max_tokens=answer_tokens)
        said = await llm.ask(P.suits(caption=caption, types=CREATIONS), max_tokens=128)
        suited = numbers_in(said, len(CREATIONS)) or list(range(len(CREATIONS)))
        drawn = image.rng("creation").sample(suited, min(creations, len(suited)))
        levels = itertools.cycle(LEVELS)
        async for child in branches(once(created(number, level)) for number, level in zip(drawn, levels, strict=False)):
            yield child

    async def created(number: int, level: str) -> Record:
        (question, *_) = await asked("creation", 1, type=CREATIONS[number], level=level)
        return await row(question, await answered(question), "creation", type=CREATIONS[number], level=level)

    async def detail() -> AsyncIterator[Record]:
        drawn = image.rng("detail").sample(DETAIL, min(questions, len(DETAIL)))
        async for child in branches(once(detailed(question)) for question in drawn):
            yield child

    async def detailed(question: str) -> Record:
        return await row(question, await answered(question), "detail")

    # --- infographics ---

    async def infographic(name: str) -> AsyncIterator[Record]:
        found = await asked(name, questions)
        async for child in branches(once(agreed(question, name)) for question in found):
            yield child

    async def agreed(question: str, name: str) -> Record:
        one, other = await gather(answered(question), answered(question, second))
        if normal(one) == normal(other):
            return await row(question, one, name, agreement=1.0, for_a_person=False)
        facts = await gather(*(facts_of(question, answer) for answer in (one, other)))
        prompt = P.compare(question=question, first="\n".join(facts[0]), second="\n".join(facts[1]))
        agreement = round((await llm.ask(prompt, out=FIVE) - 1) / 4, 3)
        tags: dict[str, Any] = {"agreement": agreement, "answers": [one, other], "facts": [list(f) for f in facts]}
        if agreement < agree:
            return await row(question, one, name, for_a_person=True, **tags)
        merged = plain(await llm.ask(P.merge(question=question, answer=one, facts=facts[1]), max_tokens=answer_tokens))
        keep(not garbled(merged, 1) and not declines(merged), f"{name}: the answers could not be merged")
        return await row(question, merged, name, for_a_person=False, **tags)

    async def facts_of(question: str, answer: str) -> Sequence[str]:
        return listed(await llm.ask(P.facts(question=question, answer=answer), max_tokens=max_tokens))

    makers = {
        "knowledge": lambda: knowledge("knowledge"),
        "inferential": inferential,
        "creation": creation,
        "detail": detail,
    }
    if kind in INFOGRAPHICS:
        several = [infographic(kind)]
    elif kind == "art":
        several = [knowledge("art")]
    else:
        several = [makers[task]() for task in tasks]
    async for child in branches(several):
        yield child
