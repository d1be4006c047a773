"""What was paid for: calls, records and what became of them, in SQLite (WAL); and the meter that counts the cost.

One process writes a store at a time. A call is in the journal, hence durable, before its answer reaches the method; to
the tables everything goes through one thread, many rows to a transaction. A record's children and its status are always
in one. What of them a kill takes away is made again from the calls, for nothing.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, TypeAlias

import orjson

from foveal import journal
from foveal.errors import BudgetSpent, DiskFull, RunStopped, StoreError
from foveal.record import Image, Record, body_to_json

try:
    import fcntl
except ImportError:  # pragma: no cover - no advisory locks on this system
    fcntl = None  # type: ignore[assignment]

Status: TypeAlias = Literal["kept", "dropped", "failed"]

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE calls (
      record TEXT NOT NULL, digest BLOB NOT NULL, take INTEGER NOT NULL,
      step TEXT NOT NULL, role TEXT NOT NULL, model TEXT NOT NULL, prompt TEXT NOT NULL,
      request TEXT NOT NULL, reply TEXT NOT NULL,
      tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL, cost REAL, seconds REAL NOT NULL, at REAL NOT NULL);
    CREATE UNIQUE INDEX calls_key ON calls (record, digest, take);
    CREATE TABLE records (
      id TEXT PRIMARY KEY, step TEXT NOT NULL, parent TEXT NOT NULL, seq INTEGER NOT NULL, n INTEGER NOT NULL,
      body TEXT NOT NULL, tags TEXT NOT NULL, images TEXT NOT NULL, run INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX records_parent ON records (parent, step);
    CREATE INDEX records_seq ON records (step, run, seq);
    CREATE TABLE units (
      step TEXT NOT NULL, record TEXT NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL,
      raw TEXT NOT NULL, fingerprint TEXT NOT NULL, run INTEGER NOT NULL,
      PRIMARY KEY (step, record)) WITHOUT ROWID;
    CREATE INDEX units_status ON units (run, step, status, reason);
    CREATE TABLE images (digest TEXT PRIMARY KEY, source TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE runs (
      run INTEGER PRIMARY KEY, at REAL NOT NULL, recipe TEXT NOT NULL, state TEXT NOT NULL, note TEXT NOT NULL,
      meter TEXT NOT NULL, seconds REAL NOT NULL);
    """,
)
"""Each entry takes the store one version up; never edit one that has been released."""

_APPLICATION = 0x666F7631  # "fov1": tells our files from other SQLite databases


# --- opening -------------------------------------------------------------------------------------------------------


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{path} was written by a newer foveal (store version {version}; this one knows {len(MIGRATIONS)})"
        )
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        db.executescript(f"BEGIN; {script}; PRAGMA user_version={number}; COMMIT;")


def _check_ours(db: sqlite3.Connection, path: Path) -> None:
    application = db.execute("PRAGMA application_id").fetchone()[0]
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != _APPLICATION and tables:
        raise StoreError(f"{path} is a database of another program; name another folder")
    if application != _APPLICATION:
        db.execute(f"PRAGMA application_id={_APPLICATION}")


def connect(path: Path, read_only: bool = False) -> sqlite3.Connection:
    """Open a store's database, bringing it to this version.

    Raises:
        StoreError: not there (when reading), not ours, of a newer version, or not writable.
    """
    if read_only and not path.is_file():
        raise StoreError(f"{path.parent} is not a run folder: it has no {path.name}")
    db = None
    try:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10, cached_statements=256)
        db.execute("PRAGMA synchronous=NORMAL")
        _check_ours(db, path)
        db.execute("PRAGMA journal_mode=WAL")
        _migrate(db, path)
    except (sqlite3.Error, StoreError) as error:
        if db is not None:
            db.close()
        if isinstance(error, StoreError):
            raise
        raise StoreError(
            f"cannot open {path}: {error}; the folder must be writable, on a local disk, and with room left"
        ) from error
    if read_only:
        if journal.left_in(path.parent):
            with suppress(StoreError), closing(_lock(path.parent / "lock")):  # refused: its writer lives, and will
                _fold(db, path.parent)
        db.execute("PRAGMA query_only=1")
    return db


