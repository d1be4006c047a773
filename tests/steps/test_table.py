"""Table steps against the plainest way to do the same."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from foveal.errors import RecipeError
from foveal.steps.near import near_pictures
from foveal.steps.table import dedup, near_texts, words
from tests.steps.tables import table

TEXTS = st.lists(
    st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f", "7", "字", "。"]), max_size=6).map(" ".join), max_size=12
)
SHARES = st.sampled_from([0.01, 0.3, 1 / 3, 0.5, 0.6, 2 / 3, 0.8, 0.9, 1.0]) | st.floats(0.01, 1)


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


@pytest.mark.parametrize("knobs", [{"at": 0}, {"at": 1.1}, {"at": -1}, {"most": 0}])
def test_dedup_refuses(knobs: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="dedup: "):
        dedup(table(question=["a"], picture=["p"]), **knobs)


def test_steps_in_a_row_remember_every_reason() -> None:
    rows = table(question=["a", "a", "b"], picture=["p", "p", "q"], dhash=[1, 1, 1])
    after = near_pictures(dedup(rows))
    assert after.ids == ("r0",)
    assert after.dropped == {"r1": "near-duplicate question", "r2": "near-duplicate picture"}
    assert after.details == {"r1": "like r0", "r2": "like r0"}
