"""Continuation (after Oasis, 2503.08741): the user's turn is left open once more, after what was said, and answered.

Makes conversations longer: of any instruction data, or from the first word on where there is a bare picture.
"""

from __future__ import annotations

from typing import Any, Literal

from foveal.errors import Dropped, RecipeError
from foveal.models.model import Model
from foveal.prompts import beside
from foveal.record import Chat, Record, Turn, keep
from foveal.steps.judge import rated
from foveal.steps.pairs import normal
from foveal.steps.propose import proposal
from foveal.steps.text import garbled, plain

MAKES = Chat
P = beside(__file__, "kind", "sensible", "grounded", "solvable")
Kind = Literal["instruction", "caption"]


async def continuation(
    chat: Record,
    vlm: Model,
    llm: Model,
    *,
    turns: int = 1,
    proposer: Literal["hook", "prompt"] = "hook",
    languages: tuple[str, ...] = ("English",),
    sensible: float = 4,
    grounded: float = 4,
    solvable: float = 3,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 20,
    min_tokens: int = 2,
    max_tokens: int = 256,
    answer_tokens: int = 1024,
) -> Record:
    """Let a conversation go on.

    Args:
        chat: a conversation about pictures that ends with an answer; a bare picture is where one begins.
        vlm: sees the picture: asks, judges what needs the picture, answers.
        llm: sees words only: tells questions from remarks, judges language.
        turns: exchanges to add. What fails a check ends the conversation there; the exchanges before it are kept.
        proposer: "hook" leaves the user's turn open; "prompt" asks outright, for servers that cannot hook.
        languages: drawn from when asking outright.
        sensible: lowest score of a question's language.
        grounded: lowest score of its agreement with the picture.
        solvable: lowest score for whether the picture suffices.
        temperature: of questions.
        top_p: of questions.
        top_k: of questions.
        min_tokens: of questions.
        max_tokens: longest question.
        answer_tokens: longest answer.
    """
    if turns < 1:
        raise RecipeError(f"continuation: turns={turns} must be at least 1")
    keep(chat.images, "no picture")
    keep(chat.body is None or isinstance(chat.body, Chat), "no conversation")
    said = chat.body.turns if isinstance(chat.body, Chat) else ()
    keep(not said or said[-1].role == "assistant", "the conversation does not end with an answer")
    sampling: dict[str, Any] = {"temperature": temperature, "top_p": top_p, "top_k": top_k, "min_tokens": min_tokens}

    async def question(number: int) -> str:
        prompt = None if proposer == "hook" else proposal(P, chat, number, languages)
        reply = await vlm.ask(prompt, chat.images, after=Chat(said), max_tokens=max_tokens, **sampling)
        asked = plain(reply)
        keep(reply.finish != "length" and not garbled(asked), "question: garbled or cut off")
        before = {normal(turn.text) for turn in said if turn.role == "user"}
        keep(normal(asked) not in before, "question: asked before")
        keep(await llm.ask(P.kind(text=asked), out=Kind) == "instruction", "question: asks for nothing")
        await rated(llm, P.sensible(instruction=asked), (), sensible, "question: not sensible")
        await rated(vlm, P.grounded(instruction=asked), chat.images, grounded, "question: not grounded")
        await rated(vlm, P.solvable(instruction=asked), chat.images, solvable, "question: not solvable")
        return asked

    added, ended = 0, ""
    for number in range(turns):
        try:
            asked = await question(number)
            reply = await vlm.ask(asked, chat.images, after=Chat(said), max_tokens=answer_tokens)
            keep(reply.finish != "length", "answer: cut off at its token limit")
        except Dropped as end:
            keep(added, end.reason)
            ended = end.reason
            break
        said, added = (*said, Turn("user", asked), Turn("assistant", str(reply))), added + 1
    return chat.make(Chat(said), added=added, ended=ended, proposer=proposer)
