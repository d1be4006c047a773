"""Parquet and Arrow files through arro3: read in small batches, written as a stream, never whole in memory."""

from __future__ import annotations

import base64
import contextlib
import io
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from foveal.data.places import is_url, open_file
from foveal.errors import SourceError

BATCH = 16
"""Rows held at a time: sixteen pictures of 10 MB are what a small machine can spare."""


def _failed(error: BaseException) -> bool:
    """Whether arro3 refused the bytes; on some it panics, with an exception outside of Exception."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def reader(path: str, rows: int = BATCH) -> Any:
    """Open a parquet, Arrow stream or Arrow file as an arro3 RecordBatchReader.

    Raises:
        SourceError: the file cannot be read.
    """
    from arro3 import io as arro3

    try:
        source = open_file(path) if is_url(path) else path
        if path.endswith(".parquet"):
            count(path)  # a damaged footer is told here, before arro3 would panic over it
            return arro3.read_parquet(source, batch_size=rows)
        with open_file(path) as file:
            magic = file.read(6)
        return arro3.read_ipc(source) if magic == b"ARROW1" else arro3.read_ipc_stream(source)
    except SourceError:
        raise
    except BaseException as error:
        if not _failed(error):
            raise
        raise SourceError(f"{path} cannot be read as {Path(path).suffix[1:]}: {error}") from error


def batches(path: str, rows: int = BATCH) -> Iterator[tuple[int, Any]]:
    """Yield (number of the first row, arro3 RecordBatch).

    Raises:
        SourceError: the file is damaged; names the row.
    """
    stream, start = iter(reader(path, rows)), 0
    while True:
        try:
            batch = next(stream)
        except StopIteration:
            return
        except BaseException as error:
            if not _failed(error):
                raise
            raise SourceError(f"{path} is damaged after row {start}: {error}") from error
        yield start, batch
        start += batch.num_rows


def cells(batch: Any) -> Iterator[dict[str, Any]]:
    """Yield a batch's rows as dicts of Python values."""
    names = batch.schema.names
    columns = [batch[name].to_pylist() for name in names]
    for row in zip(*columns, strict=True):
        yield dict(zip(names, row, strict=True))


