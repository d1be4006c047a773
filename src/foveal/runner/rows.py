"""Records as the store holds them: read back in order, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from foveal.recipe import Bound
from foveal.record import Image, Record, body_from_json
from foveal.store import Store

PAGE = 512


class Row(NamedTuple):
    """A record as written; JSON fields are still text."""

    id: str
    step: str
    parent: str
    seq: int
    n: int
    body: str
    tags: str
    images: str


_COLUMNS = "id, step, parent, seq, n, body, tags, images"


def to_record(row: Row, store: Store, read: Callable[[str], bytes]) -> Record:
    """Return the record of a row; its pictures are read from where they came from when they are needed."""
    images = tuple(_image(d, store.image_source(d), read) for d in orjson.loads(row.images))
    record = Record(images, body_from_json(orjson.loads(row.body)), orjson.loads(row.tags), row.parent, row.step)
    record.__dict__["id"] = row.id  # what was written is what it is; computing it again would need nothing else
    return record


def _image(digest: str, source: str, read: Callable[[str], bytes]) -> Image:
    return Image(digest, source, lambda: read(source))


def sources(store: Store) -> Iterator[Row]:
    """Yield this run's source records in the source's order."""
    last = -1
    sql = f"SELECT {_COLUMNS} FROM records WHERE step='' AND run=? AND seq>? ORDER BY seq LIMIT {PAGE}"  # noqa: S608
    while page := list(store.query(sql, (store.run, last))):
        for values in page:
            yield Row(*values)
        last = page[-1][3]


def survivors(store: Store, steps: Sequence[Bound], rows: Iterator[Row] | None = None) -> Iterator[Row]:
    """Yield what is left after the steps, in order: children of kept records, and records that table steps kept."""
    left = sources(store) if rows is None else rows
    for bound in steps:
        left = _after(store, bound, left)
    return left


def _after(store: Store, bound: Bound, rows: Iterator[Row]) -> Iterator[Row]:
    for row in rows:
        if store.status(bound.label, row.id) != "kept":
            continue
        if bound.step.kind == "table":
            yield row
        else:
            yield from (Row(*child) for child in store.children(bound.label, row.id))


def as_json(row: Row, store: Store) -> dict[str, Any]:
    """Return a row as `rows.jsonl` holds it."""
    images = [{"digest": d, "source": store.image_source(d)} for d in orjson.loads(row.images)]
    body, tags = orjson.loads(row.body), orjson.loads(row.tags)
    return {"id": row.id, "images": images, "body": body, "tags": tags, "parent": row.parent, "step": row.step}
