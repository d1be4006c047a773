from __future__ import annotations

from pathlib import Path

import pytest

from foveal.view.folder import Folder
from tests.view.build import STEPS, Run, chat


def instructions(folder: Path, count: int) -> int:
    """Return how many hundreds of SQLite's instructions it takes to follow `count` records."""
    with Run(folder) as run:
        for n in range(count):
            source = run.source()
            if n % 2:
                run.end("oasis", source, "dropped", "garbled")
                continue
            (row,) = run.make("oasis", source, [chat("Q?", "A.")])
            run.end("dedup", row, "kept" if n % 4 else "dropped", "near-duplicate question" if n % 4 == 0 else "")
    ticks = 0

    def tick() -> int:
        nonlocal ticks
        ticks += 1
        return 0

    with Folder(folder) as opened:
        opened._db.set_progress_handler(tick, 100)
        assert [s.info.label for s in opened.fates] == [s["name"] for s in STEPS]
        assert opened.one("SELECT count(*) FROM rows") == count / 4
    return ticks


def test_work_grows_with_the_records_and_not_with_their_square(tmp_path: Path) -> None:
    few, many = instructions(tmp_path / "few", 200), instructions(tmp_path / "many", 1600)
    assert many / few == pytest.approx(8, rel=0.5)


def test_looking_changes_nothing(tmp_path: Path) -> None:
    with Run(tmp_path) as run:
        run.end("oasis", run.source(), "dropped", "garbled")
    before = (tmp_path / "store.db").read_bytes()
    with Folder(tmp_path) as opened:
        _ = opened.fates
        with pytest.raises(Exception, match="readonly"):
            list(opened.query("DELETE FROM units"))
    assert (tmp_path / "store.db").read_bytes() == before
