"""Where bytes lie: source strings, folders and URLs, and paths that stay inside their folder.

A source string names one picture so that it can be opened again later:

    photos/cat.jpg                         a file (absolute when foveal wrote it)
    s3://bucket/cat.jpg                    anything fsspec opens
    shard-000.tar!a/cat.jpg                a member of an archive
    train.parquet!12/image                 row 12 (from 0), column `image`
    train.parquet!12/images/1              the second picture of a list
    train.jsonl!12/images/0                a data URI inside row 12
    blob:<digest>                          the run's own image folder

In the parts around `!`, the characters % and ! are written %25 and %21 (and / as %2F in a column's name).
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast
from urllib.parse import unquote

from foveal.errors import ImageError, SourceError, nearest


def quote(text: str, extra: str = "") -> str:
    """Return text with the characters that a source string uses itself percent-encoded."""
    for char in "%!" + extra:
        text = text.replace(char, f"%{ord(char):02X}")
    # A file's name need not be UTF-8; Python then holds its bytes as lone surrogates, which no database takes.
    return re.sub("[\udc80-\udcff]", lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", text)


def place(path: str | Path, *inner: str | int) -> str:
    """Return the source string of a file, or of something inside it: a member name, or a row, column and index."""
    if not inner:
        return quote(str(path))
    if len(inner) == 1:
        return f"{quote(str(path))}!{quote(str(inner[0]))}"
    return f"{quote(str(path))}!{'/'.join(quote(str(part), '/') for part in inner)}"


def split(source: str) -> tuple[str, str]:
    """Return (path, what is inside it, "" for the file itself); the inside is still percent-encoded."""
    path, _, inner = source.partition("!")
    return unquote(path, errors="surrogateescape"), inner


def is_url(path: str | Path) -> bool:
    """Whether fsspec must open it."""
    return "://" in str(path)


def filesystem(url: str) -> tuple[Any, str]:
    """Return fsspec's file system of a URL and the path on it.

    Raises:
        SourceError: no such protocol, or its package is not installed.
    """
    import fsspec  # type: ignore[import-untyped]  # here, for it takes 30 ms and most sources are local

    try:
        return cast(tuple[Any, str], fsspec.core.url_to_fs(url))
    except (ImportError, ValueError) as error:
        raise SourceError(f"{url} cannot be opened: {error}") from error


def open_file(path: str | Path) -> IO[bytes]:
    """Open a file or URL for reading.

    Raises:
        OSError: it cannot be opened.
    """
    if not is_url(path):
        return Path(path).open("rb")
    fs, inner = filesystem(str(path))
    return cast(IO[bytes], fs.open(inner, "rb"))


def read_file(path: str | Path) -> bytes:
    """Return a file's or URL's bytes.

    Raises:
        ImageError: it cannot be read.
    """
    try:
        if not is_url(path):
            return _whole(path)
        with open_file(path) as file:
            return file.read()
    except OSError as error:
        raise ImageError("picture unreadable", f"{path}: {error.strerror or error}") from error


def _whole(path: str | Path) -> bytes:
    """Return a local file's bytes by as few system calls as can be: at each another thread may take the interpreter."""
    file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        size = os.fstat(file).st_size
        data = os.read(file, size) if size else b""
        if size and len(data) == size:
            return data
        parts = [data]
        while more := os.read(file, 1 << 20):  # it grew, is a pipe, or is too large for one read
            parts.append(more)
        return b"".join(parts)
    finally:
        os.close(file)


def inside(root: str | Path, path: str) -> str:
    """Return the absolute path (or URL) that a path written in a data file means, below `root`.

    Symbolic links are followed before the check. What the user names may point anywhere; what data names may not.

    Raises:
        ImageError: the path leaves `root`, or is on the web.
    """
    if is_url(root):
        base = str(root).rstrip("/") + "/"
        full = path if path.startswith(base) else base + path
        if ".." in PurePosixPath(path).parts or path.startswith("/") or (is_url(path) and full != path):
            raise ImageError("picture path leaves its folder", f"{path} is not below {root}")
        return full
    if is_url(path):
        raise ImageError("picture is remote", f"{path}: download it first")
    base = os.path.realpath(root)
    if "\0" in path:
        raise ImageError("picture path leaves its folder", repr(path))
    full = os.path.realpath(os.path.join(base, path))  # noqa: PTH118 - Path would resolve nothing more
    if os.path.commonpath((base, full)) != base:
        raise ImageError("picture path leaves its folder", f"{path} is not below {root}; name its folder with root=")
    return full


def walk(root: str | Path) -> Iterator[str]:
    """Yield the files below a folder or URL in a stable order; hidden ones are left out, linked folders not entered.

    One folder's names are held at a time, so a million files cost little memory.
    """
    if is_url(root):
        fs, inner = filesystem(str(root))
        for found in sorted(fs.find(inner)):
            if not any(part.startswith(".") for part in PurePosixPath(str(found)[len(inner) :]).parts):
                yield str(fs.unstrip_protocol(found))
        return
    with os.scandir(root) as entries:
        listed = sorted((e.name, _kind(e)) for e in entries if not e.name.startswith("."))
    for name, kind in listed:
        path = os.path.join(root, name)  # noqa: PTH118 - a million times
        if kind == "folder":
            yield from walk(path)
        elif kind == "file":
            yield path


def _kind(entry: os.DirEntry[str]) -> str:
    """Return what an entry of a folder is; of files and folders the listing itself knows it, at no further cost."""
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    return "link to a folder" if entry.is_symlink() and entry.is_dir() else "file"


def has_glob(spec: str) -> bool:
    """Whether the text holds wildcards."""
    return any(char in spec for char in "*?[")


def expand(pattern: str) -> list[str]:
    """Return the files that a glob names, sorted, hidden ones left out."""
    if is_url(pattern):
        fs, inner = filesystem(pattern)
        return sorted(str(fs.unstrip_protocol(found)) for found in fs.glob(inner) if not fs.isdir(found))
    whole = Path(pattern)
    start = next(i for i, part in enumerate(whole.parts) if has_glob(part))
    base = Path(*whole.parts[:start]) if start else Path()
    found = base.glob(str(Path(*whole.parts[start:])))
    return sorted(str(p) for p in found if p.is_file() and not any(q.startswith(".") for q in p.parts if q != ".."))


def missing(path: str) -> SourceError:
    """Return the error for a path that is not there, naming the nearest thing that is."""
    if is_url(path):
        return SourceError(f"{path}: nothing there")
    parent = Path(path).absolute().parent
    while not parent.is_dir():
        path, parent = str(parent), parent.parent
    name = Path(path).name
    names = [p.name for p in parent.iterdir() if not p.name.startswith(".")]
    close = [n for n in names if fnmatch.fnmatch(n.lower(), f"{name.lower()}*")]
    hint = f"; did you mean {close[0]!r}?" if close else nearest(name, names).partition(" (known")[0]
    return SourceError(f"no {name!r} in {parent}{hint}")
