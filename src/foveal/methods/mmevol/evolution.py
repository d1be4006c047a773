"""What an evolved exchange is, how a model's reply is read as one, and what it may not claim."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from foveal.steps.text import asks, labelled, listed, plain

Direction = Literal["perception", "reasoning", "interaction"]
Skill = Literal[
    "grounding", "referencing", "calculating", "OCR", "existence",
    "relationship description", "context understanding", "behaviour prediction", "knowledge integration",
]  # fmt: skip
SKILLS: tuple[str, ...] = get_args(Skill)
"""The paper's nine, five of them of the eye; a skill by another name is none (the released data drift to 134 names)."""
FORMS: Mapping[str, str] = {
    "region selection": "which of several described parts of the picture fits",
    "missing object": "which of several objects is not there",
    "text-image matching": "which of several texts fits the picture",
    "object-region matching": "which object is at which place",
    "completeness of a response": "is an answer complete, and what does it lack",
    "fill in the blank": "a sentence about the picture with a gap",
    "image style": "which style or medium the picture has",
    "art type": "which kind of art or craft is shown",
    "rationale": "a question whose answer gives the visible reasons",
    "text detection": "what is written, and where",
    "text translation": "what is written, in another language",
    "coreference": "a text with pronouns: whom or what in the picture do they mean",
    "instruction following": "a task with conditions on form, length or wording",
    "depth order": "what is nearer to the viewer, what is farther",
    "relative distance": "which of several things are close to each other",
    "creative content": "something to write that the picture's details must go into",
    "multiple choice": "a question with lettered options, exactly one of them right",
}
"""The paper's seventeen forms of interaction, each in our own words."""
USUAL_FORM = "multiple choice"


@dataclass(frozen=True)
class Evolved:
    """An exchange with what is known of it; "" and () for what a reply did not hold."""

    question: str
    answer: str
    objects: tuple[str, ...] = ()
    skills: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    form: str = ""


def read(text: str) -> Evolved:
    """Read a reply in labelled lines; without labels, its first line that asks something is the question."""
    parts = labelled(plain(text), "Question", "Answer", "Objects", "Skills", "Steps", "Form")
    question = parts.get("Question", "") or next((line for line in listed(text) if asks(line)), "")
    return Evolved(
        question, parts.get("Answer", ""), _names(parts.get("Objects", "")), known_skills(parts.get("Skills", "")),
        _steps(parts.get("Steps", "")), known_form(parts.get("Form", "")),
    )  # fmt: skip


def known_skills(text: str) -> tuple[str, ...]:
    """Return the skills that a text names, in the vocabulary's own order and spelling."""
    said = re.sub(r"[\s_-]+", " ", text.casefold())
    return tuple(skill for skill in SKILLS if re.search(rf"\b{re.escape(skill.casefold())}\b", said))


def known_form(text: str) -> str:
    """Return the form that a text names, "" for none."""
    said = re.sub(r"[\s_-]+", " ", text.casefold())
    return next((form for form in FORMS if re.sub(r"[\s_-]+", " ", form) in said), "")


def _names(text: str) -> tuple[str, ...]:
    found = (part.strip(" .*-") for part in re.split(r"[,;\n]", text))
    return tuple(dict.fromkeys(name for name in found if name and name.casefold() not in ("none", "n/a")))


def _steps(text: str) -> tuple[str, ...]:
    parts = re.split(r";\s*|\n+", text) if re.search(r"[;\n]", text) else [text]
    return tuple(listed("\n".join(parts)))


# --- coordinates ---------------------------------------------------------------------------------------------------

_NUMBERS = re.compile(r"[\[(<{]\s*(-?\d+(?:\.\d+)?(?:\s*,\s*-?\d+(?:\.\d+)?){1,3})\s*[\])>}]")


def coordinates(text: str) -> set[tuple[float, ...]]:
    """Return the points and boxes that a text gives: two to four numbers in brackets."""
    return {tuple(round(float(n), 2) for n in found.split(",")) for found in _NUMBERS.findall(text)}


def invented(evolved: Evolved, given: Iterable[str], boxes: Sequence[tuple[str, Sequence[float]]]) -> bool:
    """Tell whether an exchange gives coordinates that neither the texts before it nor the boxes hold."""
    known = {tuple(round(float(n), 2) for n in box) for _, box in boxes}.union(*map(coordinates, given))
    points = {corner for box in known for corner in (box[:2], box[2:])}
    return bool(coordinates(f"{evolved.question}\n{evolved.answer}") - known - points)


def boxes_of(value: Any) -> list[tuple[str, Sequence[float]]]:
    """Return (label, corners) of a tag: a list of {"label", "box"}, or label -> corners; what is neither is none."""
    if isinstance(value, Mapping):
        pairs = list(value.items())
    else:
        rows = value if isinstance(value, list | tuple) else ()
        pairs = [(row.get("label", ""), row.get("box")) for row in rows if isinstance(row, Mapping)]
    return [(str(label), box) for label, box in pairs if _is_box(box)]


def _is_box(box: Any) -> bool:
    return isinstance(box, list | tuple) and len(box) == 4 and all(isinstance(n, int | float) for n in box)