def _lock(path: Path) -> IO[str]:
    try:
        handle = path.open("a+")
    except OSError as error:
        raise StoreError(f"cannot write to {path.parent}: {error.strerror}") from error
    if fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            handle.close()
            raise StoreError(
                f"another process is writing {path.parent}; wait for it or name another -o folder"
            ) from error
    return handle


# --- writing -------------------------------------------------------------------------------------------------------

Statement: TypeAlias = tuple[str, Sequence[Any]]
Statements: TypeAlias = Sequence[Statement]

_GROUP = 0.05
"""Seconds that writes wait for company. Nobody waits for them, and every time the thread wakes it takes the interpreter
from the event loop for a while, which costs a busy loop more than the writing itself."""
_MOST_WAITING = 20_000
"""Writes that may wait before records have to."""


class _Write(NamedTuple):
    """Statements that belong together; who is to hear that they are written; a journal that may go then."""

    statements: Statements
    done: threading.Event | None = None
    spent: Path | None = None


class _Writer(threading.Thread):
    """The one thread that writes: what came in a while goes into one transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        super().__init__(name="foveal-store", daemon=True)
        self.db = db
        self.broken: Exception | None = None
        self.given = self.written = 0
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._hurry = threading.Event()
        self.start()

    def put(self, write: _Write) -> None:
        """Write this soon.

        Raises:
            DiskFull: an earlier write has failed.
        """
        if self.broken:
            raise self.broken
        self.given += 1
        self._queue.put(write)

    def flush(self) -> None:
        """Wait until everything put so far is written.

        Raises:
            DiskFull: it cannot be written.
        """
        done = threading.Event()
        self.put(_Write((), done))
        self._hurry.set()
        done.wait()
        if self.broken:
            raise self.broken

    def end(self) -> None:
        """Write what is left and stop."""
        self._queue.put(None)
        self._hurry.set()
        self.join()
        self.db.close()

    def run(self) -> None:
        while (first := self._queue.get()) is not None:
            self._hurry.wait(_GROUP)
            self._hurry.clear()
            batch, last = self._drain(first)
            if not self.broken:
                self._commit(batch)
            self.written += len(batch)
            for write in batch:
                self._settle(write)
            if last:
                return

    def _drain(self, first: _Write) -> tuple[list[_Write], bool]:
        batch = [first]
        with suppress(queue.Empty):
            while len(batch) < 4096:
                if (following := self._queue.get_nowait()) is None:
                    return batch, True
                batch.append(following)
        return batch, False

    def _commit(self, batch: list[_Write]) -> None:
        try:
            self.db.execute("BEGIN IMMEDIATE")
            for sql, rows in _in_bulk(statement for write in batch for statement in write.statements):
                self.db.execute(sql, rows)
            self.db.execute("COMMIT")
        except Exception as error:  # whatever it is: those who write must hear of it
            self.broken = DiskFull(f"the store cannot be written ({error}); make room, then run the same command again")
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")

    def _settle(self, write: _Write) -> None:
        if write.done is not None:
            write.done.set()
        if write.spent is not None and not self.broken:
            write.spent.unlink()


def _in_bulk(statements: Iterable[Statement]) -> Iterator[Statement]:
    """Yield the same work in fewer statements: rows for one table go together, as each statement gives up the GIL.

    What is not an insert waits for the inserts before it, and those after it wait for it.
    """
    waiting: dict[str, list[Sequence[Any]]] = {}
    for sql, values in statements:
        if sql in _INSERTS:
            rows = waiting.setdefault(sql, [])
            rows.append(values)
            if len(rows) == _BULK:
                yield _many(sql, rows)
                rows.clear()
        else:
            yield from (_many(*each) for each in waiting.items() if each[1])
            waiting.clear()
            yield sql, values
    yield from (_many(*each) for each in waiting.items() if each[1])


def _many(sql: str, rows: Sequence[Sequence[Any]]) -> Statement:
    more = f",{sql[sql.rindex('(') :]}" * (len(rows) - 1)
    return sql + more, [value for row in rows for value in row]


# --- the store -----------------------------------------------------------------------------------------------------


class Call(NamedTuple):
    """One remembered call, its fields in the order of the table's columns."""

    record: str
    digest: bytes
    take: int
    step: str
    role: str
    model: str
    prompt: str
    request: str
    reply: str
    tokens_in: int
    tokens_out: int
    cost: float | None
    seconds: float
    at: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one record at one step."""

    status: Status
    reason: str = ""
    detail: str = ""
    raw: str = ""


_CALL = f"INSERT OR IGNORE INTO calls VALUES ({','.join('?' * 14)})"  # noqa: S608 - no values inside
_RECORD = f"INSERT OR REPLACE INTO records VALUES ({','.join('?' * 9)})"  # noqa: S608
_UNIT = f"INSERT OR REPLACE INTO units VALUES ({','.join('?' * 8)})"  # noqa: S608
_IMAGE = "INSERT OR REPLACE INTO images VALUES (?,?)"
_INSERTS = frozenset((_CALL, _RECORD, _UNIT, _IMAGE))
_BULK = 32
"""Rows of one statement at most; each number of rows is a statement of its own for SQLite to prepare."""


def _fold(db: sqlite3.Connection, folder: Path) -> None:
    """Move what a killed process left in its journals into the table of calls; the caller holds the folder's lock.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        for path in journal.left_in(folder):
            db.execute("BEGIN IMMEDIATE")
            db.executemany(_CALL, ((record, bytes.fromhex(key), *rest) for record, key, *rest in journal.read(path)))
            db.execute("COMMIT")
            path.unlink()
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"cannot write {folder}: {error}; make room, then run the same command again") from error


