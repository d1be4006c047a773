"""Pictures and conversations from wherever they lie, as records, lazily and in a stable order."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeAlias

from foveal import picture
from foveal.data import arrow, rows, runs, shapes, wds
from foveal.data.places import expand, filesystem, has_glob, inside, is_url, missing, place, read_file, walk
from foveal.data.reopen import inline
from foveal.errors import ImageError, RecipeError, RecordFailed, SourceError, nearest
from foveal.record import Image, Record

PICTURES = tuple(ending for endings in picture.SUFFIXES.values() for ending in endings)
KINDS = {
    **dict.fromkeys(PICTURES, "pictures"),
    ".parquet": "tables",
    ".arrow": "tables",
    ".json": "rows",
    ".jsonl": "rows",
    ".ndjson": "rows",
    ".tar": "archives",
    ".tgz": "archives",
    ".tar.gz": "archives",
}
FORMATS = {
    "pictures": "pictures", "parquet": "tables", "arrow": "tables", "hf": "tables", "jsonl": "rows", "json": "rows",
    "webdataset": "archives", "llava": "rows", "sharegpt": "rows", "ms-swift": "rows", "trl": "", "openai": "rows",
}  # fmt: skip
"""What `format=` may say, and the kind of file it means ("" for either kind)."""


@dataclass(frozen=True, slots=True)
class Broken:
    """An item that could not become a record.

    Attributes:
        source: where it is, for people.
        error: why.
    """

    source: str
    error: RecordFailed


Items: TypeAlias = Iterator[Record | Broken]


@dataclass(frozen=True)
class Source:
    """Records from one place; iterating twice gives the same ones in the same order.

    Attributes:
        kind: pictures, tables, rows or archives.
        where: what the user named.
        left_out: files that were not read, by reason.
        limit: the most items to give.
    """

    kind: str
    where: str
    items: Callable[[], Items]
    counted: Callable[[], int | None]
    left_out: Counter[str]
    limit: int | None = None

    def __iter__(self) -> Items:
        return islice(self.items(), self.limit)

    def count(self) -> int | None:
        """Return how many items there are, None when only reading them all would tell."""
        total = self.counted()
        return total if total is None or self.limit is None else min(total, self.limit)

    def describe(self) -> str:
        """Say in one line what this is and what was left out."""
        total = self.count()
        head = f"{self.where}: {'' if total is None else f'{total} '}{_ITEMS[self.kind]}"
        left = ", ".join(f"{number} {why}" for why, number in sorted(self.left_out.items()))
        return f"{head}; left out: {left}" if left else head


_ITEMS = {"pictures": "pictures", "tables": "rows of tables", "rows": "rows", "archives": "samples of archives"}


def open_source(
    spec: str | Path | Sequence[str | Path],
    *,
    limit: int | None = None,
    format: str | None = None,
    column: str | None = None,
    root: str | Path | None = None,
) -> Source:
    """Open pictures or conversations for reading.

    Args:
        spec: a folder, file, glob, URL that fsspec opens, the folder of a finished run, or a list of these.
        limit: the most items to give.
        format: one of FORMATS; by default found by looking.
        column: the column of a table that holds the pictures; by default found by type or name.
        root: the folder that image paths in data files are relative to and may not leave; by default the file's own.

    Raises:
        SourceError: nothing there, nothing readable there, or more than one reading of it.
        RecipeError: no such format.
    """
    if format is not None and format not in FORMATS:
        raise RecipeError(f"no source format {format!r}{nearest(format, FORMATS)}")
    how = _How(format, column, str(root) if root is not None else None)
    if not isinstance(spec, str | Path) and any(_is_folder(str(s)) for s in spec):
        parts = [open_source(s, format=format, column=column, root=root) for s in spec]
        return replace(_of_parts(parts), limit=limit)
    if not isinstance(spec, str | Path):
        return replace(_of_files([str(s) for s in spec], f"{len(spec)} files", how), limit=limit)
    where = str(spec)
    if not _exists(where):
        if not has_glob(where):
            raise missing(where)
        found = expand(where)
        if not found:
            raise SourceError(f"nothing matches {where}")
        return replace(_of_files(found, where, how), limit=limit)
    if format is None and not is_url(where) and runs.is_run(where):
        return replace(_of_run(where), limit=limit)
    source = _of_folder(where, how) if _is_folder(where) else _of_files([where], where, how)
    return replace(source, limit=limit)


def _of_parts(parts: Sequence[Source]) -> Source:
    """Return several sources as one, one after the other."""
    kinds = {part.kind for part in parts}
    kind = kinds.pop() if len(kinds) == 1 else "rows"
    left = sum((part.left_out for part in parts), Counter[str]())
    where = ", ".join(part.where for part in parts)
    return Source(kind, where, lambda: chain.from_iterable(parts), lambda: _sum(p.count() for p in parts), left)


@dataclass(frozen=True, slots=True)
class _How:
    format: str | None
    column: str | None
    root: str | None

    def shape(self) -> str | None:
        """Return the named row format, None when it is to be found by looking."""
        return self.format if self.format in shapes.SHAPES else None


def _exists(where: str) -> bool:
    if is_url(where):
        fs, inner = filesystem(where)
        return bool(fs.exists(inner))
    return Path(where).exists()


def _is_folder(where: str) -> bool:
    if is_url(where):
        fs, inner = filesystem(where)
        return bool(fs.isdir(inner))
    return Path(where).is_dir()


def _of_run(where: str) -> Source:
    def items() -> Items:
        for named, found in runs.records(where):
            yield found if isinstance(found, Record) else Broken(named, found)

    return Source("rows", where, items, lambda: runs.count(where), Counter())


def _kind(path: str) -> str:
    lower = path.lower()
    if lower.endswith(".tar.gz"):
        return "archives"
    name = lower.rsplit("/", 1)[-1]
    if name.startswith("cache-") and name.endswith(".arrow"):  # what datasets.map left behind
        return ""
    return KINDS.get(os.path.splitext(lower)[1], "")  # noqa: PTH122 - a million times


_NOT_ROWS = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}


def _of_folder(where: str, how: _How) -> Source:
    found: Counter[str] = Counter()
    other: Counter[str] = Counter()
    try:
        for path in walk(where):
            kind = _kind(path)
            found[kind] += 1
            if not kind:
                other[f"{os.path.splitext(path)[1] or 'no ending'} file"] += 1  # noqa: PTH122
    except OSError as error:
        raise SourceError(f"{where} cannot be read: {error.strerror or error}") from error
    kind = FORMATS.get(how.format or "", "") or _choose(where, found)
    if not found[kind]:
        holds = ", ".join(f"{n} {k}" for k, n in found.items() if k) or (
            f"{found['']} other files" if found else "nothing"
        )
        raise SourceError(f"{where} holds no {kind} ({holds}); readable: {', '.join(KINDS)}")
    for extra, number in found.items():
        if extra and extra != kind:
            other[extra if extra != "rows" else ".json and .jsonl files"] += number

    def files() -> Iterator[str]:
        return (p for p in walk(where) if _kind(p) == kind and (kind != "rows" or Path(p).name not in _NOT_ROWS))

    return _source(kind, where, files, found[kind], other, how)


def _choose(where: str, found: Counter[str]) -> str:
    """Return the kind of file a folder is about; rows beside pictures are taken for their captions and left out."""
    kinds = [k for k in ("pictures", "tables", "archives") if found[k]] or ["rows" if found["rows"] else ""]
    if len(kinds) > 1:
        holds = " and ".join(f"{found[k]} {k}" for k in kinds)
        names = {"pictures": "pictures", "tables": "parquet", "archives": "webdataset"}
        says = " or ".join(f"format={names[k]!r}" for k in kinds)
        raise SourceError(f"{where} holds {holds}: say {says}")
    if not kinds[0]:
        what = f"no pictures ({found['']} other files)" if found else "nothing"
        raise SourceError(f"{where} holds {what}; readable: {', '.join(KINDS)}")
    return kinds[0]


def _of_files(files: Sequence[str], where: str, how: _How) -> Source:
    if not files:
        raise SourceError("an empty list of files")
    kinds = {_kind(f) or ("pictures" if len(files) == 1 else "") for f in files}
    kind = FORMATS.get(how.format or "", "") or (kinds.pop() if len(kinds) == 1 else "")
    if not kind:
        kinds.discard("")
        if len(kinds) != 1:
            raise SourceError(f"{where}: files of several kinds ({', '.join(sorted(kinds))}); say format=")
        kind = kinds.pop()
    if len(files) == 1 and not _exists(files[0]):
        raise missing(files[0])
    chosen = [f for f in files if _kind(f) == kind] if len(files) > 1 else list(files)
    left = Counter({"other files": len(files) - len(chosen)} if len(chosen) < len(files) else {})
    return _source(kind, where, lambda: iter(chosen), len(chosen), left, how)


def _source(
    kind: str, where: str, files: Callable[[], Iterator[str]], number: int, left: Counter[str], how: _How
) -> Source:
    base = _base(where) if _is_folder(where) else ""
    if kind == "pictures":
        return Source(kind, where, lambda: _pictures(files(), base), lambda: number, left)
    if kind == "archives":
        return Source(kind, where, lambda: _archives(files(), base), lambda: None, left)
    read, counted = (_table_rows, _table_count) if kind == "tables" else (_json_rows, _json_count)
    for first in files():
        _Reading(first, first, _first(first, read(first)), how)  # a set-up error is told before anything is paid
    return Source(kind, where, lambda: _rows(files(), base, read, how), lambda: _sum(map(counted, files())), left)


def _sum(numbers: Iterator[int | None]) -> int | None:
    found = list(numbers)
    return None if None in found else sum(n for n in found if n is not None)


# --- pictures ------------------------------------------------------------------------------------------------------


def _base(where: str) -> str:
    """Return a folder as `walk` spells it at the head of its files."""
    if not is_url(where):
        return where
    fs, inner = filesystem(where)
    return str(fs.unstrip_protocol(inner))


def _short(path: str, base: str) -> str:
    return path.removeprefix(base).lstrip("/") if base else path.rsplit("/", 1)[-1]


def _absolute(path: str) -> str:
    return path if is_url(path) else os.path.abspath(path)  # noqa: PTH100 - a million times


def _pictures(files: Iterator[str], base: str) -> Items:
    for path in files:
        name = os.fsencode(_short(path, base)).decode(errors="replace")
        try:
            data = read_file(path)
            picture.inspect(data)
            yield Record((Image.of(data, place(_absolute(path))),), None, {"source": name})
        except RecordFailed as error:
            yield Broken(name, error)


# --- rows ----------------------------------------------------------------------------------------------------------

Rows: TypeAlias = Iterator["dict[str, Any] | RecordFailed"]


def _table_rows(path: str) -> Rows:
    return arrow.rows(path)


def _table_count(path: str) -> int | None:
    return arrow.count(path) if path.endswith(".parquet") else None


def _json_rows(path: str) -> Rows:
    return rows.rows(path)


def _json_count(path: str) -> int | None:
    return None


def _first(path: str, found: Rows) -> dict[str, Any]:
    """Return a file's first good row.

    Raises:
        SourceError: there is none among its first hundred.
    """
    first = next((row for row in islice(found, 100) if isinstance(row, dict)), None)
    if first is None:
        raise SourceError(f"{path} has no rows that can be read")
    return first


def _shape(path: str, first: dict[str, Any], how: _How, pictures: bool) -> str:
    """Return the format of a file by its first row.

    Raises:
        SourceError: it has none, or another than the user named.
    """
    seen = shapes.detect(first)
    if seen in (None, "pictures"):
        seen = "pictures" if pictures or seen else None
    keys, wanted = ", ".join(first), how.shape() or seen
    if wanted is None:
        raise SourceError(f"{path}: rows with {keys} are of no known form; readable: {shapes.FORMS}")
    if how.shape() and seen and wanted != seen and {wanted, seen} not in _ALIKE:
        raise SourceError(f"{path}: rows with {keys} look like {seen}, not {wanted}")
    return wanted


_ALIKE = ({"llava", "sharegpt"}, {"ms-swift", "trl"}, {"ms-swift", "openai"}, {"trl", "openai"})


def _image_columns(path: str, first: dict[str, Any], how: _How) -> list[str]:
    if how.column is not None:
        if how.column not in first:
            raise SourceError(f"{path} has no column {how.column!r}{nearest(how.column, first)}")
        return [how.column]
    if _kind(path) == "tables":
        found = arrow.image_columns(path)
        return found or [k for k, v in first.items() if isinstance(v, bytes) and _looks(v)]
    return []


def _looks(data: bytes) -> bool:
    try:
        picture.inspect(data)
    except ImageError:
        return False
    return True


def _rows(files: Iterator[str], base: str, read: Callable[[str], Rows], how: _How) -> Items:
    for path in files:
        name, number = _short(path, base), -1
        reading = _Reading(path, name, _first(path, read(path)), how)
        try:
            for number, row in enumerate(read(path)):
                yield reading.item(number, row)
        except SourceError as error:  # the rows before the damage stand, and a run may be hours into them
            yield Broken(f"{name} row {number + 2}", RecordFailed("file is damaged", str(error)))


class _Reading:
    """One file of rows being read.

    Raises:
        SourceError: as `_first`.
    """

    def __init__(self, path: str, name: str, first: dict[str, Any], how: _How) -> None:
        self.path, self.name = _absolute(path), name
        self.root = how.root or (path.rsplit("/", 1)[0] if is_url(path) else str(Path(path).absolute().parent))
        self.columns = _image_columns(path, first, how)
        self.shape = _shape(path, first, how, bool(self.columns))

    def item(self, number: int, row: dict[str, Any] | RecordFailed) -> Record | Broken:
        where = f"{self.name} row {number + 1}"
        if isinstance(row, RecordFailed):
            return Broken(where, row)
        try:
            return self._record(number, row, where)
        except RecordFailed as error:
            return Broken(where, error)

    def _record(self, number: int, row: dict[str, Any], where: str) -> Record:
        found = list(shapes.cells(row, self.columns))
        rejected = sum(c.column == "rejected_images" for c in found)
        parsed = shapes.parse(row, self.shape, len(found) - rejected, rejected)
        images = tuple(self._image(number, cell) for cell in found)
        if not images and parsed.body is None:
            raise RecordFailed("row without a picture", f"it has {', '.join(row)}")
        used = parsed.used | {c.column for c in found} | set(self.columns) | set(shapes.IMAGE_KEYS[:3])
        return Record(images, parsed.body, {**shapes.tags(row, used), "source": where})

    def _image(self, number: int, cell: shapes.Cell) -> Image:
        data = inline(cell)
        if data is not None:
            index = () if cell.index is None else (cell.index,)
            source = place(self.path, number, cell.column, *index)
        else:
            value = cell.value.get("path") or cell.value.get("url") if isinstance(cell.value, dict) else cell.value
            path = inside(self.root, str(value))
            data, source = read_file(path), place(path)
        picture.inspect(data)
        return Image.of(data, source)


# --- archives ------------------------------------------------------------------------------------------------------


def _archives(files: Iterator[str], base: str) -> Items:
    for path in files:
        name = _short(path, base)
        for key, sample in wds.samples(path):
            where = f"{name} {key}"
            try:
                yield wds.record(_absolute(path), sample, where)
            except RecordFailed as error:
                yield Broken(where, error)
