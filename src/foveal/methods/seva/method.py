"""SeVa (2404.10501): a model's answer about the picture is chosen, its answer about the picture perturbed is rejected.

Needs no judge, no other model and no truth; needs the very model that will be trained (see the README beside this
file). Questions come from conversations, or are proposed where the record is a bare picture.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from string import ascii_uppercase
from typing import Any, Literal

from foveal.errors import RecipeError
from foveal.models.model import Model, Text
from foveal.prompts import beside
from foveal.record import Chat, Content, Image, Item, Pair, Record, Turn, branches, digest, gather, keep, once, placed
from foveal.steps import pairs
from foveal.steps.perturb import Perturbation
from foveal.steps.perturb import perturb as perturb_off_loop
from foveal.steps.propose import proposal
from foveal.steps.text import garbled, plain

MAKES = Pair
P = beside(__file__)

_BRIEF = re.compile(r"(?:please\s+)?(?:answer|respond|reply)\b.*\b(?:word|phrase|short answer|briefly)\b", re.I | re.S)


async def seva(
    seed: Record,
    policy: Model,
    *,
    perturb: tuple[str, ...] = ("diffusion:500",),
    side: int = 336,
    k: int = 1,
    pick: Literal["listed", "hard"] = "listed",
    near: float = 0.0,
    far: float = 1.0,
    equal: Literal["exact", "normalised"] = "normalised",
    ratio: float = 0.0,
    whole: bool = True,
    leaks: bool = True,
    turns: Literal["first", "each"] = "first",
    brief: bool = False,
    questions: int = 1,
    languages: tuple[str, ...] = ("English",),
    temperature: float = 0.0,
    top_p: float = 1.0,
    max_tokens: int = 512,
) -> AsyncIterator[Record]:
    """Make preference data from what a model gets wrong when it sees less.

    Args:
        seed: a conversation, question or pair about a picture, whose own answers are not used; or a bare picture.
        policy: the model that will be trained on the rows; it asks (of bare pictures) and answers.
        perturb: kinds and strengths, such as "diffusion:500", "moco", "blur:6"; `foveal perturb` shows them.
        side: pixels of the longer side of perturbed pictures: your model's input; 0 for the picture's own.
        k: rejected answers for each question, rows of their own that share the tag `group`.
        pick: "listed" tries as many perturbations as k, going through the list; "hard" tries every one of the list
            and takes the k whose answers are nearest to the chosen one.
        near: least distance of the sides, as the share of words that differ.
        far: greatest distance of the sides.
        equal: when answers are the same: as strings (the paper), or by their words alone.
        ratio: how many times as many words one side may have as the other, 0 for any (the paper).
        whole: drop answers that hit their token limit.
        leaks: drop rejected answers that speak of how the picture was spoilt ("the image is blurry").
        turns: of a conversation, its "first" question or "each", after the turns before it.
        brief: leave a closing request for a word or phrase in the question; the paper takes it off.
        questions: questions proposed for a bare picture.
        languages: of proposed questions; drawn from.
        temperature: of answers (paper: greedy). Proposed questions are sampled at 1.
        top_p: of answers that are sampled.
        max_tokens: longest answer (paper: 512).
    """
    known = [Perturbation.read(text, side) for text in perturb]
    if not known or k < 1 or not 0 <= near <= far <= 1:
        raise RecipeError(
            f"seva: perturb={list(perturb)} needs one kind, k={k} one answer, near={near} <= far={far} <= 1"
        )
    given = _questions(seed)
    keep(seed.images, "no picture")
    keep(given or seed.body is None, "no question")
    tried = known if pick == "hard" else [known[n % len(known)] for n in range(k)]
    drawn = [one.drawn(seed.rng("perturb", n)) for n, one in enumerate(tried)]
    made = [await perturb_off_loop(image, drawn) for image in seed.images]
    views = list(zip(*made, strict=True))
    sampling: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
    sampling |= {"top_p": top_p} if temperature > 0 else {}

    asked_before = set[str]()

    async def propose(number: int) -> Turn:
        said = await policy.ask(
            proposal(P, seed, number, languages), seed.images, temperature=1.0, max_tokens=max_tokens
        )
        question = plain(said)
        keep(said.finish != "length" and not garbled(question), "question: garbled or cut off")
        keep(pairs.normal(question) not in asked_before, "the same question again")
        asked_before.add(pairs.normal(question))
        return Turn("user", (*range(len(seed.images)), question))

    async def rows(before: tuple[Turn, ...], turn: Turn, number: int, asked: str) -> AsyncIterator[Record]:
        question = turn.content if brief else _open_ended(turn.content)
        after = Chat(before) if before else None

        async def answer(images: tuple[Image, ...]) -> Text:
            said: Text = await policy.ask(question, images, after=after, **sampling)
            return said

        chosen = await answer(seed.images)
        keep(not whole or chosen.finish != "length", "chosen: cut off at its token limit")
        said = await gather(*(answer(images) for images in views))
        apart = [pairs.distance(chosen, other) for other in said]
        prompt = (*before, Turn("user", question))
        group, taken = digest(seed.id, str(number)), list[str]()

        async def row(n: int) -> Record:
            rejected = said[n]
            keep(not whole or rejected.finish != "length", "rejected: cut off at its token limit")
            keep(not pairs.same(chosen, rejected, equal), "the same answer either way")
            keep(not any(pairs.same(rejected, other, equal) for other in taken), "the same rejected answer again")
            keep(apart[n] >= near, "answers too near each other")
            keep(apart[n] <= far, "answers too far apart")
            keep(not ratio or pairs.lopsided(chosen, rejected) <= ratio, "answers of too unequal length")
            keep(not leaks or not pairs.leak(rejected, turn.text), "rejected: speaks of how the picture was spoilt")
            keep(len(taken) < k, "answers about other perturbations are nearer")
            taken.append(rejected)
            lineage = {"policy": policy.backend.identity, "group": group, "turn": number, "asked": asked}
            how = {"perturb": str(drawn[n]), "perturbation": drawn[n].to_json(), "distance": round(apart[n], 3)}
            saw = {"rejected_saw": [image.digest for image in views[n]]}
            body = Pair(prompt, str(chosen), str(rejected))
            return seed.make(body, [*seed.images, *views[n]], **lineage, **how, **saw)

        order = sorted(range(len(said)), key=lambda n: apart[n]) if pick == "hard" else range(len(said))
        async for child in branches(once(row(n)) for n in order):
            yield child

    async def proposed(number: int) -> AsyncIterator[Record]:
        async for child in rows((), await propose(number), number, "proposed"):
            yield child

    if seed.body is None:
        several = [proposed(number) for number in range(questions)]
    else:
        found = given[:1] if turns == "first" else given
        several = [rows(before, turn, number, "data") for number, (before, turn) in enumerate(found)]
    async for child in branches(several):
        yield child


def _questions(seed: Record) -> list[tuple[tuple[Turn, ...], Turn]]:
    """Return the questions of a record that come with or after a picture, each with the turns before it."""
    turns: tuple[Turn, ...] = ()
    match seed.body:
        case Chat():
            turns = seed.body.turns
        case Pair(rejected_images=None, chosen_images=None):
            turns = seed.body.prompt
        case Item(question=question, choices=choices) if question.strip():
            options = (f"{letter}. {choice}" for letter, choice in zip(ascii_uppercase, choices, strict=False))
            turns = (Turn("user", "\n".join([question, *options])),)
    turns = placed(turns, len(seed.images))
    found = [(turns[:at], turn) for at, turn in enumerate(turns) if turn.role == "user" and turn.text.strip()]
    return [(before, turn) for before, turn in found if any(t.positions for t in (*before, turn))]


def _open_ended(content: Content) -> Content:
    """Take a closing request for a single word or phrase off a question, unless nothing else would be left."""
    last = content if isinstance(content, str) else content[-1] if content else ""
    if not isinstance(last, str):
        return content
    start = max(last.rstrip().rfind(mark, 0, -1) for mark in ".?!:\n") + 1
    shorter = last[:start].rstrip()
    if not shorter or not _BRIEF.match(last[start:].strip()):
        return content
    return shorter if isinstance(content, str) else (*content[:-1], shorter)
