"""The run folder is what docs/run-folder.md says."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
import yaml

import foveal
from foveal.cli import main
from foveal.models.scripted import Scripted
from foveal.store import MIGRATIONS

PAGE = (Path(__file__).parents[2] / "docs" / "run-folder.md").read_text(encoding="utf-8")
RULES = """
- {match: hook, say: "What is it?"}
- {match: "caption", say: instruction}
- {match: ".", say: "5"}
"""
TREE = {"recipe.yaml", "run.json", "store.db", "rows.jsonl", "lock"}


@pytest.fixture
def folder(pictures: Callable[..., Path], tmp_path: Path, oasis_model: Scripted) -> Path:
    """Return the folder of a run from Python."""
    foveal.run("oasis", pictures(8), model=oasis_model, out=tmp_path / "out", clarity=2)
    return tmp_path / "out"


def test_the_tree(folder: Path) -> None:
    assert {p.name for p in folder.iterdir()} == TREE
    for name in (*TREE, "report.html", "export/", "images/"):
        assert f"`{name}" in PAGE


def test_the_tree_of_the_command_line(pictures: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(RULES)
    words = ["run", "oasis", pictures(2), "-o", tmp_path / "out", "--quiet", "--export", "llava", "--model"]
    assert main([*map(str, words), f"scripted:{tmp_path / 's.yaml'}"]) == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {*TREE, "report.html", "export"}
    assert [p.name for p in (tmp_path / "out" / "export").iterdir()] == ["llava"]


def test_the_schema(folder: Path) -> None:
    (block,) = re.findall(r"```\n(calls .*?)```", PAGE, re.DOTALL)
    told = {line.split()[0]: line.split(None, 1)[1] for line in block.splitlines()}
    with sqlite3.connect(folder / "store.db") as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        found = {t: ", ".join(f"{c[1]} {c[2]}" for c in db.execute(f"PRAGMA table_info({t})")) for t in tables}
        version = db.execute("PRAGMA user_version").fetchone()[0]
        application = db.execute("PRAGMA application_id").fetchone()[0]
    assert found == told
    assert version == len(MIGRATIONS)
    assert f"at present {version}." in PAGE
    assert f"0x{application:08X}" in PAGE


def test_values_that_the_page_names(folder: Path) -> None:
    with sqlite3.connect(folder / "store.db") as db:
        states = {s for (s,) in db.execute("SELECT state FROM runs")}
        statuses = {s for (s,) in db.execute("SELECT DISTINCT status FROM units")}
        prompts = {p for (p,) in db.execute("SELECT DISTINCT prompt FROM calls")}
        (meter,) = db.execute("SELECT meter FROM runs").fetchone()
    assert states == {"finished"}
    assert statuses == {"kept", "dropped"}
    assert {"hook", "oasis/clarity"} <= prompts
    assert {"made", "remembered", "tokens_in", "tokens_out", "cost", "by"} <= set(orjson.loads(meter))


def test_a_row(folder: Path) -> None:
    for line in (folder / "rows.jsonl").read_bytes().splitlines():
        row = orjson.loads(line)
        assert list(row) == ["id", "images", "body", "tags", "parent", "step"]
        assert [set(i) for i in row["images"]] == [{"digest", "source"}]
        assert row["body"]["kind"] == "chat"
        assert {"role", "content"} == set(row["body"]["turns"][0])


def test_what_was_run(folder: Path) -> None:
    told = orjson.loads((folder / "run.json").read_bytes())
    assert {"name", "source", "limit", "seed", "steps", "models", "versions"} <= set(told)
    assert {"name", "step", "kind", "roles", "knobs", "paper", "makes", "prompts"} <= set(told["steps"][0])
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert recipe["name"] == "oasis"
    assert recipe["models"] == {"vlm": "scripted", "llm": "scripted"}


def test_a_recipe_as_run_runs_again(pictures: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(RULES)
    model, out = f"scripted:{tmp_path / 's.yaml'}", tmp_path / "out"
    first = foveal.run("oasis", pictures(3), model=model, out=out, clarity=2)
    again = foveal.run(out / "recipe.yaml", out=out)
    assert (again.progress.meter.total.made, again.rows) == (0, first.rows)
