"""Pictures with their truth, from a folder that `foveal scrapbook make` has drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from foveal.errors import SourceError
from foveal.evals.answer import Shot
from foveal.record import Image
from foveal.scrapbook import load_truth


def load_shots(folder: Path, limit: int | None = None) -> list[Shot]:
    """Return the pictures of a folder of scenes, in the order of its truth.

    Raises:
        SourceError: there is no truth, or no picture.
    """
    truths = list(load_truth(folder).values())[:limit]
    shots = [Shot(Image(t.digest, str(folder / t.file), _reader(folder / t.file)), t.scene) for t in truths]
    if not shots:
        raise SourceError(f"{folder} holds no scenes yet")
    if missing := [t.file for t in truths if not (folder / t.file).is_file()]:
        raise SourceError(f"{folder}: {len(missing)} pictures of its truth are not there, the first is {missing[0]}")
    return shots


def _reader(path: Path) -> Callable[[], bytes]:
    return path.read_bytes
