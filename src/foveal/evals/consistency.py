"""Whether a model answers the same when it is asked again with a temperature: self-consistency without a reference.

The share of pairs of sampled answers that say the same thing, over the questions of `exact`; right or wrong does not
matter here, so a model that always errs in the same way is consistent. Agreement of the samples with the greedy answer
stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from foveal.evals import exact
from foveal.evals.answer import Answer, Question
from foveal.evals.scored import Scored, row
from foveal.evals.stats import mean

SAMPLES = 4
TEMPERATURE = 1.0

questions = exact.questions


def score(questions: Sequence[Question], answers: Mapping[str, Answer]) -> Scored:
    """Return the share of pairs of samples that agree, and of samples that agree with the greedy answer."""
    told = [(q, a) for q in questions if (a := answers.get(q.record.id)) and len(a.samples) > 1]
    pairs = [_agree(q, list(combinations(a.samples, 2))) for q, a in told]
    greedy = [_agree(q, [(a.said, s) for s in a.samples]) for q, a in told]
    ids, pictures = [q.record.id for q, _ in told], [q.picture for q, _ in told]
    measures = [
        mean("consistency/samples", ids, pictures, pairs),
        mean("consistency/greedy", ids, pictures, greedy),
    ]
    rows = [row(q, a, samples=a.samples, agreed=round(p, 4)) for (q, a), p in zip(told, pairs, strict=True)]
    return Scored(measures, rows)


def _agree(question: Question, pairs: Sequence[tuple[str, str]]) -> float:
    return sum(same(question, one, other) for one, other in pairs) / len(pairs)


def same(question: Question, one: str, other: str) -> bool:
    """Tell whether two answers to a question say the same, by the rules of `exact`."""
    if one.strip().lower() == other.strip().lower():
        return True
    return exact.matches(question.text, one, other, question.kind) and exact.matches(
        question.text, other, one, question.kind
    )
