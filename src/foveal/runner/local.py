"""A run on this machine: open the models, carry the records through, write what came of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from foveal.data import Source, open_source
from foveal.errors import DiskFull, RecipeError, RunStopped
from foveal.models.wire import Backend
from foveal.prompts import overriding
from foveal.recipe import Plan, Recipe, bind, parse_recipe, read_recipe, recipe_of, with_backends, with_knobs
from foveal.record import Record
from foveal.runner.flow import Progress
from foveal.runner.folder import (
    Exported,
    as_run,
    check_folder,
    describe,
    export_run,
    load_rows,
    meter_json,
    write,
    write_rows,
)
from foveal.runner.stages import Session, carry
from foveal.runner.waiting import signals, wait
from foveal.store import Meter, Store


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
    check_folder(folder, plan.recipe)
    store = Store(folder, calls)
    progress = Progress(Meter(plan.budget), total=source.count())
    session = Session(plan, source, folder, store, progress, calls)
    try:
        with overriding(tuple(Path(p) for p in plan.recipe.prompts)):
            _check_prompts(plan)
            await session.open_models()
            about = describe(plan, session.identities, calls)
            store.begin(orjson.dumps(about, default=str).decode())
            await asyncio.to_thread(store.flush)  # a disk that is full is told before anything is paid
            write(folder / "run.json", [orjson.dumps(about, option=orjson.OPT_INDENT_2, default=str)])
            write(folder / "recipe.yaml", [as_run(plan)])
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


async def _run(session: Session, watch: Callable[[Progress], Any] | None) -> Run:
    progress, state, note = session.progress, "finished", ""
    progress.state, progress.began = "running", time.monotonic()
    session.meter.began = progress.began
    with ExitStack() as stack:
        if watch and (shown := watch(progress)) is not None:
            stack.enter_context(shown)
        stack.enter_context(signals(progress))
        try:
            await carry(session)
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
        rows = await asyncio.to_thread(write_rows, session.folder, session.store, session.plan.steps, session.mark)
        seconds = time.monotonic() - session.progress.began
        session.store.finish(state, note, meter_json(session.meter), seconds)
        await asyncio.to_thread(session.store.flush)
    except DiskFull:
        if state != "stopped":
            raise
        return 0  # the disk is full already; what was paid for is safe and the note says so
    return rows


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
