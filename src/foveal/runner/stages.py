"""A run under way: its open models, and the stages it goes through, row steps and table steps in turn."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson

from foveal.data import Source, read
from foveal.errors import ImageError
from foveal.models.connect import connect, spec_of
from foveal.models.model import Model
from foveal.models.prices import price_of
from foveal.models.wire import Backend
from foveal.picture import dhash, dhash_crops, dhash_flip, inspect
from foveal.recipe import Bound, Plan
from foveal.record import Record, body_from_json, digest
from foveal.runner.flow import Flow, Progress, from_source
from foveal.runner.folder import blobs_of
from foveal.runner.rows import Row, survivors, to_record
from foveal.steps.table import Table
from foveal.store import Meter, Outcome, Store


@dataclass
class Session:
    """One run under way: everything it holds open, so that it is closed whatever happens."""

    plan: Plan
    source: Source
    folder: Path
    store: Store
    progress: Progress
    calls: Path | None = None
    models: dict[str, Model] = field(default_factory=dict)

    @property
    def meter(self) -> Meter:
        """The run's meter."""
        return self.progress.meter

    def read(self, source: str) -> bytes:
        """Read a picture again by its source."""
        return read(source, blobs_of(self.folder))

    async def open_models(self) -> None:
        """Connect and check every role, the same backend once.

        Raises:
            ModelSetupError: one is not there or cannot do what its role needs.
        """
        backends: dict[str, Backend] = {}
        for role, given in self.plan.specs.items():
            if isinstance(given, Backend):
                backends[str(id(given))] = given
                self.models[role] = Model(given, role)
                continue
            spec = spec_of(given)
            key = spec.model_dump_json()
            if key not in backends:
                backends[key] = connect(spec)
            self.models[role] = Model(backends[key], role, spec.sampling)
        hooking = {id(self.models[r].backend) for r in self.plan.specs if self.plan.hooks(r)}
        for backend in backends.values():
            await backend.open(hooking=id(backend) in hooking)
        for role, given in self.plan.specs.items():
            model, own = self.models[role], None if isinstance(given, Backend) else spec_of(given).price
            model.price = price_of(model.backend.identity, own)

    async def close_models(self) -> None:
        """Let go of every backend."""
        for backend in {id(m.backend): m.backend for m in self.models.values()}.values():
            await backend.close()

    @property
    def identities(self) -> dict[str, str]:
        """Who answers, by role."""
        return {role: model.backend.identity for role, model in self.models.items()}

    @property
    def mark(self) -> dict[str, str]:
        """What every row is tagged with: which roles the truth has played, for such rows are no model's work."""
        roles = [role for role, identity in self.identities.items() if identity.startswith("oracle:")]
        return {"oracle": ", ".join(roles)} if roles else {}

    def fingerprints(self) -> dict[str, str]:
        """Return what each row step's decisions depend on."""
        seed = f"/{self.plan.recipe.seed}" if self.plan.recipe.seed else ""
        return {b.label: b.fingerprint(self.identities) + seed for b in self.plan.steps if b.step.kind == "row"}


async def carry(session: Session) -> None:
    """Carry the source's records through every stage.

    Raises:
        RunStopped: a budget, a signal, servers that are gone, a full disk.
    """
    steps, done = session.plan.steps, 0
    for kind, group in groupby(steps, key=lambda b: b.step.kind):
        stage = tuple(group)
        first = steps[:done]
        if kind == "row":
            await _row_stage(session, first, stage)
        else:
            if not first:
                await _gather_source(session, stage[0].label)
            for n, bound in enumerate(stage):
                dropped = await asyncio.to_thread(_table_step, session, (*first, *stage[:n]), bound)
                if all(b.step.kind == "table" for b in first):  # these are whole source records
                    session.progress.dropped.update(dropped)
                    session.progress.done += dropped.total()
        done += len(stage)
    if all(b.step.kind == "table" for b in steps):
        session.progress.kept = sum(1 for _ in survivors(session.store, steps))
        session.progress.done += session.progress.kept


