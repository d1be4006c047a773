"""Histograms as the pages draw them: scores with their thresholds, lengths, tags, cuts, pairs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from foveal.errors import FovealError
from foveal.recipe import find_step
from foveal.view import numbers
from foveal.view.analysis import Bin, Findings, Numbers, Score, histogram
from foveal.view.cuts import cuts
from foveal.view.folder import Folder
from foveal.view.pairs import PairFindings

PERCENTILES = (10, 30, 50, 70, 90)
"""Those that are drawn."""
WIDE, HIGH, FLOOR = 360, 104, 126
"""A chart's own units: its width, its tallest bar, where its axis lies."""
SERIES = {"kept": "kept", "not kept": "dropped"}


@dataclass(frozen=True)
class Chart:
    """A histogram as the template draws it.

    Attributes:
        series: names of the stacked series, in order ("kept", "other", or one of no name).
        mark: a threshold to draw, with its knob's name.
        names: what to write under the axis where, instead of numbers.
        lines: values to draw thinly, with what stands over them.
    """

    title: str
    note: str
    bins: Sequence[Bin]
    series: tuple[str, ...]
    low: float
    high: float
    mark: tuple[float, str] | None = None
    names: tuple[tuple[float, str], ...] = ()
    lines: tuple[tuple[float, str], ...] = ()

    @property
    def placed_lines(self) -> list[tuple[float, str]]:
        """The lines, placed; of two that would be written over each other, the first."""
        placed: list[tuple[float, str]] = []
        for value, text in self.lines:
            x = self.x(min(max(value, self.low), self.high))
            if not placed or x - placed[-1][0] > 24:
                placed.append((x, text))
        return placed

    @property
    def most(self) -> int:
        """The tallest bar."""
        return max((b.total for b in self.bins), default=0)

    def x(self, value: float) -> float:
        """Return where a value lies across the chart."""
        return round((value - self.low) / max(self.high - self.low, 1e-9) * WIDE, 2)

    @property
    def bars(self) -> Iterator[Bar]:
        """The bars, placed; series are stacked from below in order."""
        for b in self.bins:
            pieces, y = [], float(FLOOR)
            for name, n in zip(self.series, b.counts, strict=True):
                tall = max(HIGH * n / self.most, 0.75) if n else 0.0
                y -= tall
                if n:
                    pieces.append((SERIES.get(name, "plain"), round(y, 2), round(tall, 2)))
            each = ", ".join(f"{n} {name}" for name, n in zip(self.series, b.counts, strict=True) if name)
            title = f"{b.label}: {numbers.count(b.total)}" + (f" ({each})" if each else "")
            yield Bar(self.x(b.low), round(self.x(b.high) - self.x(b.low), 2), title, tuple(pieces))

    @property
    def ticks(self) -> list[tuple[float, str, str]]:
        """What is written under the axis: (x, text, anchor)."""
        if not self.bins:
            return []
        if self.names:
            return [(self.x(value), text, "middle") for value, text in self.names]
        if self.bins[0].high - self.bins[0].low == 1 and len(self.bins) <= 12:
            return [(round(self.x(b.low + 0.5), 2), b.label.replace(" or more", "+"), "middle") for b in self.bins]
        edges = [*(b.low for b in self.bins), self.high][:: max(1, len(self.bins) // 4)]
        ends = {0: "start", WIDE: "end"}
        return [(self.x(e), f"{e:g}", ends.get(round(self.x(e)), "middle")) for e in edges]


@dataclass(frozen=True)
class Bar:
    """One bar, placed: its column, what it tells when pointed at, and its pieces (class, y, height)."""

    x: float
    width: float
    title: str
    pieces: tuple[tuple[str, float, float], ...]


def chart_of(
    title: str,
    note: str,
    series: Mapping[str, Numbers],
    mark: tuple[float, str] | None = None,
    lines: tuple[tuple[float, str], ...] = (),
    **axis: Any,
) -> Chart:
    """Return a histogram of several series; `axis` as `histogram` takes it."""
    bins = histogram(list(series.values()), **axis)
    low, high = (bins[0].low, bins[-1].high) if bins else (0.0, 1.0)
    return Chart(title, note, bins, tuple(series), low, high, mark, lines=lines)


def score_charts(found: Findings, knobs: Mapping[str, Mapping[str, Any]]) -> list[Chart]:
    """Return a chart for each scoring prompt, its threshold drawn where a knob of its name holds one."""
    charts = []
    for score in found.scores.values():
        short = score.name.rpartition("/")[2] or "the method's own words"
        note = "; ".join(_score_notes(score))
        series = {"kept": score.kept, "not kept": score.other}
        fine = any(not v.is_integer() for s in series.values() for v in s.counts)
        axis: dict[str, Any] = {
            "low": score.low,
            "high": score.high,
            "bins": (score.high - score.low) * (5 if fine else 1),
        }
        charts.append(chart_of(short, note, series, _mark(short, knobs.get(score.step, {})), **axis))
    return charts


def _score_notes(score: Score) -> Iterator[str]:
    both = score.kept.n + score.other.n
    yield numbers.plural(both, "score")
    ways = {"from token probabilities": score.by_probs, "parsed": score.parsed}
    yield ", ".join(f"{numbers.share(n, both)} {way}" for way, n in ways.items() if n)
    if score.unread:
        yield f"{numbers.plural(score.unread, 'reply', 'replies')} unreadable"
    means = {"where kept": score.kept, "where not": score.other}
    yield "mean " + ", ".join(f"{values.mean:.2f} {where}" for where, values in means.items() if values.n)


def _mark(name: str, knobs: Mapping[str, Any]) -> tuple[float, str] | None:
    for knob in (name, name.partition("_")[0]):
        value = knobs.get(knob)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value), f"{knob} {value:g}"
    return None


def knobs_of(folder: Folder) -> dict[str, dict[str, Any]]:
    """Return each step's knobs as they were in force: set, or by default."""
    known: dict[str, dict[str, Any]] = {}
    for info in folder.steps:
        try:
            defaults = {name: knob.default for name, knob in find_step(info.step).knobs.items()}
        except FovealError:
            defaults = {}  # a step of the user's own, or one that has since gone
        known[info.label] = {**defaults, **info.knobs}
    return known


def spread(title: str, note: str, values: Numbers, **axis: Any) -> Chart:
    """Return a histogram of one series with percentiles of the set."""
    return chart_of(title, note, {"": values}, lines=percentiles(values), **axis)


def percentiles(values: Numbers) -> tuple[tuple[float, str], ...]:
    """Return what is drawn of a set's percentiles: value and name."""
    return tuple((values.quantile(q / 100), f"{q} %") for q in PERCENTILES)


def cut_charts(folder: Folder) -> list[Chart]:
    """Return a chart for each step that cut rows by a number: all that came to it, by what became of them."""
    charts = []
    for cut in cuts(folder):
        stay = (
            f"{numbers.short(min(cut.kept.counts))} to {numbers.short(max(cut.kept.counts))}" if cut.kept.n else "none"
        )
        note = f"{numbers.plural(cut.whole.n, 'row')} came in; kept: {numbers.count(cut.kept.n)}, values {stay}"
        series = {"kept": cut.kept, "not kept": cut.other}
        charts.append(chart_of(f"{cut.step}: {cut.tag}", note, series, lines=percentiles(cut.whole)))
    return charts


def tag_charts(found: Findings) -> list[Chart]:
    """Return a chart for each numeric tag that varies and is not already told by the prompt that gave it."""
    told = {score.name.rpartition("/")[2] for score in found.scores.values()}
    told |= {"distance"} if found.pairs.logs else set()  # drawn with the pairs
    charts = []
    for name, values in sorted(found.numeric.items()):
        if name not in told and len(values.counts) > 1:
            note = f"{numbers.plural(values.n, 'row')}; mean {values.mean:.3g}, standard deviation {values.std:.3g}"
            charts.append(chart_of(name, note, {"": values}))
    return charts


def length_charts(found: Findings) -> list[Chart]:
    """Return the charts of lengths in words, with mean and standard deviation in words and in characters."""
    charts = []
    for name, values in found.lengths.items():
        letters = found.letters[name]
        words = f"mean {values.mean:.1f} words, standard deviation {values.std:.1f}"
        note = f"{numbers.plural(values.n, 'text')}; {words}; {letters.mean:.0f} ± {letters.std:.0f} characters"
        charts.append(chart_of(name, note, {"": values}, low=0, high=max(values.quantile(0.98), 1.0)))
    return charts


def pair_charts(pairs: PairFindings) -> list[Chart]:
    """Return the charts of a set of pairs: how lengths compare, and how far the sides are apart."""
    if not pairs.logs:
        return []
    bins = [Bin(n / 4, (n + 1) / 4, _times(n / 4, (n + 1) / 4), (0,)) for n in range(-12, 12)]
    counts = Counter(min(max(math.floor(log / math.log(2) * 4 + 1e-9), -12), 11) for log in pairs.logs)
    bins = [replace(b, counts=(counts[n],)) for n, b in enumerate(bins, -12)]
    found = pairs.lengths
    note = f"chosen words for each rejected word; geometric mean {found.ratio:.2f}"
    names = ((-2, "¼"), (-1, "½"), (0, "equal"), (1, "2 times"), (2, "4 times"))
    lengths = Chart("length of chosen to rejected", note, bins, ("",), -3, 3, names=names)
    apart = Numbers()
    for value in pairs.distances:
        apart.add(value)
    note = f"share of words that differ; mean {apart.mean:.2f} of {numbers.plural(apart.n, 'pair')}"
    return [lengths, chart_of("distance of the sides", note, {"": apart}, low=0, high=1, bins=20)]


def _times(low: float, high: float) -> str:
    return f"{2**low:.2g} to {2**high:.2g} times as long"
