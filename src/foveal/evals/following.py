"""Whether answers keep what an instruction demands of their form, checked by code as in IFEval (2311.07911).

Two requests a picture, one for a description and one question, each with one constraint of `steps.constraints`. What is
said about the picture does not count here; read it beside `exact` and `chair`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

from foveal.evals.answer import Answer, Question, Shot, ask
from foveal.evals.scored import Scored, row
from foveal.evals.stats import Measure, mean
from foveal.record import digest
from foveal.scrapbook.truth import description, fact_of
from foveal.steps.constraints import FAMILIES, draw

ALIKE = tuple(family for family in FAMILIES if family != "language")
"""Families that need no other language than the question's."""
REQUESTS = (
    "Describe the picture.", "Tell me what can be seen here.", "Write about what this picture shows.",
    "What is in the picture, and where?",
)  # fmt: skip


def questions(shots: Sequence[Shot], seed: int = 0) -> list[Question]:
    """Return two instructions a picture; lengths and keywords are drawn to suit the true answer."""
    nouns = sorted({t.noun for shot in shots for t in shot.scene.things})
    return [question for shot in shots for question in _of(shot, nouns, seed)]


def _of(shot: Shot, nouns: Sequence[str], seed: int) -> Iterator[Question]:
    rng = random.Random(digest("following", str(seed), shot.image.digest))
    asked = [(rng.choice(REQUESTS), description(shot.scene, rng))]
    if fact := fact_of(rng.choice(("where", "what", "color", "relation")), shot.scene, rng, nouns):
        asked.append((fact.question, fact.answer))
    for text, answer in asked:
        for wanted in draw(rng, answer, 1, ALIKE):
            yield Question(ask(shot, f"{text} {wanted.says}"), shot, wanted.family, wants=wanted)


def score(questions: Sequence[Question], answers: Mapping[str, Answer]) -> Scored:
    """Return the share of answers that keep their constraint, in all and by family; no answer keeps none."""
    given = [answers.get(q.record.id) for q in questions]
    kept = [bool(g and q.wants and q.wants.holds(g.said)) for q, g in zip(questions, given, strict=True)]
    measures = [_share("following/kept", questions, kept)]
    for family in ALIKE:
        here = [i for i, q in enumerate(questions) if q.kind == family]
        if here:
            measures.append(_share(f"following/{family}", [questions[i] for i in here], [kept[i] for i in here]))
    rows = [
        row(q, g, constraint=q.wants.name if q.wants else "", kept=k)
        for q, g, k in zip(questions, given, kept, strict=True)
    ]
    return Scored(measures, rows)


def _share(name: str, questions: Sequence[Question], kept: Sequence[bool]) -> Measure:
    ids, pictures = [q.record.id for q in questions], [q.picture for q in questions]
    return mean(name, ids, pictures, [float(k) for k in kept])
