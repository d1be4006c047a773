"""Thinking (MM-INF, 2503.08741): a reasoning model thinks a question through from a description of the picture.

What it thought is put into the words of one who sees the picture, checked, and kept apart from the answer.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from foveal.models.model import Model, Text
from foveal.prompts import beside
from foveal.record import Chat, Item, Record, Turn, keep
from foveal.steps.describe import described
from foveal.steps.exchanges import exchanges
from foveal.steps.judge import rated
from foveal.steps.pairs import normal
from foveal.steps.propose import proposal
from foveal.steps.text import garbled, labelled, plain

MAKES = Chat
P = beside(__file__, "answer_good")

_SECOND_HAND = re.compile(
    r"\b(?:the|this|that|given|provided)\s+(?:\w+\s+)?(?:caption|description|text|passage|context)\b"
    r"|\b(?:it|text|caption|description) (?:says|said|mentions|mentioned|states|stated|describes)\b"
    r"|\b(?:as|is|are|was|were) (?:described|mentioned|stated)\b|\baccording to\b",
    re.IGNORECASE,
)
"""Words of one who was told of a picture and does not see it."""


async def thinking(
    seed: Record,
    vlm: Model,
    reasoner: Model,
    llm: Model,
    *,
    answer: Literal["checked", "any"] = "checked",
    good: float = 4,
    shortest: int = 12,
    show: Literal["tag", "think"] = "tag",
    languages: tuple[str, ...] = ("English",),
    temperature: float = 0.6,
    top_p: float = 0.95,
    max_tokens: int = 1024,
    think_tokens: int = 8192,
) -> Record:
    """Make a question with an answer and the thought that leads to it.

    Args:
        seed: a question about a picture: an Item, or a conversation whose first exchange is taken (its answer is the
            reference); for a bare picture a question is proposed.
        vlm: sees the picture: describes it for the question, judges the answer where there is no reference.
        reasoner: sees words only and thinks before it answers.
        llm: sees words only: puts the thought into picture words, compares the answer with the reference.
        answer: "checked" keeps what agrees with the reference, or without one is rated `good`; "any" keeps all.
        good: lowest score of an answer that has no reference.
        shortest: fewest words of a thought.
        show: the thought stays in the row's tags ("tag"), or stands before the answer in <think> marks ("think").
        languages: of proposed questions; drawn from.
        temperature: of the thought (0.6 is what makers of reasoning models advise).
        top_p: of the thought.
        max_tokens: longest description and rewritten thought, each.
        think_tokens: longest thought with its answer; the released pipeline cuts thoughts off at 1024.
    """
    keep(seed.images, "no picture")
    turn, reference = _question(seed)
    if not turn:
        said = await vlm.ask(proposal(P, seed, 0, languages), seed.images, temperature=1.0, max_tokens=256)
        keep(not garbled(plain(said)), "question: garbled")
        turn = plain(said)
    _, caption = await described_for(seed, vlm, turn, max_tokens)
    reply = await reasoner.ask(
        P.reason(caption=caption, question=turn), temperature=temperature, top_p=top_p, max_tokens=think_tokens
    )
    keep(reply.finish != "length", "thought: cut off at its token limit")
    thought, concluded = parted(reply)
    keep(concluded, "thought: comes to no answer")
    keep(len(thought.split()) >= shortest, "thought: too short")
    if _SECOND_HAND.search(thought):
        said = await llm.ask(P.rewrite(text=thought), max_tokens=max_tokens)
        keep(said.finish != "length" and not garbled(plain(said)), "thought: not rewritten")
        thought = plain(said)
        keep(not _SECOND_HAND.search(thought), "thought: still speaks of a description")
    tags = await _checked(seed, vlm, llm, turn, concluded, reference, good) if answer == "checked" else {}
    shown = f"<think>\n{thought}\n</think>\n\n{concluded}" if show == "think" else concluded
    return seed.make(
        Chat((Turn("user", turn), Turn("assistant", shown))), thinking=thought, reference=reference, **tags
    )


async def described_for(seed: Record, vlm: Model, question: str, max_tokens: int) -> tuple[str, Text]:
    """Return a request and a description that tells what matters for the question, without answering it."""
    if not question:
        return await described(seed, vlm, max_tokens=max_tokens)
    prompt = P.describe(question=question)
    said = await vlm.ask(prompt, seed.images, max_tokens=max_tokens)
    keep(said.finish != "length" and not garbled(plain(said)), "caption: garbled or cut off")
    return prompt, said


def _question(seed: Record) -> tuple[str, str]:
    """Return a seed's question and reference answer, "" for what it lacks."""
    match seed.body:
        case Item(question=question, answer=reference, choices=choices):
            options = "".join(f"\n({chr(65 + n)}) {choice}" for n, choice in enumerate(choices))
            return question + options, reference
        case Chat() if found := exchanges(seed.body):
            return found[0].question, found[0].answer
    return "", ""


def parted(text: str) -> tuple[str, str]:
    """Return the thought and the answer of a reply: by <think> marks, by an "Answer:", else "" for the answer."""
    opened, closed, rest = text.partition("</think>")
    if closed:
        return opened.replace("<think>", "").strip(), _bare(rest)
    parts = labelled("Thought:\n" + text, "Thought", "Final answer", "Answer")
    return parts.get("Thought", "").removeprefix("Thought:").strip(), parts.get("Final answer") or parts.get(
        "Answer", ""
    )


def _bare(text: str) -> str:
    """Return an answer without a label before it."""
    parts = labelled(text, "Final answer", "Answer")
    return parts.get("Final answer") or parts.get("Answer") or text.strip()


async def _checked(
    seed: Record, vlm: Model, llm: Model, question: str, answer: str, reference: str, good: float
) -> dict[str, Any]:
    """Return how an answer was verified.

    Raises:
        Dropped: it is not right.
    """
    if reference and normal(reference) == normal(answer):
        return {"verified": "words"}
    if reference:
        prompt = P.agrees(question=question, answer=answer, gold=reference)
        keep(await llm.ask(prompt, out=Literal["yes", "no"]) == "yes", "answer: not the reference")
        return {"verified": "reference"}
    prompt = P.answer_good(instruction=question, answer=answer)
    score = await rated(vlm, prompt, seed.images, good, "answer: rated low")
    return {"verified": "picture", "answer_good": round(score, 3)}
