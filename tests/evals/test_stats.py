"""Intervals hold what they promise on simulated data; tests and proportions are the known ones."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveal.evals.arena import controlled
from foveal.evals.calibration import brier, ece
from foveal.evals.stats import Measure, _widened, difference, estimate, mcnemar, mean, of_sums, ratio, sign_test, wilson


def grouped(rng: np.random.Generator, pictures: int, each: int, level: float = 0.0) -> tuple[list[str], list[float]]:
    """Return right or wrong answers whose chance differs from picture to picture, around 0.7 + level."""
    chances = np.clip(rng.beta(3.5, 1.5, pictures) + level, 0, 1)
    names = [f"p{i}" for i in range(pictures) for _ in range(each)]
    return names, [float(rng.random() < chances[i]) for i in range(pictures) for _ in range(each)]


def accuracy(names: list[str], right: list[float]) -> Measure:
    return mean("accuracy", [str(i) for i in range(len(names))], names, right)


@pytest.mark.parametrize(("pictures", "method"), [(40, "bca"), (150, "percentile")])
def test_the_interval_covers_the_truth_as_often_as_it_says(pictures: int, method: str) -> None:
    rng, inside = np.random.default_rng(7), 0
    for _ in range(200):
        found = estimate(accuracy(*grouped(rng, pictures, 3)), resamples=400)
        assert found.method == method
        inside += found.low <= 0.7 <= found.high
    assert 0.90 <= inside / 200 <= 0.99


@pytest.mark.parametrize(("pictures", "questions"), [(20, 3), (60, 3), (120, 4)])
def test_the_difference_covers_the_truth_as_often_as_it_says(pictures: int, questions: int) -> None:
    rng, inside = np.random.default_rng(8), 0
    for _ in range(200):
        names, one = grouped(rng, pictures, questions)
        other = [x if rng.random() < 0.8 else float(rng.random() < 0.5) for x in one]
        found = difference(accuracy(names, one), accuracy(names, other), resamples=400)
        inside += found.low <= 0.7 - (0.8 * 0.7 + 0.2 * 0.5) <= found.high
    assert 0.90 <= inside / 200 <= 0.99


def test_questions_about_one_picture_are_not_independent() -> None:
    alike = [f"p{i // 10}" for i in range(1000)]
    right = [float(i // 10 % 2) for i in range(1000)]
    apart = [str(i) for i in range(1000)]
    wide, narrow = (estimate(accuracy(names, right)) for names in (alike, apart))
    assert wide.high - wide.low > 2.5 * (narrow.high - narrow.low)


def test_pairing_makes_the_difference_sharper() -> None:
    rng = np.random.default_rng(1)
    names, one = grouped(rng, 200, 5)
    other = [x if rng.random() < 0.95 else 1 - x for x in one]
    paired = difference(accuracy(names, one), accuracy(names, other))
    a, b = estimate(accuracy(names, one)), estimate(accuracy(names, other))
    assert paired.high - paired.low < 0.7 * (a.high - a.low + b.high - b.low) / 2


def test_few_pictures_make_wide_intervals() -> None:
    # Student's t of 4, 9 and 99 degrees of freedom, times sqrt(n / (n - 1)), as the quantiles of a normal.
    for n, t in ((5, 2.776), (10, 2.262), (100, 1.984)):
        low, high = _widened(n)
        assert NormalDist().inv_cdf(high) == pytest.approx(math.sqrt(n / (n - 1)) * t, rel=0.02)
        assert low == pytest.approx(1 - high)


def test_the_same_rows_give_the_same_interval() -> None:
    measure = accuracy(*grouped(np.random.default_rng(2), 50, 3))
    assert estimate(measure, seed=4) == estimate(measure, seed=4)
    assert estimate(measure, seed=4) != estimate(measure, seed=5)


def test_order_of_pictures_does_not_matter() -> None:
    names, right = grouped(np.random.default_rng(3), 60, 2)
    one, other = accuracy(names, right), accuracy(names[::-1], right[::-1])
    assert difference(one, other).value == 0
    assert difference(one, Measure("none", other.pictures, lambda w: w[:, 0] * 0, 1)).value == one.value


def test_a_skewed_mean_gets_a_skewed_interval() -> None:
    values = np.random.default_rng(5).exponential(1, 60) ** 2
    measure = mean("x", [str(i) for i in range(60)], [str(i) for i in range(60)], values.tolist(), "score")
    plain, corrected = (estimate(measure, method=m) for m in ("percentile", "bca"))
    assert corrected.high > plain.high
    assert corrected.low > plain.low


# Wilson intervals of published win rates: 187 of 252 and 157 of 252.
@pytest.mark.parametrize(("right", "n", "low", "high"), [(187, 252, 68.5, 79.2), (157, 252, 56.2, 68.1)])
def test_wilson(right: int, n: int, low: float, high: float) -> None:
    assert [round(100 * end, 1) for end in wilson(right, n)] == [low, high]


def test_all_right_is_not_certain() -> None:
    found = estimate(accuracy(["a", "a", "b", "b", "c", "c"], [1.0] * 6))
    assert (found.value, found.high, found.method) == (1.0, 1.0, "wilson")
    assert 0.3 < found.low < 0.5
    same = difference(accuracy(["a", "b"], [1.0, 1.0]), accuracy(["a", "b"], [1.0, 1.0]))
    assert same.low < 0 < same.high


def test_nothing_to_resample() -> None:
    for measure in (accuracy([], []), accuracy(["a"], [1.0]), ratio("x", ["a", "b"], [0, 0], [0, 0])):
        found = estimate(measure)
        assert found.method == "none"
        assert math.isnan(found.low)


def test_other_pictures_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="same pictures"):
        difference(accuracy(["a"], [1.0]), accuracy(["b"], [1.0]))


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 5), st.integers(1, 5)), min_size=1, max_size=30))
def test_a_ratio_is_of_sums_and_its_interval_holds_it(items: list[tuple[str, int, int]]) -> None:
    names, above, below = zip(*items, strict=True)
    measure = ratio("x", names, above, below, "score")
    found = estimate(measure, resamples=200, method="percentile")
    assert math.isclose(measure.value, sum(above) / sum(below))
    if found.method != "none":
        each = [
            sum(a for n, a in zip(names, above, strict=True) if n == p)
            / sum(b for n, b in zip(names, below, strict=True) if n == p)
            for p in set(names)
        ]
        assert min(each) - 1e-9 <= found.low <= found.high <= max(each) + 1e-9


def test_mcnemar_and_the_sign_test() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 5) == 1.0
    assert math.isclose(mcnemar(1, 9), 22 / 1024)
    assert math.isclose(sign_test([1, 0.5, 0, -2, 3, 1]), 2 * 6 / 32)
    assert mcnemar(2000, 2200) < 0.01


def test_which_test_fits() -> None:
    names = [str(i) for i in range(10)]
    one, other = [1.0] * 9 + [0.0], [0.0] * 9 + [1.0]
    assert difference(accuracy(names, one), accuracy(names, other)).test == "mcnemar"
    pairs = [str(i // 2) for i in range(10)]
    found = difference(accuracy(pairs, one), accuracy(pairs, other))
    assert (found.test, found.p) == ("sign", 2 * 1 / 16)  # four pictures for, one tied
    assert difference(ratio("x", names, one, one), ratio("x", names, other, other)).test == ""


# --- calibration and length ----------------------------------------------------------------------------------------


def test_calibration_by_hand() -> None:
    p, yes = [0.9, 0.9, 0.6, 0.2], [True, False, True, False]
    names = ["a", "b", "c", "d"]
    assert math.isclose(brier("b", names, names, p, yes).value, (0.01 + 0.81 + 0.16 + 0.04) / 4)
    # Bins of confidence: {0.9, 0.9} half right, {0.6} right, {0.8} right.
    assert math.isclose(ece("e", names, p, yes).value, (abs(1.8 - 1) + 0.4 + 0.2) / 4)


def test_a_calibrated_model_has_little_error() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(20000)
    yes = rng.random(20000) < p
    names = [str(i) for i in range(20000)]
    assert ece("e", names, p.tolist(), yes.tolist()).value < 0.02


def test_length_control_leaves_equal_lengths_alone() -> None:
    names = [str(i) for i in range(40)]
    won = [1.0] * 30 + [0.0] * 10
    assert math.isclose(controlled("w", names, won, [0.0] * 40).value, 0.75, abs_tol=0.01)


def test_length_control_takes_away_what_length_won() -> None:
    rng = np.random.default_rng(1)
    longer = rng.normal(30, 40, 400)
    won = (rng.random(400) < 1 / (1 + np.exp(-longer / 20))).astype(float)
    names = [str(i) for i in range(400)]
    assert won.mean() > 0.65
    assert abs(controlled("w", names, won.tolist(), longer.tolist()).value - 0.5) < 0.08


def test_length_control_of_a_clean_sweep_is_finite() -> None:
    found = estimate(controlled("w", ["a", "b", "c"], [1.0] * 3, [5.0, -2.0, 1.0]))
    assert 0.8 < found.value < 1


def test_of_sums_of_nothing() -> None:
    assert of_sums("x", [], [[], []], lambda sums: sums[..., 0]).pictures == ()
