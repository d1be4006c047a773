"""What exists: the list of methods, and one method's page."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Iterator
from typing import Any

import orjson
from rich.console import Group, RenderableType
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from foveal.errors import RecipeError, nearest
from foveal.recipe import Step, all_methods
from foveal.view.numbers import as_text


def show(name: str | None = None, as_json: bool = False) -> str:
    """Return the list of methods, or one method's page, as text or as JSON text.

    Raises:
        RecipeError: there is no such method; the nearest is named.
    """
    found = all_methods()
    if name is None:
        lines = [describe(step) for step in found.values()]
        return _dump(lines) if as_json else as_text(_list(list(found.values())))
    if name not in found:
        raise RecipeError(f"no method is called {name!r}{nearest(name, found)}")
    return _dump(page(found[name])) if as_json else as_text(Group(*_page(found[name])))


def _dump(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str).decode()


def describe(step: Step) -> dict[str, Any]:
    """Return a method as JSON values: name, kind, paper, roles, knobs."""
    knobs = {k.name: {"type": type_name(k.type), "default": k.default} for k in step.knobs.values()}
    return {
        "name": step.name,
        "kind": step.makes,
        "paper": step.paper,
        "about": _first_line(step),
        "roles": list(step.roles),
        "knobs": knobs,
    }


def page(step: Step) -> dict[str, Any]:
    """Return a method's page as JSON values: as `describe`, and what parameters mean, prompts, figures."""
    told = arguments(step)
    said = describe(step)
    roles = {role: told.get(role, "") for role in step.roles}
    for name, knob in said["knobs"].items():
        knob["about"] = told.get(name, "")
    prompts = {name: step.prompts.text(name) for name in step.prompts.names()} if step.prompts else {}
    return {**said, "roles_about": roles, "prompts": prompts, "figures": figures(step), "doc": step.doc}


def _first_line(step: Step) -> str:
    return step.doc.split("\n", 1)[0]


def type_name(given: Any) -> str:
    """Return a knob's type as a person would write it."""
    if typing.get_origin(given) is typing.Literal:
        return " | ".join(str(a) for a in typing.get_args(given))
    if isinstance(given, types.UnionType) or typing.get_origin(given) is typing.Union:
        return " | ".join(type_name(a) for a in typing.get_args(given))
    if given is type(None):
        return "none"
    return given.__name__ if isinstance(given, type) and not typing.get_args(given) else str(given)


def arguments(step: Step) -> dict[str, str]:
    """Return what the function's documentation says of each parameter (its "Args:" section)."""
    doc = inspect.getdoc(step.call) or ""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)*)", doc, re.MULTILINE)
    told: dict[str, str] = {}
    for name, text in re.findall(r"^    (\w+): (.*(?:\n {8,}.*)*)", section.group(1) if section else "", re.MULTILINE):
        told[name] = " ".join(text.split())
    return told


def figures(step: Step) -> str:
    """Return the section of the method's README.md that holds its figures, "" when there is none."""
    readme = step.folder / "README.md"
    if not readme.is_file():
        return ""
    text = readme.read_text(encoding="utf-8")
    found = re.search(r"^(#+) [^\n]*(?:figures|results|numbers)[^\n]*\n(.*?)(?=^\1 |\Z)", text, re.M | re.S | re.I)
    return found.group(0).strip() if found else ""


# --- as text -------------------------------------------------------------------------------------------------------


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _list(steps: list[Step]) -> RenderableType:
    table = _table("method", "makes", "paper", "roles", "")
    for step in steps:
        about = re.sub(r"^[\w\- ]+ \(\d{4}\.\d{4,5}\): ", "", _first_line(step))
        table.add_row(Text(step.name, "bold"), step.makes, step.paper, ", ".join(step.roles), Text(about))
    return Group(table, Text("\nfoveal methods NAME shows roles, knobs, prompts and figures", "dim"))


def _page(step: Step) -> Iterator[RenderableType]:
    told = page(step)
    head = Text(step.name, "bold").append(f"  makes {step.makes or 'rows'}", "dim")
    yield head.append(f"  https://arxiv.org/abs/{step.paper}", "dim") if step.paper else head
    yield Text(f"\n{step.doc}\n")
    yield _defined("role", [(name, about) for name, about in told["roles_about"].items()])
    yield Text()
    table = _table("knob", "default", "type", "")
    for name, knob in told["knobs"].items():
        table.add_row(Text(name, "bold"), Text(_default(knob["default"])), Text(knob["type"]), Text(knob["about"]))
    yield table
    if told["prompts"]:
        yield Text(f"\nprompts: {', '.join(told['prompts'])}")
        yield Text(
            "To use your own, put a file of the same name (NAME.md) in a folder and give it as --prompts DIR.", "dim"
        )
    if told["figures"]:
        yield Text()
        yield Markdown(told["figures"])


def _default(value: Any) -> str:
    return "" if value is inspect.Parameter.empty else f"{value:g}" if isinstance(value, float) else str(value)


def _defined(name: str, lines: list[tuple[str, str]]) -> Table:
    table = _table(name, "")
    for term, about in lines:
        table.add_row(Text(term, "bold"), Text(about))
    return table