def rows(path: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file as dicts of Python values, in order."""
    for _, batch in batches(path):
        yield from cells(batch)


def image_columns(path: str) -> list[str]:
    """Return the columns that hold pictures by type: {bytes, path} structs, or lists of them."""
    from arro3.core import DataType

    def picture(kind: Any) -> bool:
        if DataType.is_list(kind) or DataType.is_large_list(kind):
            return picture(kind.value_type)
        return DataType.is_struct(kind) and {f.name for f in kind.fields} == {"bytes", "path"}

    schema = reader(path, 1).schema
    return [name for name in schema.names if picture(schema.field(name).type)]


# --- the parquet footer --------------------------------------------------------------------------------------------


def count(path: str) -> int:
    """Return a parquet file's number of rows, from its footer alone.

    Raises:
        SourceError: it is not a whole parquet file.
    """
    try:
        with open_file(path) as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(max(0, size - 8))
            length, magic = struct.unpack("<I4s", file.read(8))
            if magic != b"PAR1" or not 0 < length <= size - 12:
                raise SourceError(f"{path} is not a whole parquet file: {size} bytes without a footer")
            file.seek(size - 8 - length)
            return _Thrift(file.read(length)).rows()
    except (OSError, struct.error, IndexError, ValueError) as error:
        raise SourceError(f"{path} is not a whole parquet file: {error}") from error


class _Thrift:
    """Just enough of Thrift's compact protocol to find `num_rows`, the third field of a parquet footer."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def rows(self) -> int:
        field = 0
        while kind := self.data[self.at]:
            self.at += 1
            field = field + (kind >> 4) if kind >> 4 else self.zigzag()
            if field == 3:
                return self.zigzag()
            self.skip(kind & 15)
        raise ValueError("the footer names no number of rows")

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise ValueError("number too long")

    def zigzag(self) -> int:
        value = self.varint()
        return value >> 1 ^ -(value & 1)

    def skip(self, kind: int) -> None:
        if kind in (3, 7):  # byte, double
            self.at += 1 if kind == 3 else 8
        elif kind in (4, 5, 6):
            self.varint()
        elif kind == 8:
            length = self.varint()  # moves on, so it must come before the addition
            self.at += length
        elif kind in (9, 10):
            head = self.data[self.at]
            self.at += 1
            for _ in range(head >> 4 if head >> 4 < 15 else self.varint()):
                self.skip(head & 15)
        elif kind == 12:
            while inner := self.data[self.at]:
                self.at += 1
                if not inner >> 4:
                    self.varint()
                self.skip(inner & 15)
            self.at += 1
        elif kind not in (1, 2):  # booleans live in the field's head
            raise ValueError(f"unknown type {kind}")


# --- writing -------------------------------------------------------------------------------------------------------

Shape = Any
"""A column's shape as plain Python: "string", "int64", "float64", "bool", "binary", [shape] or {name: shape}."""


def _kind(shape: Shape) -> Any:
    from arro3.core import DataType, Field

    if isinstance(shape, list):
        return DataType.list(Field("item", _kind(shape[0])))
    if isinstance(shape, Mapping):
        return DataType.struct([Field(name, _kind(inner)) for name, inner in shape.items()])
    return getattr(DataType, shape)()


def column(values: Sequence[Any], shape: Shape) -> Any:
    """Build an arro3 Array of nested Python values (its constructor takes flat ones); lists may not be null."""
    from arro3.core import Array, DataType, Field, list_array, struct_array

    if isinstance(shape, list):
        offsets = [0]
        for value in values:
            offsets.append(offsets[-1] + len(value))
        inner = column([item for value in values for item in value], shape[0])
        return list_array(Array(offsets, DataType.int32()), inner, type=_kind(shape))
    if isinstance(shape, Mapping):
        children = [column([value[name] for value in values], inner) for name, inner in shape.items()]
        return struct_array(children, fields=[Field(name, _kind(inner)) for name, inner in shape.items()])
    return Array(values, _kind(shape))


def write(
    file: IO[bytes] | Path,
    rows: Iterable[Mapping[str, Any]],
    shapes: Mapping[str, Shape],
    metadata: Mapping[str, str],
    per_group: int = 128,
) -> int:
    """Stream rows into a parquet file; return how many were written.

    Row groups are small because pictures are big: readers and the Hub's viewer open one group at a time.

    Raises:
        Exception: whatever iterating `rows` raised.
    """
    from arro3 import io as arro3
    from arro3.core import Field, RecordBatch, RecordBatchReader, Schema

    schema = Schema([Field(name, _kind(shape)) for name, shape in shapes.items()], metadata=dict(metadata))
    written = 0
    raised: list[BaseException] = []

    def stream() -> Iterator[Any]:
        nonlocal written
        held: list[Mapping[str, Any]] = []
        with _kept(raised):
            for row in rows:
                held.append(row)
                if len(held) == BATCH:
                    yield _batch(held, schema, shapes)
                    written += len(held)
                    held = []
        if held and not raised:
            yield _batch(held, schema, shapes)
            written += len(held)

    def _batch(held: list[Mapping[str, Any]], schema: Any, shapes: Mapping[str, Shape]) -> Any:
        return RecordBatch.from_arrays([column([r[n] for r in held], s) for n, s in shapes.items()], schema=schema)

    arro3.write_parquet(
        RecordBatchReader.from_batches(schema, stream()),
        file,
        max_row_group_size=per_group,
        compression="zstd(3)",
        dictionary_enabled=False,
    )
    if raised:
        raise raised[0]
    return written


@contextlib.contextmanager
def _kept(raised: list[BaseException]) -> Iterator[None]:
    """Keep what was raised: arro3 would wrap it and lose its type."""
    try:
        yield
    except GeneratorExit:
        raise
    except BaseException as error:
        raised.append(error)


def data_uri(text: str) -> bytes:
    """Return the bytes of a base64 data URI.

    Raises:
        ValueError: it is not one.
    """
    head, comma, body = text.partition(",")
    if not head.startswith("data:") or not head.endswith(";base64") or not comma:
        raise ValueError("not a base64 data URI")
    return base64.b64decode(body, validate=True)
