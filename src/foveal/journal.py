"""Where a paid call is safe the moment it is known: a file that calls are appended to, until the store has them too.

An append costs a few microseconds and no waiting; a transaction costs a hundred times as much, so the store takes calls
many at a time and later. What a killed process left in its journal goes into the store when the folder is next opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from foveal.errors import DiskFull

SEGMENT = 2**21
"""Bytes after which a new file is begun, so that the old one can go."""


class Journal:
    """Calls appended by one process to files of its own, `calls-<number>.journal`, one JSON array a line."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        self._file = -1
        self._size = 0

    def append(self, row: Sequence[Any]) -> None:
        """Write one row of JSON values; when this returns it survives the process.

        Raises:
            DiskFull: it cannot be written.
        """
        line = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
        try:
            if self._file < 0:
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            written = os.write(self._file, line)
        except OSError as error:
            raise DiskFull(
                f"cannot write {self._path} ({error.strerror}); make room, then run the same command again"
            ) from error
        if written < len(line):  # and the next write would say why; what follows must begin a line
            os.ftruncate(self._file, self._size)
            raise DiskFull(f"cannot write {self._path}: no room is left; make some, then run the same command again")
        self._size += written

    @property
    def full(self) -> bool:
        """Whether it is time to `cut`."""
        return self._size >= SEGMENT

    def cut(self) -> Path | None:
        """End this file and return it, None when nothing was appended; it may go once the store has what it holds."""
        if self._file < 0:
            return None
        os.close(self._file)
        ended, self._file, self._size = self._path, -1, 0
        self._number += 1
        return ended

    @property
    def _path(self) -> Path:
        return self._folder / f"calls-{self._number}.journal"


def left_in(folder: Path) -> list[Path]:
    """Return the journals that a killed process left."""
    return sorted(folder.glob("calls-*.journal"))


def read(path: Path) -> Iterator[list[Any]]:
    """Yield the rows of a journal; a line cut off by a kill, or emptied by a power cut, is left out."""
    with path.open("rb") as lines:
        for line in lines:
            with suppress(orjson.JSONDecodeError):
                yield orjson.loads(line)
