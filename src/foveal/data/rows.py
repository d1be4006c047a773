"""JSON and JSONL files row by row: one line at a time, or one element of an array at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, Any

import orjson

from foveal.data.places import open_file
from foveal.errors import RecordFailed, SourceError

_CHUNK = 1 << 20
_SPACE = " \t\r\n"


def rows(path: str) -> Iterator[dict[str, Any] | RecordFailed]:
    """Yield a file's rows in order; a row that cannot be read is yielded as the failure it is.

    Raises:
        SourceError: the file cannot be opened.
    """
    try:
        with open_file(path) as file:
            head = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
            file.seek(0)
            found = _array(file, path) if head.startswith(b"[") else _lines(file, path)
            for number, row in enumerate(found, 1):
                if isinstance(row, dict | RecordFailed):
                    yield row
                else:
                    yield RecordFailed("row is not an object", f"{path}, row {number}: a {type(row).__name__}")
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error


def _lines(file: IO[bytes], path: str) -> Iterator[Any]:
    for number, line in enumerate(file, 1):
        text = line.removeprefix(b"\xef\xbb\xbf").strip()
        if text:
            try:
                yield orjson.loads(text)
            except orjson.JSONDecodeError as error:
                yield RecordFailed("line is not JSON", f"{path}, line {number}: {error}")


def _array(file: IO[bytes], path: str) -> Iterator[Any]:
    """Yield an array's elements. After a damaged one the rest cannot be told apart, so the array ends there."""
    decoder, text, number, at = json.JSONDecoder(), _Text(file), 0, 0
    text.more()
    at = text.data.index("[") + 1
    while True:
        at = text.skip(at, _SPACE + ",")
        if text.data[at : at + 1] == "]":
            return
        try:
            value, at = decoder.raw_decode(text.data, at)
        except ValueError as error:
            if text.more():
                continue
            yield RecordFailed("array is damaged", f"{path}, row {number + 1}: {error}; the rows after it are lost")
            return
        number += 1
        yield value
        text.data, at = text.data[at:], 0


class _Text:
    """A window on a text file that grows; each growth doubles it, so that a long element costs linear time."""

    def __init__(self, file: IO[bytes]) -> None:
        import codecs

        self.file, self.data = file, ""
        self.decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")

    def more(self) -> bool:
        read = self.file.read(max(_CHUNK, len(self.data)))
        self.data += self.decoder.decode(read, final=not read)
        return bool(read)

    def skip(self, at: int, chars: str) -> int:
        while True:
            while at < len(self.data) and self.data[at] in chars:
                at += 1
            if at < len(self.data) or not self.more():
                return at
