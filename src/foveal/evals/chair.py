"""CHAIR (1809.02156): how much of what a description names is not there, beside how much of what is there it names.

Objects are found by `scrapbook.claims`, whose nouns and synonyms are the scrapbook's; the truth is complete, so no
human captions are needed to fill it up. Shorter descriptions lower CHAIR, hence recall and length stand beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from foveal.evals.answer import Answer, P, Question, Shot, ask
from foveal.evals.scored import Scored, row
from foveal.evals.stats import mean, ratio
from foveal.scrapbook.claims import Judged, covers, judged, synonyms
from foveal.scrapbook.parts import Scene


def questions(shots: Sequence[Shot], seed: int = 0) -> list[Question]:
    """Return one request for a description a picture."""
    return [Question(ask(shot, str(P.describe())), shot, "description") for shot in shots]


@dataclass(frozen=True, slots=True)
class Read:
    """A description held against the truth.

    Attributes:
        named: objects named, every mention.
        wrong: those of them that are not there.
        found: distinct objects that are there and named; `there`: all that are.
        true: claims of any kind that hold; `false`: that do not. The same claim twice counts once.
    """

    named: tuple[str, ...]
    wrong: tuple[str, ...]
    found: tuple[str, ...]
    there: tuple[str, ...]
    true: tuple[str, ...]
    false: tuple[str, ...]
    words: int

    @property
    def precision(self) -> float:
        """Share of claims that hold; of no claims, 0."""
        return len(self.true) / max(1, len(self.true) + len(self.false))

    @property
    def recall(self) -> float:
        """Share of the objects that are named."""
        return len(self.found) / max(1, len(self.there))


def read(text: str, scene: Scene) -> Read:
    """Hold a description against a scene."""
    told = judged(text, scene)
    objects = [j for j in told if j.claim.kind == "object" and j.claim.noun in synonyms()]
    named = tuple(j.claim.noun for j in objects)
    there = tuple(sorted({t.noun for t in scene.things}))
    return Read(
        named=named,
        wrong=tuple(j.claim.noun for j in objects if not j.true),
        found=tuple(n for n in there if any(n in covers(m) for m in named)),
        there=there,
        true=_distinct(told, True),
        false=_distinct(told, False),
        words=len(text.split()),
    )


def _distinct(told: Sequence[Judged], true: bool) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(j.claim) for j in told if j.true is true))


def score(questions: Sequence[Question], answers: Mapping[str, Answer]) -> Scored:
    """Return CHAIR_i, CHAIR_s, recall, claim precision and length in words.

    A picture without an answer names nothing: it costs recall.
    """
    given = [answers.get(q.record.id) for q in questions]
    reads = [read(g.said if g else "", q.shot.scene) for q, g in zip(questions, given, strict=True)]
    pictures, ids = [q.picture for q in questions], [q.record.id for q in questions]
    wrong, named = [float(len(r.wrong)) for r in reads], [float(len(r.named)) for r in reads]
    true, false = [float(len(r.true)) for r in reads], [float(len(r.false)) for r in reads]
    claimed = [t + f for t, f in zip(true, false, strict=True)]
    measures = [
        ratio("chair/chair_i", pictures, wrong, named, better="lower"),
        mean("chair/chair_s", ids, pictures, [float(w > 0) for w in wrong], better="lower"),
        ratio("chair/recall", pictures, [float(len(r.found)) for r in reads], [float(len(r.there)) for r in reads]),
        ratio("chair/claims", pictures, true, claimed),
        mean("chair/words", ids, pictures, [float(r.words) for r in reads], "words", ""),
    ]
    rows = [
        row(q, g, named=r.named, wrong=r.wrong, missed=[n for n in r.there if n not in r.found], false=r.false,
            words=r.words)
        for q, g, r in zip(questions, given, reads, strict=True)
    ]  # fmt: skip
    return Scored(measures, rows)
