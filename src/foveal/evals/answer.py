"""The step by which a model answers questions, the run that carries it, and what a scorer is given.

Questions go through an ordinary run: answers are remembered, a killed evaluation goes on where it was, a budget holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict

from typing_extensions import Unpack

from foveal.data import Source
from foveal.errors import RunStopped
from foveal.models.connect import ModelSpec
from foveal.models.model import Model
from foveal.models.wire import Backend
from foveal.prompts import beside
from foveal.recipe import Bound, Limits, Plan, Recipe, Step
from foveal.record import Image, Item, Record, gather, keep
from foveal.runner.flow import Progress
from foveal.runner.local import Run, run_plan
from foveal.runner.waiting import wait
from foveal.scrapbook.parts import Scene
from foveal.steps.constraints import Constraint
from foveal.store import Budget

MAKES = Item
P = beside(__file__)
YES_NO = ("Yes", "No")
Who: TypeAlias = str | ModelSpec | Backend
"""Who plays a role: a spec as on the command line, a ModelSpec, or a backend made in Python."""


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
        wants: what the answer's form has to keep, where that is what is asked.
    """

    record: Record
    shot: Shot
    kind: str = ""
    answer: str = ""
    noun: str = ""
    wants: Constraint | None = None

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
    questions: Iterable[Question], model: Who, folder: Path, *, samples: int = 0, temperature: float = 1.0,
    **how: Unpack[How],
) -> tuple[dict[str, Answer], Run]:  # fmt: skip
    """Ask a model all questions in a run of its own; returns record id -> answer for those that were answered.

    Args:
        questions: what to ask; equal records are asked once.
        model: who answers.
        folder: the run folder; run again, it continues and pays only for what is new.
        samples: see `answer`.
        temperature: see `answer`.
        **how: see `How`.

    Raises:
        SetupError: nothing has been paid.
        RunStopped: a budget or a signal; the same call continues it.
    """
    records = list({q.record.id: q.record for q in questions}.values())
    knobs = {"samples": samples, "temperature": temperature} if samples else {}
    run = carry(answer, records, {"model": model}, folder, knobs, **how)
    return {row.parent: _answer(row.tags) for row in run.records()}, run


def _answer(tags: Mapping[str, Any]) -> Answer:
    return Answer(str(tags["said"]), tags.get("p"), tuple(tags.get("samples", ())))


class How(TypedDict, total=False):
    """How questions are carried.

    Attributes:
        where: what the pictures are called in the run's own description.
        budget: `calls`, `tokens`, `cost`, `time` that may be spent.
        prompts: folders of the user's own prompts, by the same names.
        watch: shows progress.
    """

    where: str
    budget: Mapping[str, Any]
    prompts: Sequence[str]
    watch: Callable[[Progress], Any] | None


def carry(
    step: Callable[..., Any], records: Sequence[Record], models: Mapping[str, Who], folder: Path,
    knobs: Mapping[str, Any] | None = None, **how: Unpack[How],
) -> Run:  # fmt: skip
    """Carry records through one row step in a run folder.

    Args:
        step: an async function of a record, its roles and knobs.
        records: what it is given; none may be there twice.
        models: role -> who plays it.
        folder: the run folder.
        knobs: of the step.
        **how: see `How`.

    Raises:
        SetupError: nothing has been paid.
        RunStopped: a budget or a signal; the same call continues it.
    """
    name, where, bound = step.__name__, how.get("where", "scenes"), dict(knobs or {})
    limits = Limits(**how.get("budget", {}))
    recipe = Recipe(name=name, source=where, steps=[{name: bound}], budget=limits, prompts=list(how.get("prompts", ())))
    plan = Plan(recipe, (Bound(name, Step(name, "row", step), bound),), dict(models), Budget(**limits.model_dump()))
    source = Source("rows", where, lambda: iter(records), lambda: len(records), Counter())
    run = wait(run_plan(plan, source, folder, watch=how.get("watch")))
    if run.state == "stopped":
        raise RunStopped(run.note)
    return run
