"""Imports go down only; rooms on one line do not import each other. No exceptions, deferred imports included."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import foveal

HOUSE = Path(foveal.__file__).parent
LINES = [
    {"errors"},
    {"record", "picture", "journal", "extras"},
    {"store"},
    {"data", "prompts", "scrapbook"},
    {"models"},
    {"steps"},
    {"methods"},
    {"recipe"},
    {"runner"},
    {"view", "train", "evals"},
    {"proof"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
"""From the ground up. `record` and `errors` are the ground floor: `record` may raise what `errors` names."""


def room(path: Path) -> str:
    parts = path.relative_to(HOUSE).parts
    return parts[0].removesuffix(".py")


def height(name: str) -> int:
    return next(i for i, line in enumerate(LINES) if name in line)


def imported(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            parts = node.module.split(".")
            if parts[0] == "foveal":
                rooms |= {parts[1]} if len(parts) > 1 else {a.name for a in node.names if a.name != "__version__"}
        elif isinstance(node, ast.Import):
            rooms |= {a.name.split(".")[1] for a in node.names if a.name.startswith("foveal.")}
    return rooms


FILES = [p for p in sorted(HOUSE.rglob("*.py")) if p.name != "__init__.py" or p.parent != HOUSE]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(HOUSE)))
def test_imports_go_down(path: Path) -> None:
    own = room(path)
    for other in imported(path):
        assert other == own or height(other) < height(own), f"{own} must not import {other}"


def test_every_room_has_its_line() -> None:
    rooms = {room(p) for p in FILES}
    assert rooms <= set().union(*LINES)


def test_relative_imports_do_not_hide_edges() -> None:
    for path in FILES:
        levels = [n.level for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)]
        assert not any(levels), path
