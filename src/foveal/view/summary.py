"""What became of a run: a summary for people and, as JSON, for scripts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from foveal.view.folder import LOST, Folder, Stage
from foveal.view.history import STYLES, history_of
from foveal.view.numbers import as_text, clip, count, duration, money, plural, share

STATES = {"running": "not ended: it is running, or was killed"}


@dataclass(frozen=True)
class Failure:
    """One example of a cause of failure."""

    cause: str
    count: int
    step: str
    record: str
    detail: str
    raw: str


@dataclass(frozen=True)
class StepCount:
    """What one step did: units, not source records (a record may have several children)."""

    step: str
    kind: str
    came: int
    kept: int
    dropped: Mapping[str, int]
    failed: Mapping[str, int]
    pending: int
    rows: int

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        ends = {"kept": self.kept, "dropped": dict(self.dropped), "failed": dict(self.failed), "pending": self.pending}
        return {"step": self.step, "kind": self.kind, "in": self.came, **ends, "out": self.rows}


@dataclass(frozen=True)
class Records:
    """What became of the source records: each is counted once.

    Attributes:
        kept: with at least one row left after the last step.
        dropped: reason -> how many.
        failed: cause -> how many.
        pending: not decided yet.
    """

    kept: int
    dropped: Mapping[str, int]
    failed: Mapping[str, int]
    pending: int

    @property
    def all(self) -> int:
        """All source records."""
        return self.kept + sum(self.dropped.values()) + sum(self.failed.values()) + self.pending

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        ends = {"kept": self.kept, "dropped": dict(self.dropped), "failed": dict(self.failed)}
        return {"all": self.all, **ends, "pending": self.pending}


@dataclass(frozen=True)
class Summary:
    """What became of a run's records, and what it cost.

    Attributes:
        rows: rows left after the last step.
        losses: cause -> records that were kept although a part of them failed.
        cost: USD, None when no price is known.
        unpriced: calls without a known price; `cost` is then a lower bound.
        by: meter lines, one for each step and role.
    """

    name: str
    run: int
    state: str
    note: str
    records: Records
    rows: int
    made: int
    remembered: int
    tokens_in: int
    tokens_out: int
    cost: float | None
    unpriced: int
    seconds: float
    by: tuple[Mapping[str, Any], ...] = ()
    steps: tuple[StepCount, ...] = ()
    losses: Mapping[str, int] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the summary as JSON values; a contract for scripts."""
        return {
            "name": self.name,
            "run": self.run,
            "state": self.state,
            "note": self.note,
            "records": self.records.to_json(),
            "rows": self.rows,
            "calls": {"made": self.made, "remembered": self.remembered},
            "tokens": {"in": self.tokens_in, "out": self.tokens_out},
            "cost": self.cost,
            "unpriced": self.unpriced,
            "seconds": round(self.seconds, 3),
            "by": [dict(line) for line in self.by],
            "steps": [s.to_json() for s in self.steps],
            "losses": dict(self.losses),
        }

    def __rich__(self) -> RenderableType:
        """Return the summary as rich shows it."""
        parts: list[RenderableType] = [*self._head(), Text(), *self._funnel(), *self._cost()]
        return Group(*parts, *self._failures())

    def _head(self) -> Iterator[RenderableType]:
        state = STATES.get(self.state, self.state)
        note = f" ({self.note})" if self.note else ""
        yield Text(f"{self.name}, run {self.run}: {state}{note}", style="bold")
        r = self.records
        ends = {"kept": r.kept, "dropped": sum(r.dropped.values()), "failed": sum(r.failed.values())}
        line = Text(f"{plural(r.all, 'record')} = ")
        for name, n in ends.items():
            line.append("" if name == "kept" else " + ").append(f"{count(n)} {name}", STYLES[name])
        if r.pending:
            line.append(" + ").append(f"{count(r.pending)} pending", STYLES["pending"])
        yield line.append(f"; {plural(self.rows, 'row')}")

    def _funnel(self) -> Iterator[RenderableType]:
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        for column in ({"overflow": "fold"}, {"justify": "right"}, {"justify": "right"}, {}):
            table.add_column(**column)  # type: ignore[arg-type]
        for step in self.steps:
            table.add_row(Text(step.step, "bold"), count(step.came), "", "came in")
            for name, style, n in _step_lines(step):
                bar = _bar(n, step.came, style)
                table.add_row(Text(f"  {clip(name, 60)}", style), count(n), share(n, step.came), bar)
        yield table

    def _cost(self) -> Iterator[RenderableType]:
        partly = f" for all but {plural(self.unpriced, 'call')}" if self.cost and self.unpriced else ""
        cost = money(self.cost) + partly
        calls = f"{plural(self.made, 'call')} made, {count(self.remembered)} remembered"
        tokens = f"tokens {count(self.tokens_in)} in, {count(self.tokens_out)} out"
        yield Text(f"\n{calls}; {tokens}; {cost}; {duration(self.seconds)}")
        if len(self.by) > 1:
            yield _by_table(self.by)

    def _failures(self) -> Iterator[RenderableType]:
        for cause, n in self.losses.items():
            yield Text(f"\n{plural(n, 'record')} kept with loss: {clip(cause, 120)}", style="red")
        for failure in self.failures:
            where = f" at {failure.step}" if failure.step else ""
            yield Text(f"\nfailed{where}: {clip(failure.cause, 120)} ({plural(failure.count, 'record')})", style="red")
            yield Text(f"  for example {failure.record[:12]}: {clip(failure.detail or 'no detail', 200)}")
            if failure.raw:
                yield Text(f"  the model said: {clip(failure.raw, 200)}", style="dim")