class Store:
    """A run's memory, open for writing by this process alone.

    Args:
        folder: the run folder; its database is `store.db`.
        calls: another store's folder, whose calls are used and added to instead of this run's own.

    Raises:
        StoreError: see `connect`; or another process is writing it.
    """

    def __init__(self, folder: Path, calls: Path | None = None) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make the folder {folder}: {error.strerror}") from error
        shared = calls if calls and calls.resolve() != folder.resolve() else None
        with ExitStack() as opening:
            for place in (folder, shared):
                if place is not None:
                    opening.enter_context(_lock(place / "lock"))
            self._read = connect(folder / "store.db")
            _fold(self._read, folder)
            self._writer = _Writer(connect(folder / "store.db"))
            self._paid = _Paid(folder, self._read, self._writer) if shared is None else _open_paid(shared)
            self._locks = opening.pop_all()
        self.claimed: set[int] = set()
        self.new: bool = not self._read.execute("SELECT EXISTS (SELECT 1 FROM units)").fetchone()[0]
        self.run: int = self._read.execute("SELECT coalesce(max(run),0)+1 FROM runs").fetchone()[0]

    # what was paid for

    def recall(self, record: str) -> dict[tuple[bytes, int], str]:
        """Return every remembered reply of one record, keyed by (request digest, take)."""
        return self._paid.recall(record)

    @property
    def nothing_paid(self) -> bool:
        """Whether no call was remembered when the store was opened."""
        return self._paid.new

    def remember(self, call: Call) -> None:
        """Write one call; when this returns it survives the process.

        Raises:
            DiskFull: it cannot be written.
        """
        self._paid.remember(call)

    # what became of records

    def begin(self, recipe: str) -> None:
        """Write that a run begins."""
        values = (self.run, time.time(), recipe, "running", "", "{}", 0.0)
        self.write([("INSERT INTO runs VALUES (?,?,?,?,?,?,?)", values)])

    def finish(self, state: str, note: str, meter: Mapping[str, Any], seconds: float) -> None:
        """Write how the run ended."""
        values = (state, note, orjson.dumps(meter).decode(), seconds, self.run)
        self.write([("UPDATE runs SET state=?, note=?, meter=?, seconds=? WHERE run=?", values)])

    def decided(self, step: str, record: str) -> tuple[str, Outcome] | None:
        """Return what a record was last decided under at a step, and how it ended."""
        if self.new:
            return None
        sql = "SELECT fingerprint, status, reason, detail, raw FROM units WHERE step=? AND record=?"
        row = self._read.execute(sql, (step, record)).fetchone()
        return (row[0], Outcome(*row[1:])) if row else None

    def status(self, step: str, record: str) -> str:
        """Return how a record ended at a step in this run, "" when it has not."""
        sql = "SELECT status FROM units WHERE step=? AND record=? AND run=?"
        row = self._read.execute(sql, (step, record, self.run)).fetchone()
        return row[0] if row else ""

    def source_rows(self, record: Record, seq: int) -> list[Statement]:
        """Return the statements that write a source record at its place."""
        return [*self._image_rows(record), (_RECORD, self._row(record, seq, 0))]

    def _row(self, record: Record, seq: int, n: int) -> tuple[Any, ...]:
        body, tags = orjson.dumps(body_to_json(record.body)), orjson.dumps(dict(record.tags), default=str)
        images = orjson.dumps([i.digest for i in record.images])
        return record.id, record.step, record.parent, seq, n, body.decode(), tags.decode(), images.decode(), self.run

    @staticmethod
    def _image_rows(record: Record) -> list[Statement]:
        return [(_IMAGE, (i.digest, i.source)) for i in record.images]

    def outcome_rows(
        self, step: str, parent: Record, children: Sequence[Record], outcome: Outcome, fingerprint: str, again: bool
    ) -> list[Statement]:
        """Return the statements that write a record's children and its status, to be written as one.

        Args:
            again: it was decided before, and what it had then goes.
        """
        rows: list[Statement] = []
        if again:
            rows.append(("DELETE FROM records WHERE parent=? AND step=?", (parent.id, step)))
        for n, child in enumerate(children):
            if child.images is not parent.images:
                rows += self._image_rows(child)
            rows.append((_RECORD, self._row(child, 0, n)))
        rows.append(self.unit_row(step, parent.id, outcome, fingerprint))
        return rows

    def keep_images(self, made: Sequence[Image]) -> None:
        """Write pictures that a step made into the run's image folder; from then on they lie at `blob:<digest>`.

        Raises:
            DiskFull: they cannot be written.
        """
        for image in made:
            path = self.folder / "images" / image.digest[:2] / image.digest
            try:
                if not path.is_file():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    # Several records may make the same picture at once (a blank one, say).
                    partial = path.with_suffix(f".{threading.get_ident()}.part")
                    partial.write_bytes(image.data())
                    partial.replace(path)
            except OSError as error:
                raise DiskFull(
                    f"cannot write {path}: {error.strerror}; make room, then run the same command"
                ) from error
            image.source = f"blob:{image.digest}"

    def unit_row(self, step: str, record: str, outcome: Outcome, fingerprint: str) -> Statement:
        """Return the statement that writes one status."""
        values = (step, record, outcome.status, outcome.reason, outcome.detail, outcome.raw, fingerprint, self.run)
        return _UNIT, values

    def again_rows(self, step: str, record: str) -> list[Statement]:
        """Return the statement that carries an earlier decision into this run."""
        return [("UPDATE units SET run=? WHERE step=? AND record=?", (self.run, step, record))]

    def children(self, step: str, parent: str) -> list[tuple[Any, ...]]:
        """Return the stored children of a record at a step, in order."""
        sql = "SELECT id, step, parent, seq, n, body, tags, images FROM records WHERE parent=? AND step=? ORDER BY n"
        return self._read.execute(sql, (parent, step)).fetchall()

    def row(self, record: str) -> tuple[Any, ...]:
        """Return one record as written."""
        sql = "SELECT id, step, parent, seq, n, body, tags, images FROM records WHERE id=?"
        found: tuple[Any, ...] = self._read.execute(sql, (record,)).fetchone()
        return found

    def image_source(self, digest: str) -> str:
        """Return where a picture's bytes lie, "" when it is not known."""
        row = self._read.execute("SELECT source FROM images WHERE digest=?", (digest,)).fetchone()
        return row[0] if row else ""

    def query(self, sql: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a reading query, in bounded memory."""
        yield from self._read.execute(sql, values)

    # writing

    def write(self, statements: Statements) -> None:
        """Write in the background, as one.

        Raises:
            DiskFull: something written before could not be.
        """
        self._writer.put(_Write(statements))

    async def room(self) -> None:
        """Wait while far more waits to be written than the disk takes."""
        while self._writer.given - self._writer.written > _MOST_WAITING and not self._writer.broken:  # noqa: ASYNC110 - rare
            await asyncio.sleep(_GROUP)

    def flush(self) -> None:
        """Wait until everything given so far is written.

        Raises:
            DiskFull: it cannot be written.
        """
        for writer in {self._paid.writer, self._writer}:
            writer.flush()

    def close(self) -> None:
        """Write what is left and let others in."""
        self._paid.close()
        if self._paid.writer is not self._writer:
            self._writer.end()
        self._read.close()
        self._locks.close()


def _open_paid(folder: Path) -> _Paid:
    read = connect(folder / "store.db")
    _fold(read, folder)
    return _Paid(folder, read, _Writer(connect(folder / "store.db")))


class _Paid:
    """What was paid for: the table of calls and its journal, of this run's folder or of one that runs share."""

    def __init__(self, folder: Path, read: sqlite3.Connection, writer: _Writer) -> None:
        self._read, self.writer = read, writer
        self._journal = journal.Journal(folder)
        self._waiting: deque[tuple[int, Call]] = deque()  # not in the table yet, by the number of their write
        self.new: bool = not read.execute("SELECT EXISTS (SELECT 1 FROM calls)").fetchone()[0]

    def recall(self, record: str) -> dict[tuple[bytes, int], str]:
        waiting = {(call.digest, call.take): call.reply for _, call in self._waiting if call.record == record}
        rows = self._read.execute("SELECT digest, take, reply FROM calls WHERE record=?", (record,))
        return waiting | {(digest, take): reply for digest, take, reply in rows}

    def remember(self, call: Call) -> None:
        self._journal.append((call.record, call.digest.hex(), *call[2:]))
        spent = self._journal.cut() if self._journal.full else None
        self.writer.put(_Write(((_CALL, call),), spent=spent))
        self._waiting.append((self.writer.given, call))
        while self._waiting and self._waiting[0][0] <= self.writer.written:
            self._waiting.popleft()

    def close(self) -> None:
        with suppress(DiskFull):  # what cannot be written stays in the journal
            self.writer.put(_Write((), spent=self._journal.cut()))
        self.writer.end()
        self._read.close()


# --- the meter -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Budget:
    """Limits of one run, each off when None: calls, tokens, cost in the price table's currency, time in seconds."""

    calls: int | None = None
    tokens: int | None = None
    cost: float | None = None
    time: float | None = None


@dataclass
class Tally:
    """Calls, tokens and cost of one role at one step."""

    made: int = 0
    remembered: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    unpriced: int = 0


@dataclass
class Meter:
    """Counts what a run pays, and stops it at its budget; `heard` is called after each call that came back."""

    budget: Budget = field(default_factory=Budget)
    by: dict[tuple[str, str], Tally] = field(default_factory=dict)
    in_flight: int = 0
    stop: RunStopped | None = None
    reasked: Counter[str] = field(default_factory=Counter)
    began: float = field(default_factory=time.monotonic)
    total: Tally = field(default_factory=Tally)
    heard: Callable[[], object] = lambda: None

    def tally(self, step: str, role: str) -> Tally:
        """Return the tally of a role at a step."""
        return self.by.setdefault((step, role), Tally())

    def admit(self) -> None:
        """Count a call about to be sent.

        Raises:
            RunStopped: a limit is reached, or the run has been asked to stop.
        """
        if self.stop:
            raise self.stop
        b, t = self.budget, self.total
        spent = (
            ("--max-calls", b.calls, t.made + self.in_flight),
            ("--max-tokens", b.tokens, t.tokens_in + t.tokens_out),
            ("--max-cost", b.cost, t.cost),
            ("--max-time", b.time, time.monotonic() - self.began),
        )
        for name, limit, used in spent:
            if limit is not None and used >= limit:
                raise BudgetSpent(f"{name} {limit:g} is reached; the same command continues with a fresh budget")
        self.in_flight += 1

    def paid(self, step: str, role: str, tokens_in: int, tokens_out: int, cost: float | None) -> None:
        """Count a call that came back."""
        for tally in (self.tally(step, role), self.total):
            tally.made += 1
            tally.tokens_in += tokens_in
            tally.tokens_out += tokens_out
            tally.cost += cost or 0.0
            tally.unpriced += cost is None
        self.heard()

    def recalled(self, step: str, role: str) -> None:
        """Count a call answered from the store."""
        self.tally(step, role).remembered += 1
        self.total.remembered += 1


@dataclass
class Recording:
    """What `Model.ask` needs to know of the record it serves; set by the runner, inherited by child tasks."""

    store: Store
    meter: Meter
    record: str
    step: str
    priority: int
    remembered: Mapping[tuple[bytes, int], str]
    takes: Counter[bytes] = field(default_factory=Counter)


recording: ContextVar[Recording | None] = ContextVar("recording", default=None)
