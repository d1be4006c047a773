"""How records flow through row steps: each on its own, as many at once as the models can use."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import orjson

from foveal.data import Broken, Source
from foveal.errors import Dropped, MethodFailed, RecordFailed, RunStopped, SetupError
from foveal.models.model import Model
from foveal.models.wire import Backend
from foveal.recipe import Bound
from foveal.record import MEMORY, Image, Record, Scope, digest, notes, scope
from foveal.runner.rows import Row, to_record
from foveal.store import Meter, Outcome, Recording, Store, recording

LOST = "with loss: "
"""Begins the reason of a record that failed after it had made rows; it is tried again by the next run."""


@dataclass
class Progress:
    """What can be seen of a run while it goes on.

    Attributes:
        total: source records, None while not known.
        done: source records that have ended.
        kept: of these, those with at least one row so far.
        rows: rows made by the last row step.
        dropped: reason -> source records that ended without a row.
        failed: cause -> likewise.
        began: time.monotonic() at the start.
    """

    meter: Meter
    total: int | None = None
    done: int = 0
    kept: int = 0
    rows: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    state: str = "starting"
    began: float = field(default_factory=time.monotonic)
    width: Callable[[], int] = lambda: 0

    @property
    def slots(self) -> int:
        """How many requests the models can use at once at present."""
        return self.width()


@dataclass
class Flow:
    """Carries records through the row steps of one stage; `first` tells that no row step has seen them before."""

    store: Store
    steps: Sequence[Bound]
    models: Mapping[str, Model]
    fingerprints: Mapping[str, str]
    progress: Progress
    read: Callable[[str], bytes]
    seed: int = 0
    first: bool = True
    stopped: RunStopped | None = None
    broken: BaseException | None = None
    _active: set[asyncio.Task[None]] = field(default_factory=set)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    def width(self) -> int:
        """Return how many records to work on at once: enough that no slot of any model is ever empty."""
        slots = sum(b.slots for b in self._backends)
        return slots + slots // 4 + 8

    @cached_property
    def _backends(self) -> tuple[Backend, ...]:
        return tuple({id(m.backend): m.backend for m in self.models.values()}.values())

    async def run(self, records: AsyncGenerator[tuple[int, Record], None]) -> None:
        """Carry every record through; returns when all have ended or the run has been stopped.

        Raises:
            FovealError: a set-up error met on the way.
        """
        self.progress.meter.heard = self._heard
        try:
            async with aclosing(records):
                async for seq, record in records:
                    await self._room()
                    if self._ending:
                        break
                    self._start(seq, record)
            while self._active:
                await self._ended.wait()
                self._ended.clear()
        finally:
            left = tuple(self._active)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        if self.broken:
            raise self.broken

    async def _room(self) -> None:
        while len(self._active) >= self.width() and not self._ending:
            self._ended.clear()
            await self._ended.wait()

    def _heard(self) -> None:
        """Let more records in as soon as a reply has widened the limits, long before a record ends."""
        if len(self._active) < self.width():
            self._ended.set()

    def _start(self, seq: int, record: Record) -> None:
        task = asyncio.create_task(self._source(seq, record))
        self._active.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._active.discard(task)
        self._ended.set()
        if not task.cancelled() and (error := task.exception()):
            self.broken = self.broken or error

    @property
    def _ending(self) -> bool:
        return bool(self.stopped or self.broken or self.progress.meter.stop)

    async def _source(self, seq: int, record: Record) -> None:
        try:
            outcome, rows = await self._through(0, seq, record)
        except RunStopped as stop:
            self.stopped = self.progress.meter.stop = self.stopped or stop
            return
        if self.first:
            self._count(outcome, rows)

    def _count(self, outcome: Outcome, rows: int) -> None:
        p = self.progress
        p.done += 1
        p.rows += rows
        if rows or outcome.status == "kept":
            p.kept += 1
        elif outcome.status == "dropped":
            p.dropped[outcome.reason] += 1
        else:
            p.failed[outcome.reason] += 1

    async def _through(self, k: int, seq: int, record: Record) -> tuple[Outcome, int]:
        if k == len(self.steps):
            return Outcome("kept"), 1
        outcome, children = await self._decide(self.steps[k], seq, record)
        if k + 1 == len(self.steps) or not children:
            return outcome, len(children)
        ends = [await self._through(k + 1, n, child) for n, child in enumerate(children)]
        rows = sum(n for _, n in ends)
        return (Outcome("kept") if rows else _worst([end for end, _ in ends])), rows

    async def _decide(self, bound: Bound, seq: int, record: Record) -> tuple[Outcome, Sequence[Record]]:
        known = self.store.decided(bound.label, record.id)
        print_ = self.fingerprints[bound.label]
        if known and known[0] == print_ and known[1].status != "failed" and not known[1].reason.startswith(LOST):
            self.store.write(self.store.again_rows(bound.label, record.id))
            rows = self.store.children(bound.label, record.id)
            return known[1], [to_record(Row(*r), self.store, self.read) for r in rows]
        children, outcome = await self._call(bound, seq, record)
        if made := _made(children):
            await asyncio.to_thread(self.store.keep_images, made)
        again = known is not None
        self.store.write(self.store.outcome_rows(bound.label, record, children, outcome, print_, again))
        await self.store.room()
        return outcome, children

    async def _call(self, bound: Bound, seq: int, record: Record) -> tuple[list[Record], Outcome]:
        new = self.first and bound is self.steps[0] and self.store.nothing_paid
        remembered = {} if new else self.store.recall(record.id)
        now = Recording(self.store, self.progress.meter, record.id, bound.label, seq, remembered)
        noted: list[str] = []
        tokens = recording.set(now), notes.set(noted), scope.set(Scope(bound.label, self.seed))
        children: list[Record] = []
        try:
            await _collect(bound.call(record, self.models), children)
            outcome = Outcome("kept") if children else Outcome("dropped", "nothing made")
        except Dropped as end:
            noted += [end.reason] if children else []
            outcome = Outcome("kept") if children else Outcome("dropped", end.reason)
        except RecordFailed as error:
            outcome = _failed(error, children)
        except (RunStopped, SetupError):
            raise
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            detail = f"{error} ({place.name}, line {place.lineno})"
            outcome = _failed(MethodFailed(f"{type(error).__name__} in {bound.step.name}", detail), children)
        finally:
            recording.reset(tokens[0])
            notes.reset(tokens[1])
            scope.reset(tokens[2])
        return _once_each(children), _with_notes(outcome, noted)


def _made(children: Sequence[Record]) -> list[Image]:
    """Return the pictures that a step made, which lie nowhere yet."""
    return [image for child in children for image in child.images if image.source == MEMORY]


def _worst(ends: Sequence[Outcome]) -> Outcome:
    """Return the end that a record without rows is counted under: a failure before a drop, the first of them."""
    return next((end for end in ends if end.status == "failed"), ends[0])


async def _collect(made: Any, children: list[Record]) -> None:
    if isinstance(made, AsyncIterator):
        async for child in made:
            children.append(_writable(child))  # noqa: PERF401 - what came before a raise is kept
    elif (child := await made) is not None:
        children.append(_writable(child))


def _writable(child: Any) -> Record:
    """Return what a step made; raise what is wrong with it here, where it is the step's failure."""
    if not isinstance(child, Record):
        raise TypeError(f"it made {type(child).__name__}, not a Record")
    orjson.dumps([child.id, dict(child.tags)], default=str)
    return child


