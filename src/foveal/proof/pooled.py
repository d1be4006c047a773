"""Figures of several seeds as one, with an interval that covers both seeds and pictures; and what a claim came to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from foveal.evals.stats import LEVEL, RESAMPLES, Array, Measure, wilson
from foveal.proof.claim import Way

Verdict: TypeAlias = Literal["holds", "does not hold", "opposite", "undecided", "failed"]


@dataclass(frozen=True)
class Pooled:
    """A figure, or a difference of two, over seeds.

    Attributes:
        value: the mean over seeds.
        low, high: of the 95 % interval; NaN where there is nothing to resample.
        seeds: (value, low, high) of each seed, its interval covering pictures alone.
    """

    value: float
    low: float
    high: float
    seeds: tuple[tuple[float, float, float], ...]


def gap(of: Measure, than: Measure) -> Measure:
    """Return `of` minus `than` as a measure of its own, drawn on the same pictures.

    Raises:
        ValueError: the two were not measured on the same pictures.
    """
    if set(of.pictures) != set(than.pictures):
        raise ValueError(f"{of.name}: the two arms were not asked about the same pictures")
    place = {picture: at for at, picture in enumerate(of.pictures)}
    order = [place[picture] for picture in than.pictures]
    return Measure(
        of.name, of.pictures, lambda w: of.of(w) - than.of(w[..., order]), of.n, of.unit, of.better
    )  # fmt: skip


def pooled(measures: Sequence[Measure], seed: int = 0, resamples: int = RESAMPLES) -> Pooled:
    """Return the mean of a figure over seeds with its 95 % interval, by a bootstrap of two levels.

    Every seed has pictures, data and order of its own, so seeds are independent and pictures are nested in them.
    Level one: in each seed pictures are drawn with replacement, with all their questions, and the figure is computed
    anew (as in `evals.stats`). Level two: seeds. Drawing three seeds with replacement would know ten means and fall
    far short, and would count the noise of pictures twice, for it is in the seeds' own figures too. Instead the
    variance between seeds is estimated with that noise taken out, max(0, var of the figures - mean variance of level
    one), and what is drawn is its part of a mean of S seeds: sqrt(variance / S) times Student's t with S - 1 degrees of
    freedom, which is as wide as few seeds ask for. A draw is the mean of level one over the seeds plus level two; the
    interval runs from its 2.5th to its 97.5th percentile. With one seed it covers pictures alone.
    """
    rng = np.random.default_rng(seed)
    values = np.array([m.value for m in measures])
    draws = np.stack([_draws(m, rng, resamples) for m in measures])
    known = ~np.isnan(draws).any(0)
    if math.isnan(values.sum()) or not known.any():
        return Pooled(float(np.mean(values)), math.nan, math.nan, tuple((float(v), math.nan, math.nan) for v in values))
    draws, n = draws[:, known], len(values)
    means = draws.mean(0)
    if n > 1:
        between = max(0.0, float(values.var(ddof=1) - draws.var(1).mean()))
        means = means + math.sqrt(between / n) * rng.standard_t(n - 1, means.size)
    size = sum(len(m.pictures) for m in measures)
    each = (_ends(d, float(v), m, len(m.pictures)) for d, v, m in zip(draws, values, measures, strict=True))
    seeds = tuple((float(v), *ends) for v, ends in zip(values, each, strict=True))
    return Pooled(float(values.mean()), *_ends(means, float(values.mean()), measures[0], size), seeds)


def _draws(measure: Measure, rng: np.random.Generator, resamples: int, batch: int = 256) -> Array:
    size, parts = len(measure.pictures), []
    for start in range(0, resamples, batch):
        weights = rng.multinomial(size, np.full(size, 1 / size), min(batch, resamples - start))
        parts.append(measure.of(weights.astype(np.float64)))
    draws: Array = np.concatenate(parts)
    return draws


def _ends(draws: Array, value: float, measure: Measure, pictures: int) -> tuple[float, float]:
    if pictures < 2:
        return math.nan, math.nan
    if not np.ptp(draws) and measure.unit == "share":
        # No picture tells: as many may still differ as a proportion of none among so many allows.
        short = wilson(0, pictures)[1]
        return value - short, value + short
    low, high = np.quantile(draws, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)


def verdict(way: Way, better: str, margin: float, low: float, high: float) -> Verdict:
    """Return what the interval of a difference says of an expectation.

    - "higher" and "lower": it holds where the interval lies on its side of zero; "opposite" where it lies on the
      other; where zero is inside, "does not hold" when the whole interval is within the margin (there is no
      difference that matters), else "undecided" (too few pictures or seeds to tell).
    - "kept": it holds where the interval leaves out a loss of the margin; "opposite" where it lies beyond; else
      "undecided".

    Args:
        way: which side is expected.
        better: "higher" or "lower", of the figure; for "kept".
        margin: the least difference that matters.
        low: of the interval of `of` minus `than`; `high`: its other end.
    """
    if math.isnan(low) or math.isnan(high):
        return "undecided"
    if (way == "lower") if way != "kept" else (better == "lower"):
        low, high = -high, -low
    if way == "kept":
        return "holds" if low > -margin else "opposite" if high < -margin else "undecided"
    if low > 0:
        return "holds"
    if high < 0:
        return "opposite"
    return "does not hold" if -margin < low and high < margin else "undecided"
