"""A preview: a few records with every prompt and answer, then what all of them would cost, with its uncertainty."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from foveal.view.folder import Folder
from foveal.view.history import Node, call_text, end_text, read_node
from foveal.view.numbers import clip, count, duration, money, plural
from foveal.view.pictures import describe_picture

# Student's t, two-sided 95 %, by degrees of freedom; beyond the table the normal's 1.96 is near enough.
_T95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11, 2.10,
        2.09, 2.09, 2.08, 2.07, 2.07, 2.06, 2.06, 2.06, 2.05, 2.05, 2.05, 2.04)  # fmt: skip
METHOD = (
    "Mean of the previewed records times the number of all; ± is a 95 % interval by Student's t over records. "
    "It takes the previewed records to be like the rest, which the first few of a sorted source need not be."
)


@dataclass(frozen=True)
class Spread:
    """A quantity over all records: its estimate and a 95 % interval (None with fewer than two records)."""

    mean: float
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"mean": self.mean, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Estimate:
    """What all records would take, judging by a few.

    Attributes:
        records: how many were previewed.
        total: how many there are; None when the source cannot tell: all is then for one record.
        figures: "calls", "tokens_in", "tokens_out", "cost" (None without price), "model_seconds", "rows" of all.
        roles: the same for each (step, role).
        overlap: how many calls were in flight on average in the preview.
    """

    records: int
    total: int | None
    figures: Mapping[str, Spread | None]
    roles: Mapping[tuple[str, str], Mapping[str, Spread | None]]
    overlap: float

    @property
    def seconds(self) -> float | None:
        """Time for all at the overlap of the preview; more requests at once take less, up to what the server bears."""
        spent = self.figures["model_seconds"]
        return spent.mean / self.overlap if spent and self.overlap else None

    def to_json(self) -> dict[str, Any]:
        """Return the estimate as JSON values."""
        by = [{"step": s, "role": r, **_json(figures)} for (s, r), figures in self.roles.items()]
        time = {"seconds": self.seconds, "overlap": round(self.overlap, 2)}
        return {"records": self.records, "total": self.total, **_json(self.figures), **time, "by": by, "method": METHOD}

    def __rich__(self) -> RenderableType:
        """Return the estimate as rich shows it."""
        what = f"all {plural(self.total, 'record')}" if self.total is not None else "each record"
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("")
        for name in ("calls", "tokens in", "tokens out", "cost"):
            table.add_column(name, justify="right")
        for (step, role), figures in self.roles.items():
            table.add_row(f"{step} {role}", *_cells(figures))
        table.add_row(Text("together", "bold"), *_cells(self.figures))
        head = Text(f"Estimate for {what}, from {self.records}", "bold")
        return Group(head, table, self._time(), Text(METHOD, "dim"))

    def _time(self) -> Text:
        spent = self.figures["model_seconds"]
        if spent is None or self.seconds is None:
            return Text("time: not known, every call was remembered")
        many = [f"{duration(spent.mean / n)} with {n} calls at once" for n in (16, 64, 256)]
        pace = f"time: {duration(self.seconds)} at the preview's own {self.overlap:.1f} calls at once; "
        return Text(pace + ", ".join(many) + ", if the server keeps its speed")


def _json(figures: Mapping[str, Spread | None]) -> dict[str, Any]:
    return {name: spread.to_json() if spread else None for name, spread in figures.items()}


def _cells(figures: Mapping[str, Spread | None]) -> Iterator[str]:
    for name in ("calls", "tokens_in", "tokens_out", "cost"):
        spread = figures[name]
        say = money if name == "cost" else count
        if spread is None:
            yield money(None)
        else:
            yield say(spread.mean) + ("" if spread.high is None else f" ± {say(spread.high - spread.mean)}")


# --- estimating ----------------------------------------------------------------------------------------------------


def estimate(folder: Path, total: int | None) -> Estimate:
    """Return what `total` records would take, judging by those of a run.

    Args:
        folder: the run folder of the preview.
        total: how many records there are, None when the source cannot tell.

    Raises:
        StoreError: it is not a run folder.
    """
    with Folder(folder) as opened:
        return estimate_of(opened, [read_node(opened, i) for i in _sources(opened)], total)


def estimate_of(folder: Folder, nodes: Sequence[Node], total: int | None) -> Estimate:
    """Return what `total` records would take, judging by these."""
    pairs = sorted({(c.step, c.role) for n in nodes for c in n.all_calls()})
    whole = _figures([_spent(n, None) for n in nodes], 1 if total is None else total)
    roles = {p: _figures([_spent(n, p) for n in nodes], 1 if total is None else total) for p in pairs}
    return Estimate(len(nodes), total, whole, roles, _overlap(folder))


def _sources(folder: Folder) -> list[str]:
    return [
        row[0] for row in folder.query("SELECT id FROM records WHERE step='' AND run=? ORDER BY seq", (folder.run,))
    ]


def _spent(node: Node, pair: tuple[str, str] | None) -> dict[str, float | None]:
    calls = [c for c in node.all_calls() if pair is None or (c.step, c.role) == pair]
    costs = [c.cost for c in calls]
    return {
        "calls": len(calls),
        "tokens_in": sum(c.tokens_in for c in calls),
        "tokens_out": sum(c.tokens_out for c in calls),
        "cost": None if None in costs else sum(c for c in costs if c is not None),
        "model_seconds": sum(c.seconds for c in calls),
        "rows": len(_leaves(node)),
    }


def _leaves(node: Node) -> list[Node]:
    if not node.step and not node.children:
        return []
    ended = any(e.status != "kept" for e in node.ends)
    return [leaf for child in node.children for leaf in _leaves(child)] if node.children else [] if ended else [node]


def _figures(spent: Sequence[Mapping[str, float | None]], times: int) -> dict[str, Spread | None]:
    figures: dict[str, Spread | None] = {}
    for name in ("calls", "tokens_in", "tokens_out", "cost", "model_seconds", "rows"):
        values = [s[name] for s in spent]
        figures[name] = None if None in values else spread([v for v in values if v is not None], times)
    return figures


def spread(values: Sequence[float], times: int) -> Spread:
    """Return the estimate of `times` draws' sum, with the 95 % interval of the mean behind it."""
    n = len(values)
    if n < 2:
        return Spread(sum(values) * times, None, None)
    mean = statistics.fmean(values)
    t = _T95[n - 2] if n - 2 < len(_T95) else 1.96
    half = t * statistics.stdev(values) / math.sqrt(n)
    return Spread(mean * times, max(0.0, mean - half) * times, (mean + half) * times)