async def _row_stage(session: Session, before: Sequence[Bound], stage: Sequence[Bound]) -> None:
    flow = Flow(
        session.store,
        stage,
        session.models,
        session.fingerprints(),
        session.progress,
        session.read,
        session.plan.recipe.seed,
        first=all(b.step.kind == "table" for b in before),
    )
    backends = {id(m.backend): m.backend for m in session.models.values()}
    session.progress.width = lambda: sum(b.slots for b in backends.values())
    if before:
        await flow.run(_again(session, before))
    else:
        await flow.run(from_source(session.source, session.store, stage[0].label, session.progress))
    if stopped := flow.stopped or session.meter.stop:
        raise stopped


async def _again(session: Session, before: Sequence[Bound]) -> AsyncGenerator[tuple[int, Record], None]:
    for seq, row in enumerate(survivors(session.store, before)):
        yield seq, to_record(row, session.store, session.read)


async def _gather_source(session: Session, label: str) -> None:
    progress = Progress(session.meter)
    async for _ in from_source(session.source, session.store, label, progress):
        session.progress.total = session.progress.total or session.source.count()
    session.progress.done, session.progress.failed = progress.done, progress.failed
    session.progress.dropped = progress.dropped


def _table_step(session: Session, before: Sequence[Bound], bound: Bound) -> Counter[str]:
    """Run a table step and write down what became of each record; returns how many were dropped, by reason."""
    session.store.flush()
    # With no step before it, what the source could not read or gave twice has ended under this label already.
    ids = tuple(row.id for row in survivors(session.store, before) if not session.store.status(bound.label, row.id))
    seed = int(digest(session.plan.recipe.name, str(session.plan.recipe.seed))[:8], 16)
    table = Table(ids, lambda name, wanted: _column(session, name, wanted), {}, seed)
    after = bound.step.call(table, **bound.knobs)
    print_ = bound.fingerprint({})
    for start in range(0, len(ids), 1000):
        outcomes = ((i, _end(after, i)) for i in ids[start : start + 1000])
        session.store.write([session.store.unit_row(bound.label, i, outcome, print_) for i, outcome in outcomes])
    session.store.flush()
    return Counter(after.dropped.values())


def _end(after: Table, id_: str) -> Outcome:
    reason = after.dropped.get(id_)
    return Outcome("dropped", reason, after.details.get(id_, "")) if reason else Outcome("kept")


def _column(session: Session, name: str, ids: Sequence[str]) -> list[Any]:
    rows = (Row(*session.store.row(i)) for i in ids)
    if name not in OF_PICTURES:
        return [_value(session, name, row) for row in rows]
    known: dict[str, Any] = {}  # many rows may be about one picture, which is opened once
    return [_of_picture(session, name, known, next(iter(orjson.loads(row.images)), "")) for row in rows]


def _value(session: Session, name: str, row: Row) -> Any:
    match name.split(".", 1):
        case ["question"] | ["answer"]:
            return getattr(body_from_json(orjson.loads(row.body)), name, "")
        case ["chosen"] | ["rejected"] | ["rejected_images"]:
            return getattr(body_from_json(orjson.loads(row.body)), name, None)
        case ["picture"]:
            return next(iter(orjson.loads(row.images)), "")
        case ["tags", tag]:
            return orjson.loads(row.tags).get(tag)
    raise KeyError(name)


def _size(data: bytes) -> tuple[int, int]:
    found = inspect(data)
    return found.width, found.height


OF_PICTURES: Mapping[str, Callable[[bytes], Any]] = {
    "dhash": dhash, "dhash.flip": dhash_flip, "dhash.crops": dhash_crops, "size": _size,
}  # fmt: skip
"""Columns that need a row's first picture."""


def _of_picture(session: Session, name: str, known: dict[str, Any], picture: str) -> Any:
    if picture and picture not in known:
        try:
            known[picture] = OF_PICTURES[name](session.read(session.store.image_source(picture)))
        except (ImageError, OSError):
            known[picture] = None  # an unreadable picture fails at its own row step, with its cause
    return known.get(picture)
