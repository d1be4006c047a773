"""Open a source string again: for the report, an export, a resumed run."""

from __future__ import annotations

import tarfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

from foveal.data import arrow
from foveal.data.places import open_file, place, read_file, split
from foveal.data.rows import rows
from foveal.data.shapes import Cell, cells
from foveal.errors import ImageError, SourceError

OPEN_FILES = 8


def read(source: str, blobs: Callable[[str], bytes] | None = None) -> bytes:
    """Return the bytes that a source string names.

    Args:
        source: the `source` of an Image.
        blobs: returns the bytes of a digest, for `blob:` strings (the run's own image folder).

    Raises:
        ImageError: 'picture unreadable'; names the source.
    """
    if source.startswith("blob:"):
        if blobs is None:
            raise ImageError("picture unreadable", f"{source}: it lies in a run's folder, and none was given")
        return blobs(source.removeprefix("blob:"))
    path, inner = split(source)
    if not inner:
        return read_file(path)
    try:
        if _is_tar(path):
            return _member(path, unquote(inner))
        return _cell(source, path, inner)
    except (OSError, SourceError, tarfile.TarError, KeyError, ValueError, StopIteration) as error:
        raise ImageError("picture unreadable", f"{source}: {error}") from error


def _is_tar(path: str) -> bool:
    return path.endswith((".tar", ".tgz", ".tar.gz"))


def _cell(source: str, path: str, inner: str) -> bytes:
    number, *where = inner.split("/")
    row = _CURSORS.row(path, int(number))
    for cell in cells(row, [unquote(where[0])]) if unquote(where[0]) in row else cells(row):
        if place(path, number, cell.column, *([] if cell.index is None else [cell.index])) == source:
            data = inline(cell)
            if data is not None:
                return data
    raise ValueError("no picture there")


def inline(cell: Cell) -> bytes | None:
    """Return the bytes that a cell holds itself, None when it names a path.

    Raises:
        ImageError: a damaged data URI, or a value that is neither.
    """
    value = cell.value
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path") or value.get("url")
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if not isinstance(value, str):
        raise ImageError("not a picture", f"column {cell.column} holds a {type(value).__name__}")
    if not value.startswith("data:"):
        return None
    try:
        return arrow.data_uri(value)
    except ValueError as error:
        raise ImageError("picture damaged", f"data URI in column {cell.column}: {error}") from error


class _Cursors:
    """Open tables and archives, a few at a time: reading rows in order costs one pass, going back starts again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[str, tuple[int, Iterator[Any], Any]] = OrderedDict()

    def row(self, path: str, number: int) -> dict[str, Any]:
        """Return row `number` (from 0) of a table or JSON file."""
        with self._lock:
            start, stream, held = self._open.pop(path, (0, None, []))
            if stream is None or number < start:
                start, stream, held = 0, _pages(path), []
            while number >= start + len(held):
                start += len(held)
                held = next(stream)
            self._open[path] = (start, stream, held)
            while len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)
            row = held[number - start]
            if not isinstance(row, dict):
                raise ValueError(str(row))
            return row


def _pages(path: str) -> Iterator[Any]:
    if path.endswith((".parquet", ".arrow")):
        for _, batch in arrow.batches(path):
            yield _Page(batch)
    else:
        for row in rows(path):
            yield [row]


class _Page:
    """A batch whose rows become Python values only when asked for."""

    def __init__(self, batch: Any) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    def __getitem__(self, at: int) -> dict[str, Any]:
        return next(arrow.cells(self.batch.slice(at, 1)))


_CURSORS = _Cursors()


def _member(path: str, name: str) -> bytes:
    with open_file(path) as file, tarfile.open(fileobj=file) as archive:
        found = archive.extractfile(name)
        if found is None:
            raise ValueError("no such file in the archive")
        return found.read()
