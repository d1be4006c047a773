"""Choosing rows of a set: what stays is what was asked for, the same each time, and nothing is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveal.errors import RecipeError
from foveal.steps.choose import balance, diverse, mix, origin, split, top
from foveal.steps.table import Table
from tests.steps.tables import components, table, whole

np = pytest.importorskip("numpy")

KINDS = st.lists(st.sampled_from(["count", "colour", "place", None]), min_size=1, max_size=40)


def kinds(of: Table, column: list[Any]) -> Counter[str]:
    return Counter(column[int(i[1:])] or "" for i in of.ids)


@given(KINDS, st.integers(0, 8), st.integers(0, 5), st.integers(0, 3))
def test_balance_keeps_as_many_of_each_value_as_asked(column: list[Any], most: int, quota: int, seed: int) -> None:
    before = table(seed, tag_kind=column)
    after = balance(before, by="kind", most=most, quotas={"count": quota})
    whole(before, after)
    have = Counter(v or "" for v in column)
    usual = most or min((n for v, n in have.items() if v != "count"), default=0)
    assert kinds(after, column) == Counter({v: min(n, quota if v == "count" else usual) for v, n in have.items()})
    assert balance(before, by="kind", most=most, quotas={"count": quota}) == after


def test_another_seed_draws_other_rows() -> None:
    column = ["a"] * 200 + ["b"] * 20
    drawn = {balance(table(seed, tag_kind=column), by="kind").ids for seed in range(5)}
    assert len(drawn) == 5
    assert {len(ids) for ids in drawn} == {40}


@given(KINDS, st.floats(0.1, 5), st.floats(0.1, 5), st.integers(0, 30))
def test_a_mixture_has_its_proportions(column: list[Any], one: float, other: float, total: int) -> None:
    before = table(tag_kind=column)
    after = mix(before, by="kind", weights={"count": one, "colour": other}, total=total)
    whole(before, after)
    found, have = kinds(after, column), Counter(v or "" for v in column)
    assert set(found) <= {"count", "colour"}
    size = min(have["count"] * (one + other) / one, have["colour"] * (one + other) / other)
    size = min(size, total) if total else size
    assert abs(found["count"] - size * one / (one + other)) < 1 + 1e-6
    assert abs(found["colour"] - size * other / (one + other)) < 1 + 1e-6


@pytest.mark.parametrize(
    ("source", "file"),
    [("a.jsonl row 3", "a.jsonl"), ("x/b.parquet row 12", "x/b.parquet"), ("c.tar!7.png", "c.tar"),
     ("cats/grey/7.png", "cats/grey"), ("7.png", ""), ("a row of 3.jsonl row 4", "a row of 3.jsonl"), ("", "")],
)  # fmt: skip
def test_a_source_is_the_file_that_rows_came_from(source: str, file: str) -> None:
    assert origin(source) == file


def test_sources_are_mixed_by_their_file() -> None:
    column = [f"web.jsonl row {n}" for n in range(30)] + [f"made row {n}" for n in range(10)]
    after = mix(table(tag_source=column), by="source", weights={"web.jsonl": 1, "made": 1})
    assert Counter(origin(column[int(i[1:])]) for i in after.ids) == {"web.jsonl": 10, "made": 10}
    assert set(after.dropped.values()) == {"source web.jsonl: more than its share of the mixture"}


@given(st.lists(st.tuples(st.none() | st.integers(0, 9), st.sampled_from("ab")), min_size=1), st.integers(0, 6),
       st.floats(0.05, 1), st.booleans(), st.booleans())  # fmt: skip
def test_top_keeps_the_best(
    rows: list[tuple[int | None, str]], n: int, share: float, grouped: bool, lowest: bool
) -> None:
    scores, groups = [s for s, _ in rows], [g for _, g in rows]
    before = table(tag_score=scores, tag_kind=groups)
    after = top(before, of=("score",), n=n, share=share, within="kind" if grouped else "", lowest=lowest)
    whole(before, after)
    for group in set(groups) if grouped else {""}:
        mine = [i for i in range(len(rows)) if not grouped or groups[i] == group]
        kept = [scores[i] or 0 for i in mine if f"r{i}" in after.ids]
        gone = [scores[i] or 0 for i in mine if f"r{i}" not in after.ids and scores[i] is not None]
        if kept and gone:
            assert max(kept) <= min(gone) if lowest else min(kept) >= max(gone)
        assert len(kept) <= (n or len(mine))
        if any(scores[i] is not None for i in mine):
            assert kept
    assert all(f"r{i}" in after.dropped for i, s in enumerate(scores) if s is None)


def test_a_truth_value_is_no_number() -> None:
    assert top(table(tag_ok=[True, 2, "3"]), of=("ok",)).ids == ("r1",)


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=4).map(" ".join), min_size=1, max_size=20),
       st.integers(1, 8))  # fmt: skip
def test_diverse_keeps_n_and_no_text_twice_before_all_are_in(texts: list[str], n: int) -> None:
    before = table(question=texts)
    after = diverse(before, n=n)
    whole(before, after)
    assert len(after.ids) == min(n, len(texts))
    bags = {i: tuple(sorted(texts[int(i[1:])].split())) for i in before.ids}
    if len(texts) > n >= 2 and len(set(bags.values())) > 1:
        assert len({bags[i] for i in after.ids}) > 1
    assert diverse(before, n=n) == after


def test_diverse_takes_one_of_each_kind_where_a_draw_would_not() -> None:
    texts = [f"how many {w} are there" for w in ("cats", "dogs", "cows", "pigs", "hens", "ants", "bees", "rats")]
    texts += ["describe it", "read the sign out aloud"]
    chosen = {texts[int(i[1:])].split()[0] for i in diverse(table(question=texts), n=3).ids}
    assert chosen == {"how", "describe", "read"}


PICTURES = st.lists(st.tuples(st.sampled_from([*"abcdefgh", ""]), st.integers(0, 63)), min_size=1, max_size=25)


@given(PICTURES, st.integers(0, 5))
def test_no_cluster_crosses_a_split(rows: list[tuple[str, int]], seed: int) -> None:
    codes = dict(rows)
    pictures = [p for p, _ in rows]
    hashes = [codes[p] if p else None for p in pictures]
    before = table(seed, picture=pictures, dhash=hashes)
    shares = {"train": 0.5, "val": 0.2, "test": 0.3}
    parts = {name: split(before, shares=shares, take=name, bits=1) for name in shares}
    for after in parts.values():
        whole(before, after)
    part = {i: name for name, after in parts.items() for i in after.ids}
    assert sum(len(after.ids) for after in parts.values()) == len(rows)  # every row is of one part

    def same(i: int, j: int) -> bool:
        a, b = hashes[i], hashes[j]
        near = a is not None and b is not None and (a ^ b).bit_count() <= 1
        return bool(pictures[i] and pictures[j]) and (pictures[i] == pictures[j] or near)

    first = components(len(rows), same)
    assert all(part[f"r{i}"] == part[f"r{first[i]}"] for i in range(len(rows)))


def test_a_split_has_its_shares_and_another_order_changes_nothing() -> None:
    pictures = [f"{n:04d}" for n in range(2000)]
    codes: list[Any] = [n << 40 | n << 20 | n for n in range(2000)]
    parts = {take: split(table(picture=pictures, dhash=codes), take=take, bits=0) for take in ("train", "test")}
    assert 150 < len(parts["test"].ids) < 250
    back = split(table(picture=pictures[::-1], dhash=codes[::-1]), take="test", bits=0)
    assert {pictures[::-1][int(i[1:])] for i in back.ids} == {pictures[int(i[1:])] for i in parts["test"].ids}
    assert set(parts["test"].dropped.values()) == {"of the part train"}


@pytest.mark.parametrize(
    "bad",
    [
        lambda t: top(t), lambda t: top(t, of=("a",), n=-1), lambda t: top(t, of=("a",), share=0),
        lambda t: balance(t), lambda t: balance(t, by="a", most=-1), lambda t: balance(t, by="a", quotas={"x": -1}),
        lambda t: mix(t), lambda t: mix(t, by="a"), lambda t: mix(t, by="a", weights={"x": 0}),
        lambda t: mix(t, by="a", weights={"x": 1}, total=-1), lambda t: diverse(t),
        lambda t: split(t, take="val"), lambda t: split(t, shares={"train": 0.5}), lambda t: split(t, bits=17),
        lambda t: split(t, shares={"train": 1.5, "test": -0.5}),
    ],
)  # fmt: skip
def test_bad_knobs_are_told_before_there_are_rows(bad: Callable[[Table], Table]) -> None:
    with pytest.raises(RecipeError, match=r"^\w+: "):
        bad(Table((), lambda name, ids: []))
