"""One picture a claim: each expectation's difference with its interval, and the seeds it is the mean of."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foveal.errors import MissingExtra

COLOURS = {
    "holds": "#1a7f37", "opposite": "#c0392b", "does not hold": "#b07d00", "undecided": "#6e7781", "failed": "#c0392b",
}  # fmt: skip


def plot(claim: Mapping[str, Any], folder: Path) -> Path:
    """Draw a claim of results.json as SVG; returns the file.

    Raises:
        MissingExtra: matplotlib is not there.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise MissingExtra("plots", "proof") from error
    matplotlib.use("svg")
    from matplotlib import pyplot

    rows = [e for e in reversed(claim["expects"]) if e.get("low") is not None]
    folder.mkdir(parents=True, exist_ok=True)
    with pyplot.rc_context({"svg.hashsalt": claim["name"], "svg.fonttype": "none", "font.size": 9}):
        figure, axes = pyplot.subplots(figsize=(9, 0.9 + 0.5 * max(1, len(rows))), layout="constrained")
        for at, row in enumerate(rows):
            _draw(axes, at, row)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(range(len(rows)), ["\n".join(textwrap.wrap(row["says"], 44)) for row in rows])
        axes.set_xlabel("difference, in points (words: in words)")
        axes.set_title(claim["name"], loc="left", fontweight="bold")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        path = folder / f"{claim['name']}.svg"
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)
    return path


def _draw(axes: Any, at: int, row: Mapping[str, Any]) -> None:
    scale = 100 if row["unit"] == "share" else 1
    value, low, high = (scale * row[end] for end in ("value", "low", "high"))
    colour = COLOURS[row["verdict"]]
    if row["way"] == "kept":
        axes.plot([-scale * row["margin"]] * 2, [at - 0.3, at + 0.3], color="black", linewidth=0.8, linestyle=":")
    axes.plot([low, high], [at, at], color=colour, linewidth=2, solid_capstyle="butt")
    axes.plot([scale * s["value"] for s in row["by_seed"]], [at] * len(row["by_seed"]), "|", color=colour, markersize=9)
    axes.plot([value], [at], "o", color=colour, markersize=5)
    told = f"{row['metric']}  {row['verdict']}"
    axes.annotate(
        told,
        (1.01, at),
        xycoords=("axes fraction", "data"),
        va="center",
        fontsize=8,
        color=colour,
        annotation_clip=False,
    )
