"""A run on this machine: open the models, carry the records through, write what came of it."""

from __future__ import annotations

import asyncio
import importlib.metadata
import platform
import signal
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import orjson
import yaml

from foveal import __version__
from foveal.data import ExportReport, Source, export, open_source, read
from foveal.errors import DiskFull, ImageError, Interrupted, RecipeError, RunStopped, StoreError
from foveal.models.connect import ModelSpec, connect, spec_of
from foveal.models.model import Model
from foveal.models.prices import price_of
from foveal.models.wire import Backend
from foveal.picture import dhash
from foveal.prompts import overriding
from foveal.recipe import Bound, Plan, Recipe, bind, parse_recipe, read_recipe, recipe_of, with_backends, with_knobs
from foveal.record import Image, Record, body_from_json, digest
from foveal.runner.flow import Flow, Progress, from_source
from foveal.runner.rows import Row, as_json, survivors, to_record
from foveal.steps.table import Table
from foveal.store import Meter, Outcome, Store

T = TypeVar("T")


@dataclass
class Run:
    """What a run came to.

    Attributes:
        folder: the run folder (docs/run-folder.md).
        state: "finished" or "stopped".
        note: why it stopped, "" when it finished.
        rows: rows that survived all steps.
        progress: the counts at the end.
    """

    folder: Path
    state: str
    note: str
    rows: int
    progress: Progress
    exports: list[Exported] = field(default_factory=list)

    def records(self) -> Iterator[Record]:
        """Yield the rows as records, pictures included."""
        return load_rows(self.folder)


def load_rows(folder: Path) -> Iterator[Record]:
    """Yield the rows of a run folder as records.

    Raises:
        StoreError: it has no rows.jsonl.
    """
    path = folder / "rows.jsonl"
    if not path.is_file():
        raise StoreError(f"{folder} is not a run folder with results: it has no rows.jsonl")
    with path.open("rb") as lines:
        for line in lines:
            row = orjson.loads(line)
            images = tuple(Image(i["digest"], i["source"], _reader(i["source"], folder)) for i in row["images"])
            record = Record(images, body_from_json(row["body"]), row["tags"], row["parent"], row["step"])
            record.__dict__["id"] = row["id"]
            yield record


def _reader(source: str, folder: Path) -> Callable[[], bytes]:
    return lambda: read(source, blobs_of(folder))


def blobs_of(folder: Path) -> Callable[[str], bytes]:
    """Return the reader of a run's own image folder."""
    return lambda digest: (folder / "images" / digest[:2] / digest).read_bytes()


# --- setting up ----------------------------------------------------------------------------------------------------


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

    def fingerprints(self) -> dict[str, str]:
        """Return what each row step's decisions depend on."""
        identities = {role: model.backend.identity for role, model in self.models.items()}
        return {b.label: b.fingerprint(identities) for b in self.plan.steps if b.step.kind == "row"}


# --- carrying through ----------------------------------------------------------------------------------------------


async def _carry(session: Session) -> None:
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
        ends = ((i, after.dropped.get(i)) for i in ids[start : start + 1000])
        outcomes = ((i, Outcome("dropped", reason) if reason else Outcome("kept")) for i, reason in ends)
        session.store.write([session.store.unit_row(bound.label, i, outcome, print_) for i, outcome in outcomes])
    session.store.flush()
    return Counter(after.dropped.values())


def _column(session: Session, name: str, ids: Sequence[str]) -> list[Any]:
    return [_value(session, name, Row(*session.store.row(i))) for i in ids]


def _value(session: Session, name: str, row: Row) -> Any:
    match name.split(".", 1):
        case ["question"] | ["answer"]:
            return getattr(body_from_json(orjson.loads(row.body)), name, "")
        case ["picture"]:
            return next(iter(orjson.loads(row.images)), "")
        case ["dhash"]:
            return _dhash(session, row)
        case ["tags", tag]:
            return orjson.loads(row.tags).get(tag)
    raise KeyError(name)


