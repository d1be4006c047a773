"""Pictures for looking at: thumbnails and sizes, by the source a store remembers."""

from __future__ import annotations

import base64
from pathlib import Path

from foveal.data import read
from foveal.errors import FovealError
from foveal.picture import inspect, thumbnail
from foveal.view.numbers import count


def read_picture(source: str, folder: Path) -> bytes:
    """Return a picture's bytes; pictures that methods made lie in the run folder.

    Raises:
        ImageError: it cannot be read.
        OSError: it is gone.
    """
    return read(source, lambda digest: (folder / "images" / digest[:2] / digest).read_bytes())


def thumbnail_uri(source: str, folder: Path, side: int) -> str:
    """Return a small JPEG as a data URI, "" when the picture cannot be read."""
    try:
        data = thumbnail(read_picture(source, folder), side)
    except (FovealError, OSError, ValueError):
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def describe_picture(source: str, folder: Path) -> str:
    """Return where a picture lies, its format and its size."""
    if not source:
        return "(source not known)"
    try:
        data = read_picture(source, folder)
        info = inspect(data)
    except (FovealError, OSError, ValueError) as error:
        return f"{source} (cannot be read: {error})"
    return f"{info.width}x{info.height} {info.format}, {count(len(data) / 1024)} kB, {source}"