def _failed(error: RecordFailed, children: Sequence[Record]) -> Outcome:
    if children:
        return Outcome("kept", f"{LOST}{error.cause}", error.detail, error.raw)
    return Outcome("failed", error.cause, error.detail, error.raw)


def _with_notes(outcome: Outcome, noted: Sequence[str]) -> Outcome:
    if not noted or outcome.detail:
        return outcome
    counted = "; ".join(f"{n} × {reason}" for reason, n in Counter(noted).items())
    return Outcome(outcome.status, outcome.reason, f"some branches ended: {counted}", outcome.raw)


def _once_each(children: Sequence[Record]) -> list[Record]:
    return list({child.id: child for child in children}.values())


# --- where records come from ---------------------------------------------------------------------------------------


async def from_source(
    source: Source, store: Store, label: str, progress: Progress
) -> AsyncGenerator[tuple[int, Record], None]:
    """Yield the source's records with their places, read ahead in a thread; write down what is broken or double."""
    seq = 0
    async for batch in _ahead(iter(source)):
        for given in batch:
            if isinstance(given, Broken):
                _write_broken(store, given, seq, label, progress)
            elif not _claim(store, given, seq):
                _write_double(store, given, seq, label, progress)
            else:
                yield seq, given
            seq += 1


_QUICK = 0.001
"""Seconds an item may take to be read on the event loop."""


async def _ahead(items: Iterator[Record | Broken]) -> AsyncIterator[list[Record | Broken]]:
    """Yield the items in batches, read in a thread while they take their time (networks, disks that spin, big files).

    Quick ones are read between the replies: at every system call a thread would wait for the interpreter and then take
    it from the loop, which costs more than a millisecond's work.
    """
    loop, pace = asyncio.get_running_loop(), 0.0

    def take(count: int) -> list[Record | Broken]:
        nonlocal pace
        began = time.perf_counter()
        batch = list(islice(items, count))
        pace += 0.2 * ((time.perf_counter() - began) / count - pace)
        return batch

    with ThreadPoolExecutor(1, "foveal-source") as pool:
        coming = loop.run_in_executor(pool, take, 8)
        try:
            while batch := await coming:
                while batch and pace < _QUICK:
                    yield batch
                    batch = take(8)
                coming = loop.run_in_executor(pool, take, 32)
                yield batch
        finally:
            with suppress(BaseException):
                await coming


def _claim(store: Store, record: Record, seq: int) -> bool:
    short = int(record.id[:16], 16)  # 64 bits: a million ids cost megabytes, and a clash is out of reach
    if short in store.claimed:
        return False
    store.claimed.add(short)
    store.write(store.source_rows(record, seq))
    return True


def _write_broken(store: Store, broken: Broken, seq: int, label: str, progress: Progress) -> None:
    record = Record(tags={"source": broken.source}, parent="broken:" + broken.source)
    outcome = Outcome("failed", broken.error.cause, broken.error.detail or broken.source)
    store.write([*store.source_rows(record, seq), store.unit_row(label, record.id, outcome, "")])
    progress.done += 1
    progress.failed[outcome.reason] += 1


def _write_double(store: Store, record: Record, seq: int, label: str, progress: Progress) -> None:
    reason = "the same picture again" if record.body is None else "the same record again"
    double = Record(
        record.images,
        record.body,
        record.tags,
        parent=f"double:{digest(record.id, str(record.tags.get('source')), str(seq))}",
    )
    store.write([*store.source_rows(double, seq), store.unit_row(label, double.id, Outcome("dropped", reason), "")])
    progress.done += 1
    progress.dropped[reason] += 1
