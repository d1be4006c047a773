"""A run while it goes on: a display that refreshes on a terminal, a plain line every ten seconds anywhere else."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from foveal.store import Meter
from foveal.view.history import STYLES
from foveal.view.numbers import clip, count, duration, money, plural, share

REFRESH = 0.25
LINE_EVERY = 10.0
WINDOW = 30.0
"""Seconds over which rates are taken."""


class Progress(Protocol):
    """What can be seen of a run; the runner keeps it up to date."""

    state: str
    total: int | None
    done: int
    kept: int
    rows: int
    dropped: Counter[str]
    failed: Counter[str]
    meter: Meter
    began: float

    @property
    def slots(self) -> int:
        """How many requests the models can use at once."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Records and calls per second of late, and the seconds left (None while not known)."""

    records: float
    calls: float
    left: float | None


class Pace:
    """Rates over the last half minute."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()

    def at(self, now: float, progress: Progress) -> Rates:
        """Note where the run is and return its rates."""
        total = progress.meter.total
        self._seen.append((now, progress.done, total.made + total.remembered))
        while len(self._seen) > 2 and self._seen[1][0] <= now - WINDOW:
            self._seen.popleft()
        then, done, calls = self._seen[0]
        took = max(now - then, 1e-9)
        records = (progress.done - done) / took
        rest = None if progress.total is None else max(progress.total - progress.done, 0)
        left = rest / records if rest is not None and records > 0 else None
        return Rates(records, (total.made + total.remembered - calls) / took, left)


class LiveDisplay:
    """Shows a Progress while the block runs; polls it from a thread of its own, so that nobody has to call it.

    Args:
        progress: what to show.
        banner: a first line.
        out: where to, standard error by default: standard output is for results.
    """

    def __init__(self, progress: Progress, banner: str = "", out: TextIO | None = None) -> None:
        self.progress, self.banner = progress, banner
        self.out = out or sys.stderr
        self._pace = Pace()
        self._console = Console(file=self.out, highlight=False)
        self._live: Live | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._lines, name="foveal-live", daemon=True)

    def __enter__(self) -> LiveDisplay:
        if self.banner:
            self._console.print(Text(self.banner))
        if rich_terminal(self._console):
            self._live = Live(
                get_renderable=self.render, console=self._console, refresh_per_second=1 / REFRESH, transient=False
            )
            self._live.start()
        else:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
            return
        self._over.set()
        self._thread.join()

    def _lines(self) -> None:
        self._say(self.line())
        while not self._over.wait(LINE_EVERY):
            self._say(self.line())
        self._say(self.line())

    def _say(self, line: str) -> None:
        try:
            print(line, file=self.out, flush=True)
        except (OSError, ValueError):
            self._over.set()  # whoever read our output has gone; the run goes on without being watched

    # what is shown

    def rates(self) -> Rates:
        """Return the rates at this moment."""
        return self._pace.at(time.monotonic(), self.progress)

    def line(self) -> str:
        """Return where the run is, as one line of plain text."""
        p, rates = self.progress, self.rates()
        of = f"/{count(p.total)}" if p.total is not None else ""
        ends = f"kept {count(p.kept)}, dropped {count(p.dropped.total())}, failed {count(p.failed.total())}"
        parts = [
            f"{duration(time.monotonic() - p.began)}: {count(p.done)}{of} records ({rates.records:.1f}/s)",
            f"{count(p.meter.total.made)} calls ({rates.calls:.1f}/s), {p.meter.in_flight}/{p.slots} in flight",
            _spent(p.meter),
            ends,
        ]
        left = [f"about {duration(rates.left)} left"] if rates.left else []
        return "; ".join([*parts, *left, *([] if p.state == "running" else [p.state])])

    def render(self) -> RenderableType:
        """Return where the run is, as rich shows it."""
        p, rates, width = self.progress, self.rates(), self._console.width
        lines = [self._head(rates, width), self._calls(rates), Text(_spent(p.meter)), self._ends()]
        lines += [t for t in (_top("dropped", p.dropped, width), _top("failed", p.failed, width)) if t]
        for line in lines:
            line.truncate(width, overflow="ellipsis")
            line.no_wrap = True
        return Group(*lines)

    def _head(self, rates: Rates, width: int) -> Text:
        p = self.progress
        state = "" if p.state == "running" else f"  {p.state}"
        if not p.total:
            return Text(f"{plural(p.done, 'record')}  {rates.records:.1f}/s{state}", "bold")
        left = f"  {duration(rates.left)} left" if rates.left else ""
        tail = f" {count(p.done)}/{count(p.total)} {share(p.done, p.total)}  {rates.records:.1f}/s{left}{state}"
        return _bar(p, max(8, min(48, width - len(tail)))).append(tail, "bold")

    def _calls(self, rates: Rates) -> Text:
        total = self.progress.meter.total
        known = f" + {count(total.remembered)} remembered" if total.remembered else ""
        flight = f"{self.progress.meter.in_flight} of {self.progress.slots} slots in flight"
        return Text(f"{plural(total.made, 'call')}{known}  {rates.calls:.1f}/s  {flight}")

    def _ends(self) -> Text:
        p = self.progress
        line = Text("kept ").append(count(p.kept), f"bold {STYLES['kept']}").append(f" ({plural(p.rows, 'row')})")
        for name, counter in (("dropped", p.dropped), ("failed", p.failed)):
            line.append(f"  {name} ").append(count(counter.total()), f"bold {STYLES[name]}")
        return line


def rich_terminal(console: Console) -> bool:
    """Tell whether a display that moves makes sense: a real terminal, wide enough, not a notebook."""
    moving = console.is_terminal and not console.is_dumb_terminal and not console.is_jupyter
    return moving and not os.environ.get("CI") and console.width >= 40


def _spent(meter: Meter) -> str:
    total = meter.total
    priced = total.made > total.unpriced or not total.made
    cost = money(total.cost if priced else None)
    partly = " and what has no price" if total.unpriced and priced else ""
    return f"tokens {count(total.tokens_in)} in, {count(total.tokens_out)} out  {cost}{partly}"


def _bar(progress: Progress, width: int) -> Text:
    """Return a bar of three colours: kept, dropped, failed, each as wide as its share of all records."""
    whole = max(progress.total or 1, 1)
    line, used = Text(), 0
    reached = 0
    for name, n in _counts(progress):
        reached += n
        cells = min(width, round(width * reached / whole)) - used
        line.append("━" * cells, STYLES[name])
        used += cells
    return line.append("━" * (width - used), "bright_black")


def _counts(progress: Progress) -> Iterator[tuple[str, int]]:
    yield from (("kept", progress.kept), ("dropped", progress.dropped.total()), ("failed", progress.failed.total()))


def _top(name: str, counter: Counter[str], width: int, most: int = 4) -> Text | None:
    """Return the commonest reasons with their counts."""
    common = Counter(dict(counter)).most_common(most)
    if not common:
        return None
    rest = counter.total() - sum(n for _, n in common)
    parts = [f"{clip(reason, max(16, width // 2))} {count(n)}" for reason, n in common]
    return Text(f"  {name}: ").append(
        " · ".join([*parts, *([f"others {count(rest)}"] if rest > 0 else [])]), STYLES[name]
    )
