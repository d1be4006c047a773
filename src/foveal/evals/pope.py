"""POPE (2305.10355): yes/no questions about what is there and what is not, with three ways to pick what is not.

Questions come from the truth, so no segmenter is needed. What is done differently from the released builder: it is
seeded; positives are drawn, not the first of a list; pictures with fewer than three objects are used as well, with as
many negatives as positives; no negative may pass for what is there (`themes.like`).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from foveal.evals.answer import YES_NO, Answer, Question, Shot, ask
from foveal.evals.calibration import brier, ece
from foveal.evals.scored import Scored, row
from foveal.evals.stats import Array, Measure, mean, of_sums, ratio
from foveal.record import digest
from foveal.scrapbook.claims import covers
from foveal.scrapbook.themes import like
from foveal.scrapbook.truth import KINDS, a, capital, is_

MOST = 3
"""Positives of a picture, and negatives of each kind, as in POPE: six questions a picture and kind."""


def questions(shots: Sequence[Shot], seed: int = 0) -> list[Question]:
    """Return the questions of all three kinds; positives are the same in each and are asked once."""
    sets = [{t.noun for t in shot.scene.things} for shot in shots]
    often = Counter(noun for nouns in sets for noun in nouns)
    together = Counter(pair for nouns in sets for one, other in combinations(sorted(nouns), 2)
                       for pair in ((one, other), (other, one)))  # fmt: skip
    return [q for shot, there in zip(shots, sets, strict=True) for q in _of(shot, there, often, together, seed)]


def _of(
    shot: Shot, there: set[str], often: Counter[str], together: Counter[tuple[str, str]], seed: int
) -> Iterator[Question]:
    rng = random.Random(digest("pope", str(seed), shot.image.digest))
    positives = sorted(there)
    rng.shuffle(positives)
    positives = positives[:MOST]
    taken = frozenset().union(*(like(n) | covers(n) for n in there))
    free = [noun for noun in sorted(often) if noun not in taken and not covers(noun) & there]
    for kind in KINDS:
        negatives = _negatives(kind, positives, free, often, together, rng)
        for noun, answer in [*((n, "Yes") for n in positives[: len(negatives)]), *((n, "No") for n in negatives)]:
            question = f"{capital(is_(noun))} there {a(noun)} in the picture?"
            yield Question(ask(shot, question, answer, YES_NO), shot, kind, answer, noun)


def _negatives(
    kind: str, positives: Sequence[str], free: Sequence[str], often: Counter[str],
    together: Counter[tuple[str, str]], rng: random.Random,
) -> list[str]:  # fmt: skip
    """Return a negative for each positive, as far as there are any."""
    if kind == "random":
        return rng.sample(free, min(len(positives), len(free)))
    if kind == "popular":
        return sorted(free, key=lambda noun: (-often[noun], noun))[: len(positives)]
    left, picked = list(free), []
    for positive in positives:
        if left:
            most = min(left, key=lambda noun: (-together[positive, noun], noun))
            picked.append(most if together[positive, most] else rng.choice(left))
            left.remove(picked[-1])
    return picked


def score(questions: Sequence[Question], answers: Mapping[str, Answer]) -> Scored:
    """Return accuracy, precision, recall, F1 and yes ratio of each kind, with yes as the positive class.

    A question without a usable answer is wrong and no yes.
    """
    measures: list[Measure] = []
    for kind in KINDS:
        measures += _of_kind(f"pope/{kind}", [q for q in questions if q.kind == kind], answers)
    measures.append(_mean_f1(questions, answers))
    once = list({q.record.id: q for q in questions}.values())
    measures += _calibration(once, answers)
    rows = [row(q, answers.get(q.record.id), right=_right(q, answers), p=_p(q, answers)) for q in questions]
    return Scored(measures, rows)


def _said_yes(question: Question, answers: Mapping[str, Answer]) -> bool:
    given = answers.get(question.record.id)
    return given is not None and given.said == YES_NO[0]


def _right(question: Question, answers: Mapping[str, Answer]) -> bool:
    given = answers.get(question.record.id)
    return given is not None and given.said == question.answer


def _p(question: Question, answers: Mapping[str, Answer]) -> float | None:
    given = answers.get(question.record.id)
    return given.p if given else None


def _table(questions: Sequence[Question], answers: Mapping[str, Answer]) -> list[list[float]]:
    """Return the columns true positives, false positives, positives, items."""
    said = [_said_yes(q, answers) for q in questions]
    true = [q.answer == YES_NO[0] for q in questions]
    both = list(zip(said, true, strict=True))
    return [[float(s and t) for s, t in both], [float(s and not t) for s, t in both], [float(t) for t in true],
            [1.0] * len(both)]  # fmt: skip


def _of_kind(name: str, questions: Sequence[Question], answers: Mapping[str, Answer]) -> list[Measure]:
    pictures, ids = [q.picture for q in questions], [q.record.id for q in questions]
    columns = _table(questions, answers)
    hits, false, positives, ones = columns
    said = [h + f for h, f in zip(hits, false, strict=True)]
    right = [float(_right(q, answers)) for q in questions]
    return [
        mean(f"{name}/accuracy", ids, pictures, right),
        ratio(f"{name}/precision", pictures, hits, said),
        ratio(f"{name}/recall", pictures, hits, positives),
        of_sums(f"{name}/f1", pictures, columns, _f1),
        ratio(f"{name}/yes", pictures, said, ones, better=""),
    ]


def _f1(sums: Array) -> Array:
    hits, false, positives = sums[..., 0], sums[..., 1], sums[..., 2]
    f1: Array = 2 * hits / np.maximum(hits + false + positives, 1e-9)
    return f1


def _mean_f1(questions: Sequence[Question], answers: Mapping[str, Answer]) -> Measure:
    """Return the mean F1 of the three kinds, the single figure that is usually quoted."""
    table = _table(questions, answers)
    columns = [
        [x * (q.kind == kind) for x, q in zip(column, questions, strict=True)] for kind in KINDS for column in table
    ]

    def of(sums: Array) -> Array:
        f1: Array = np.mean([_f1(sums[..., k : k + 4]) for k in range(0, 4 * len(KINDS), 4)], axis=0)
        return f1

    return of_sums("pope/f1", [q.picture for q in questions], columns, of)


def _calibration(questions: Sequence[Question], answers: Mapping[str, Answer]) -> list[Measure]:
    told = [(q, p) for q in questions if (p := _p(q, answers)) is not None]
    if not told:
        return []
    pictures, ids, given = [q.picture for q, _ in told], [q.record.id for q, _ in told], [p for _, p in told]
    yes = [q.answer == YES_NO[0] for q, _ in told]
    return [ece("pope/ece", pictures, given, yes), brier("pope/brier", ids, pictures, given, yes)]
