"""The run folder: what is written into it and read back (docs/run-folder.md)."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from foveal import __version__
from foveal.data import ExportReport, export, read
from foveal.errors import DiskFull, StoreError
from foveal.models.connect import ModelSpec
from foveal.models.wire import Backend
from foveal.recipe import Bound, Plan, Recipe
from foveal.record import Image, Record, body_from_json
from foveal.runner.rows import as_json, survivors
from foveal.store import Meter, Store


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


def write(path: Path, chunks: Iterator[bytes] | Sequence[bytes]) -> None:
    """Write a file whole or not at all.

    Raises:
        DiskFull: it cannot be written.
    """
    partial = path.with_name(path.name + ".part")
    try:
        with partial.open("wb") as out:
            out.writelines(chunks)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DiskFull(f"cannot write {path}: {error.strerror}; make room, then run the same command again") from error


def write_rows(folder: Path, store: Store, steps: Sequence[Bound], mark: Mapping[str, Any] | None = None) -> int:
    """Write `rows.jsonl` of what is left after the steps, `mark` among the tags of each; returns how many rows.

    Raises:
        DiskFull: it cannot be written.
    """
    count = 0

    def lines() -> Iterator[bytes]:
        nonlocal count
        for row in survivors(store, steps):
            count += 1
            told = as_json(row, store)
            told["tags"] |= mark or {}
            yield orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)

    write(folder / "rows.jsonl", lines())
    return count


def describe(plan: Plan, models: Mapping[str, str], calls: Path | None) -> dict[str, Any]:
    """Return what `run.json` holds: recipe, steps with knobs and prompts, who answers, versions."""
    steps = [
        {"name": b.label, "step": b.step.name, "kind": b.step.kind, "roles": list(b.step.roles), "knobs": dict(b.knobs),
         "paper": b.step.paper, "makes": b.step.makes, "prompts": b.step.prompts.digests() if b.step.prompts else {}}
        for b in plan.steps
    ]  # fmt: skip
    recipe = plan.recipe
    about = {"name": recipe.name, "source": recipe.source, "limit": recipe.limit, "seed": recipe.seed}
    packages = {p: _version(p) for p in ("aiohttp", "pillow", "pydantic", "onnxruntime", "transformers")}
    versions = {"foveal": __version__, "python": platform.python_version(), **{k: v for k, v in packages.items() if v}}
    shared = {"calls": str(calls.resolve())} if calls else {}
    return {**about, "steps": steps, "models": dict(models), "versions": versions, **shared}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def check_folder(folder: Path, recipe: Recipe) -> None:
    """Refuse a folder that holds something else.

    Raises:
        StoreError: other files, or a run of another recipe.
    """
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


def as_run(plan: Plan) -> bytes:
    """Return the recipe as run, as YAML."""
    specs = {r: _spec_as_run(s) for r, s in plan.specs.items()}
    data = plan.recipe.model_dump(exclude_defaults=True, exclude={"models"}) | {"models": specs}
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True).encode()


def _spec_as_run(spec: str | ModelSpec | Backend) -> Any:
    if isinstance(spec, str):
        return spec
    return spec.model_dump(exclude_defaults=True) if isinstance(spec, ModelSpec) else spec.identity


def meter_json(meter: Meter) -> dict[str, Any]:
    """Return what a run paid, as the store and `show --json` hold it."""
    by = [{"step": step, "role": role, **asdict(tally)} for (step, role), tally in meter.by.items()]
    return {**asdict(meter.total), "by": by}