def _dhash(session: Session, row: Row) -> int | None:
    pictures = orjson.loads(row.images)
    try:
        return dhash(session.read(session.store.image_source(pictures[0]))) if pictures else None
    except (ImageError, OSError):
        return None  # an unreadable picture fails at its own row step, with its cause


# --- the run folder ------------------------------------------------------------------------------------------------


def _write(path: Path, chunks: Iterator[bytes] | Sequence[bytes]) -> None:
    partial = path.with_name(path.name + ".part")
    try:
        with partial.open("wb") as out:
            out.writelines(chunks)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DiskFull(f"cannot write {path}: {error.strerror}; make room, then run the same command again") from error


def _write_rows(session: Session) -> int:
    count = 0

    def lines() -> Iterator[bytes]:
        nonlocal count
        for row in survivors(session.store, session.plan.steps):
            count += 1
            yield orjson.dumps(as_json(row, session.store), option=orjson.OPT_APPEND_NEWLINE)

    _write(session.folder / "rows.jsonl", lines())
    return count


def _describe(session: Session) -> dict[str, Any]:
    steps = [
        {"name": b.label, "step": b.step.name, "kind": b.step.kind, "roles": list(b.step.roles), "knobs": dict(b.knobs),
         "paper": b.step.paper, "makes": b.step.makes, "prompts": b.step.prompts.digests() if b.step.prompts else {}}
        for b in session.plan.steps
    ]  # fmt: skip
    models = {role: model.backend.identity for role, model in session.models.items()}
    recipe = session.plan.recipe
    about = {"name": recipe.name, "source": recipe.source, "limit": recipe.limit, "seed": recipe.seed}
    packages = {p: _version(p) for p in ("aiohttp", "pillow", "pydantic", "onnxruntime", "transformers")}
    versions = {"foveal": __version__, "python": platform.python_version(), **{k: v for k, v in packages.items() if v}}
    shared = {"calls": str(session.calls.resolve())} if session.calls else {}
    return {**about, "steps": steps, "models": models, "versions": versions, **shared}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _check_folder(folder: Path, recipe: Recipe) -> None:
    about = folder / "run.json"
    if not about.is_file():
        if folder.is_dir() and any(folder.iterdir()) and not (folder / "store.db").exists():
            raise StoreError(f"{folder} holds other files; name an empty or new folder with -o")
        return
    try:
        name = orjson.loads(about.read_bytes()).get("name")
    except (OSError, ValueError) as error:
        raise StoreError(f"{about} cannot be read: {error}") from error
    if name != recipe.name:
        raise StoreError(
            f"{folder} holds a run of {name!r}, not {recipe.name!r}; "
            f"name another folder with -o (--store {folder} shares its calls)"
        )


# --- running -------------------------------------------------------------------------------------------------------


