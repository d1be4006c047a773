"""Whether stated probabilities can be believed: Brier score, and expected calibration error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foveal.evals.stats import Array, Measure, mean, of_sums

BINS = 10


def brier(name: str, items: Sequence[str], pictures: Sequence[str], p: Sequence[float], yes: Sequence[bool]) -> Measure:
    """Return the mean squared distance of the probability of yes from what is true (Brier 1950)."""
    return mean(name, items, pictures, [(q - y) ** 2 for q, y in zip(p, yes, strict=True)], "score", "lower")


def ece(name: str, pictures: Sequence[str], p: Sequence[float], yes: Sequence[bool], bins: int = BINS) -> Measure:
    """Return the expected calibration error of yes/no answers (Guo et al. 2017, 1706.04599, equation 3).

    Confidence is the probability of the answer given, 0.5 to 1, in `bins` equal bins over that range.
    """
    confidence = [max(q, 1 - q) for q in p]
    right = [float((q >= 0.5) == y) for q, y in zip(p, yes, strict=True)]
    place = [min(bins - 1, int((c - 0.5) * 2 * bins)) for c in confidence]
    columns = [
        [float(b == k) * x for b, x in zip(place, xs, strict=True)] for k in range(bins) for xs in (confidence, right)
    ]

    def of(sums: Array) -> Array:
        gaps: Array = np.abs(sums[..., 0:-1:2] - sums[..., 1:-1:2]).sum(-1) / np.maximum(sums[..., -1], 1)
        return gaps

    return of_sums(name, pictures, [*columns, [1.0] * len(p)], of, "score", "lower")
