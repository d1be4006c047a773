"""WebDataset archives: consecutive files that share a name up to its first dot are one sample."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, TypeAlias

import orjson

from foveal import picture
from foveal.data import shapes
from foveal.data.places import open_file, place
from foveal.errors import RecordFailed, SourceError
from foveal.record import Body, Image, Record, body_from_json

MEMBER_LIMIT = 256 << 20
"""Bytes; a larger member is refused, so that a small compressed archive cannot fill the memory."""

_PICTURES = tuple(ending for endings in picture.SUFFIXES.values() for ending in endings)
Sample: TypeAlias = dict[str, "bytes | RecordFailed"]
"""Member name to bytes, or to why they were not read."""


def samples(path: str) -> Iterator[tuple[str, Sample]]:
    """Yield (key, members) of an archive in order; a damaged end is yielded as a last, failed sample.

    Raises:
        SourceError: it cannot be opened as a tar file.
    """
    held: Sample = {}
    key = ""
    try:
        with open_file(path) as file, tarfile.open(fileobj=file, mode="r|*") as archive:
            for member in archive:
                if not (member.isfile() or member.issym() or member.islnk()):
                    continue
                now = _key(member.name)
                if now != key and held:
                    yield key, held
                    held = {}
                key = now
                held[member.name] = _bytes(archive, member)
    except (tarfile.TarError, EOFError, OSError) as error:
        if not key:
            raise SourceError(f"{path} cannot be read as a tar file: {error}") from error
        yield key, {**held, key: RecordFailed("archive is damaged", f"{path}, at or after {key}: {error}")}
        return
    if held:
        yield key, held


def _key(name: str) -> str:
    folder, _, base = name.rpartition("/")
    return f"{folder}/{base.split('.', 1)[0]}".lstrip("/")


def _bytes(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | RecordFailed:
    path = PurePosixPath(member.name)
    if not member.isfile():
        return RecordFailed("archive member is a link", f"{member.name} -> {member.linkname}")
    if path.is_absolute() or ".." in path.parts:
        return RecordFailed("archive member leaves its folder", member.name)
    if member.size > MEMBER_LIMIT:
        return RecordFailed("archive member too large", f"{member.name}: {member.size} bytes, limit {MEMBER_LIMIT}")
    found = archive.extractfile(member)
    return found.read() if found else RecordFailed("archive is damaged", member.name)


def record(path: str, sample: Sample, where: str) -> Record:
    """Make a record of a sample: its pictures, its JSON and its texts.

    Args:
        path: the archive, for the pictures' source strings.
        sample: the members.
        where: the sample's place, for people.

    Raises:
        RecordFailed: a member could not be read, or there is nothing in it.
    """
    images, row = [], {}
    for name, data in sample.items():
        if isinstance(data, RecordFailed):
            raise data
        ending = "." + name.rpartition(".")[2].lower()
        if ending in _PICTURES:
            picture.inspect(data)
            images.append(Image.of(data, place(path, name)))
        elif ending == ".json":
            row.update(_json(name, data))
        elif ending == ".txt":
            row["text"] = data.decode("utf-8", "replace").strip()
    if "body" in row:
        body = _body(row.pop("body"))
        used: frozenset[str] = frozenset()
    else:
        parsed = shapes.parse(row, shapes.detect(row) or "pictures", len(images))
        body, used = parsed.body, parsed.used
    if not images and body is None:
        raise RecordFailed("sample without a picture", ", ".join(sample))
    return Record(tuple(images), body, {**shapes.tags(row, used), "source": where})


def _body(given: Any) -> Body:
    try:
        return body_from_json(orjson.loads(given) if isinstance(given, str) else given)
    except (ValueError, KeyError, TypeError) as error:
        raise RecordFailed("row of another form", f"body: {error}") from error


def _json(name: str, data: bytes) -> dict[str, Any]:
    try:
        row = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise RecordFailed("line is not JSON", f"{name}: {error}") from error
    if not isinstance(row, dict):
        raise RecordFailed("row is not an object", f"{name}: a {type(row).__name__}")
    return row
