"""Means with intervals, and paired differences of two models, by a bootstrap that resamples pictures.

Several questions about one picture are not independent, so a picture is drawn with all its questions, and two models
are compared on the same draws (Miller 2024, 2411.00640, on clustered errors and paired differences). Ratios such as
CHAIR or F1 are computed anew from each draw and never averaged over items. Seeded: the same rows, the same interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

RESAMPLES = 2000
LEVEL = 0.95
FEW = 100
"""With fewer pictures than this skew matters: BCa (Efron 1987) is used."""
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Measure:
    """One figure as a function of how often each picture counts.

    Attributes:
        pictures: each cluster once, in a fixed order.
        of: weights (draws, pictures) -> values (draws,); NaN where the figure is not defined (0 / 0).
        n: how many items it rests on.
        unit: "share" (0 to 1, shown in percent), "words" or "score".
        better: "higher", "lower" or "" where neither is.
        items: (picture, item) -> value, where the figure is the mean of these: for tests.
    """

    name: str
    pictures: tuple[str, ...]
    of: Callable[[Array], Array] = field(repr=False)
    n: int
    unit: str = "share"
    better: str = "higher"
    items: Mapping[tuple[str, str], float] = field(default_factory=dict, repr=False)

    @property
    def value(self) -> float:
        """The figure itself: every picture once."""
        return float(self.of(np.ones((1, len(self.pictures))))[0])


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval.

    Attributes:
        n: items; `pictures`: clusters.
        method: "percentile", "bca", "wilson", or "none" where fewer than two pictures leave nothing to resample.
    """

    value: float
    low: float
    high: float
    n: int
    pictures: int
    method: str


@dataclass(frozen=True)
class Difference:
    """Model minus other model on the same pictures, with its interval.

    Attributes:
        test: "mcnemar" (one item a picture), "sign" (of each picture's summed difference), "" where neither fits.
        p: its two-sided p value, 1.0 where there is no test.
    """

    value: float
    low: float
    high: float
    method: str
    test: str = ""
    p: float = 1.0


# --- measures ------------------------------------------------------------------------------------------------------


def ratio(
    name: str, pictures: Sequence[str], above: Sequence[float], below: Sequence[float], unit: str = "share",
    better: str = "higher",
) -> Measure:  # fmt: skip
    """Return sum(above) / sum(below), where item i belongs to pictures[i]; all three have one entry an item."""
    return of_sums(name, pictures, [above, below], lambda sums: _divide(sums[..., 0], sums[..., 1]), unit, better)


def mean(
    name: str, items: Sequence[str], pictures: Sequence[str], values: Sequence[float], unit: str = "share",
    better: str = "higher",
) -> Measure:  # fmt: skip
    """Return the mean of a value an item; keeps the values, so that two models can be compared item by item."""
    plain = ratio(name, pictures, values, [1.0] * len(values), unit, better)
    known = {(picture, item): value for picture, item, value in zip(pictures, items, values, strict=True)}
    return Measure(name, plain.pictures, plain.of, plain.n, unit, better, known)


def of_sums(
    name: str, pictures: Sequence[str], columns: Sequence[Sequence[float]], of: Callable[[Array], Array],
    unit: str = "share", better: str = "higher",
) -> Measure:  # fmt: skip
    """Return a function of the columns' sums: `of` takes (draws, columns) and gives (draws,)."""
    known = tuple(dict.fromkeys(pictures))
    sums = np.zeros((len(known), len(columns)))
    if known:
        place = {picture: i for i, picture in enumerate(known)}
        np.add.at(sums, [place[p] for p in pictures], np.array(columns, dtype=np.float64).T)
    return Measure(name, known, lambda weights: of(weights @ sums), len(pictures), unit, better)


def _divide(above: Array, below: Array) -> Array:
    out: Array = np.divide(above, below, out=np.full_like(above, np.nan, dtype=np.float64), where=below > 0)
    return out


# --- intervals -----------------------------------------------------------------------------------------------------


def estimate(measure: Measure, seed: int = 0, resamples: int = RESAMPLES, method: str = "") -> Estimate:
    """Return a figure with its 95 % interval.

    Args:
        measure: the figure.
        seed: of the resampling.
        resamples: how many draws.
        method: "percentile", "bca" or "wilson"; by default Wilson for right or wrong with one item a picture, BCa for
            few pictures, else percentile; where no draw differs (all right, none wrong) Wilson over the pictures, for
            an interval of no width would claim a certainty that nobody has.
    """
    value, size = measure.value, len(measure.pictures)
    if size < 2 or math.isnan(value):
        return Estimate(value, math.nan, math.nan, measure.n, size, "none")
    method = method or _method(measure)
    if method != "wilson":
        draws = _draws(measure, seed, resamples)
        if (len(draws) and np.ptp(draws)) or measure.unit != "share":
            low, high = _ends(draws, value, measure.of, size, method)
            return Estimate(value, low, high, measure.n, size, method)
    low, high = wilson(value * size, size)
    return Estimate(value, low, high, measure.n, size, "wilson")


def _method(measure: Measure) -> str:
    alone = len(measure.items) == len(measure.pictures)
    if alone and measure.unit == "share" and set(measure.items.values()) <= {0.0, 1.0}:
        return "wilson"
    return "bca" if len(measure.pictures) < FEW else "percentile"


