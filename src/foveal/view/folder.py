"""A run folder opened for looking: which run is current, its steps, and what became of every source record.

Everything is worked out by SQLite in temporary tables, so a store of a million records is looked at in bounded memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from foveal.errors import StoreError
from foveal.store import connect

LOST = "with loss: "
"""Begins the reason of a record that was kept although a part of it failed."""


@dataclass(frozen=True)
class StepInfo:
    """A step of the run: its label, the function it names, "row" or "table", and its knobs."""

    label: str
    step: str
    kind: str
    knobs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """A step and how many records came to it, and stayed."""

    info: StepInfo
    came: int
    went: int


def _object(text: str) -> dict[str, Any]:
    try:
        value = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _step_info(given: Any) -> StepInfo:
    if isinstance(given, str):
        return StepInfo(given, given, "row")
    label = str(given.get("name") or given.get("label") or given.get("step") or "")
    return StepInfo(label, str(given.get("step") or label), str(given.get("kind") or "row"), given.get("knobs") or {})


class Folder:
    """The current run of a run folder.

    Args:
        path: the folder.
        run: which run; the last one when None.

    Raises:
        StoreError: it is not a run folder, or nothing has run in it.
    """

    def __init__(self, path: Path, run: int | None = None) -> None:
        self.path = path
        self._db = connect(path / "store.db", read_only=True)
        row = self._db.execute(_RUN, (run,)).fetchone()
        if row is None:
            self._db.close()
            raise StoreError(f"{path} holds no run{f' {run}' if run else ' yet'}")
        self.run, self.at, recipe, self.state, self.note, meter, self.seconds = row
        self.recipe, self.meter = _object(recipe), _object(meter)
        self.calls = self._shared_calls()
        self.steps = tuple(_step_info(s) for s in self.recipe.get("steps") or ())

    def _shared_calls(self) -> str:
        """Return the name of the table of calls: another store's where the run shared one."""
        shared = self.recipe.get("calls")
        if not shared or not (Path(str(shared)) / "store.db").is_file():
            return "calls"
        self._db.execute("ATTACH ? AS paid", (str(Path(str(shared)) / "store.db"),))
        return "paid.calls"

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self._db.close()

    @property
    def name(self) -> str:
        """The recipe's name."""
        return str(self.recipe.get("name") or self.path.name)

    def query(self, sql: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query; after `fates` it may read the tables `fate`, `ended` and `rows`."""
        yield from self._db.execute(sql, values)

    def one(self, sql: str, values: Sequence[Any] = ()) -> Any:
        """Return the first column of the first row, None when there is none."""
        row = self._db.execute(sql, values).fetchone()
        return row[0] if row else None

    @cached_property
    def fates(self) -> tuple[Stage, ...]:
        """Work out what became of every record, and return the steps with how many came and went.

        Makes temporary tables: `ended(stage, id, seq, status, reason)` for each record that did not get through a step,
        `met(id)` for every record that came to a step, `rows(id, seq)` for what is left after the last, and
        `fate(seq, id, status, reason, stage)` with a line for each source record. `seq` is the source record's place.
        """
        self._db.execute("PRAGMA query_only=0")  # for temporary tables only; what is stored is not touched
        try:
            return self._follow()
        finally:
            self._db.execute("PRAGMA query_only=1")

    def _follow(self) -> tuple[Stage, ...]:
        run = self._db.execute
        run("CREATE TEMP TABLE ended (stage INTEGER, id TEXT, seq INTEGER, status TEXT, reason TEXT)")
        run("CREATE TEMP TABLE met (id TEXT PRIMARY KEY) WITHOUT ROWID")
        run("CREATE TEMP TABLE live AS SELECT id, seq FROM records WHERE step='' AND run=?", (self.run,))
        stages = []
        for number, info in enumerate(self.steps):
            came = self.one("SELECT count(*) FROM live")
            run("INSERT OR IGNORE INTO met SELECT id FROM live")
            run(_ENDED, {"stage": number, "step": info.label, "run": self.run})
            run(_CHILDREN if info.kind == "row" else _KEPT, {"step": info.label, "run": self.run})
            run("DROP TABLE live")
            run("ALTER TABLE next RENAME TO live")
            stages.append(Stage(info, came, self.one("SELECT count(*) FROM live")))
        self._elsewhere()
        run("ALTER TABLE live RENAME TO rows")
        run("CREATE INDEX temp.rows_seq ON rows (seq)")
        run("CREATE TEMP TABLE worst (seq INTEGER PRIMARY KEY, status TEXT, reason TEXT, stage INTEGER)")
        run(_WORST)
        run("CREATE TEMP TABLE alive (seq INTEGER PRIMARY KEY)")
        run("INSERT OR IGNORE INTO alive SELECT seq FROM rows")
        run(_FATE, {"run": self.run})
        run("CREATE INDEX temp.fate_status ON fate (status, reason, id)")
        run("CREATE INDEX temp.fate_seq ON fate (seq)")
        return tuple(stages)

    def _elsewhere(self) -> None:
        # A source record that could not be opened is told of at the step that first needed it, not where it stopped.
        labels = ["", "source", *(s.label for s in self.steps)]
        marks = ",".join("?" * len(labels))
        which = f"u.step IN ({marks}) AND u.record=ended.id AND +u.run=? AND +u.status<>'kept'"
        told = f"SELECT status, reason FROM units u WHERE {which}"  # noqa: S608
        exists = f"SELECT 1 FROM units u WHERE {which}"  # noqa: S608
        sql = f"UPDATE ended SET (status, reason)=({told}) WHERE status='pending' AND EXISTS ({exists})"  # noqa: S608
        self._db.execute(sql, (*labels, self.run) * 2)

    def image_source(self, digest: str) -> str:
        """Return where a picture's bytes lie, "" when it is not known."""
        return self.one("SELECT source FROM images WHERE digest=?", (digest,)) or ""


_RUN = """
SELECT run, at, recipe, state, note, meter, seconds FROM runs WHERE run=coalesce(?,(SELECT max(run) FROM runs))
"""
# A unary plus keeps SQLite from the index on (run, step, status), which finds all units of a step: one is wanted here.
_ENDED = """
INSERT INTO ended SELECT :stage, l.id, l.seq, coalesce(u.status,'pending'), coalesce(u.reason,'')
FROM live l LEFT JOIN units u ON u.step=:step AND u.record=l.id AND +u.run=:run
WHERE u.status IS NULL OR u.status<>'kept'
"""
_KEPT = """
CREATE TEMP TABLE next AS SELECT l.id, l.seq
FROM live l CROSS JOIN units u ON u.step=:step AND u.record=l.id AND +u.run=:run AND +u.status='kept'
"""
_CHILDREN = """
CREATE TEMP TABLE next AS SELECT c.id, l.seq
FROM live l CROSS JOIN units u ON u.step=:step AND u.record=l.id AND +u.run=:run AND +u.status='kept'
CROSS JOIN records c ON c.parent=l.id AND c.step=:step
"""
# Where several descendants ended differently, the worst counts (not yet decided, failed, dropped), then the furthest.
# SQLite takes the other columns from the row that holds max().
_WORST = """
INSERT INTO worst SELECT seq, status, reason, stage FROM (
  SELECT seq, status, reason, stage,
    max(CASE status WHEN 'pending' THEN 3000 WHEN 'failed' THEN 2000 ELSE 1000 END + stage)
  FROM ended GROUP BY seq)
"""
_FATE = """
CREATE TEMP TABLE fate AS
SELECT s.seq, s.id, coalesce(w.stage, -1) AS stage,
  iif(a.seq IS NULL, coalesce(w.status, 'dropped'), 'kept') AS status,
  iif(a.seq IS NULL, coalesce(w.reason, 'nothing made'), '') AS reason
FROM records s LEFT JOIN worst w ON w.seq=s.seq LEFT JOIN alive a ON a.seq=s.seq
WHERE s.step='' AND s.run=:run
"""
