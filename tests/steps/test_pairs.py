"""Pair checks against the plainest way to do the same, and the word list on sentences that do and do not leak."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveal.errors import RecipeError
from foveal.steps.pairs import (
    balance_length,
    distance,
    edits,
    leak,
    leaks,
    lengths_of,
    log_ratio,
    lopsided,
    near_sides,
    normal,
    same,
)
from foveal.steps.table import Table

WORDS = st.lists(st.sampled_from(list("abcde")), max_size=70)


def table(pairs: Sequence[tuple[str | None, str | None]], **columns: Sequence[Any]) -> Table:
    given = {
        "chosen": [c for c, _ in pairs],
        "rejected": [r for _, r in pairs],
        "rejected_images": [None] * len(pairs),
        "question": ["?"] * len(pairs),
        **columns,
    }
    ids = tuple(f"r{n:03}" for n in range(len(pairs)))
    return Table(ids, lambda name, wanted: [given[name][ids.index(i)] for i in wanted])


def by_table(a: Sequence[str], b: Sequence[str]) -> int:
    """Levenshtein's distance as the textbook fills its table."""
    above = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
        above = row
    return above[-1]


@given(WORDS, WORDS)
def test_edits_are_levenshteins(a: list[str], b: list[str]) -> None:
    assert edits(a, b) == by_table(a, b)


@given(WORDS.map(" ".join), WORDS.map(" ".join))
def test_distance_is_a_share(a: str, b: str) -> None:
    assert 0 <= distance(a, b) == distance(b, a) <= 1
    assert (distance(a, b) == 0) == same(a, b)


@pytest.mark.parametrize(
    ("a", "b", "apart"),
    [
        ("A red cup.", "a RED cup", 0),
        ("A red cup", "A blue cup", 1 / 3),
        ("Two", "Three cups", 1),
        ("", "", 0),
        ("", "cup", 1),
        ("一只猫", "两只猫", 1 / 3),
        ("2,5", "2.5", 0),
    ],
)
def test_distances(a: str, b: str, apart: float) -> None:
    assert distance(a, b) == pytest.approx(apart)


def test_equality() -> None:
    assert same("Yes.", "yes") and not same("Yes.", "yes", "exact") and same("x", "x", "exact")
    assert normal("?!") == "?!" and not same("?", "!")


# --- length --------------------------------------------------------------------------------------------------------


def test_lengths() -> None:
    logs = [log_ratio(c, r) for c, r in (("a b c d", "a"), ("a", "a b"), ("a", "a"), ("", "x"))]
    found = lengths_of(logs)
    assert (found.longer, found.shorter, found.equal) == (1, 1, 2)
    assert found.ratio == pytest.approx(2 ** (1 / 4))
    assert found.share == 0.5
    assert (lengths_of([]).ratio, lengths_of([]).share) == (1, 0.5)
    assert lopsided("a b c", "") == 3 == lopsided("", "a b c")


def n_words(n: int) -> str:
    return " ".join("w" * n)


def test_balance_takes_out_the_most_unequal_first() -> None:
    pairs = [(n_words(n), "w") for n in (2, 9, 3, 8, 4, 7)] + [("w", n_words(2))] * 2 + [("w", "w")]
    after = balance_length(table(pairs), share=0.5, lose=1)
    assert dict(after.dropped) == dict.fromkeys(
        ("r001", "r003", "r005", "r004"), "length balance: chosen side the longer too often"
    )
    turned = balance_length(table([(r, c) for c, r in pairs]), share=0.5, lose=1)
    assert set(turned.dropped.values()) == {"length balance: rejected side the longer too often"}
    assert set(turned.dropped) == set(after.dropped)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=60),
    st.sampled_from([0.5, 0.55, 0.7, 1.0]),
    st.sampled_from([0.0, 0.2, 1.0]),
)
def test_balance_reaches_its_share_or_loses_what_it_may(
    sizes: list[tuple[int, int]], share: float, lose: float
) -> None:
    pairs = [(n_words(c), n_words(r)) for c, r in sizes]
    after = balance_length(table(pairs), share=share, lose=lose)
    left = lengths_of(log_ratio(*pairs[int(i[1:])]) for i in after.ids)
    more, fewer = max(left.longer, left.shorter), min(left.longer, left.shorter)
    gone = len(after.dropped)
    assert gone <= lose * len(pairs) + 1e-9
    reached = more <= share * (more + fewer) + 1e-9
    assert reached or gone == math.floor(lose * len(pairs) + 1e-9)
    if gone:  # and not one more than needed
        assert more + 1 > share * (more + fewer + 1) - 1e-9


