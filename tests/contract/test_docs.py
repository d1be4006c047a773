"""Pages say what the code does."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

import pytest

from foveal.cli import _parser
from foveal.recipe import all_methods

ROOT = Path(__file__).parents[2]
METHODS = all_methods()
(COMMANDS,) = [a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction)]


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_methods_page_names_its_paper_and_only_knobs_that_exist(name: str) -> None:
    step = METHODS[name]
    page = (step.folder / "README.md").read_text(encoding="utf-8")
    assert step.paper in page
    settings = re.findall(r"--set (\w+)=|`(\w+)=[^`]+`", page)
    named = {a or b for a, b in settings}
    assert named <= {*step.knobs, "proposer", "read"}, named
    assert re.search(r"^## .*paper", page, re.M | re.I)
    assert re.search(r"^## .*different", page, re.M | re.I)
    for role in step.roles:
        assert re.search(rf"\b{role}\b", page), role


@pytest.mark.parametrize("command", sorted(COMMANDS.choices))
def test_every_verb_is_in_the_readme_or_its_page(command: str) -> None:
    assert f"foveal {command}" in (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", sorted(COMMANDS.choices))
def test_every_option_has_a_meaning(command: str) -> None:
    budget = {"max_calls", "max_tokens", "max_cost", "max_time"}  # their group says it
    for action in COMMANDS.choices[command]._actions:
        assert action.help or action.dest in budget or action.dest == "port", action


def test_written_pages_are_current() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts" / "docs", "--check"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "src").rglob("README.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_inside_the_project_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8")):
        path = page.parent / target
        here = (ROOT / path.relative_to(ROOT).parts[0]).exists()  # a room that is still being built elsewhere
        assert path.exists() or not here, target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_that_pages_show_exist(page: Path) -> None:
    known = {o for sub in COMMANDS.choices.values() for a in sub._actions for o in a.option_strings}
    roles = {f"--{role}{end}" for step in METHODS.values() for role in step.roles for end in ("", "-name")}
    shown = r"\bfoveal (?:run|preview|show|export|methods|serve) [^\n`|]*"
    for line in re.findall(shown, page.read_text(encoding="utf-8")):
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", line.split("#")[0]):
            assert option in known | roles, line
