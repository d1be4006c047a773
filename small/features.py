"""Draw Scrapbook scenes and encode them with the frozen tower, once: training then reads features only."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from foveal.models.small.tower import PATCHES, WIDTH, normalised, tower_file
from foveal.scrapbook import Album, Scene, Thing, compose, load_album
from foveal.scrapbook.scene import GRID, Split
from tower_torch import load_tower

BATCH = 32
_album: Album


def _start(album: Album) -> None:
    global _album
    _album = album


def _draw(seeds: list[int], split: Split) -> tuple[np.ndarray, list[Scene], np.ndarray]:
    pages = [compose(_album, seed, split) for seed in seeds]
    inputs = np.stack([normalised(page.picture) for page in pages])
    return inputs, [page.scene for page in pages], np.stack([page.cells for page in pages])


def encode(folder: Path, name: str, seeds: range, split: Split) -> None:
    """Write `<name>.npy` (patch features, float16), `<name>.cells.npy` and `<name>.json` (the scenes) for the seeds' scenes."""
    if (folder / f"{name}.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    tower = load_tower(tower_file())
    states = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float16, (len(seeds), PATCHES, WIDTH))
    cells = np.empty((len(seeds), GRID * GRID), np.int8)
    scenes: list[Scene] = []
    batches = [list(seeds[i : i + BATCH]) for i in range(0, len(seeds), BATCH)]
    with ProcessPoolExecutor(1, initializer=_start, initargs=(load_album(),)) as pool, torch.inference_mode():
        for inputs, drawn, covered in pool.map(_draw, batches, [split] * len(batches)):
            at = slice(len(scenes), len(scenes) + len(drawn))
            states[at] = tower(torch.from_numpy(inputs)).last_hidden_state[:, 1:].numpy()
            cells[at] = covered
            scenes += drawn
    states.flush()
    np.save(folder / f"{name}.cells.npy", cells)
    (folder / f"{name}.json").write_text(json.dumps([asdict(scene) for scene in scenes]))


def scenes(folder: Path, name: str) -> list[Scene]:
    """Read the scenes written by `encode`."""
    rows = json.loads((folder / f"{name}.json").read_text())
    return [
        Scene(r["seed"], r["layout"], r["ground"], tuple(Thing(**{**t, "box": tuple(t["box"])}) for t in r["things"]))
        for r in rows
    ]
