"""Nothing is paid twice and nothing is lost: thresholds, prompts, new pictures, shared stores, kills."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import orjson
import pytest

import foveal
from foveal.errors import StoreError
from foveal.models.scripted import Scripted, words_of
from foveal.models.wire import Request
from foveal.runner.local import Run
from foveal.store import connect
from tests.conftest import make_pictures, oasis_answers

Pictures = Callable[..., Path]


def rows(folder: Path) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in (folder / "rows.jsonl").read_bytes().splitlines()]


def adds_up(run: Run, everything: int) -> bool:
    p = run.progress
    return p.kept + p.dropped.total() + p.failed.total() == everything


def test_every_record_is_accounted_for(pictures: Pictures, tmp_path: Path, oasis_model: Scripted) -> None:
    run = foveal.run("oasis", pictures(60), model=oasis_model, out=tmp_path / "out")
    assert adds_up(run, 60)
    assert run.progress.kept == run.rows == len(rows(tmp_path / "out")) > 0
    assert run.progress.dropped["garbled"] > 0


def test_a_threshold_costs_no_call(pictures: Pictures, tmp_path: Path, oasis_model: Scripted) -> None:
    photos = pictures(60)
    before = foveal.run("oasis", photos, model=oasis_model, out=tmp_path / "out")
    after = foveal.run("oasis", photos, model=oasis_model, out=tmp_path / "out", clarity=4.5)
    assert after.progress.meter.total.made == 0
    assert after.rows < before.rows
    assert after.progress.dropped["instruction: unclear"] > 0
    back = foveal.run("oasis", photos, model=oasis_model, out=tmp_path / "out")
    assert (back.rows, back.progress.meter.total.made) == (before.rows, 0)


def test_one_prompt_edited_asks_only_its_calls(pictures: Pictures, tmp_path: Path, oasis_model: Scripted) -> None:
    photos, mine = pictures(40), tmp_path / "mine" / "oasis"
    foveal.run("oasis", photos, model=oasis_model, out=tmp_path / "out")
    mine.mkdir(parents=True)
    (mine / "clarity.md").write_text("Is it clear? {{ instruction }} Answer with one number from 1 to 5.")
    reached = sum("Rate how clear" in words_of(r) for r in oasis_model.asked)
    oasis_model.asked.clear()
    foveal.run("oasis", photos, model=oasis_model, out=tmp_path / "out", prompts=[str(tmp_path / "mine")])
    assert {words_of(r)[:12] for r in oasis_model.asked} == {"Is it clear?"}
    assert len(oasis_model.asked) == reached > 0


def test_added_pictures_pay_only_for_themselves(pictures: Pictures, tmp_path: Path, oasis_model: Scripted) -> None:
    photos = pictures(30, start=10)
    first = foveal.run("oasis", photos, model=oasis_model, out=tmp_path / "out")
    pictures(10)  # sorts before the others, so every place moves
    second = foveal.run("oasis", photos, model=oasis_model, out=tmp_path / "out")
    assert adds_up(second, 40)
    whole = foveal.run("oasis", photos, model=oasis_model, out=tmp_path / "fresh")
    assert first.progress.meter.total.made + second.progress.meter.total.made == whole.progress.meter.total.made
    assert (tmp_path / "out" / "rows.jsonl").read_bytes() == (tmp_path / "fresh" / "rows.jsonl").read_bytes()


def test_removed_pictures_leave_no_rows(pictures: Pictures, tmp_path: Path, oasis_model: Scripted) -> None:
    photos = pictures(30)
    foveal.run("oasis", photos, model=oasis_model, out=tmp_path / "out")
    for gone in sorted(photos.iterdir())[:15]:
        gone.unlink()
    run = foveal.run("oasis", photos, model=oasis_model, out=tmp_path / "out")
    assert adds_up(run, 15)
    assert run.rows == len(rows(tmp_path / "out"))


def test_runs_that_share_a_store_share_calls(pictures: Pictures, tmp_path: Path, oasis_model: Scripted) -> None:
    photos = pictures(20)
    foveal.run("oasis", photos, model=oasis_model, out=tmp_path / "a")
    other = foveal.run("oasis", photos, model=oasis_model, out=tmp_path / "b", store=tmp_path / "a", solvable=1)
    assert other.progress.meter.total.made == 0
    assert other.rows > 0


def test_same_picture_twice_is_one_record(pictures: Pictures, tmp_path: Path, oasis_model: Scripted) -> None:
    photos = pictures(10)
    for path in sorted(photos.iterdir()):
        (photos / f"copy-{path.name}").write_bytes(path.read_bytes())
    run = foveal.run("oasis", photos, model=oasis_model, out=tmp_path / "out")
    assert adds_up(run, 20)
    assert run.progress.dropped["the same picture again"] == 10


def test_a_failed_record_is_tried_again_and_others_are_not(pictures: Pictures, tmp_path: Path) -> None:
    photos, sick = pictures(12), [True]

    def answers(request: Request) -> str:
        if sick[0] and request.choices == ("instruction", "caption"):
            return "perhaps"
        return oasis_answers(request)

    model = Scripted(answers)
    first = foveal.run("oasis", photos, model=model, out=tmp_path / "out")
    assert first.progress.failed["unusable reply"] > 0
    sick[0] = False
    second = foveal.run("oasis", photos, model=model, out=tmp_path / "out", seed=0)
    assert adds_up(second, 12)
    # The useless replies are remembered too: nothing changes until something in the request does.
    assert second.progress.failed == first.progress.failed
    assert second.progress.meter.total.made == 0


def test_raw_text_of_a_failure_is_kept(pictures: Pictures, tmp_path: Path) -> None:
    model = Scripted([("hook", "Name this."), ("instruction or a caption", "hmm"), (".*", "5")])
    foveal.run("oasis", pictures(2), model=model, out=tmp_path / "out")
    with sqlite3.connect(tmp_path / "out" / "store.db") as db:
        assert set(db.execute("SELECT reason, raw FROM units WHERE step='oasis'")) == {("unusable reply", "hmm")}


def test_a_budget_stops_cleanly_and_continues(pictures: Pictures, tmp_path: Path, oasis_model: Scripted) -> None:
    photos = pictures(30)
    whole = foveal.run("oasis", photos, model=oasis_model, out=tmp_path / "whole")
    total, paid = whole.progress.meter.total.made, 0
    for _ in range(20):
        run = foveal.run("oasis", photos, model=oasis_model, out=tmp_path / "out", budget={"calls": 25})
        assert run.progress.meter.total.made <= 25
        paid += run.progress.meter.total.made
        if run.state == "finished":
            break
        assert "--max-calls 25" in run.note
    assert (run.state, paid) == ("finished", total)
    assert (tmp_path / "out" / "rows.jsonl").read_bytes() == (tmp_path / "whole" / "rows.jsonl").read_bytes()


def test_a_mistake_in_a_method_is_a_failed_record(pictures: Pictures, tmp_path: Path) -> None:
    step = tmp_path / "mine.py"
    step.write_text(
        "from foveal import Record, Chat\n"
        "async def mine(image: Record) -> Record:\n"
        "    if image.id[0] in '0123':\n        raise ValueError('oh')\n"
        "    return image.make(Chat([('user', 'q'), ('assistant', 'a')]))\n"
    )
    run = foveal.run(f"{step}:mine", pictures(40), out=tmp_path / "out")
    assert adds_up(run, 40)
    assert set(run.progress.failed) == {"ValueError in mine"}
    assert run.rows == run.progress.kept > 0


CHILD = """
import sys
sys.path.insert(0, {tests!r})
from tests.conftest import Scripted, oasis_answers
import foveal
model = Scripted(oasis_answers, delay=0.01)
foveal.run("oasis", {photos!r}, model=model, out={out!r}, samples=2)
print(model.asked and len(model.asked) or 0)
"""


def child(photos: Path, out: Path) -> subprocess.Popen[str]:
    code = CHILD.format(tests=str(Path(__file__).parents[2]), photos=str(photos), out=str(out))
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def stop(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def calls(folder: Path) -> int:
    try:
        with sqlite3.connect(f"file:{folder / 'store.db'}?mode=ro", uri=True) as db:
            return int(db.execute("SELECT count(*) FROM calls").fetchone()[0])
    except sqlite3.Error:
        return 0


def paid(folder: Path) -> int:
    """Return the calls that a reader finds, those that a kill left in the journal included."""
    with closing(connect(folder / "store.db", read_only=True)) as db:
        return int(db.execute("SELECT count(*) FROM calls").fetchone()[0])


@pytest.mark.parametrize("turn", range(4))
def test_kill_nine_at_any_moment(turn: int, tmp_path: Path, oasis_model: Scripted) -> None:
    photos = make_pictures(tmp_path / "photos", 150)
    whole = foveal.run("oasis", photos, model=oasis_model, out=tmp_path / "whole", samples=2)
    total = whole.progress.meter.total.made
    process = child(photos, tmp_path / "out")
    goal = random.Random(turn).uniform(0.05, 0.9) * total
    while calls(tmp_path / "out") < goal and process.poll() is None:
        time.sleep(0.01)
    stop(process)
    before = paid(tmp_path / "out")
    rest = foveal.run("oasis", photos, model=oasis_model, out=tmp_path / "out", samples=2)
    assert before + rest.progress.meter.total.made == total
    assert (tmp_path / "out" / "rows.jsonl").read_bytes() == (tmp_path / "whole" / "rows.jsonl").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains(number: signal.Signals, tmp_path: Path, oasis_model: Scripted) -> None:
    photos = make_pictures(tmp_path / "photos", 150)
    process = child(photos, tmp_path / "out")
    while calls(tmp_path / "out") < 50:
        time.sleep(0.01)
    process.send_signal(number)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert int(out) == calls(tmp_path / "out")  # every call that was sent is remembered
    with sqlite3.connect(tmp_path / "out" / "store.db") as db:
        assert db.execute("SELECT state FROM runs").fetchone() == ("stopped",)


def test_two_runs_at_once_are_refused(tmp_path: Path, oasis_model: Scripted) -> None:
    photos = make_pictures(tmp_path / "photos", 150)
    process = child(photos, tmp_path / "out")
    while calls(tmp_path / "out") < 20:
        time.sleep(0.01)
    with pytest.raises(StoreError, match="another process is writing"):
        foveal.run("oasis", photos, model=oasis_model, out=tmp_path / "out")
    stop(process)


def test_a_store_of_a_newer_version_is_refused(pictures: Pictures, tmp_path: Path, oasis_model: Scripted) -> None:
    foveal.run("oasis", pictures(2), model=oasis_model, out=tmp_path / "out")
    with sqlite3.connect(tmp_path / "out" / "store.db") as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(StoreError, match="newer foveal"):
        foveal.run("oasis", tmp_path / "photos", model=oasis_model, out=tmp_path / "out")


def test_another_programs_files_are_refused(pictures: Pictures, tmp_path: Path, oasis_model: Scripted) -> None:
    photos = pictures(2)
    with sqlite3.connect(tmp_path / "store.db") as db:
        db.execute("CREATE TABLE theirs (x)")
    with pytest.raises(StoreError, match="another program"):
        foveal.run("oasis", photos, model=oasis_model, out=tmp_path)
    with pytest.raises(StoreError, match="other files"):
        foveal.run("oasis", photos, model=oasis_model, out=photos)


def test_a_run_folder_of_another_recipe_is_refused(pictures: Pictures, tmp_path: Path, oasis_model: Scripted) -> None:
    photos = pictures(2)
    foveal.run("oasis", photos, model=oasis_model, out=tmp_path / "out")
    other = {"name": "other", "steps": ["oasis"]}
    with pytest.raises(StoreError, match="holds a run of 'oasis'"):
        foveal.run(other, photos, model=oasis_model, out=tmp_path / "out")


@pytest.fixture
def nobody() -> Iterator[None]:
    """Work without root's right to write anywhere."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield
    os.seteuid(before)


