"""Replaying any method pays nothing: the second time, with models that refuse to speak, it makes the same children."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from scripts import plan_with, run_with

from foveal.models.scripted import Scripted
from foveal.recipe import all_methods


def refuse(request: object) -> str:
    raise AssertionError(f"a remembered call was sent again: {request}")


@pytest.mark.parametrize("method", sorted(all_methods()))
def test_replay_pays_nothing(method: str, pictures: Callable[..., Path], tmp_path: Path) -> None:
    photos = pictures(24)
    first = run_with(method, photos, tmp_path / "out")
    rows = (tmp_path / "out" / "rows.jsonl").read_bytes()
    assert first.progress.meter.total.made > 24
    assert first.rows > 0
    # Everything but the calls is forgotten, so every record is decided again.
    plan_with.forget_decisions(tmp_path / "out")
    second = run_with(method, photos, tmp_path / "out", Scripted(refuse))
    assert second.progress.meter.total.made == 0
    assert second.progress.meter.total.remembered == first.progress.meter.total.made
    assert (tmp_path / "out" / "rows.jsonl").read_bytes() == rows