def _overlap(folder: Folder) -> float:
    """Return how many calls were in flight on average while any was."""
    _ = folder.fates
    sql = f"SELECT at, at+seconds FROM {folder.calls} c JOIN met ON met.id=c.record ORDER BY at"  # noqa: S608
    busy, spent, until = 0.0, 0.0, -math.inf
    for begin, end in folder.query(sql):
        spent += end - begin
        busy += max(0.0, end - max(begin, until))
        until = max(until, end)
    return spent / busy if busy else 0.0


# --- showing -------------------------------------------------------------------------------------------------------


def show(folder: Path, total: int | None, as_json: bool = False) -> None:
    """Print a preview: each record with every prompt and answer, then the estimate for all.

    Args:
        folder: the run folder of the preview.
        total: how many records there are, None when the source cannot tell.
        as_json: print the estimate as JSON, for scripts.
    """
    with Folder(folder) as opened:
        nodes = [read_node(opened, i) for i in _sources(opened)]
        guess = estimate_of(opened, nodes, total)
        if as_json:
            print(orjson.dumps(guess.to_json(), option=orjson.OPT_INDENT_2).decode())
            return
        console = Console(highlight=False)
        for number, node in enumerate(nodes, 1):
            console.rule(Text(f"record {number} of {len(nodes)}  {node.id[:12]}"), align="left")
            console.print(Group(*_record(node, folder)))
        console.rule()
        console.print(guess)


def _record(node: Node, folder: Path) -> Iterator[RenderableType]:
    for digest, source in node.images:
        yield Text(f"picture {digest[:12]}  {describe_picture(source, folder)}", "cyan")
    for number, call in enumerate(node.calls, 1):
        yield call_text(call, number, most=1500)
    for end in node.ends:
        yield end_text(end)
    for child in node.children:
        yield Text(f"\n→ row {child.id[:12]} made by {child.step}", "bold")
        yield from (Text(f"   {role}: {clip(text, 1500)}") for role, text in child.turns())
        yield from _tags(child.tags)
        for number, call in enumerate(child.calls, 1):
            yield call_text(call, number, most=1500)
        yield from (end_text(end) for end in child.ends)
        yield from _grandchildren(child.children)


def _grandchildren(nodes: Iterable[Node]) -> Iterator[RenderableType]:
    for node in nodes:
        yield Text(f"\n→ row {node.id[:12]} made by {node.step}", "bold")
        yield from (Text(f"   {role}: {clip(text, 1500)}") for role, text in node.turns())
        yield from (end_text(end) for end in node.ends)
        yield from _grandchildren(node.children)


def _tags(tags: Mapping[str, Any]) -> Iterator[RenderableType]:
    if tags:
        shown = (f"{k}={v:g}" if isinstance(v, float) else f"{k}={clip(str(v), 60)}" for k, v in tags.items())
        yield Text("   " + "  ".join(shown), "dim")
