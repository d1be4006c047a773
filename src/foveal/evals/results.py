"""Figures with intervals as JSON and as a table, and the items behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson
from rich.table import Table
from rich.text import Text

from foveal import __version__
from foveal.evals.scored import Scored
from foveal.evals.stats import Measure, difference, estimate
from foveal.evals.suite import Asked
from foveal.runner.folder import write

VERSION = 1
"""Of the form of results.json; fields may be added, none is renamed."""


def figures(
    model: Mapping[str, Scored], against: Mapping[str, Scored] | None = None, seed: int = 0
) -> list[dict[str, Any]]:
    """Return a JSON object a figure: name, unit, better, model, and with a second model against and difference."""
    return [
        _figure(m, _same(m.name, (against or {}).get(name)), seed)
        for name, s in model.items()
        for m in s.measures
    ]  # fmt: skip


def _same(name: str, scored: Scored | None) -> Measure | None:
    return next((m for m in scored.measures if m.name == name), None) if scored else None


def _figure(measure: Measure, other: Measure | None, seed: int) -> dict[str, Any]:
    told: dict[str, Any] = {"name": measure.name, "unit": measure.unit, "better": measure.better}
    told["model"] = _plain(asdict(estimate(measure, seed)))
    if other is not None:
        told["against"] = _plain(asdict(estimate(other, seed)))
        if set(other.pictures) == set(measure.pictures):
            told["difference"] = _plain(asdict(difference(measure, other, seed)))
    return told


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields rounded, and null where there is no number: JSON has no NaN."""
    return {
        k: (None if math.isnan(v) else round(v, 6)) if isinstance(v, float) else v for k, v in fields.items()
    }  # fmt: skip


def write_results(
    folder: Path, about: Mapping[str, Any], told: Sequence[Mapping[str, Any]], models: Mapping[str, Asked],
    items: Mapping[str, Mapping[str, Scored]],
) -> dict[str, Any]:  # fmt: skip
    """Write results.json and items.jsonl; returns what results.json holds.

    Args:
        folder: where to.
        about: what was evaluated: `on`, `pictures`, `seed`, `evaluations`.
        told: from `figures`.
        models: "model" and perhaps "against" -> who answered.
        items: the same, and "arena" -> evaluation -> its rows.
    """
    who = {side: {"model": a.identity, "unanswered": a.unanswered} for side, a in models.items()}
    results = {"version": VERSION, "foveal": __version__, **about, "models": who, "figures": list(told)}
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "results.json", [orjson.dumps(results, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)])
    lines = (
        orjson.dumps({"eval": name, "by": side, **row}, option=orjson.OPT_APPEND_NEWLINE)
        for side, scores in items.items()
        for name, s in scores.items()
        for row in s.rows
    )
    write(folder / "items.jsonl", lines)
    return results


# --- the table -----------------------------------------------------------------------------------------------------


def table(results: Mapping[str, Any]) -> Table:
    """Return the figures as a table for the terminal; a star marks a difference whose interval leaves out zero."""
    two = "against" in results["models"]
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("", no_wrap=True)
    for name in ("model", *(("against", "difference") if two else ())):
        shown.add_column(name, justify="right")
    shown.add_column("n", justify="right")
    for head, of in groupby(results["figures"], lambda figure: figure["name"].partition("/")[0]):
        shown.add_row(Text(head, style="bold"))
        for figure in of:
            shown.add_row(*_cells(figure, two))
    return shown


def _cells(figure: Mapping[str, Any], two: bool) -> list[Text | str]:
    arrow = {"higher": " ↑", "lower": " ↓"}.get(figure["better"], "")
    unit = figure["unit"]
    name = figure["name"].partition("/")[2]
    cells: list[Text | str] = [Text(f"  {name}{arrow}"), _told(figure["model"], unit)]
    if two:
        cells.append(_told(figure["against"], unit) if "against" in figure else "")
        cells.append(_gap(figure["difference"], unit, figure["better"]) if "difference" in figure else "")
    return [*cells, str(figure["model"]["n"])]


def _told(estimate: Mapping[str, Any], unit: str) -> str:
    if estimate["low"] is None:
        return _number(estimate["value"], unit)
    low, high = (_number(estimate[end], unit) for end in ("low", "high"))
    return f"{_number(estimate['value'], unit)} [{low}, {high}]"


def _number(value: float | None, unit: str, sign: str = "") -> str:
    if value is None:
        return "-"
    return {"share": f"{100 * value:{sign}.1f}", "words": f"{value:{sign}.1f}"}.get(unit, f"{value:{sign}.3f}")


def _gap(gap: Mapping[str, Any], unit: str, better: str) -> Text:
    if gap["value"] is None or gap["low"] is None:
        return Text(f"{_number(gap['value'], unit, '+')} ")
    low, high = (_number(gap[end], unit, "+") for end in ("low", "high"))
    clear = not gap["low"] <= 0 <= gap["high"]
    style = "" if not clear or not better else "green" if (gap["low"] > 0) == (better == "higher") else "red"
    return Text(f"{_number(gap['value'], unit, '+')} [{low}, {high}]{'*' if clear else ' '}", style=style)
