"""The benchmark's workload is right, whatever the server does: no row lost, wrong or doubled. Nothing here is timed."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

np = pytest.importorskip("numpy")  # the pictures are drawn with it
from harness import Load, kill_and_continue, measure  # noqa: E402
from make_images import make  # noqa: E402

FAULTS = {"p429": 0.05, "p500": 0.05, "pmalformed": 0.1, "ptimeout": 0.02, "hang": 3.0}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    make(folder, 40, shrink=8)
    return folder


@pytest.mark.parametrize(
    "load",
    [Load(40, 8, 0.01), Load(40, 8, 0.01, FAULTS, timeout=1.0)],
    ids=["calm", "faults"],
)
def test_every_row_is_there_once_and_right(load: Load, images: Path, tmp_path: Path) -> None:
    found = measure("foveal", load, images, tmp_path / "run")
    assert (found.lost, found.wrong, found.doubled, found.repeated) == (0, 0, 0, 0)


@pytest.mark.parametrize("turn", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 20))])
def test_kill_nine_costs_what_was_in_flight(turn: int, images: Path, tmp_path: Path) -> None:
    load = Load(40, 8, 0.05)
    repeated, in_flight, found = kill_and_continue(load, images, tmp_path / "run", random.Random(turn))
    assert (found.lost, found.wrong, found.doubled) == (0, 0, 0)
    assert repeated <= in_flight
