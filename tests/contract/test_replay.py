"""Replaying any method pays nothing: the second time, with models that refuse to speak, it makes the same children."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

import foveal
from foveal.models.scripted import Scripted
from foveal.recipe import all_methods


def refuse(request: object) -> str:
    raise AssertionError(f"a remembered call was sent again: {request}")


def forget_decisions(folder: Path) -> None:
    """Leave nothing in the store but the calls, so that every record is decided again."""
    with sqlite3.connect(folder / "store.db") as db:
        db.execute("DELETE FROM units")
        db.execute("DELETE FROM records")


@pytest.mark.parametrize("method", sorted(all_methods()))
def test_replay_pays_nothing(method: str, pictures: Callable[..., Path], tmp_path: Path, any_model: Scripted) -> None:
    photos, out = pictures(24), tmp_path / "out"
    first = foveal.run(method, photos, model=any_model, out=out)
    rows = (out / "rows.jsonl").read_bytes()
    assert first.progress.meter.total.made >= 24
    assert first.rows > 0
    forget_decisions(out)
    second = foveal.run(method, photos, model=Scripted(refuse), out=out)
    assert second.progress.meter.total.made == 0
    assert second.progress.meter.total.remembered == first.progress.meter.total.made
    assert (out / "rows.jsonl").read_bytes() == rows