def test_a_read_only_folder_is_refused(oasis_model: Scripted, nobody: None) -> None:
    with tempfile.TemporaryDirectory() as mine:
        photos = make_pictures(Path(mine) / "photos", 2)
        Path(mine).chmod(0o500)
        with pytest.raises(StoreError, match=r"cannot make the folder .* Permission denied"):
            foveal.run("oasis", photos, model=oasis_model, out=Path(mine) / "out")
        Path(mine).chmod(0o700)


def test_pictures_that_a_step_makes_are_kept(pictures: Pictures, tmp_path: Path) -> None:
    step = tmp_path / "mine.py"
    step.write_text(
        "from foveal import Chat, Image, Record\n"
        "async def mine(image: Record) -> Record:\n"
        "    other = Image.of(image.images[0].data() + b'more')\n"
        "    return image.make(Chat([('user', 'q'), ('assistant', 'a')]), images=[*image.images, other])\n"
    )
    run = foveal.run(f"{step}:mine", pictures(3), out=tmp_path / "out")
    again = foveal.run(f"{step}:mine", tmp_path / "photos", out=tmp_path / "out")
    for record in [*run.records(), *again.records()]:
        assert record.images[1].source == f"blob:{record.images[1].digest}"
        assert record.images[1].data() == record.images[0].data() + b"more"
    assert run.rows == again.rows == 3


@pytest.mark.parametrize(
    "steps", [["oasis", "dedup"], ["near_pictures", "oasis"], ["near_pictures"], ["oasis", "dedup", "again"]]
)
def test_counts_with_table_steps(steps: list[str], pictures: Pictures, tmp_path: Path, oasis_model: Scripted) -> None:
    mine = tmp_path / "again.py"
    mine.write_text(
        "from foveal import Record\nasync def again(row: Record) -> Record:\n    return row.make(row.body)\n"
    )
    named = [f"{mine}:again" if step == "again" else step for step in steps]
    run = foveal.run({"name": "t", "steps": named}, pictures(20), model=oasis_model, out=tmp_path / "out")
    assert run.progress.done == 20
    assert adds_up(run, 20)
    assert run.rows == len(rows(tmp_path / "out"))