def difference(
    model: Measure, other: Measure, seed: int = 0, resamples: int = RESAMPLES, method: str = ""
) -> Difference:
    """Return model minus other with its 95 % interval, both drawn on the same pictures.

    Raises:
        ValueError: the two were not measured on the same pictures.
    """
    turned = _over(model.pictures, other)

    def of(weights: Array) -> Array:
        return model.of(weights) - turned(weights)

    both = Measure(model.name, model.pictures, of, model.n)
    value, size = both.value, len(both.pictures)
    if size < 2 or math.isnan(value):
        return Difference(value, math.nan, math.nan, "none")
    # Differences are often zero: draws of few pictures spread too little, and intervals of them cover too seldom.
    method, draws = method or ("jackknife" if size < FEW else "percentile"), _draws(both, seed, resamples)
    low, high = _jackknife(value, of, size) if method == "jackknife" else _ends(draws, value, of, size, method)
    if len(draws) and not np.ptp(draws) and model.unit == "share":
        # No picture tells the two apart: as many may still differ as a proportion of none among so many allows.
        gap, method = wilson(0, size)[1], "wilson"
        low, high = max(-1.0, value - gap), min(1.0, value + gap)
    return Difference(value, low, high, method, *_test(model, other))


def _over(pictures: tuple[str, ...], measure: Measure) -> Callable[[Array], Array]:
    """Return a measure's function of weights that stand in another order of its pictures.

    Raises:
        ValueError: they are not its pictures.
    """
    if set(pictures) != set(measure.pictures):
        raise ValueError(f"{measure.name}: not measured on the same pictures")
    place = {picture: i for i, picture in enumerate(pictures)}
    order = [place[picture] for picture in measure.pictures]
    return lambda weights: measure.of(weights[:, order])


def _draws(measure: Measure, seed: int, resamples: int, batch: int = 256) -> Array:
    """Return a figure's values on draws of as many pictures, with replacement; undefined ones are left out."""
    size, rng, parts = len(measure.pictures), np.random.default_rng(seed), []
    for start in range(0, resamples, batch):
        weights = rng.multinomial(size, np.full(size, 1 / size), min(batch, resamples - start))
        parts.append(measure.of(weights.astype(np.float64)))
    draws = np.concatenate(parts)
    known: Array = draws[~np.isnan(draws)]
    return known


def _ends(draws: Array, value: float, of: Callable[[Array], Array], size: int, method: str) -> tuple[float, float]:
    shares = _widened(size)
    if not len(draws):
        return math.nan, math.nan
    if method == "bca":
        shares = _corrected(draws, value, of, size, shares)
    low, high = np.quantile(draws, shares)
    return float(low), float(high)


def _widened(size: int) -> tuple[float, float]:
    """Return the quantiles of an interval that is not too narrow for so many clusters (Hesterberg 2015, 1411.5279).

    The spread of draws is short by sqrt(1 - 1/n), and few clusters call for Student's t.
    """
    below = _NORMAL.cdf(-math.sqrt(size / (size - 1)) * _student(size - 1))
    return below, 1 - below


def _student(free: int) -> float:
    """Return Student's t for the level, by its Cornish-Fisher expansion."""
    z = _NORMAL.inv_cdf((1 + LEVEL) / 2)
    return z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)


def _jackknife(value: float, of: Callable[[Array], Array], size: int) -> tuple[float, float]:
    """Return value -+ t times the standard error that leaving out each picture in turn gives (Efron and Stein 1981)."""
    left_out = of(np.ones((size, size)) - np.eye(size))
    known = left_out[~np.isnan(left_out)]
    off = known - known.mean() if len(known) else known
    half = _student(size - 1) * math.sqrt((size - 1) / size * float((off**2).sum()))
    return value - half, value + half


def _corrected(
    draws: Array, value: float, of: Callable[[Array], Array], size: int, shares: tuple[float, float]
) -> tuple[float, float]:
    """Return the quantiles of the bias-corrected and accelerated interval (Efron 1987)."""
    below = float(np.mean(draws < value) + np.mean(draws == value) / 2)
    left_out = of(np.ones((size, size)) - np.eye(size))
    off = np.nanmean(left_out) - left_out[~np.isnan(left_out)]
    spread = float((off**2).sum())
    if not 0 < below < 1 or spread == 0:
        return shares
    bias, pull = _NORMAL.inv_cdf(below), float((off**3).sum()) / (6 * spread**1.5)

    def turned(share: float) -> float:
        z = bias + _NORMAL.inv_cdf(share)
        return _NORMAL.cdf(bias + z / (1 - pull * z))

    return turned(shares[0]), turned(shares[1])


def wilson(right: float, n: int) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion (Wilson 1927)."""
    z = _NORMAL.inv_cdf((1 + LEVEL) / 2)
    p, spread = right / n, z * z / n
    middle, half = p + spread / 2, z * math.sqrt(p * (1 - p) / n + spread / (4 * n))
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))


# --- tests ---------------------------------------------------------------------------------------------------------


def _test(model: Measure, other: Measure) -> tuple[str, float]:
    """Return the name and p value of the test that fits two means over the same items."""
    if not model.items or model.items.keys() != other.items.keys():
        return "", 1.0
    gaps = {item: value - other.items[item] for item, value in model.items.items()}
    if len(gaps) == len(model.pictures) and {*model.items.values(), *other.items.values()} <= {0.0, 1.0}:
        return "mcnemar", sign_test(list(gaps.values()))
    by: dict[str, float] = {}
    for (picture, _), gap in gaps.items():
        by[picture] = by.get(picture, 0.0) + gap
    return "sign", sign_test(list(by.values()))


def mcnemar(only_model: int, only_other: int) -> float:
    """Return the exact two-sided p value of McNemar's test on the items that just one of the two models got right."""
    n, few = only_model + only_other, min(only_model, only_other)
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(few + 1)) / 2**n) if n else 1.0


def sign_test(gaps: Sequence[float]) -> float:
    """Return the exact two-sided p value of the sign test; ties are left out."""
    return mcnemar(sum(g > 0 for g in gaps), sum(g < 0 for g in gaps))
