"""Fixtures: small pictures made on the spot, and scripted models for every method."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from PIL import Image as PILImage

from foveal.models.scripted import Scripted, words_of
from foveal.models.wire import Request

# A busy machine is no defect, hence no deadline; the number keeps the whole suite within a minute.
settings.register_profile("foveal", deadline=None, max_examples=60)
settings.load_profile("foveal")


def make_pictures(folder: Path, count: int, start: int = 0) -> Path:
    """Write `count` different small PNGs."""
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(start, start + count):
        PILImage.new("RGB", (24, 16), (n * 7 % 256, n * 31 % 256, n // 256)).save(folder / f"p{n:05d}.png")
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[..., Path]:
    """Return a maker of folders of pictures."""
    return lambda count, name="photos", start=0: make_pictures(tmp_path / name, count, start)


def picture_of(request: Request) -> str:
    """Return the digest of the picture a request shows, "" for none."""
    return next((p.digest for m in request.messages for p in m.parts if not isinstance(p, str)), "")


def oasis_answers(request: Request) -> str:
    """Answer any of Oasis's prompts, as a function of the picture or the words: some of everything happens."""
    words = words_of(request)
    if request.open_turn:
        n = int(picture_of(request)[:8], 16)
        return (
            f"What is number {n} doing?",
            f"A red square number {n} on a plain ground.",
            "??? !!! ###",
            f"Count {n} birds",
        )[n % 4]
    if request.choices == ("instruction", "caption"):
        return "caption" if "ground." in words else "instruction"
    if request.choices:
        number = "".join(c for c in words if c.isdigit())[-3:]
        return "4" if "Count" in words and "clear" in words and int(number) % 2 else "5"
    if '"instructions"' in words:
        return '{"instructions": ["' + words.split("Text:\n")[1].split("\n")[0] + '"]}'
    return f"It is answer {words[-20:]}"


@pytest.fixture
def oasis_model() -> Scripted:
    """Return a scripted model that can play both of Oasis's roles."""
    return Scripted(oasis_answers)


def any_answers(request: Request) -> str:
    """Answer any method's prompts: words, choices and scores as for Oasis; what is said of a picture depends on it."""
    said, words = oasis_answers(request), words_of(request)
    seen = "".join(p.digest[:4] for m in request.messages for p in m.parts if not isinstance(p, str))
    if request.choices and not request.choices[0].isdigit() and said not in request.choices:
        return request.choices[0]
    if request.open_turn or request.choices or request.schema or said.startswith("{"):
        return said
    if "one per line" in words:
        return f"1. What is to be seen at {seen or 'the edge'}?\n2. How many marks has {seen or 'the middle'}?"
    if "Question: the new" in words:
        return f"Question: What is to be seen at {len(words)} of {seen}?\nAnswer: A mark {seen}.\nSkills: OCR"
    if "Answer:" in words:
        return f"The mark stands at the edge, as marks do, and {' nothing' * 12} else is near.\nAnswer: A mark {seen}."
    if "Write only" in words:
        return f"What is to be seen at {seen or 'the edge of everything'}?"
    return f"{said} with {seen}" if seen else said


@pytest.fixture
def any_model() -> Scripted:
    """Return a scripted model that can play every role of every method."""
    return Scripted(any_answers)
