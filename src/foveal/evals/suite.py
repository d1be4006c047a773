"""The evaluations by name, and how several of them are asked in one run and scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from typing_extensions import Unpack

from foveal.errors import RecipeError, nearest
from foveal.evals import arena, chair, consistency, exact, following, pope
from foveal.evals.answer import Answer, How, Question, Shot, Who, answers
from foveal.evals.scored import Questions, Scored, Scorer
from foveal.prompts import overriding


@dataclass(frozen=True)
class Evaluation:
    """A source of questions and a scorer.

    Attributes:
        score: of one model; None where two are compared.
        samples: how often each question is asked again with `temperature`, beside the greedy answer.
    """

    questions: Questions
    score: Scorer | None
    samples: int = 0
    temperature: float = 1.0


EVALUATIONS: dict[str, Evaluation] = {
    "pope": Evaluation(pope.questions, pope.score),
    "chair": Evaluation(chair.questions, chair.score),
    "exact": Evaluation(exact.questions, exact.score),
    "following": Evaluation(following.questions, following.score),
    "consistency": Evaluation(
        consistency.questions, consistency.score, consistency.SAMPLES, consistency.TEMPERATURE
    ),
    "arena": Evaluation(arena.questions, None),
}  # fmt: skip
"""What `foveal eval` knows."""


def named(names: Sequence[str], two: bool) -> dict[str, Evaluation]:
    """Return the evaluations of these names.

    Args:
        names: of EVALUATIONS.
        two: whether there is a second model.

    Raises:
        RecipeError: one is not known (the nearest is named), or compares two models where there is one.
    """
    for name in names:
        if name not in EVALUATIONS:
            raise RecipeError(f"no evaluation is called {name!r}{nearest(name, EVALUATIONS)}")
        if EVALUATIONS[name].score is None and not two:
            raise RecipeError(f"{name} compares two models: name the other one with --against SPEC")
    if not names:
        raise RecipeError(f"no evaluation is named{nearest('', EVALUATIONS)}")
    return {name: EVALUATIONS[name] for name in dict.fromkeys(names)}


@dataclass
class Asked:
    """What one model answered.

    Attributes:
        identity: who it is.
        folders: of the runs in which it was asked.
        answers: evaluation -> record id -> answer.
        unanswered: evaluation -> questions without a usable answer.
        made: calls that were paid this time; `remembered`: that were not.
    """

    identity: str
    folders: list[Path] = field(default_factory=list)
    answers: dict[str, Mapping[str, Answer]] = field(default_factory=dict)
    unanswered: dict[str, int] = field(default_factory=dict)
    made: int = 0
    remembered: int = 0


def questions_of(
    evaluations: Mapping[str, Evaluation], shots: Sequence[Shot], seed: int = 0, prompts: Sequence[str] = ()
) -> dict[str, list[Question]]:
    """Return evaluation -> its questions about the pictures."""
    with overriding(tuple(map(Path, prompts))):
        return {name: evaluation.questions(shots, seed) for name, evaluation in evaluations.items()}


def ask_all(
    evaluations: Mapping[str, Evaluation], asked: Mapping[str, Sequence[Question]], model: Who, folder: Path,
    **how: Unpack[How],
) -> Asked:  # fmt: skip
    """Let a model answer every question, each in one run for those asked alike.

    Args:
        evaluations: from `named`.
        asked: from `questions_of`.
        model: who answers.
        folder: the run folder; questions that are sampled are asked in one beside it.
        **how: see `How`; each run may spend the budget.

    Raises:
        SetupError: nothing has been paid.
        RunStopped: a budget or a signal; the same call continues it.
    """
    told = Asked("")
    ways = dict.fromkeys((e.samples, e.temperature) for e in evaluations.values())
    for samples, temperature in ways:
        names = [n for n, e in evaluations.items() if (e.samples, e.temperature) == (samples, temperature)]
        place = folder if not samples else folder.with_name(f"{folder.name}-sampled")
        put = [q for n in names for q in asked[n]]
        given, run = answers(put, model, place, samples=samples, temperature=temperature, **how)
        told.identity = run_identity(run.folder)
        told.folders.append(run.folder)
        told.made += run.progress.meter.total.made
        told.remembered += run.progress.meter.total.remembered
        for name in names:
            told.answers[name] = given
            told.unanswered[name] = len({q.record.id for q in asked[name]} - given.keys())
    return told


def run_identity(folder: Path) -> str:
    """Return who answered in a run folder, as its run.json tells."""
    models: dict[str, str] = orjson.loads((folder / "run.json").read_bytes())["models"]
    return models.get("model", "")


def scored(
    evaluations: Mapping[str, Evaluation], asked: Mapping[str, Sequence[Question]], told: Asked
) -> dict[str, Scored]:
    """Return evaluation -> figures of one model, for those that need just one."""
    return {
        name: evaluation.score(asked[name], told.answers[name])
        for name, evaluation in evaluations.items()
        if evaluation.score
    }


def evaluate(
    names: Sequence[str], shots: Sequence[Shot], model: Who, folder: Path, seed: int = 0, **how: Unpack[How]
) -> dict[str, Scored]:
    """Ask one model and score it: evaluation -> figures. The same seed and pictures ask every model the same.

    Raises:
        SetupError: a name is not known, or something does not fit; nothing has been paid.
        RunStopped: a budget or a signal; the same call continues it.
    """
    evaluations = named(names, two=False)
    asked = questions_of(evaluations, shots, seed, how.get("prompts", ()))
    return scored(evaluations, asked, ask_all(evaluations, asked, model, folder, **how))


def arena_of(
    questions: Sequence[Question], model: Asked, against: Asked, judge: Who | None, folder: Path, **how: Unpack[How]
) -> Scored:
    """Return the arena's figures: judged by the truth, or by a model in a run of its own.

    Raises:
        SetupError: the judge is not there.
        RunStopped: a budget or a signal; the same call continues it.
    """
    one, other = model.answers["arena"], against.answers["arena"]
    verdicts = None if judge is None else arena.judge(questions, one, other, judge, folder, **how)
    return arena.score(questions, one, other, verdicts)
