"""Table steps against the plainest way to do the same."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from foveal.errors import RecipeError
from foveal.steps.near import near_pictures
from foveal.steps.table import Table, dedup, near_texts, words

TEXTS = st.lists(
    st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f", "7", "字", "。"]), max_size=6).map(" ".join), max_size=12
)
SHARES = st.sampled_from([0.01, 0.3, 1 / 3, 0.5, 0.6, 2 / 3, 0.8, 0.9, 1.0]) | st.floats(0.01, 1)


def table(**columns: Sequence[Any]) -> Table:
    ids = tuple(f"r{n}" for n in range(len(next(iter(columns.values())))))
    return Table(ids, lambda name, wanted: [columns[name][ids.index(i)] for i in wanted])


def bag(text: str) -> set[str]:
    plain = words(text)
    return {*plain, *(f"{a} {b}" for a, b in pairwise(plain))} or {text}


def alike(a: str, b: str) -> float:
    return len(bag(a) & bag(b)) / len(bag(a) | bag(b))


@given(TEXTS, SHARES)
@example(["a b c", "a b c d e f", "c"], 1 / 3)
def test_near_texts_finds_what_comparing_all_finds(texts: list[str], at: float) -> None:
    everything = {(j, i) for i, j in combinations(range(len(texts)), 2) if alike(texts[i], texts[j]) >= at}
    assert set(near_texts(texts, at)) == everything


@given(TEXTS, SHARES, st.integers(1, 3))
def test_dedup_is_greedy_in_order(texts: list[str], at: float, most: int) -> None:
    kept: list[int] = []
    for i, text in enumerate(texts):
        if sum(alike(texts[k], text) >= at for k in kept) < most:
            kept.append(i)
    after = dedup(table(question=texts or [""], picture=["p"] * max(1, len(texts))), at=at, most=most)
    assert after.ids == tuple(f"r{i}" for i in (kept if texts else [0]))
    assert set(after.dropped.values()) <= {"near-duplicate question"}


def test_the_same_question_about_another_picture_stays() -> None:
    rows = table(question=["Why?", "Why?", "why ?"], picture=["p", "q", "p"], answer=["a", "a", "b"])
    assert dedup(rows).ids == ("r0", "r1")
    assert dedup(rows, within="set").ids == ("r0",)
    assert dedup(rows, by="answer", within="set").dropped == {"r1": "near-duplicate answer"}


def test_texts_without_words_are_compared_as_they_are() -> None:
    assert dedup(table(question=["?", "!", "?", ""], picture=["p"] * 4)).ids == ("r0", "r1", "r3")


@given(st.lists(st.none() | st.integers(0, 255).map(lambda n: n * 0x0101010101010101 & 0xF0F0FF00FF0F1133), max_size=14)
       | st.lists(st.integers(0, 2**64 - 1), max_size=8), st.integers(0, 16))  # fmt: skip
def test_near_pictures_finds_what_comparing_all_finds(codes: list[int | None], bits: int) -> None:
    kept: list[int] = []
    expected: list[str] = []
    for n, code in enumerate(codes):
        if code is None or all((code ^ other).bit_count() > bits for other in kept):
            expected.append(f"r{n}")
            kept += [] if code is None else [code]
    if codes:
        assert near_pictures(table(dhash=codes), bits=bits).ids == tuple(expected)


@given(st.integers(0, 2**64 - 1), st.sets(st.integers(0, 63), max_size=16), st.integers(0, 16))
def test_pictures_that_differ_in_few_bits_are_one(code: int, flips: set[int], bits: int) -> None:
    other = code
    for bit in flips:
        other ^= 1 << bit
    assert len(near_pictures(table(dhash=[code, other]), bits=bits).ids) == (1 if len(flips) <= bits else 2)


@pytest.mark.parametrize("knobs", [{"at": 0}, {"at": 1.1}, {"at": -1}, {"most": 0}])
def test_dedup_refuses(knobs: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="dedup: "):
        dedup(table(question=["a"], picture=["p"]), **knobs)


@pytest.mark.parametrize("bits", [-1, 17])
def test_near_pictures_refuses(bits: int) -> None:
    with pytest.raises(RecipeError, match="near_pictures: "):
        near_pictures(table(dhash=[1]), bits=bits)


def test_steps_in_a_row_remember_every_reason() -> None:
    rows = table(question=["a", "a", "b"], picture=["p"] * 3, dhash=[1, 1, 1])
    after = near_pictures(dedup(rows))
    assert after.ids == ("r0",)
    assert after.dropped == {"r1": "near-duplicate question", "r2": "near-duplicate picture"}