@contextmanager
def _signals(progress: Progress) -> Iterator[None]:
    """First Ctrl-C or SIGTERM: no new calls, those in flight are awaited and remembered. Second: stop at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def asked() -> None:
        if progress.meter.stop and task:
            task.cancel()
        progress.state = "stopping: waiting for calls in flight (again to stop at once)"
        progress.meter.stop = progress.meter.stop or Interrupted("stopped on request; the same command continues it")

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def run_plan(
    plan: Plan, source: Source, folder: Path, calls: Path | None = None, watch: Callable[[Progress], Any] | None = None
) -> Run:
    """Run a plan.

    Args:
        plan: from `foveal.recipe.bind`.
        source: from `foveal.data.open_source`.
        folder: the run folder, made when it is not there.
        calls: another run folder whose calls are shared.
        watch: given the Progress before the first call; a context manager that shows it, or None.

    Raises:
        SetupError: something does not fit; nothing has been paid.
    """
    _check_folder(folder, plan.recipe)
    store = Store(folder, calls)
    progress = Progress(Meter(plan.budget), total=source.count())
    session = Session(plan, source, folder, store, progress, calls)
    try:
        with overriding(tuple(Path(p) for p in plan.recipe.prompts)):
            _check_prompts(plan)
            await session.open_models()
            about = _describe(session)
            store.begin(orjson.dumps(about, default=str).decode())
            _write(folder / "run.json", [orjson.dumps(about, option=orjson.OPT_INDENT_2, default=str)])
            _write(folder / "recipe.yaml", [_as_run(plan)])
            return await _run(session, watch)
    finally:
        await session.close_models()
        store.close()


def _check_prompts(plan: Plan) -> None:
    for folder in map(Path, plan.recipe.prompts):
        if not folder.is_dir():
            raise RecipeError(f"no folder of prompts at {folder}")
    for bound in plan.steps:
        if bound.step.prompts:
            bound.step.prompts.check()


def _as_run(plan: Plan) -> bytes:
    specs = {r: _spec_as_run(s) for r, s in plan.specs.items()}
    data = plan.recipe.model_dump(exclude_defaults=True, exclude={"models"}) | {"models": specs}
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True).encode()


def _spec_as_run(spec: str | ModelSpec | Backend) -> Any:
    if isinstance(spec, str):
        return spec
    return spec.model_dump(exclude_defaults=True) if isinstance(spec, ModelSpec) else spec.identity


async def _run(session: Session, watch: Callable[[Progress], Any] | None) -> Run:
    progress, state, note = session.progress, "finished", ""
    progress.state, progress.began = "running", time.monotonic()
    session.meter.began = progress.began
    with ExitStack() as stack:
        if watch and (shown := watch(progress)) is not None:
            stack.enter_context(shown)
        stack.enter_context(_signals(progress))
        try:
            await _carry(session)
        except RunStopped as stop:
            state, note = "stopped", str(stop)
        except asyncio.CancelledError:
            if not session.meter.stop:
                raise
            state, note = "stopped", str(session.meter.stop)
        progress.state = state
        rows = await _settle(session, state, note)
    return Run(session.folder, state, note, rows, progress)


async def _settle(session: Session, state: str, note: str) -> int:
    try:
        await asyncio.to_thread(session.store.flush)
        rows = await asyncio.to_thread(_write_rows, session)
        seconds = time.monotonic() - session.progress.began
        session.store.finish(state, note, meter_json(session.meter), seconds)
        await asyncio.to_thread(session.store.flush)
    except DiskFull:
        if state != "stopped":
            raise
        return 0  # the disk is full already; what was paid for is safe and the note says so
    return rows


def meter_json(meter: Meter) -> dict[str, Any]:
    """Return what a run paid, as the store and `show --json` hold it."""
    by = [{"step": step, "role": role, **asdict(tally)} for (step, role), tally in meter.by.items()]
    return {**asdict(meter.total), "by": by}


# --- from Python ---------------------------------------------------------------------------------------------------


def wait(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end from plain code and from a notebook, whose own loop is busy."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _wait_here(work)
    return _wait_in_thread(work)


def _wait_here(work: Coroutine[Any, Any, T], loops: list[asyncio.AbstractEventLoop] | None = None) -> T:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        if loops is not None:
            loops.append(runner.get_loop())
        return runner.run(work)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    with suppress(ImportError):
        import uvloop

        return uvloop.new_event_loop
    return None


def _wait_in_thread(work: Coroutine[Any, Any, T]) -> T:
    loops: list[asyncio.AbstractEventLoop] = []
    with ThreadPoolExecutor(1, "foveal-run") as pool:
        ended = pool.submit(_wait_here, work, loops)
        try:
            return ended.result()
        except KeyboardInterrupt:
            # The cell was interrupted: the run must let go of its store before the next cell.
            for loop in loops:
                loop.call_soon_threadsafe(_cancel_all, loop)
            raise


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()


def plan_of(
    what: str | Path | Mapping[str, Any],
    source: str | Path | Sequence[str] | None = None,
    models: Mapping[str, Any] | None = None,
    knobs: Sequence[str] = (),
    **fields: Any,
) -> tuple[Plan, Source]:
    """Bind a method's name, a recipe file or a recipe as a mapping, with what is given on top of it.

    Args:
        what: a method's name, `file.py:function`, a path to a YAML recipe, or a mapping of a recipe's fields.
        source: see `foveal.data.open_source`.
        models: role -> spec; "model" stands for every role not named.
        knobs: `knob=value` settings.
        **fields: other fields of a recipe (limit, budget, prompts, seed, export), None for those not given.

    Raises:
        SetupError: something does not bind or cannot be opened.
    """
    is_file = not isinstance(what, Mapping) and str(what).endswith((".yaml", ".yml"))
    beside = Path(str(what)).parent if is_file else None
    if isinstance(what, Mapping):
        recipe = parse_recipe(dict(what), "given")
    else:
        recipe = read_recipe(Path(what)) if is_file else recipe_of(str(what))
    given = {k: v for k, v in fields.items() if v is not None}
    if source is not None:
        given["source"] = [str(s) for s in source] if isinstance(source, list | tuple) else str(source)
    named = {role: spec for role, spec in (models or {}).items() if not isinstance(spec, Backend)}
    data = recipe.model_dump() | given | {"models": {**recipe.models, **named}}
    recipe = with_knobs(parse_recipe(data, recipe.name), knobs, beside)
    plan = with_backends(bind(recipe, beside), {r: b for r, b in (models or {}).items() if isinstance(b, Backend)})
    if recipe.source is None:
        raise RecipeError(
            f"{recipe.name} has no source: say which pictures, for example `foveal run {recipe.name} photos/`"
        )
    return plan, open_source(recipe.source, limit=recipe.limit)


def run(
    what: str | Path | Mapping[str, Any],
    source: str | Path | Sequence[str] | None = None,
    *,
    model: Any = None,
    models: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    store: str | Path | None = None,
    watch: Callable[[Progress], Any] | None = None,
    knobs: Sequence[str] = (),
    **settings: Any,
) -> Run:
    """Run a method or recipe on a source; the same as `foveal run`.

    Example:
        run = foveal.run("oasis", "photos/", model="http://localhost:8000/v1", out="out", clarity=4)
        questions = [record.body.question for record in run.records()]

    Args:
        what: a method's name, a recipe file, or a recipe as a mapping.
        source: a folder or glob of pictures, a parquet or JSONL file, ...
        model: who plays every role: "small", a URL, "hf:...", a Backend spec as a mapping.
        models: role -> who plays it.
        out: the run folder (default "out").
        store: another run folder whose calls are shared.
        watch: shows progress.
        knobs: `knob=value` or `step.knob=value` settings.
        **settings: knobs by name; or limit, budget, prompts, seed, export of the recipe.

    Raises:
        SetupError: something does not fit; nothing has been paid.
    """
    fields = {k: settings.pop(k) for k in tuple(settings) if k in Recipe.model_fields}
    given = {**({"model": model} if model is not None else {}), **(models or {})}
    written = [*knobs, *(f"{k}={v if isinstance(v, str) else orjson.dumps(v).decode()}" for k, v in settings.items())]
    plan, opened = plan_of(what, source, given, written, **fields)
    folder = Path(out or plan.recipe.out or "out")
    finished = wait(run_plan(plan, opened, folder, Path(store) if store else None, watch))
    for name in plan.recipe.export:
        finished.exports.append(export_run(folder, name))
    return finished


@dataclass(frozen=True)
class Exported:
    """One export of a run: its format's name, its folder, and what was written."""

    name: str
    out: Path
    report: ExportReport


def export_run(folder: Path, name: str, out: Path | None = None) -> Exported:
    """Write a run's rows in another format, by default under `export/<name>` of the run folder.

    Raises:
        RecipeError: no such format; the nearest is named.
        StoreError: the folder holds no run.
    """
    about = orjson.loads((folder / "run.json").read_bytes()) if (folder / "run.json").is_file() else {}
    target = out or folder / "export" / name
    report = export(load_rows(folder), name, target, title=about.get("name", "foveal"), card=about)
    return Exported(name, target, report)
