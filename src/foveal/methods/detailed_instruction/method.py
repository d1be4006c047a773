"""Detailed instructions (MM-INF, 2503.08741): a broad request for which a detailed description is the right answer."""

from __future__ import annotations

from typing import Literal

from foveal.models.model import Model
from foveal.prompts import beside
from foveal.record import Chat, Record, keep
from foveal.steps.describe import caption_of
from foveal.steps.judge import rated
from foveal.steps.text import asking, garbled, plain, words_shared

MAKES = Chat
P = beside(__file__, "sensible", "caption_true", "answer_good")


async def detailed_instruction(
    image: Record,
    vlm: Model,
    llm: Model,
    *,
    answer: Literal["caption", "model"] = "caption",
    true: float = 4,
    sensible: float = 4,
    good: float = 4,
    told: float = 0.5,
    temperature: float = 1.0,
    max_tokens: int = 1024,
) -> Record:
    """Write a broad instruction from a description of the picture, and answer it.

    Args:
        image: a picture, or a conversation about one whose last answer is taken for the description.
        vlm: sees the picture: describes, judges, answers.
        llm: sees the description only: writes the instruction, judges its language.
        answer: the "caption" itself answers, or the "model" does, looking at the picture.
        true: lowest score of the description against the picture, 0 for no check.
        sensible: lowest score of the instruction's language.
        good: lowest score of the answer to the instruction.
        told: greatest share of the instruction's content words that may come from the description: an instruction
            that already tells what is to be found asks for nothing.
        temperature: of the instruction.
        max_tokens: longest description and answer.
    """
    caption = await caption_of(image, vlm, max_tokens=max_tokens)
    if true > 0:
        await rated(vlm, P.caption_true(caption=caption), image.images, true, "caption: not true enough")
    said = await llm.ask(P.instruct(caption=caption), temperature=temperature, max_tokens=256)
    keep(said.finish != "length" and not garbled(plain(said)), "instruction: garbled or cut off")
    asked = asking(said)
    keep(asked, "instruction: asks for nothing")
    instruction = asked[0]
    keep(words_shared(instruction, caption) <= told, "instruction: tells what it asks for")
    await rated(llm, P.sensible(instruction=instruction), (), sensible, "instruction: not sensible")
    reply = caption
    if answer == "model":
        looked = await vlm.ask(instruction, image.images, max_tokens=max_tokens)
        keep(looked.finish != "length", "answer: cut off at its token limit")
        reply = looked
    prompt = P.answer_good(instruction=instruction, answer=reply)
    score = await rated(vlm, prompt, image.images, good, "answer: rated low")
    body = Chat((("user", instruction), ("assistant", reply)))
    return image.make(body, answer_good=round(score, 3), answered_by=answer, read=score.read)
