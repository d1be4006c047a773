"""What became of a run: a summary for people and, as JSON, for scripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from foveal.view.folder import LOST, Folder, Stage
from foveal.view.history import History, history
from foveal.view.numbers import clip, count, duration, money, plural, share

__all__ = ["Failure", "History", "StepCount", "Summary", "history", "summarise", "summary_of"]

COLOURS = {"kept": "green", "dropped": "yellow", "failed": "red", "pending": "dim"}
STATES = {"done": "done", "running": "not ended: it is running, or was killed"}


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
class Summary:
    """What became of a run's records, and what it cost.

    Attributes:
        kept: source records with at least one row left after the last step.
        pending: source records not decided yet.
        losses: cause -> kept source-level units that lost a part of themselves to a failure.
        cost: USD, None when no price is known.
        unpriced: calls without a known price; `cost` is then a lower bound.
        by: meter lines, one for each step and role.
    """

    name: str
    run: int
    state: str
    note: str
    kept: int
    dropped: Mapping[str, int]
    failed: Mapping[str, int]
    pending: int
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

    @property
    def all(self) -> int:
        """All source records."""
        return self.kept + sum(self.dropped.values()) + sum(self.failed.values()) + self.pending

    def to_json(self) -> dict[str, Any]:
        """Return the summary as JSON values; a contract for scripts."""
        records = {
            "all": self.all,
            "kept": self.kept,
            "dropped": dict(self.dropped),
            "failed": dict(self.failed),
            "pending": self.pending,
        }
        return {
            "name": self.name,
            "run": self.run,
            "state": self.state,
            "note": self.note,
            "records": records,
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
        ends = {"kept": self.kept, "dropped": sum(self.dropped.values()), "failed": sum(self.failed.values())}
        line = Text(f"{plural(self.all, 'record')} = ")
        for name, n in ends.items():
            line.append("" if name == "kept" else " + ").append(f"{count(n)} {name}", COLOURS[name])
        if self.pending:
            line.append(" + ").append(f"{count(self.pending)} pending", COLOURS["pending"])
        yield line.append(f"; {plural(self.rows, 'row')}")

    def _funnel(self) -> Iterator[RenderableType]:
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        for column in ({"overflow": "fold"}, {"justify": "right"}, {"justify": "right"}, {}):
            table.add_column(**column)  # type: ignore[arg-type]
        for step in self.steps:
            table.add_row(Text(step.step, "bold"), count(step.came), "", "came in")
            for name, style, n in _step_lines(step):
                table.add_row(Text(f"  {clip(name, 60)}", style), count(n), share(n, step.came), _bar(n, step.came, style))
        yield table

    def _cost(self) -> Iterator[RenderableType]:
        cost = money(self.cost) + (f" for all but {plural(self.unpriced, 'call')}" if self.cost and self.unpriced else "")
        calls = f"{plural(self.made, 'call')} made, {count(self.remembered)} remembered"
        tokens = f"tokens {count(self.tokens_in)} in, {count(self.tokens_out)} out"
        yield Text(f"\n{calls}; {tokens}; {cost}; {duration(self.seconds)}")
        if len(self.by) > 1:
            yield _by_table(self.by)

    def _failures(self) -> Iterator[RenderableType]:
        for cause, n in self.losses.items():
            yield Text(f"\n{plural(n, 'record')} kept with loss: {cause}", style="red")
        for failure in self.failures:
            where = f" at {failure.step}" if failure.step else ""
            yield Text(f"\nfailed{where}: {failure.cause} ({plural(failure.count, 'record')})", style="red")
            yield Text(f"  for example {failure.record[:12]}: {clip(failure.detail or 'no detail', 200)}")
            if failure.raw:
                yield Text(f"  the model said: {clip(failure.raw, 200)}", style="dim")


def _step_lines(step: StepCount) -> Iterator[tuple[str, str, int]]:
    rows = f", {plural(step.rows, 'row')}" if step.rows != step.kept else ""
    yield f"kept{rows}", COLOURS["kept"], step.kept
    for reason, n in step.dropped.items():
        yield f"dropped: {reason}", COLOURS["dropped"], n
    for cause, n in step.failed.items():
        yield f"failed: {cause}", COLOURS["failed"], n
    if step.pending:
        yield "pending", COLOURS["pending"], step.pending


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


# --- counting ------------------------------------------------------------------------------------------------------


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
    ends = _ends(folder)
    meter = folder.meter or _meter_of_calls(folder)
    made, unpriced = int(meter.get("made") or 0), int(meter.get("unpriced") or 0)
    return Summary(
        name=folder.name,
        run=folder.run,
        state=folder.state,
        note=folder.note,
        kept=ends["kept"].get("", 0),
        dropped=ends["dropped"],
        failed=ends["failed"],
        pending=sum(ends["pending"].values()),
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


def _ends(folder: Folder) -> dict[str, dict[str, int]]:
    ends: dict[str, dict[str, int]] = {"kept": {}, "dropped": {}, "failed": {}, "pending": {}}
    sql = "SELECT status, reason, count(*) FROM fate GROUP BY 1, 2 ORDER BY 3 DESC, 2"
    for status, reason, n in folder.query(sql):
        ends[status][reason] = n
    return ends


def _step_count(folder: Folder, number: int, stage: Stage) -> StepCount:
    ends: dict[str, dict[str, int]] = {"dropped": {}, "failed": {}, "pending": {}}
    sql = "SELECT status, reason, count(*) FROM ended WHERE stage=? GROUP BY 1, 2 ORDER BY 3 DESC, 2"
    for status, reason, n in folder.query(sql, (number,)):
        ends[status][reason] = n
    kept = stage.came - sum(sum(e.values()) for e in ends.values())
    pending = sum(ends["pending"].values())
    return StepCount(stage.info.label, stage.info.kind, stage.came, kept, ends["dropped"], ends["failed"], pending, stage.went)


def _losses(folder: Folder) -> dict[str, int]:
    sql = "SELECT reason, count(*) FROM units WHERE run=? AND status='kept' AND reason LIKE ? GROUP BY 1 ORDER BY 2 DESC, 1"
    return {reason.removeprefix(LOST): n for reason, n in folder.query(sql, (folder.run, f"{LOST}%"))}


def _examples(folder: Folder, most: int = 12) -> Iterator[Failure]:
    causes = "SELECT reason, count(*), min(id) FROM ended WHERE status='failed' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ?"
    unit = "SELECT step, detail, raw FROM units WHERE record=? AND run=? AND status='failed' AND step IN ({})"
    labels = ["", "source", *(s.label for s in folder.steps)]
    sql = unit.format(",".join("?" * len(labels)))
    for cause, n, record in list(folder.query(causes, (most,))):
        step, detail, raw = next(folder.query(sql, (record, folder.run, *labels)), ("", "", ""))
        yield Failure(cause, n, step, record, detail, raw)


def _meter_of_calls(folder: Folder) -> dict[str, Any]:
    # A run that was killed wrote no meter; its calls tell what it paid.
    columns = "count(*), coalesce(sum(tokens_in),0), coalesce(sum(tokens_out),0), coalesce(sum(cost),0.0), coalesce(sum(cost IS NULL),0)"
    keys = ("made", "tokens_in", "tokens_out", "cost", "unpriced")
    sql = f"SELECT {columns}, step, role FROM calls WHERE at>=? GROUP BY step, role ORDER BY step, role"  # noqa: S608
    by = [{**dict(zip(keys, line, strict=False)), "step": line[5], "role": line[6]} for line in folder.query(sql, (folder.at,))]
    return {key: sum(line[key] for line in by) for key in keys} | {"by": by}
