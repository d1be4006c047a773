"""The step by which a model answers questions, the run that carries it, and what a scorer is given.

Questions go through an ordinary run: answers are remembered, a killed evaluation goes on where it was, a budget holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from foveal.data import Source
from foveal.errors import RunStopped
from foveal.models.connect import ModelSpec
from foveal.models.model import Model
from foveal.models.wire import Backend
from foveal.prompts import beside
from foveal.recipe import Bound, Limits, Plan, Recipe, Step, with_backends
from foveal.record import Image, Item, Record, gather, keep
from foveal.runner.flow import Progress
from foveal.runner.folder import load_rows
from foveal.runner.local import Run, run_plan
from foveal.runner.waiting import wait
from foveal.scrapbook.parts import Scene
from foveal.store import Budget

MAKES = Item
P = beside(__file__)
YES_NO = ("Yes", "No")


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture with its truth."""

    image: Image
    scene: Scene


@dataclass(frozen=True, slots=True)
class Question:
    """One question of an evaluation about one picture.

    Attributes:
        record: what the model is asked; the same record in several evaluations is asked once.
        shot: the picture, with the truth that answers are held against.
        kind: of the question, within its evaluation.
        answer: the reference, "" for a description.
        noun: what it is about, where it is about one thing.
    """

    record: Record
    shot: Shot
    kind: str = ""
    answer: str = ""
    noun: str = ""

    @property
    def picture(self) -> str:
        """The cluster it belongs to."""
        return self.shot.image.digest

    @property
    def text(self) -> str:
        """The question's words."""
        return self.record.body.question if isinstance(self.record.body, Item) else ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said.

    Attributes:
        said: its words.
        p: the probability it gave to the first choice, None where the server tells none.
        samples: its words when asked again with a temperature.
    """

    said: str
    p: float | None = None
    samples: tuple[str, ...] = ()


def ask(shot: Shot, question: str, answer: str = "", choices: Sequence[str] = ()) -> Record:
    """Return the record of a question about a picture."""
    return Record((shot.image,), Item(question, answer, tuple(choices)), {"source": shot.image.source})


async def answer(
    item: Record, model: Model, *, samples: int = 0, temperature: float = 1.0, max_tokens: int = 512
) -> Record:
    """Let a model answer a question: in one of its choices, or in its own words.

    Args:
        item: a record with a picture and an Item.
        model: who answers, with the temperature of its own spec (0 unless it says otherwise).
        samples: how often the question is asked again with `temperature`.
        temperature: of the samples.
        max_tokens: longest answer.
    """
    body = item.body
    keep(isinstance(body, Item), "no question")
    assert isinstance(body, Item)
    if body.choices:
        chosen = await model.ask(P.yes_no(question=body.question), item.images, out=Literal[body.choices])
        return item.make(body, said=str(chosen), p=_of_first(chosen, body.choices))
    words = P.open(question=body.question)
    said = await model.ask(words, item.images, max_tokens=max_tokens)
    again = [model.ask(words, item.images, max_tokens=max_tokens, temperature=temperature) for _ in range(samples)]
    return item.make(body, said=str(said), finish=said.finish, samples=[str(s) for s in await gather(*again)])


def _of_first(chosen: Any, choices: Sequence[str]) -> float | None:
    """Return the probability of the first of two choices, None where it is not known."""
    p: float | None = getattr(chosen, "p", None)
    if p is None or len(choices) != 2:
        return None
    return round(p if str(chosen) == choices[0] else 1 - p, 6)


def answers(
    questions: Iterable[Question], model: str | ModelSpec | Backend, folder: Path, *, where: str = "scenes",
    samples: int = 0, temperature: float = 1.0, budget: Mapping[str, Any] | None = None,
    prompts: Sequence[str] = (), watch: Callable[[Progress], Any] | None = None,
) -> tuple[dict[str, Answer], Run]:  # fmt: skip
    """Ask a model all questions in a run of its own; returns record id -> answer for those that were answered.

    Args:
        questions: what to ask; equal records are asked once.
        model: who answers.
        folder: the run folder; run again, it continues and pays only for what is new.
        where: what the pictures are called in the run's own description.
        samples: see `answer`.
        temperature: see `answer`.
        budget: `calls`, `tokens`, `cost`, `time` that may be spent.
        prompts: folders of the user's own prompts, by the same names.
        watch: shows progress.

    Raises:
        SetupError: nothing has been paid.
        RunStopped: a budget or a signal; the same call continues it.
    """
    records = list({q.record.id: q.record for q in questions}.values())
    knobs = {"samples": samples, "temperature": temperature} if samples else {}
    limits = Limits(**(budget or {}))
    recipe = Recipe(name="eval", source=where, steps=[{"answer": knobs}], budget=limits, prompts=list(prompts))
    plan = Plan(recipe, (Bound("answer", Step("answer", "row", answer), knobs),), {}, Budget(**limits.model_dump()))
    plan = with_backends(plan, {"model": model}) if isinstance(model, Backend) else _with_spec(plan, model)
    run = wait(run_plan(plan, _source(records, where), folder, watch=watch))
    if run.state == "stopped":
        raise RunStopped(run.note)
    return {row.parent: _answer(row.tags) for row in load_rows(folder)}, run


def _with_spec(plan: Plan, spec: str | ModelSpec) -> Plan:
    return Plan(plan.recipe, plan.steps, {"model": spec}, plan.budget)


def _source(records: Sequence[Record], where: str) -> Source:
    from collections import Counter

    def items() -> Iterator[Record]:
        yield from records

    return Source("rows", where, items, lambda: len(records), Counter())


def _answer(tags: Mapping[str, Any]) -> Answer:
    return Answer(str(tags["said"]), tags.get("p"), tuple(tags.get("samples", ())))