def _step_lines(step: StepCount) -> Iterator[tuple[str, str, int]]:
    rows = f", {plural(step.rows, 'row')}" if step.rows != step.kept else ""
    yield f"kept{rows}", STYLES["kept"], step.kept
    for reason, n in step.dropped.items():
        yield f"dropped: {reason}", STYLES["dropped"], n
    for cause, n in step.failed.items():
        yield f"failed: {cause}", STYLES["failed"], n
    if step.pending:
        yield "pending", STYLES["pending"], step.pending


def _bar(n: int, whole: int, style: str, width: int = 24) -> Text:
    eighths = round(8 * width * n / whole) if whole else 0
    full, rest = divmod(max(eighths, 1 if n else 0), 8)
    return Text("█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else ""), style)


def _by_table(by: tuple[Mapping[str, Any], ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("step", "role"):
        table.add_column(name)
    for name in ("made", "remembered", "tokens in", "tokens out", "cost"):
        table.add_column(name, justify="right")
    for line in by:
        numbers = [count(line.get(k) or 0) for k in ("made", "remembered", "tokens_in", "tokens_out")]
        cost = "" if line.get("unpriced") else money(line.get("cost") or 0.0)
        table.add_row(str(line.get("step", "")), str(line.get("role", "")), *numbers, cost)
    return table


# --- what the command line shows -------------------------------------------------------------------------------------


def as_json(summary: Summary) -> str:
    """Return a summary as JSON text, for scripts."""
    return orjson.dumps(summary.to_json(), option=orjson.OPT_INDENT_2).decode()


def show(summary: Summary) -> None:
    """Print a summary."""
    Console(highlight=False).print(summary)


def history(folder: Path, prefix: str, as_json: bool = False) -> str:
    """Return one record with its whole history as text, or as JSON text.

    Raises:
        StoreError: see `history_of`.
    """
    told = history_of(folder, prefix)
    return orjson.dumps(told.to_json(), option=orjson.OPT_INDENT_2).decode() if as_json else as_text(told)


# --- counting --------------------------------------------------------------------------------------------------------


def summarise(folder: Path, run: int | None = None) -> Summary:
    """Return what became of a run.

    Args:
        folder: the run folder.
        run: which run; the last one when None.

    Raises:
        StoreError: it is not a run folder, or nothing has run in it.
    """
    with Folder(folder, run) as opened:
        return summary_of(opened)


def summary_of(folder: Folder) -> Summary:
    """Return what became of the run that is opened."""
    stages = folder.fates
    meter = folder.meter or _meter_of_calls(folder)
    made, unpriced = int(meter.get("made") or 0), int(meter.get("unpriced") or 0)
    return Summary(
        name=folder.name,
        run=folder.run,
        state=folder.state,
        note=folder.note,
        records=_records(folder),
        rows=folder.one("SELECT count(*) FROM rows"),
        made=made,
        remembered=int(meter.get("remembered") or 0),
        tokens_in=int(meter.get("tokens_in") or 0),
        tokens_out=int(meter.get("tokens_out") or 0),
        cost=None if unpriced and unpriced == made else float(meter.get("cost") or 0.0),
        unpriced=unpriced,
        seconds=folder.seconds,
        by=tuple(meter.get("by") or ()),
        steps=tuple(_step_count(folder, number, stage) for number, stage in enumerate(stages)),
        losses=_losses(folder),
        failures=tuple(_examples(folder)),
    )


def _ends(lines: Iterable[tuple[Any, ...]]) -> dict[str, dict[str, int]]:
    ends: dict[str, dict[str, int]] = {"kept": {}, "dropped": {}, "failed": {}, "pending": {}}
    for status, reason, n in lines:
        ends[status][reason] = n
    return ends


def _records(folder: Folder) -> Records:
    ends = _ends(folder.query("SELECT status, reason, count(*) FROM fate GROUP BY 1, 2 ORDER BY 3 DESC, 2"))
    return Records(sum(ends["kept"].values()), ends["dropped"], ends["failed"], sum(ends["pending"].values()))


def _step_count(folder: Folder, number: int, stage: Stage) -> StepCount:
    sql = "SELECT status, reason, count(*) FROM ended WHERE stage=? GROUP BY 1, 2 ORDER BY 3 DESC, 2"
    ends = _ends(folder.query(sql, (number,)))
    kept = stage.came - sum(sum(e.values()) for e in ends.values())
    pending = sum(ends["pending"].values())
    info = stage.info
    return StepCount(info.label, info.kind, stage.came, kept, ends["dropped"], ends["failed"], pending, stage.went)


def _losses(folder: Folder) -> dict[str, int]:
    sql = """SELECT reason, count(*) FROM units WHERE run=? AND status='kept' AND reason>=? AND reason<?
             GROUP BY 1 ORDER BY 2 DESC, 1"""
    return {reason.removeprefix(LOST): n for reason, n in folder.query(sql, (folder.run, LOST, LOST + chr(0x10FFFF)))}


def _examples(folder: Folder, most: int = 12) -> Iterator[Failure]:
    causes = "SELECT reason, count(*), min(id) FROM ended WHERE status='failed' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ?"
    unit = "SELECT step, detail, raw FROM units WHERE record=? AND +run=? AND +status='failed' AND step IN ({})"
    labels = ["", "source", *(s.label for s in folder.steps)]
    sql = unit.format(",".join("?" * len(labels)))
    for cause, n, record in list(folder.query(causes, (most,))):
        step, detail, raw = next(folder.query(sql, (record, folder.run, *labels)), ("", "", ""))
        yield Failure(cause, n, step, record, detail, raw)


def _meter_of_calls(folder: Folder) -> dict[str, Any]:
    # A run that was killed wrote no meter; its calls tell what it paid.
    keys = ("step", "role", "made", "tokens_in", "tokens_out", "cost", "unpriced")
    sums = "count(*), sum(tokens_in), sum(tokens_out), coalesce(sum(cost),0.0), sum(cost IS NULL)"
    sql = f"SELECT step, role, {sums} FROM {folder.calls} WHERE at>=? GROUP BY 1, 2 ORDER BY 1, 2"  # noqa: S608
    by = [dict(zip(keys, line, strict=True)) for line in folder.query(sql, (folder.at,))]
    return {key: sum(line[key] for line in by) for key in keys[2:]} | {"by": by}