@pytest.mark.parametrize("knobs", [{"share": 0.4}, {"share": 1.1}, {"lose": -1}, {"lose": 2}])
def test_balance_refuses(knobs: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match="balance_length"):
        balance_length(table([]), **knobs)


# --- sides and leaks -----------------------------------------------------------------------------------------------


def test_near_sides() -> None:
    twenty = n_words(20)
    rows = table(
        [("a b", "a b."), ("a b", "a c"), (twenty, twenty + " x"), ("t", "t"), (None, None)],
        rejected_images=[None, None, None, (1,), None],
    )
    assert set(near_sides(rows).dropped) == {"r000", "r002"}
    assert set(near_sides(rows, at=0).dropped) == {"r000"}
    assert set(near_sides(rows, at=0.6).dropped) == {"r000", "r001", "r002"}
    with pytest.raises(RecipeError, match="near_sides"):
        near_sides(rows, at=2)


LEAKS = [
    "The image is blurry, so I cannot tell.",
    "It seems to be a pixelated photo of a cat.",
    "The picture appears to be very noisy.",
    "This is a noisy image of a street.",
    "A black image.",
    "The image is completely black.",
    "The photo is blank",
    "There is a gray screen with nothing on it.",
    "The image shows colorful noise and a shape.",
    "The scene looks distorted.",
    "It is difficult to make out the text.",
    "The photo is too dark to tell.",
    "The picture is covered with gray squares.",
    "An out-of-focus shape",
    "It is a low-resolution picture of a dog.",
    "TV static",
    "The image has heavy visual noise",
    "The image is of poor quality.",
    "A grainy\nphotograph",
]
FINE = [
    "A black cat sits on a white sofa.",
    "The picture shows a black cat.",
    "A black and white photo of a street.",
    "The street is noisy and full of people.",
    "A woman in front of a blurred background.",
    "The background is blurry, the dog is sharp.",
    "The image is a drawing of a white house.",
    "There is a mirrored wardrobe in the room.",
    "A television stands in the corner.",
    "The view from the hill is beautiful.",
    "He cropped the hedge.",
    "The sky is dark and the sea is grey.",
    "A distorted guitar sound",
    "She reads a picture book.",
    "",
]


@pytest.mark.parametrize("text", LEAKS)
def test_words_that_give_the_perturbation_away(text: str) -> None:
    found = leak(text)
    assert found
    assert found in " ".join(text.split())


@pytest.mark.parametrize("text", FINE)
def test_words_about_what_is_seen(text: str) -> None:
    assert leak(text) == ""


def test_what_the_question_asks_about_is_no_leak() -> None:
    assert leak("Yes, it is blurry.", "Is the photo blurry?") == ""
    assert leak("Yes, it is blurry.", "Is it a cat?") == "blurry"


def test_long_texts_are_read_in_good_time() -> None:
    assert leak("the image is very " * 20_000) == ""
    assert leak("covered with " * 20_000 + " blurry") == "blurry"


def test_leaks_of_either_side() -> None:
    rows = table([("a cat", "a blurry cat"), ("a grainy cat", "a dog"), ("a", "b"), (None, None)])
    assert dict(leaks(rows).dropped) == {
        "r000": "rejected: speaks of how the picture was spoilt",
        "r001": "chosen: speaks of how the picture was spoilt",
    }
    assert set(leaks(rows, side="rejected").dropped) == {"r000"}
    assert set(leaks(rows, side="chosen").dropped) == {"r001"}
    asked = table([("a", "blurry")], question=["Blurry or not?"])
    assert not leaks(asked).dropped
