"""A call is safe the moment it is remembered, long before it is in the tables."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from foveal import journal
from foveal.errors import DiskFull
from foveal.store import Call, Store, connect


def call(record: str = "r", take: int = 0, reply: str = "said") -> Call:
    return Call(record, b"\x00\xff", take, "step", "vlm", "m", "p", "{}", reply, 3, 4, None, 0.25, 1.5)


def killed(folder: Path, to: Path) -> Path:
    """Return what a kill would leave at this moment: the files as they are."""
    shutil.copytree(folder, to)
    return to


def kept(folder: Path) -> list[tuple[object, ...]]:
    db = connect(folder / "store.db", read_only=True)
    try:
        return db.execute("SELECT * FROM calls ORDER BY take").fetchall()
    finally:
        db.close()


def test_what_is_remembered_survives_the_process(tmp_path: Path) -> None:
    store = Store(tmp_path / "a")
    for take in range(3):
        store.remember(call(take=take))
    left = killed(tmp_path / "a", tmp_path / "b")
    store.close()
    again = Store(left)
    assert set(again.recall("r")) == {(b"\x00\xff", take) for take in range(3)}
    again.close()
    assert kept(left) == kept(tmp_path / "a") == [tuple(call(take=take)) for take in range(3)]
    assert not journal.left_in(left)
    assert not journal.left_in(tmp_path / "a")


def test_a_reader_finds_what_a_kill_left_and_leaves_a_living_writers_alone(tmp_path: Path) -> None:
    store = Store(tmp_path / "a")
    store.remember(call())
    left = killed(tmp_path / "a", tmp_path / "b")
    assert kept(left) == [tuple(call())]
    kept(tmp_path / "a")
    assert journal.left_in(tmp_path / "a")
    store.close()


def test_calls_are_recalled_before_they_are_in_the_tables(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.remember(call(reply="early"))
    assert store.recall("r") == {(b"\x00\xff", 0): "early"}
    assert store.recall("other") == {}
    store.flush()
    assert store.recall("r") == {(b"\x00\xff", 0): "early"}
    store.close()


def test_a_line_cut_off_was_never_written(tmp_path: Path) -> None:
    Store(tmp_path).close()
    whole = journal.Journal(tmp_path)
    whole.append((call()[0], call()[1].hex(), *call()[2:]))
    path = whole.cut()
    assert path is not None
    path.write_bytes(path.read_bytes() + path.read_bytes()[:-9])
    assert kept(tmp_path) == [tuple(call())]


def test_a_journal_goes_once_the_store_has_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SEGMENT", 1000)
    store = Store(tmp_path)
    for take in range(100):
        store.remember(call(take=take))
    assert len(journal.left_in(tmp_path)) > 5
    store.flush()
    assert len(journal.left_in(tmp_path)) <= 1
    store.close()
    assert len(kept(tmp_path)) == 100


def test_a_full_disk_is_told_at_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "calls-0.journal").symlink_to("/dev/full")
    with pytest.raises(DiskFull, match="make room"):
        store.remember(call())
    store.close()
