"""docs/curation.md: its recipe does what the page says, on a finished run, through the command line."""

from __future__ import annotations

import json
import re
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image as Pillow

import foveal
from foveal import recipe
from foveal.cli import BAD_SETUP, main
from foveal.errors import RecipeError
from foveal.models.scripted import Scripted
from foveal.store import connect

pytest.importorskip("numpy")
PAGE = (Path(__file__).parents[1] / "docs" / "curation.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
TABLE = dict(re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", PAGE, re.M))


def drawn(path: Path, seed: int) -> None:
    cells = bytes((seed * 7919 + n * n * 104729 + n * seed * 31) % 251 for n in range(36 * 3))
    Pillow.frombytes("RGB", (6, 6), cells).resize((96, 80), Pillow.Resampling.BICUBIC).save(path)


def row(image: str, asked: str, said: str, **tags: Any) -> dict[str, Any]:
    talk = [{"from": "human", "value": f"<image>\n{asked}"}, {"from": "gpt", "value": said}]
    return {"image": image, "conversations": talk, **tags}


SAID = [
    "A grey cat sleeps on the warm roof of a car.",
    "There are three boats in the harbour, and it is raining.",
    "The man with the hat is reading a newspaper to the child.",
    "On the table there is a bowl of soup with two spoons.",
    "The sign over the door of this shop says that it is closed.",
    "You can see a bridge of stone and a train that goes over it.",
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for n in range(7):
        drawn(tmp_path / f"{n}.png", n + 1)
    with Pillow.open(tmp_path / "0.png") as first:
        first.transpose(Pillow.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirrored.png")
    Pillow.new("RGB", (20, 20), (9, 9, 9)).save(tmp_path / "tiny.png")
    good = [row(f"{n}.png", f"What is in picture {n}?", SAID[n], kind="caption", score=n) for n in range(6)]
    bad = [
        row("0.png", "Que voit-on sur la photo ?", "Un chat qui dort sur le toit de la voiture.", kind="qa", score=5),
        row("1.png", "Is it wet?", "Yes.", kind="qa", score=5),
        row("tiny.png", "What do you see in it?", "It is a square that is all black.", kind="qa", score=5),
        row("mirrored.png", "What is this animal?", "It is a cat on the roof of the car.", kind="qa", score=5),
        row("2.png", "what is in picture 2", "A child is with a man who has a hat on.", kind="qa", score=5),
        row("3.png", "Is there any soup?", "On the table there is a bowl of soup with two spoons!", kind="qa", score=5),
        row("6.png", "What is the number?", "It is the number on the house.", kind="qa", score=5),
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(r) + "\n" for r in (*good, *bad)))
    drawn(tmp_path / "b.png", 7)
    (tmp_path / "benchmark.json").write_text(json.dumps([row("b.png", "Which house is it?", "Number seven it is.")]))
    (tmp_path / "curate.yaml").write_text(EXAMPLE)
    return tmp_path


def ends(run: Path) -> Counter[tuple[str, str]]:
    (database,) = run.glob("*.db")
    with closing(connect(database)) as db:
        found = db.execute("SELECT step, reason FROM units WHERE status='dropped'").fetchall()
    return Counter((step, reason) for step, reason in found)


def test_the_pages_recipe_on_a_finished_run(here: Path) -> None:
    made = foveal.run({"name": "made", "steps": ["near_sides"]}, here / "data.jsonl", out=here / "out")
    assert made.rows == 13
    assert main(["run", "curate.yaml", "out", "-o", "curated"]) == 0
    assert main(["run", "curate.yaml", "out", "-o", "held-out", "--set", "split.take=test"]) == 0
    kept = {name: (here / name / "rows.jsonl").read_text().splitlines() for name in ("curated", "held-out")}
    found = ends(here / "curated")
    assert {key: n for key, n in found.items() if key[0] not in ("balance", "split")} == {
        ("language", "language: French"): 1,
        ("language", "language: not told"): 1,
        ("picture_size", "picture smaller than 32 pixels"): 1,
        ("near_pictures", "near-duplicate picture"): 1,
        ("dedup", "near-duplicate question"): 1,
        ("minhash", "near-duplicate answer"): 1,
        ("decontaminate", "picture of a benchmark"): 1,
    }
    assert found["balance", "more than enough of kind caption"] == 3
    assert len(kept["curated"]) + found.total() == 13
    assert len(kept["curated"]) + len(kept["held-out"]) == 3
    assert main(["run", "curate.yaml", "out", "-o", "again"]) == 0
    assert (here / "again" / "rows.jsonl").read_text().splitlines() == kept["curated"]


def test_a_dropped_row_says_what_it_is_like(here: Path) -> None:
    foveal.run({"name": "c", "steps": [{"near_pictures": {"flips": True}}]}, here / "data.jsonl", out=here / "c")
    (database,) = (here / "c").glob("*.db")
    with closing(connect(database)) as db:
        (gone,) = db.execute("SELECT detail FROM units WHERE status='dropped'").fetchall()
    rows = [json.loads(line) for line in (here / "c" / "rows.jsonl").read_text().splitlines()]
    assert gone[0] == f"like {rows[0]['id']}"


def test_several_runs_and_files_at_once(here: Path) -> None:
    foveal.run({"name": "made", "steps": ["near_sides"]}, here / "data.jsonl", limit=4, out=here / "out")
    mixed = {"name": "m", "steps": [{"mix": {"by": "source", "weights": {"out": 1, "more.jsonl": 2}}}]}
    lines = (here / "data.jsonl").read_text().splitlines()
    (here / "more.jsonl").write_text("\n".join(lines[4:]) + "\n")
    done = foveal.run({**mixed, "source": ["out", "more.jsonl"]}, out=here / "mixed")
    sources = [json.loads(r)["tags"]["source"] for r in (here / "mixed" / "rows.jsonl").read_text().splitlines()]
    assert done.rows == 12
    assert Counter(s.partition(" row ")[0] for s in sources) == {"out": 4, "more.jsonl": 8}


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("minhash: {at: 2}", "minhash: at=2"),
        ("decontaminate: {against: [nowhere.json]}", "nowhere.json"),
        ("split: {take: validation}", "split: take='validation'"),
        ("balance: {bye: kind}", "no knob 'bye'; did you mean 'by'"),
    ],
)
def test_knobs_are_checked_before_anything_is_paid(
    here: Path, step: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "bad.yaml").write_text(f"name: bad\nsteps:\n  - caption\n  - {step}\n")
    model = Scripted([("", "never asked")])
    with pytest.raises((RecipeError, foveal.errors.SetupError)):  # type: ignore[attr-defined]
        foveal.run(yaml.safe_load((here / "bad.yaml").read_text()), here / "0.png", model=model, out=here / "bad")
    assert main(["run", "bad.yaml", "0.png", "-o", "bad"]) == BAD_SETUP
    assert said in capsys.readouterr().err


def test_the_page_tells_every_table_step_and_its_knobs() -> None:
    steps = recipe._tables()
    assert TABLE.keys() == steps.keys()
    for name, step in steps.items():
        assert re.findall(r"`(\w+)`", TABLE[name]) == list(step.knobs), name


def test_the_encoder_is_no_step() -> None:
    assert all(step.__module__.startswith("foveal.steps.") for step in (s.call for s in recipe._tables().values()))
