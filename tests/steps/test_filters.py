"""Filters, and what benchmarks hold already."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from foveal.errors import RecipeError, SourceError
from foveal.picture import dhash
from foveal.steps.filters import decontaminate, language, length, picture_size, ratio, refusals
from foveal.steps.table import Table
from tests.steps.tables import table, whole

WORDS = st.lists(st.integers(0, 12).map(lambda n: " ".join(["word"] * n)), min_size=1, max_size=10)


@given(WORDS, st.integers(0, 8), st.integers(0, 12))
def test_length_counts_words(texts: list[str], least: int, more: int) -> None:
    most = least + more if more else 0
    before = table(answer=texts)
    after = length(before, least=least, most=most)
    whole(before, after)
    fits = [f"r{i}" for i, t in enumerate(texts) if least <= len(t.split()) <= (most or 99)]
    assert list(after.ids) == fits


def test_length_counts_letters_where_words_have_no_spaces() -> None:
    assert length(table(answer=["图片里有一只猫", "猫", None]), least=5).ids == ("r0",)


def test_ratio() -> None:
    rows = table(answer=["a b c d", "a", "a b"], question=["x", "x y z", "x y"])
    assert ratio(rows, least=0.5).dropped == {"r1": "answer too short beside the question"}
    assert ratio(rows, most=3).dropped == {"r0": "answer too long beside the question"}
    assert ratio(rows).ids == rows.ids


def test_refusals() -> None:
    rows = table(
        answer=["A dog.", "I'm sorry, but I can't help with that.", None], chosen=["As an AI, I see none.", "A", "B"]
    )
    assert refusals(rows).dropped == {"r1": "answer declines"}
    assert refusals(rows, by="chosen").dropped == {"r0": "chosen declines"}


def test_language() -> None:
    asked = ["What is the colour of this car?", "Quelle est la couleur de la voiture ?", "这张图片里有什么？", "ok"]
    rows = table(question=asked)
    assert language(rows).dropped == {"r1": "language: French", "r2": "language: Chinese", "r3": "language: not told"}
    assert language(rows, only=("English", "Chinese", "not told")).ids == ("r0", "r2", "r3")


def test_picture_size() -> None:
    rows = table(size=[(640, 480), (30, 400), (2000, 100), (1200, 1200), None])
    assert picture_size(rows, least=50, most=1600).dropped == {
        "r1": "picture smaller than 50 pixels", "r2": "picture larger than 1600 pixels",
        "r4": "no picture that can be read",
    }  # fmt: skip
    assert picture_size(rows, sides=4).ids == ("r0", "r3")
    assert picture_size(rows, least=100, most=2000).ids == ("r0", "r2", "r3")  # the borders are in


# --- decontamination -----------------------------------------------------------------------------------------------


def drawn(path: Path, seed: int, size: tuple[int, int] = (90, 80)) -> Path:
    cells = bytes((seed * 7919 + n * n * 104729 + n * seed * 31) % 251 for n in range(36 * 3))
    Pillow.frombytes("RGB", (6, 6), cells).resize(size, Pillow.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    drawn(tmp_path / "b.png", 1)
    talk = [
        {"from": "human", "value": "<image>\nWhich of the animals in this picture is standing on the wooden bridge?"},
        {"from": "gpt", "value": "the brown goat"},
    ]
    path = tmp_path / "bench.json"
    path.write_text(json.dumps([{"image": "b.png", "conversations": talk}]))
    return path


def rows(tmp_path: Path, **columns: Any) -> Table:
    pictures = [drawn(tmp_path / "own.jpg", 1, (180, 160)), *(drawn(tmp_path / f"{n}.png", n) for n in (2, 3, 4))]
    empty: dict[str, Any] = {name: [""] * 4 for name in ("question", "answer")}
    empty |= {name: [None] * 4 for name in ("chosen", "rejected")}
    return table(dhash=[dhash(p.read_bytes()) for p in pictures], **{**empty, **columns})


def test_pictures_and_words_of_a_benchmark_go(tmp_path: Path, benchmark: Path) -> None:
    asked = [
        "What is this?",
        "Tell me: which of the ANIMALS in this picture, is standing on a bridge?",
        "Is the animal on the wooden bridge?",
        "Describe.",
    ]
    before = rows(tmp_path, question=asked, chosen=[None, None, None, "It is the brown goat, I think."])
    after = decontaminate(before, against=(str(benchmark),), ngram=8)
    whole(before, after)
    assert after.dropped == {
        "r0": "picture of a benchmark",
        "r1": "words of a benchmark",
        "r3": "words of a benchmark",  # a short text of the benchmark is met as a whole
    }
    assert after.details["r0"].endswith("bench.json row 1")
    assert "'which of the animals in this picture is' is in" in after.details["r1"]
    assert set(decontaminate(before, against=(str(benchmark),), ngram=0).dropped) == {"r0"}
    assert set(decontaminate(before, against=(str(benchmark),), bits=-1).dropped) == {"r1", "r3"}
    assert set(decontaminate(before, against=(str(benchmark),), ngram=12, bits=-1).dropped) == {"r3"}


def test_every_copy_of_a_benchmarks_picture_goes(tmp_path: Path, benchmark: Path) -> None:
    code = dhash((tmp_path / "b.png").read_bytes())
    codes = [code ^ 1, code ^ 3, code ^ 0b11111, code, code ^ 1, None, code ^ (1 << 63), ~code & (2**64 - 1)]
    columns = {n: [""] * len(codes) for n in ("question", "answer", "chosen", "rejected")}
    after = decontaminate(table(dhash=codes, **columns), against=(str(benchmark),), ngram=0)
    assert after.ids == ("r2", "r5", "r7")


@pytest.mark.parametrize(
    "bad",
    [
        lambda t: language(t, only=()), lambda t: length(t, least=-1), lambda t: length(t, least=5, most=3),
        lambda t: ratio(t, least=-1), lambda t: ratio(t, least=3, most=2), lambda t: picture_size(t, least=-1),
        lambda t: picture_size(t, sides=0.5), lambda t: decontaminate(t),
        lambda t: decontaminate(t, against=("x",), ngram=-1),
        lambda t: decontaminate(t, against=("x",), bits=17),
    ],
)  # fmt: skip
def test_bad_knobs_are_told_before_there_are_rows(bad: Callable[[Table], Table]) -> None:
    with pytest.raises(RecipeError, match=r"^\w+: "):
        bad(Table((), lambda name, ids: []))


def test_a_benchmark_that_is_not_there_is_told_before_there_are_rows() -> None:
    with pytest.raises(SourceError, match="no-such"):
        decontaminate(Table((), lambda name, ids: []), against=("no-such.jsonl",))
