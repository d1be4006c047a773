"""An export's folder: pictures written once, files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import orjson

from foveal import picture
from foveal.data import arrow
from foveal.errors import SetupError
from foveal.record import Image, digest

SHARD = 400 << 20
"""Bytes of pictures after which a table or archive starts its next file."""


class Folder:
    """Where an export goes. Files are written beside their final place and renamed when all are whole.

    Attributes:
        root: the folder.
        rows: rows written.
        skipped: records that the format could not hold, by reason.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rows = 0
        self.skipped: Counter[str] = Counter()
        self._pending: dict[str, Path] = {}
        self._written: dict[str, str] = {}
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> Self:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SetupError(f"cannot write to {self.root}: {error.strerror or error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()
        for temporary in self._pending.values():
            temporary.unlink(missing_ok=True)

    def open(self, name: str) -> IO[bytes]:
        """Open a new file of the export for writing; it takes its name at `finish`."""
        return self._closing.enter_context(self.temporary(name).open("wb"))

    def temporary(self, name: str) -> Path:
        """Return where a file of the export is to be written until `finish`."""
        final = self.root / name
        final.parent.mkdir(parents=True, exist_ok=True)
        self._pending[name] = final.with_name(f".{final.name}.{os.getpid()}.part")
        return self._pending[name]

    def rename(self, name: str, better: str) -> None:
        """Change the name that a pending file will take."""
        self._pending[better] = self._pending.pop(name)

    def finish(self, owned: tuple[str, ...] = ()) -> tuple[Path, ...]:
        """Give every file its name; remove what an earlier export of this format left under other names.

        Args:
            owned: glob patterns of the format's files.

        Returns:
            The files, sorted.
        """
        self._closing.close()
        stale = {found for pattern in owned for found in self.root.glob(pattern)}
        files = []
        for name, temporary in self._pending.items():
            temporary.replace(self.root / name)
            files.append(self.root / name)
        self._pending.clear()
        for found in stale - set(files):
            found.unlink()
        return tuple(sorted(files))

    def image(self, image: Image) -> str:
        """Write a picture under images/ unless it is there, and return its path relative to the folder.

        What a trainer's plain reader would see differently than the models did (EXIF-turned, 16-bit, transparent) is
        encoded anew, so the name is the digest of what is written.

        Raises:
            ImageError: the picture cannot be used.
        """
        known = self._written.get(image.digest)
        if known is not None:
            return known
        mime, data = portable(image.data())
        name = digest(data) if data is not image.data() else image.digest
        path = f"images/{name[:2]}/{name}{picture.suffix(mime)}"
        final = self.root / path
        if not final.exists():
            final.parent.mkdir(parents=True, exist_ok=True)
            temporary = final.with_name(f".{final.name}.{os.getpid()}.part")
            temporary.write_bytes(data)
            temporary.replace(final)
        if len(self._written) < 10_000:  # a convenience for neighbouring rows, not a register of all pictures
            self._written[image.digest] = path
        return path


def portable(data: bytes) -> tuple[str, bytes]:
    """Return (media type, bytes) that a trainer's plain `Image.open(...).convert("RGB")` reads as the models saw it."""
    return picture.encode(data, keep=("jpeg", "png", "webp"))


class Lines:
    """JSON rows: one a line, or as one array. The file comes to be with its first row."""

    def __init__(self, folder: Folder, name: str, array: bool = False) -> None:
        self.folder, self.name, self.array = folder, name, array
        self.file: IO[bytes] | None = None

    def add(self, row: Mapping[str, Any]) -> None:
        """Write a row."""
        text = orjson.dumps(row, option=orjson.OPT_NON_STR_KEYS)
        if self.file is None:
            self.file = self.folder.open(self.name)
            self.file.write(b"[\n" if self.array else b"")
        elif self.array:
            self.file.write(b",\n")
        self.file.write(text if self.array else text + b"\n")

    def close(self) -> None:
        """End the file."""
        if self.file is not None and self.array:
            self.file.write(b"\n]\n")


class Table:
    """Rows of a parquet table, in files `name/train-00000-of-00002.parquet`.

    arro3 pulls rows and an export pushes them, hence one writer thread, two batches ahead at most.
    """

    def __init__(self, folder: Folder, name: str, shapes: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
        self.folder, self.name, self.shapes, self.metadata = folder, name, shapes, metadata
        self.parts: list[str] = []
        self.bytes = 0
        self.rows = 0
        self._queue: queue.Queue[Mapping[str, Any] | None] = queue.Queue(2 * arrow.BATCH)
        self._thread: threading.Thread | None = None
        self._error: list[BaseException] = []

    def add(self, row: Mapping[str, Any], size: int) -> None:
        """Write a row.

        Args:
            row: a value for each column.
            size: its bytes, about.
        """
        if self._thread is None:
            self._start()
        self._put(row)
        self.rows += 1
        self.bytes += size
        if self.bytes >= SHARD:
            self._end()

    def close(self) -> None:
        """End the last file and number them all."""
        self._end()
        for number, part in enumerate(self.parts):
            self.folder.rename(part, f"{self.name}/train-{number:05}-of-{len(self.parts):05}.parquet")

    def _start(self) -> None:
        part = f"{self.name}/{len(self.parts)}.parquet"
        self.parts.append(part)
        path = self.folder.temporary(part)
        self._thread = threading.Thread(target=self._write, args=(path,), daemon=True)
        self._thread.start()

    def _write(self, path: Path) -> None:
        try:
            arrow.write(path, iter(self._queue.get, None), self.shapes, self.metadata)
        except BaseException as error:
            self._error.append(error)

    def _put(self, row: Mapping[str, Any] | None) -> None:
        while True:
            if self._error:
                raise self._error[0]
            try:
                return self._queue.put(row, timeout=1)
            except queue.Full:
                continue

    def _end(self) -> None:
        if self._thread is not None:
            self._put(None)
            self._thread.join()
            self._thread, self.bytes = None, 0
            if self._error:
                raise self._error[0]
