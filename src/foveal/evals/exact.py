"""Questions with one right answer, by kind: what is asked comes from the truth, what is said is read and compared.

An answer is right when it says the same of what was asked, however it is worded: "On the left.", "It is on the left
side" and "left" are one answer, and so are "2", "Two." and "There are two cats". An answer that names a second
candidate is wrong.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

from foveal.evals.answer import Answer, Question, Shot, ask
from foveal.evals.scored import Scored, row
from foveal.evals.stats import Measure, mean
from foveal.record import digest
from foveal.scrapbook.claims import HUES, NUMBERS, PLACE, claims, objects, side_of
from foveal.scrapbook.truth import fact_of

KINDS: dict[str, str] = {
    "exists": "existence", "count": "count", "relation": "relation", "color": "colour", "where": "place",
    "side": "place", "what": "object", "size": "size", "background": "background", "ocr": "text", "chart": "chart",
    "table": "table",
}  # fmt: skip
"""Topics of `truth.fact_of` -> kinds as they are reported."""


def questions(shots: Sequence[Shot], seed: int = 0) -> list[Question]:
    """Return one question a picture and topic, where the picture has anything of the kind to ask about."""
    nouns = sorted({t.noun for shot in shots for t in shot.scene.things})
    asked = []
    for shot in shots:
        for topic, kind in KINDS.items():
            rng = random.Random(digest("exact", str(seed), topic, shot.image.digest))
            if fact := fact_of(topic, shot.scene, rng, nouns):
                record = ask(shot, fact.question, fact.answer)
                asked.append(Question(record, shot, kind, fact.answer))
    return asked


def score(questions: Sequence[Question], answers: Mapping[str, Answer]) -> Scored:
    """Return the share of right answers, in all and by kind; a question without an answer is wrong."""
    given = [answers.get(q.record.id) for q in questions]
    right = [g is not None and matches(q.text, q.answer, g.said, q.kind) for q, g in zip(questions, given, strict=True)]
    measures = [_share("exact/all", questions, right)]
    for kind in dict.fromkeys(KINDS.values()):
        here = [i for i, q in enumerate(questions) if q.kind == kind]
        if here:
            measures.append(_share(f"exact/{kind}", [questions[i] for i in here], [right[i] for i in here]))
    rows = [row(q, g, right=r) for q, g, r in zip(questions, given, right, strict=True)]
    return Scored(measures, rows)


def _share(name: str, questions: Sequence[Question], right: Sequence[bool]) -> Measure:
    ids, pictures = [q.record.id for q in questions], [q.picture for q in questions]
    return mean(name, ids, pictures, [float(r) for r in right])


def matches(question: str, reference: str, said: str, kind: str) -> bool:
    """Tell whether an answer says the same as the reference, of what was asked."""
    if (verdict := verdict_of(reference)) is not None:
        told = verdict_of(said)
        return (_told_there(said) if told is None and kind == "existence" else told) == verdict
    match kind:
        case "count":
            return _numbers(said) == _numbers(reference) != set()
        case "colour":
            return _hues(said) - _hues(question) == _hues(reference) or _hues(said) == _hues(reference)
        case "place":
            return _sides(said) == _sides(reference) != set()
        case "object" | "relation" | "size":
            return _names(said, reference, question)
        case "background":
            return _grounds(said) == _grounds(reference)
    label, both, value = reference.rstrip(".").partition(", with ")
    return _peak(label, value, said) if both and kind == "chart" else _words(reference, said)


def verdict_of(text: str) -> bool | None:
    """Return whether an answer begins by saying yes or no; None where it says neither, or both."""
    first = re.split(r"[.,;!?\n]", text.strip().lower(), maxsplit=1)[0].split()
    found = {w for w in first if w in ("yes", "no")}
    return None if len(found) != 1 else "yes" in found


def _told_there(said: str) -> bool | None:
    """Return what "There is no cat." answers to whether there is one."""
    found = {c.kind for c in claims(said)} & {"object", "absent"}
    return None if len(found) != 1 else "object" in found


def _numbers(text: str) -> set[int]:
    words = re.findall(r"[a-z]+|\d+", text.lower())
    spelled = {word: n for word, n in NUMBERS.items() if word != "single"} | {"no": 0, "none": 0}
    return {int(w) if w.isdigit() else spelled[w] for w in words if w.isdigit() or w in spelled}


def _hues(text: str) -> set[str]:
    return {HUES[w] for w in re.findall(r"[a-z]+", text.lower()) if w in HUES}


def _sides(text: str) -> set[str]:
    found = [side_of(m).split() for m in PLACE.finditer(text.lower())] or [
        ["middle" if w in ("center", "centre") else w]
        for w in re.findall(r"\b(?:left|right|top|bottom|middle|center|centre)\b", text.lower())
    ]
    return {side for sides in found for side in sides}


def _names(said: str, reference: str, question: str) -> bool:
    """Compare nouns; the question's own may be repeated, but to a choice between two the first one named counts."""
    wanted, named = set(objects(reference)), objects(said) or objects(f"a {said}")
    asked = set(objects(question.replace("?", ".")))
    if wanted <= asked:
        return named[:1] == list(wanted)
    return bool(wanted) and (set(named) == wanted or set(named) - asked == wanted)


def _grounds(text: str) -> set[str]:
    told = {c.value for c in claims(text) if c.kind == "ground"} or _hues(text)
    return told | ({"photo"} & set(re.findall(r"photo", text.lower()))) | set(re.findall(r"gradient", text.lower()))


def _words(reference: str, said: str) -> bool:
    """Compare what is written: the reference's quoted words, or all of it, stand in an answer not much longer."""
    quoted = re.findall(r'"([^"]+)"', reference)
    wanted = [_plain(w) for w in quoted] or [_plain(reference)]
    given = _plain(said)
    found = all(re.search(rf"(?<!\w){re.escape(w)}(?!\w)", given) for w in wanted)
    return found and len(given.split()) <= len(_plain(reference).split()) + 8


def _peak(label: str, value: str, said: str) -> bool:
    """Compare the answer to which value is the highest: its label, or the number and nothing else, or both."""
    given, told = _plain(said), _plain(value)
    if not set(re.findall(r"\d+", given)) <= {told, *re.findall(r"\d+", label)}:
        return False
    rest = set(given.split()) - {told, "it", "is", "the", "highest", "lowest", "value", "with", "percent"}
    return rest == set(_plain(label).split()) or (not rest and told in given.split())


def _plain(text: str) -> str:
    words = re.findall(r"\w+", text.lower())
    return " ".join(str(NUMBERS[w]) if w in NUMBERS and w != "single" else w for w in words)
