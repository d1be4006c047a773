"""A pairwise arena on descriptions: whose says more that is true and less that is not, by the truth or a judge model.

The truth compares F1 of claim precision and object recall (see `chair.read`); it needs no second order. A judge model
is asked in both orders, and where it does not hold to its choice the pair is a tie (Zheng et al. 2023, 2306.05685). The
win rate counts a tie as half. The length-controlled win rate is AlpacaEval 2's (2404.04475) in its minimal form: a
logistic model of winning by an intercept and the difference in length, read off where lengths are equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from typing_extensions import Unpack

from foveal.evals import chair
from foveal.evals.answer import Answer, How, Question, Who, carry
from foveal.evals.scored import Scored, row
from foveal.evals.stats import Array, Measure, mean
from foveal.models.model import Model
from foveal.prompts import beside
from foveal.record import Pair, Record, gather, keep

MAKES = Pair
P = beside(__file__)
MARGIN = 0.02
"""F1 values nearer than this are a tie."""
RIDGE = 1e-2
"""Keeps the logistic model finite where one side always wins."""

questions = chair.questions
Verdict = Literal["First", "Second", "Tie"]


def score(
    questions: Sequence[Question], answers: Mapping[str, Answer], against: Mapping[str, Answer],
    verdicts: Mapping[str, float] | None = None,
) -> Scored:  # fmt: skip
    """Return the win rate of the model over another, plain and length-controlled.

    Args:
        questions: requests for descriptions.
        answers: the model's.
        against: the other model's.
        verdicts: record id -> 1.0 won, 0.5 tie, 0.0 lost, from a judge model; by default the truth decides.
    """
    told = [q for q in questions if q.record.id in answers or q.record.id in against]
    sides = [[_said(q, side) for side in (answers, against)] for q in told]
    won = [
        by_truth(q, *s) if verdicts is None else verdicts.get(q.record.id, 0.5)
        for q, s in zip(told, sides, strict=True)
    ]
    ids, pictures = [q.record.id for q in told], [q.picture for q in told]
    longer = [float(len(a) - len(b)) for a, b in sides]
    measures = [
        mean("arena/win", ids, pictures, won),
        controlled("arena/win_lc", pictures, won, longer),
        mean("arena/tie", ids, pictures, [float(w == 0.5) for w in won], better=""),
    ]
    rows = [
        row(q, answers.get(q.record.id), against=other, won=w)
        for q, (_, other), w in zip(told, sides, won, strict=True)
    ]
    return Scored(measures, rows)


def _said(question: Question, answers: Mapping[str, Answer]) -> str:
    given = answers.get(question.record.id)
    return given.said if given else ""


def by_truth(question: Question, one: str, other: str) -> float:
    """Return 1.0 where the first description is the better one, 0.0 where the second is, 0.5 for a tie."""
    gap = quality(question, one) - quality(question, other)
    return 0.5 if abs(gap) < MARGIN else float(gap > 0)


def quality(question: Question, said: str) -> float:
    """Return the F1 of claim precision and object recall of a description."""
    read = chair.read(said, question.shot.scene)
    both = read.precision + read.recall
    return 2 * read.precision * read.recall / both if both else 0.0


def controlled(name: str, pictures: Sequence[str], won: Sequence[float], longer: Sequence[float]) -> Measure:
    """Return the win rate at equal length: sigmoid(a), of the model sigmoid(a + b * tanh(difference / deviation))."""
    scale = float(np.std(longer)) or 1.0 if longer else 1.0
    x = np.stack([np.ones(len(won)), np.tanh(np.array(longer) / scale)], axis=1)
    y = np.array(won, dtype=np.float64)

    def of(weights: Array) -> Array:
        return _sigmoid(_logistic(x, y, weights[:, place])[:, 0])

    known = tuple(dict.fromkeys(pictures))
    at = {picture: i for i, picture in enumerate(known)}
    place = np.array([at[p] for p in pictures], dtype=np.int64)
    return Measure(name, known, of, len(won))


def _logistic(x: Array, y: Array, weights: Array, steps: int = 25) -> Array:
    """Fit logistic models by Newton's method, one for each row of weights; y may be soft. Returns (rows, columns)."""
    beta = np.zeros((len(weights), x.shape[1]))
    for _ in range(steps):
        p = _sigmoid(beta @ x.T)
        slope = (weights * (y - p)) @ x - RIDGE * beta
        bend = np.einsum("rn,ni,nj->rij", weights * p * (1 - p), x, x) + RIDGE * np.eye(x.shape[1])
        beta = beta + np.linalg.solve(bend, slope[..., None])[..., 0]
    return beta


def _sigmoid(x: Array) -> Array:
    out: Array = 1 / (1 + np.exp(-np.clip(x, -30, 30)))
    return out


def judge(
    questions: Sequence[Question], answers: Mapping[str, Answer], against: Mapping[str, Answer], model: Who,
    folder: Path, **how: Unpack[How],
) -> dict[str, float]:  # fmt: skip
    """Let a model judge every pair of descriptions, in a run of its own; returns the `verdicts` for `score`.

    Raises:
        SetupError: nothing has been paid.
        RunStopped: a budget or a signal; the same call continues it.
    """
    pairs = {
        q.record.id: Record(q.record.images, Pair(q.text, _said(q, answers), _said(q, against)), q.record.tags)
        for q in questions
    }
    run = carry(compare, list(pairs.values()), {"judge": model}, folder, **how)
    won = {row.parent: float(row.tags["won"]) for row in run.records()}
    return {of: won[pair.id] for of, pair in pairs.items() if pair.id in won}


async def compare(pair: Record, judge: Model) -> Record:
    """Let a model say which of two descriptions is better, in both orders; a choice that turns with them is a tie.

    Args:
        pair: a record with a picture and a Pair: the model's description as `chosen`, the other's as `rejected`.
        judge: sees the picture and both.
    """
    body = pair.body
    keep(isinstance(body, Pair), "no pair")
    assert isinstance(body, Pair)
    orders = ((body.chosen, body.rejected), (body.rejected, body.chosen))
    said = await gather(
        *(judge.ask(P.compare(first=one, second=other), pair.images, out=Verdict) for one, other in orders)
    )
    won = {"First": 1.0, "Tie": 0.5, "Second": 0.0}
    there, back = won[str(said[0])], 1 - won[str(said[1])]
    return pair.make(body, won=there if there == back else 0.5, first=str(said[0]), second=str(said[1]))
