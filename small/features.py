"""Draw Scrapbook scenes and encode them with the frozen tower, once: training then reads features only."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foveal.models.small.tower import PATCHES, WIDTH, normalised, tower_file
from foveal.scrapbook import Album, Chart, Page, Scene, Settings, Table, Text, Thing, compose, load_album
from foveal.scrapbook.scene import GRID, Split
from sheets import boards, sheet
from tower_torch import load_tower

BATCH = 16
HALF = bool(torch.cpu.get_capabilities().get("avx512_bf16"))
"""Whether this CPU multiplies bf16: twice as fast, features 0.7 % off."""


@dataclass(frozen=True)
class Part:
    """Pictures drawn and encoded together: seeds, whose looks they show, and how (None: sheets, or boards by name)."""

    name: str
    seeds: range
    split: Split
    settings: Settings | None


NO_PANELS = {"text": 0.0, "chart": 0.0, "table": 0.0}
FEW = Settings(objects=(0.2, 0.45, 0.35, 0, 0), treated=0.15, **NO_PANELS)
MANY = Settings(objects=(0, 0, 0, 0.55, 0.45), treated=0.15, **NO_PANELS)
PANELS = Settings(text=0.75, chart=0.16, table=0.09)
THREE = Settings(objects=(0.05, 0.35, 0.6, 0, 0), treated=0.1, **NO_PANELS)
PLAIN = Settings(objects=(0.2, 0.45, 0.35, 0, 0), treated=0.0, occlusion=0.0, **NO_PANELS)
MIXED = Settings()
STEP = 1000
"""Scenes of a part."""
FULLER = 46
"""The part from which on more scenes show three things: it is small things among others that go wrong."""


def training(thousands: int, after: int = 0) -> list[Part]:
    """Return the parts of the training scenes: of 20, twelve show one to three things, five more, three panels."""
    kinds = (FEW, MANY, FEW, PANELS, FEW, FEW, MANY, FEW, FEW, MANY, FEW, PANELS, FEW, FEW, MANY, FEW, FEW, MANY,
             FEW, PANELS)  # fmt: skip
    return [
        Part(f"train{k:02}", range(k * STEP, (k + 1) * STEP), "train", THREE if kind is FEW and k >= FULLER else kind)
        for k, kind in itertools.islice(enumerate(itertools.cycle(kinds)), after, thousands)
    ]


def sheets(thousands: int, after: int = 0) -> list[Part]:
    """Return the parts of the sheets that teach the projector."""
    return [Part(f"sheet{k:02}", range(k * STEP, (k + 1) * STEP), "train", None) for k in range(after, thousands)]


def boards_of(thousands: int) -> list[Part]:
    """Return the parts of the boards that teach the projector to read."""
    return [Part(f"board{k:02}", range(k * STEP, (k + 1) * STEP), "train", None) for k in range(thousands)]


HELD = [
    Part("seen", range(1_000_000, 1_000_600), "train", PLAIN),
    Part("seen5", range(1_100_000, 1_100_600), "train", MIXED),
    Part("unseen", range(2_000_000, 2_000_600), "held", PLAIN),
    Part("unseen5", range(2_100_000, 2_100_600), "held", MIXED),
]
"""New scenes of known cut-outs and of looks never trained on; "5": one to five things, labels, charts and all."""


def encode_all(folder: Path, parts: list[Part], workers: int = 2) -> None:
    """Encode the parts that are not there yet, each worker every so-many-th, one thread each."""
    wanted = [part for part in parts if not (folder / f"{part.name}.json").exists()]
    if wanted:
        folder.mkdir(parents=True, exist_ok=True)
        album = load_album()  # before the workers part, so that they share it
        fork = multiprocessing.get_context("fork")
        jobs = [fork.Process(target=_work, args=(folder, wanted[k::workers], album)) for k in range(workers)]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
        if any(job.exitcode for job in jobs):
            raise SystemExit("a worker stopped; its message stands above")


def _work(folder: Path, parts: list[Part], album: Album) -> None:
    torch.set_num_threads(1)
    tower = load_tower(tower_file())
    for part in parts:
        start = time.process_time()
        encode(folder, part, album, tower)
        each = (time.process_time() - start) / len(part.seeds)
        print(f"{part.name}: {len(part.seeds)} scenes, {each:.3f} CPU s each", flush=True)


def encode(folder: Path, part: Part, album: Album, tower: torch.nn.Module) -> None:
    """Write `<name>.npy` (patch features, float16), `<name>.cells.npy` and `<name>.json` (the scenes themselves)."""
    states = np.empty((len(part.seeds), PATCHES, WIDTH), np.float16)
    cells = np.empty((len(part.seeds), GRID * GRID), np.int8)
    drawn: list[Scene] = []
    for i in range(0, len(part.seeds), BATCH):
        pages = [_page(album, seed, part) for seed in part.seeds[i : i + BATCH]]
        at = slice(i, i + len(pages))
        inputs = torch.from_numpy(np.stack([normalised(page.picture) for page in pages]))
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=HALF):
            states[at] = tower(inputs).last_hidden_state[:, 1:].float().numpy()
        cells[at] = np.stack([page.cells for page in pages])
        drawn += [page.scene for page in pages]
    np.save(folder / f"{part.name}.npy", states)
    np.save(folder / f"{part.name}.cells.npy", cells)
    (folder / f"{part.name}.json").write_text(json.dumps([asdict(scene) for scene in drawn]))


def _page(album: Album, seed: int, part: Part) -> Page:
    if part.settings is None:
        return (boards if part.name.startswith("board") else sheet)(album, seed)
    return compose(album, seed, part.split, part.settings)


def scenes(folder: Path, name: str) -> list[Scene]:
    """Read the scenes written by `encode`."""
    return [_scene(row) for row in json.loads((folder / f"{name}.json").read_text())]


def _scene(row: dict[str, Any]) -> Scene:
    """Return a scene read from JSON, lists turned into the tuples they were."""
    row = {key: _tuples(value) for key, value in row.items()}
    return Scene(
        **row
        | {
            "things": tuple(Thing(**thing) for thing in row["things"]),
            "texts": tuple(Text(**text) for text in row["texts"]),
            "chart": Chart(**row["chart"]) if row["chart"] else None,
            "table": Table(**row["table"]) if row["table"] else None,
        }
    )


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(v) for v in value)
    return {k: _tuples(v) for k, v in value.items()} if isinstance(value, dict) else value
