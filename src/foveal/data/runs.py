"""Finished runs as data: what `rows.jsonl` of a run folder holds, as records that another run can begin with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foveal.data.places import place, read_file
from foveal.data.reopen import read
from foveal.data.rows import rows
from foveal.errors import RecordFailed
from foveal.record import Image, Record, body_from_json

ROWS, RUN = "rows.jsonl", "run.json"


def is_run(where: str) -> bool:
    """Tell whether a local folder is a run with results."""
    folder = Path(where)
    return (folder / ROWS).is_file() and (folder / RUN).is_file()


def count(where: str) -> int:
    """Return how many rows a run has."""
    with (Path(where) / ROWS).open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))


def records(where: str) -> Iterator[tuple[str, Record | RecordFailed]]:
    """Yield (where it stands, record) for each row of a run; a row that cannot be read is why it cannot.

    A record keeps body, pictures and tags (its tag `source` as `origin`), and begins a new line of descent. Pictures
    that the run made itself are read from its folder.
    """
    folder = Path(where)
    for number, row in enumerate(rows(str(folder / ROWS))):
        named = f"{folder.name} row {number + 1}"
        try:
            yield named, _record(folder, row, named)
        except RecordFailed as error:
            yield named, error


def _record(folder: Path, row: dict[str, Any] | RecordFailed, named: str) -> Record:
    if isinstance(row, RecordFailed):
        raise row
    try:
        images = tuple(_image(folder, image) for image in row["images"])
        tags = dict(row["tags"])
        first = {"origin": tags["source"]} if "source" in tags else {}
        return Record(images, body_from_json(row["body"]), {**first, **tags, "source": named})
    except (KeyError, TypeError, ValueError) as error:
        raise RecordFailed("not a row of a run", f"{named}: {type(error).__name__}: {error}") from error


def _image(folder: Path, image: dict[str, str]) -> Image:
    blob = image["source"].removeprefix("blob:")
    if blob == image["source"]:
        return Image(image["digest"], blob, lambda: read(blob))
    path = os.path.abspath(folder / "images" / blob[:2] / blob)  # noqa: PTH100 - as other sources spell theirs
    return Image(image["digest"], place(path), lambda: read_file(path))
