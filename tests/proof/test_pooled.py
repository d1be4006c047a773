"""The bootstrap of two levels covers what it says, and verdicts follow from intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from foveal.evals.stats import Measure, difference, mean
from foveal.proof.pooled import gap, pooled, verdict


def shares(values: list[float], seed: int = 0) -> Measure:
    ids = [f"{seed}-{n}" for n in range(len(values))]
    return mean("x/y", ids, ids, values, unit="score")


@pytest.mark.parametrize(
    ("between", "within"), [(0.0, 1.0), (1.0, 0.1), (0.15, 1.0)], ids=["pictures", "seeds", "both alike"]
)
def test_the_interval_covers_the_truth_as_often_as_it_says(between: float, within: float) -> None:
    """400 proofs of three seeds with forty pictures each, whose true difference is zero."""
    rng, inside, trials = np.random.default_rng(7), 0, 400
    for trial in range(trials):
        runs = [shares(list(rng.normal(rng.normal(0, between), within, 40)), s) for s in range(3)]
        found = pooled(runs, seed=trial, resamples=400)
        inside += found.low <= 0 <= found.high
    assert 0.90 <= inside / trials <= 1.0  # 95 % less what three seeds cannot know and 400 trials do not show


def test_an_interval_of_pictures_alone_falls_short_where_seeds_differ() -> None:
    rng, inside = np.random.default_rng(3), 0
    for trial in range(200):
        values = rng.normal(rng.normal(0, 1.0), 0.1, 40)
        found = pooled([shares(list(values))], seed=trial, resamples=200)
        inside += found.low <= 0 <= found.high
    assert inside / 200 < 0.2


def test_more_pictures_make_it_shorter_when_seeds_agree() -> None:
    rng = np.random.default_rng(1)
    few, many = (pooled([shares(list(rng.permutation(np.linspace(-1, 1, n))), s) for s in range(3)]) for n in (20, 500))
    assert many.high - many.low < (few.high - few.low) / 3


def test_seeds_that_disagree_make_it_longer() -> None:
    same = [shares([0.4, 0.5, 0.6] * 30, s) for s in range(3)]
    apart = [shares([0.4 + d, 0.5 + d, 0.6 + d] * 30, s) for s, d in enumerate((-0.2, 0.0, 0.2))]
    one, other = pooled(same), pooled(apart)
    assert one.value == pytest.approx(other.value)
    assert other.high - other.low > 5 * (one.high - one.low)
    assert [s[0] for s in other.seeds] == pytest.approx([0.3, 0.5, 0.7])


def test_the_same_measures_the_same_interval() -> None:
    runs = [shares([0.1, 0.9, 0.4, 0.2] * 5, s) for s in range(3)]
    assert pooled(runs) == pooled(runs)
    assert pooled(runs) != pooled(runs, seed=1)


def test_a_gap_is_paired_by_picture_whatever_the_order() -> None:
    ids = [f"p{n}" for n in range(30)]
    values = [float(n % 3) for n in range(30)]
    of = mean("x/y", ids, ids, [v + 1 for v in values], unit="score")
    than = mean("x/y", ids[::-1], ids[::-1], values[::-1], unit="score")
    found = pooled([gap(of, than)])
    assert (found.value, found.low, found.high) == pytest.approx((1.0, 1.0, 1.0))
    assert difference(of, than).value == pytest.approx(found.value)


def test_a_gap_needs_the_same_pictures() -> None:
    with pytest.raises(ValueError, match="same pictures"):
        gap(shares([1.0, 0.0]), shares([1.0, 0.0], seed=1))


def test_no_difference_on_any_picture_is_no_certainty() -> None:
    ids = [f"p{n}" for n in range(20)]
    of = mean("x/y", ids, ids, [1.0] * 20)
    found = pooled([gap(of, of)])
    assert found.value == 0
    assert found.low < -0.05 < 0.05 < found.high


def test_a_figure_that_is_not_defined_decides_nothing() -> None:
    never = Measure("x/y", ("a", "b"), lambda w: np.full(len(w), np.nan), 0)
    found = pooled([never])
    assert math.isnan(found.low)
    assert verdict("higher", "higher", 0.02, found.low, found.high) == "undecided"


@pytest.mark.parametrize(
    ("way", "better", "low", "high", "told"),
    [
        ("higher", "higher", 0.01, 0.05, "holds"),
        ("higher", "higher", -0.05, -0.01, "opposite"),
        ("higher", "higher", -0.01, 0.01, "does not hold"),
        ("higher", "higher", -0.01, 0.05, "undecided"),
        ("lower", "lower", -0.05, -0.01, "holds"),
        ("lower", "lower", 0.01, 0.05, "opposite"),
        ("lower", "higher", -0.05, -0.01, "holds"),
        ("lower", "lower", -0.05, 0.03, "undecided"),
        ("kept", "higher", -0.01, 0.05, "holds"),
        ("kept", "higher", -0.03, 0.05, "undecided"),
        ("kept", "higher", -0.06, -0.03, "opposite"),
        ("kept", "lower", -0.05, 0.01, "holds"),
        ("kept", "lower", 0.03, 0.06, "opposite"),
    ],
)
def test_verdicts(way: str, better: str, low: float, high: float, told: str) -> None:
    assert verdict(way, better, 0.02, low, high) == told  # type: ignore[arg-type]
