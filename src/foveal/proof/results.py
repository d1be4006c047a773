"""What a proof found: results.json, tables for the terminal, and the page."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from rich.table import Table
from rich.text import Text

from foveal import __version__
from foveal.evals.stats import Measure
from foveal.proof.claim import Arm, Claim, Expect
from foveal.proof.pooled import Pooled, gap, pooled, verdict
from foveal.proof.prove import Outcome, Proof, setting_json
from foveal.runner.folder import write

VERSION = 1
"""Of the form of results.json; fields may be added, none is renamed."""
STYLES = {"holds": "green", "opposite": "red", "failed": "red bold", "does not hold": "yellow", "undecided": "dim"}


def results_of(proof: Proof, smoke: bool = False) -> dict[str, Any]:
    """Return all of it as JSON values."""
    return {
        "version": VERSION,
        "foveal": __version__,
        "smoke": smoke,
        **setting_json(proof.setting),
        "identities": proof.identities,
        "done": len(proof.outcomes),
        "claims": [_claim(claim, proof) for claim in proof.setting.claims],
    }


def write_results(folder: Path, results: Mapping[str, Any]) -> Path:
    """Write results.json; returns its place."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.json"
    write(path, [orjson.dumps(results, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)])
    return path


def _claim(claim: Claim, proof: Proof) -> dict[str, Any]:
    return {
        "name": claim.name,
        "paper": claim.paper,
        "about": claim.about,
        "notes": list(claim.notes),
        "metrics": list(claim.metrics),
        "arms": [_arm(claim, arm, proof.of(arm)) for arm in claim.arms],
        "expects": [_expect(e, proof.of(claim.arm(e.of)), proof.of(claim.arm(e.than))) for e in claim.expects],
    }


def _arm(claim: Claim, arm: Arm, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    figures = {}
    for name in claim.metrics:
        found = [o.measures[name] for o in outcomes if name in o.measures]
        if found:
            figures[name] = {
                "unit": found[0].unit,
                "better": found[0].better,
                **_told(_bounded(pooled(found), found[0])),
            }
    return {
        "name": arm.name,
        "about": arm.about,
        "rows": [o.rows for o in outcomes],
        "seconds": [round(o.seconds, 1) for o in outcomes],
        "losses": [[round(o.losses[0], 4), round(o.losses[-1], 4)] if o.losses else None for o in outcomes],
        "errors": [f"seed {seed}: {o.error}" for seed, o in enumerate(outcomes) if o.error],
        "figures": figures,
    }


def _bounded(figure: Pooled, measure: Measure) -> Pooled:
    """Return a share whose interval ends at 0 and 1."""
    if measure.unit != "share" or math.isnan(figure.low):
        return figure
    return Pooled(figure.value, max(0.0, figure.low), min(1.0, figure.high), figure.seeds)


def _expect(expect: Expect, of: Sequence[Outcome], than: Sequence[Outcome]) -> dict[str, Any]:
    about = {
        "says": expect.says, "metric": expect.metric, "of": expect.of, "than": expect.than, "way": expect.way,
        "margin": expect.margin,
    }  # fmt: skip
    pairs = [(o.measures.get(expect.metric), t.measures.get(expect.metric)) for o, t in zip(of, than, strict=True)]
    gaps = [gap(one, other) for one, other in pairs if one is not None and other is not None]
    if not gaps or len(gaps) < len(pairs):
        return {**about, "unit": "", "verdict": "failed"}
    told = pooled(gaps)
    found = verdict(expect.way, gaps[0].better, expect.margin, told.low, told.high)
    return {**about, "unit": gaps[0].unit, **_told(told), "verdict": found}


def _told(figure: Pooled) -> dict[str, Any]:
    ends = ("value", "low", "high")
    seeds = [dict(zip(ends, map(_plain, seed), strict=True)) for seed in figure.seeds]
    return {name: _plain(getattr(figure, name)) for name in ends} | {"by_seed": seeds}


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)


# --- for the terminal ------------------------------------------------------------------------------------------------


def tables(results: Mapping[str, Any]) -> Iterator[Table | Text]:
    """Yield two tables a claim: its arms with their figures, and what was expected of them."""
    for claim in results["claims"]:
        yield Text(f"\n{claim['name']} ({claim['paper']}): {claim['about']}", style="bold")
        yield _arms(claim)
        yield _expects(claim)


def _arms(claim: Mapping[str, Any]) -> Table:
    shown = _empty("arm", *(f"{m}{_arrow(claim, m)}" for m in claim["metrics"]), "rows", "s")
    for arm in claim["arms"]:
        cells = [_cell(arm["figures"].get(m)) for m in claim["metrics"]]
        rows, seconds = (_mean(arm[name]) for name in ("rows", "seconds"))
        shown.add_row(arm["name"], *cells, rows, seconds)
    return shown


def _empty(first: str, *others: str) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column(first)
    for name in others:
        shown.add_column(name, justify="right")
    return shown


def _arrow(claim: Mapping[str, Any], metric: str) -> str:
    better = next((a["figures"][metric]["better"] for a in claim["arms"] if metric in a["figures"]), "")
    return {"higher": " ↑", "lower": " ↓"}.get(better, "")


def _mean(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.0f}" if any(values) else ""


