"""What a scorer gives back: figures, and a row for every item so that they can be looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from foveal.evals.answer import Answer, Question, Shot
from foveal.evals.stats import Measure

Questions: TypeAlias = Callable[[Sequence[Shot], int], list[Question]]
"""The source of an evaluation: the questions it asks about pictures, seeded."""


@dataclass(frozen=True)
class Scored:
    """The figures of one model, and what each item came to.

    Attributes:
        measures: in the order they are shown.
        rows: a JSON object an item: at least `record`, `picture`, `said`.
    """

    measures: list[Measure]
    rows: list[dict[str, Any]] = field(default_factory=list)


Scorer: TypeAlias = Callable[[Sequence[Question], Mapping[str, Answer]], Scored]
"""The other half: pure; a question without an answer is one the model failed, and counts as such."""


def row(question: Question, answer: Answer | None, **found: Any) -> dict[str, Any]:
    """Return an item as a row."""
    said = answer.said if answer else None
    about = {"record": question.record.id, "picture": question.picture, "source": question.shot.image.source}
    asked = {"kind": question.kind, "question": question.text, "answer": question.answer, "said": said}
    return {**about, **asked, **found}
