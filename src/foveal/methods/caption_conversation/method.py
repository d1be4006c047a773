"""Caption to conversation (MM-INF, 2503.08741): questions from a description, asked and answered about the picture."""

from __future__ import annotations

from typing import Any

from foveal.models.model import Model, Text
from foveal.prompts import beside
from foveal.record import Chat, Record, Turn, gather, keep
from foveal.steps.describe import caption_of
from foveal.steps.judge import objection, rated
from foveal.steps.pairs import normal
from foveal.steps.text import asking, garbled

MAKES = Chat
P = beside(__file__, "caption_true", "sensible", "grounded", "solvable", "answer_good")


async def caption_conversation(
    image: Record,
    vlm: Model,
    llm: Model,
    *,
    questions: int = 5,
    least: int = 1,
    true: float = 4,
    sensible: float = 4,
    grounded: float = 4,
    solvable: float = 3,
    good: float = 4,
    temperature: float = 1.0,
    max_tokens: int = 1024,
    answer_tokens: int = 512,
) -> Record:
    """Make a conversation about a picture.

    Args:
        image: a picture, or a conversation about one whose last answer is taken for the description.
        vlm: sees the picture: describes, judges questions and answers, answers.
        llm: sees the description only: writes the questions, judges their language.
        questions: asked for; those that fail a check are left out of the conversation and told in its tags.
        least: fewest exchanges of a conversation.
        true: lowest score of the description against the picture, 0 for no check.
        sensible: lowest score of a question's language.
        grounded: lowest score for its agreement with the picture.
        solvable: lowest score for whether the picture suffices to answer it.
        good: lowest score of an answer, 0 for no check.
        temperature: of the questions.
        max_tokens: longest description.
        answer_tokens: longest answer.
    """
    caption = await caption_of(image, vlm, max_tokens=max_tokens)
    if true > 0:
        await rated(vlm, P.caption_true(caption=caption), image.images, true, "caption: not true enough")
    said = await llm.ask(P.questions(caption=caption, n=questions), temperature=temperature, max_tokens=64 * questions)
    found = list({normal(q): q for q in reversed(asking(said)) if not garbled(q)}.values())[::-1][:questions]
    keep(found, "no question could be read")

    async def asked_well(question: str) -> None:
        await rated(llm, P.sensible(instruction=question), (), sensible, "question: not sensible")
        await rated(vlm, P.grounded(instruction=question), image.images, grounded, "question: not grounded")
        await rated(vlm, P.solvable(instruction=question), image.images, solvable, "question: not solvable")

    async def answered_well(question: str, reply: Text) -> None:
        keep(reply.finish != "length", "answer: cut off at its token limit")
        if good > 0:
            prompt = P.answer_good(instruction=question, answer=reply)
            await rated(vlm, prompt, image.images, good, "answer: rated low")

    verdicts = dict(zip(found, await gather(*(objection(asked_well(q)) for q in found)), strict=True))
    turns: tuple[Turn, ...] = ()
    for question in (q for q, why in verdicts.items() if not why):
        reply = await vlm.ask(question, image.images, after=Chat(turns), max_tokens=answer_tokens)
        verdicts[question] = await objection(answered_well(question, reply))
        if not verdicts[question]:
            turns += (Turn("user", question), Turn("assistant", str(reply)))
    left_out = [{"question": q, "reason": why} for q, why in verdicts.items() if why]
    keep(len(turns) >= 2 * least, next((why["reason"] for why in left_out), "no question is left"))
    tags: dict[str, Any] = {"exchanges": len(turns) // 2, "left_out": left_out}
    return image.make(Chat(turns), **tags)
