"""Oasis (2503.08741): show the model just a picture, let it finish the user's turn, judge what it asks, answer it.

Needs no prompt to start from: a VLM whose user turn is left open after the image goes on to write what a user would
(see the README beside this file). What reads as a caption is recycled with a request for a description.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel

from foveal.models.model import Model, Score, Text
from foveal.prompts import beside
from foveal.record import Chat, Image, Record, Turn, branches, keep, once
from foveal.steps.describe import DESCRIBE
from foveal.steps.judge import rated
from foveal.steps.propose import proposal
from foveal.steps.text import garbled, one_question, one_sentence, plain, taken_from

MAKES = Chat
P = beside(
    __file__, "kind", "sensible", "grounded", "clarity", "solvable",
    "answer_good", "caption_fluent", "caption_rich", "caption_true",
)  # fmt: skip
Kind = Literal["instruction", "caption"]
Lineage: TypeAlias = dict[str, Any]


class Found(BaseModel):
    """The instructions found in a text, word for word."""

    instructions: list[str]


async def oasis(
    image: Record,
    vlm: Model,
    llm: Model,
    *,
    proposer: Literal["hook", "prompt"] = "hook",
    languages: tuple[str, ...] = ("English",),
    samples: int = 1,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 20,
    min_tokens: int = 2,
    max_tokens: int = 512,
    extract: Literal["one", "several", "conversation"] = "one",
    sensible: float = 4.5,
    clarity: float = 3,
    grounded: float = 4.5,
    solvable: float = 3,
    both: float = 7,
    captions: bool = True,
    caption: float = 4,
    answer: float = 0,
    answer_tokens: int = 1024,
) -> AsyncIterator[Record]:
    """Make instruction data from a bare picture.

    Args:
        image: a record with a picture.
        vlm: sees the picture: writes, judges what needs the picture, answers.
        llm: sees text only: sorts, extracts, judges language. May be the same model.
        proposer: "hook" leaves the user's turn open; "prompt" asks outright, for servers that cannot hook.
        languages: drawn from when asking outright; a hooked text comes in whatever language the model chooses.
        samples: texts sampled for each picture.
        temperature: of the sampled texts (paper: 1.0, as top_p 1.0, top_k 20, max_tokens 512).
        top_p: of the sampled texts.
        top_k: of the sampled texts.
        min_tokens: of the sampled texts; the released code's 50 forces short questions to run on.
        max_tokens: of the sampled texts.
        extract: "one" instruction of a text, "several" as rows of their own, or all as one "conversation".
        sensible: lowest score for language (paper: exactly 5, which is 4.5 on an expected score).
        clarity: lowest score for a precise intent (paper: 3).
        grounded: lowest score for agreement with the picture (paper: exactly 5).
        solvable: lowest score for whether the picture suffices (paper: 3).
        both: lowest sum of clarity and solvable (paper: 7).
        captions: recycle captions (paper: +0.3 on average).
        caption: lowest score in each of three dimensions for a caption to be recycled.
        answer: lowest score for the answer, 0 for no check (the paper finds that checks hurt: -0.7 and -1.6).
        answer_tokens: longest answer.
    """
    sampling: Lineage = {"temperature": temperature, "top_p": top_p, "top_k": top_k, "min_tokens": min_tokens}

    async def propose_text(sample: int) -> Text:
        if proposer == "hook":
            return await vlm.ask(None, image.images, max_tokens=max_tokens, **sampling)
        return await vlm.ask(proposal(P, image, sample, languages), image.images, max_tokens=max_tokens, **sampling)

    async def judge(instruction: str) -> dict[str, Score]:
        scores: dict[str, Score] = {}

        async def passes(name: str, judge: Model, images: Sequence[Image], at_least: float, reason: str) -> None:
            scores[name] = await rated(judge, P[name](instruction=instruction), images, at_least, reason)

        await passes("sensible", llm, (), sensible, "instruction: not sensible")
        await passes("grounded", vlm, image.images, grounded, "instruction: not grounded in the picture")
        await passes("clarity", vlm, image.images, clarity, "instruction: unclear")
        await passes("solvable", vlm, image.images, solvable, "instruction: not solvable from the picture")
        keep(scores["clarity"] + scores["solvable"] >= both, "instruction: weak on clarity and solvability together")
        return scores

    async def converse(instructions: Sequence[str], lineage: Lineage) -> Record:
        turns: tuple[Turn, ...] = ()
        scores = [await judge(i) for i in instructions]
        for instruction in instructions:
            reply = await vlm.ask(instruction, image.images, after=Chat(turns), max_tokens=answer_tokens)
            keep(reply.finish != "length", "answer: cut off at its token limit")
            await check(instruction, reply)
            turns += (Turn("user", instruction), Turn("assistant", reply))
        worst: Lineage = {name: round(min(s[name] for s in scores), 3) for name in scores[0]}
        return image.make(Chat(turns), **lineage, **worst, read=scores[0]["sensible"].read)

    async def check(instruction: str, reply: str) -> None:
        if answer > 0:
            prompt = P.answer_good(instruction=instruction, answer=reply)
            await rated(vlm, prompt, image.images, answer, "answer: rated low")

    async def recycle(text: str, lineage: Lineage) -> Record:
        keep(captions, "a caption, not an instruction")
        scores: dict[str, Score] = {}
        for name, rater, images in (("fluent", llm, ()), ("rich", llm, ()), ("true", vlm, image.images)):
            prompt = P[f"caption_{name}"](caption=text)
            scores[name] = await rated(rater, prompt, images, caption, f"caption: not {name} enough")
        rounded: Lineage = {f"caption_{name}": round(score, 3) for name, score in scores.items()}
        request = image.rng("describe", text).choice(DESCRIBE)
        return image.make(
            Chat((("user", request), ("assistant", text))), **lineage, **rounded, read=scores["true"].read
        )

    async def find(text: str) -> list[str]:
        if one_sentence(text) and extract != "several":
            return [text]  # the extraction is word for word, so there is nothing to take out
        found = await llm.ask(P.extract(text=text, many=extract != "one"), out=Found)
        instructions = [i.strip() for i in found.instructions if taken_from(i, text)]
        keep(instructions, "no instruction could be taken out")
        return instructions[:1] if extract == "one" else instructions

    async def rows(sample: int) -> AsyncIterator[Record]:
        said = await propose_text(sample)
        text = plain(said)
        keep(not garbled(text), "garbled")
        kind = "instruction" if one_question(text) else await llm.ask(P.kind(text=text), out=Kind)
        lineage: Lineage = {"kind": kind, "proposer": proposer, "sample": sample, "finish": said.finish}
        if kind == "caption":
            yield await recycle(text, lineage)
            return
        found = await find(text)
        groups = [found] if extract == "conversation" else [[i] for i in found]
        async for child in branches(once(converse(group, lineage)) for group in groups):
            yield child

    async for child in branches(rows(sample) for sample in range(samples)):
        yield child