def _cell(figure: Mapping[str, Any] | None) -> str:
    return "failed" if figure is None else interval(figure, figure["unit"])


def interval(figure: Mapping[str, Any], unit: str, sign: str = "") -> str:
    """Return "30.1 [27.0, 33.2]": shares in percent, differences of shares in points."""
    if figure["low"] is None:
        return _number(figure["value"], unit, sign)
    low, high = (_number(figure[end], unit, sign) for end in ("low", "high"))
    return f"{_number(figure['value'], unit, sign)} [{low}, {high}]"


def _number(value: float | None, unit: str, sign: str) -> str:
    if value is None:
        return "-"
    return {"share": f"{100 * value:{sign}.1f}", "words": f"{value:{sign}.1f}"}.get(unit, f"{value:{sign}.3f}")


def _expects(claim: Mapping[str, Any]) -> Table:
    shown = _empty("expected", "figure", "of - than", "difference", "")
    shown.columns[1].justify = shown.columns[2].justify = shown.columns[4].justify = "left"
    for e in claim["expects"]:
        gap_ = interval(e, e["unit"], "+") if "value" in e else ""
        verdict_ = Text(e["verdict"], style=STYLES[e["verdict"]])
        shown.add_row(e["says"], e["metric"], f"{e['of']} - {e['than']}", gap_, verdict_)
    return shown


# --- the page --------------------------------------------------------------------------------------------------------

MARK = "<!-- Below: written by `foveal prove --write`; edit the code instead. -->"
RESULTS = """## Results

Shares in percent, their differences in points, with 95 % intervals."""
SMOKE = "This was the smoke version, which tests the machinery: its figures mean nothing."


def write_page(page: Path, results: Mapping[str, Any], plots: Mapping[str, Path], command: str) -> None:
    """Put the results into a page below its mark, and the plots into a folder of its name beside it.

    Args:
        page: made when it is not there; what stands above the mark stays, and so do claims that were not run now.
        results: from `results_of`.
        plots: claim -> picture.
        command: what was run.
    """
    before = page.read_text(encoding="utf-8") if page.is_file() else "# The proof\n\n"
    head, _, below = before.partition(MARK)
    beside = page.with_suffix("")
    page.parent.mkdir(parents=True, exist_ok=True)
    shown = {}
    for claim, plot in plots.items():
        beside.mkdir(exist_ok=True)
        (beside / plot.name).write_bytes(plot.read_bytes())
        shown[claim] = f"{beside.name}/{plot.name}"
    ran = _ran(results, command)
    sections = _sections(below) | {
        c["name"]: "\n".join(_page_of(c, shown.get(c["name"]), ran)) for c in results["claims"]
    }
    parts = [head.rstrip(), f"{MARK}\n\n{RESULTS}", *(sections[name].strip() for name in sorted(sections))]
    write(page, ["\n\n".join(parts).encode() + b"\n"])


def _sections(below: str) -> dict[str, str]:
    """Return claim -> its section, of what stands below the mark of a page."""
    found = (f"### {section}" for section in re.split(r"^### ", below, flags=re.MULTILINE)[1:])
    return {section.split(maxsplit=2)[1]: section for section in found}


def _ran(results: Mapping[str, Any], command: str) -> str:
    """Return what was run, on what weights."""
    who = ", ".join(f"{role} {_who(results[role], results['identities'][role])}" for role in ("subject", "teacher"))
    seeds = f"{results['done']} seed{'s' if results['done'] > 1 else ''}"
    told = f"`{command}`: foveal {results['foveal']}, {who}, {seeds}, {results['sizes']['held']} held-out scenes each."
    return f"{told} {SMOKE}" if results["smoke"] else told


def _who(spec: str, identity: str) -> str:
    return f"`{spec}`" if spec == identity else f"`{spec}` ({identity})"


def _page_of(claim: Mapping[str, Any], plot: str | None, ran: str) -> Iterator[str]:
    yield f"### {claim['name']} ([{claim['paper']}](https://arxiv.org/abs/{claim['paper']}))\n"
    yield f"{claim['about']}\n"
    yield f"{ran}\n"
    yield "| expected | figure | difference | verdict |\n|---|---|---|---|"
    for e in claim["expects"]:
        told = interval(e, e["unit"], "+") if "value" in e else ""
        yield f"| {e['says']} ({e['of']} - {e['than']}) | {e['metric']} | {told} | {_marked(e['verdict'])} |"
    if plot:
        yield f"\n![{claim['name']}: differences with intervals]({plot})"
    yield "\n| arm | " + " | ".join(f"{m}{_arrow(claim, m)}" for m in claim["metrics"]) + " | rows |"
    yield "|---" * (len(claim["metrics"]) + 2) + "|"
    for arm in claim["arms"]:
        cells = " | ".join(_cell(arm["figures"].get(m)) for m in claim["metrics"])
        yield f"| **{arm['name']}**: {arm['about']} | {cells} | {_mean(arm['rows'])} |"
    yield ""
    yield from (f"- {note}" for note in claim["notes"])
    yield from (f"- {arm['name']} failed, {error}" for arm in claim["arms"] for error in arm["errors"])
    yield ""


def _marked(verdict_: str) -> str:
    return f"**{verdict_}**" if verdict_ in ("holds", "opposite", "failed") else verdict_
