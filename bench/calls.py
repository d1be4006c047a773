"""Calls and tokens for each row that is kept, by method, beside what the reference spends on the same decisions.

`python bench/calls.py [-n 60] [--only oasis,mmevol]`, with the extras [small], [scrapbook] and [evals].

Every method runs on Scrapbook scenes. The embedded model plays what it can: Oasis, SeVa, continuation. In the others
the truth asks, judges and rewrites, and the embedded model answers; of answers that the truth evolves a third is
spoilt, so that elimination has something to do. `thinking` is left out: nobody here can reason. The reference is the
released code's way through the same records (each method's page tells its steps): every step for every record that came
to it, no early exit, a call where foveal needs none. Its calls are counted at the size that they have here, so that
only their number differs. Tokens are characters / 4, and a picture counts by itself.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

import foveal
from foveal.data import open_source
from foveal.evals.shots import load_shots
from foveal.models.connect import connect
from foveal.models.oracle import Oracle
from foveal.models.wire import Backend, Request
from foveal.proof.data import asked
from foveal.record import Chat
from foveal.runner.local import Run
from foveal.scrapbook import make
from foveal.store import connect as open_store

SEED = 41_000_000
ANSWER, HOOK = "the method's own words", "hook"


@dataclass(frozen=True)
class Spent:
    """What calls of one prompt came to: their number, characters both ways, pictures shown."""

    calls: int
    letters: int
    pictures: int


Counts = Mapping[str, Spent]
Reference = Callable[[Counter[str], int], Mapping[str, float]]
"""Our calls by prompt and the records -> the reference's calls by prompt."""


def oasis(c: Counter[str], _: int) -> Mapping[str, float]:
    judged = c["sensible"]  # the first judge: every instruction comes to it
    judges = dict.fromkeys(("sensible", "clarity", "grounded", "solvable"), judged)
    return {HOOK: c[HOOK], "extract": c["kind"], **judges, ANSWER: c[ANSWER]}


def mmevol(c: Counter[str], _: int) -> Mapping[str, float]:
    return {"evolve": c["evolve"], "improved": c["evolve"]}


def faithful(c: Counter[str], _: int) -> Mapping[str, float]:
    return {ANSWER: 2 * c[ANSWER], "caption_true": c["caption_true"]}  # a caption, and its division by a model


def evolve_prompt(_: Counter[str], n: int) -> Mapping[str, float]:
    return {"match": 2 * n, "criticise": n, "improve": n, ANSWER: n}


@dataclass(frozen=True)
class Case:
    """A method as it is run here.

    Attributes:
        given: "pictures", or "questions" with answers about them.
        reference: None where no code was released.
        note: what the reference does not do, or why there is none.
    """

    given: str
    reference: Reference | None
    note: str = ""
    knobs: Mapping[str, Any] | None = None


CASES: Mapping[str, Case] = {
    "oasis": Case("pictures", oasis, "captions are not recycled: the released code does not", {"captions": False}),
    "seva": Case("questions", lambda c, n: c, "the same calls", {"perturb": ["diffusion:500"], "side": 224}),
    "mmevol": Case("questions", mmevol, "its judge sees no picture and compares with the first version"),
    "caption": Case("pictures", lambda c, n: {ANSWER: n}, "checks nothing"),
    "faithful-caption": Case("pictures", faithful),
    "caption-conversation": Case("pictures", lambda c, n: {ANSWER: 6 * n, "questions": n}, "checks nothing"),
    "evolve-prompt": Case("questions", evolve_prompt),
    "match-score": Case("questions", lambda c, n: {"match": n}),
    "omnialign-select": Case("pictures", None, "not released"),
    "omnialign": Case("pictures", None, "not released", {"tasks": ["knowledge", "inferential"], "enrich": False}),
    "continuation": Case("questions", None, "no such pipeline"),
}


class Spoiling(Oracle):
    """The oracle, that spoils a third of the answers it evolves; a writer answers."""

    def _said(self, request: Request) -> str:
        said = super()._said(request)
        if not request.choices and "\nAnswer:" in said and request.seed % 3 == 0:
            return "\n".join("Answer: Nothing of the kind." if x.startswith("Answer:") else x for x in said.split("\n"))
        return said


def sources(folder: Path, n: int) -> dict[str, Path]:
    """Draw scenes, and write questions about them with their true answers; returns what can be given -> where."""
    scenes = folder / "scenes"
    make(scenes, n, SEED, "train", workers=1)
    rows = [r for shot in load_shots(scenes) for r in asked(shot, 2, 0)[1:]]
    lines = [{"image": r.images[0].source, "conversations": _talk(r.body)} for r in rows if isinstance(r.body, Chat)]
    chats = folder / "chats.jsonl"
    chats.write_bytes(b"\n".join(map(orjson.dumps, lines)))
    return {"pictures": scenes, "questions": chats}


def _talk(body: Chat) -> list[dict[str, str]]:
    return [{"from": "human" if t.role == "user" else "gpt", "value": t.text} for t in body.turns]


def players(method: str, scenes: Path) -> Backend:
    """Return who plays all roles of a method."""
    if method in ("oasis", "continuation", "seva"):
        return connect("small")
    if method == "mmevol":
        return Spoiling(scenes)
    return Oracle(scenes, connect("small"), asks=True)


def spent(run: Run) -> dict[str, Spent]:
    """Return prompt -> what its calls came to."""
    found: dict[str, Spent] = {}
    with open_store(run.folder / "store.db", read_only=True) as db:
        for prompt, request, reply in db.execute("SELECT prompt, request, reply FROM calls"):
            said = orjson.loads(request)
            parts = [p for _, *own in said["messages"] for p in own]
            letters = sum(len(p) for p in parts if isinstance(p, str)) + len(orjson.loads(reply).get("text", ""))
            name = prompt.rpartition("/")[2] or ANSWER
            before = found.get(name, Spent(0, 0, 0))
            pictures = sum(not isinstance(p, str) for p in parts)
            found[name] = Spent(before.calls + 1, before.letters + letters, before.pictures + pictures)
    return found


def totals(counts: Counts) -> tuple[float, float, float]:
    """Return calls, tokens and pictures in all."""
    every = counts.values()
    return sum(s.calls for s in every), sum(s.letters for s in every) / 4, sum(s.pictures for s in every)


def reference(case: Case, counts: Counts, records: int) -> tuple[float, float, float]:
    """Return calls, tokens and pictures of the reference on the same records, each call of the size it has here."""
    assert case.reference is not None
    wanted = case.reference(Counter({name: s.calls for name, s in counts.items()}), records)
    usual = [sum(part) / len(counts) for part in zip(*(_each(s) for s in counts.values()), strict=True)]
    sums = [0.0, 0.0, 0.0]
    for name, calls in wanted.items():
        letters, pictures = _each(counts[name]) if name in counts else usual
        sums = [sums[0] + calls, sums[1] + calls * letters / 4, sums[2] + calls * pictures]
    return sums[0], sums[1], sums[2]


def _each(s: Spent) -> tuple[float, float]:
    return s.letters / s.calls, s.pictures / s.calls


def measured(names: Sequence[str], n: int) -> Iterator[dict[str, Any]]:
    """Yield a line for each method."""
    with tempfile.TemporaryDirectory() as place:
        given = sources(Path(place), n)
        for name in names:
            case = CASES[name]
            source = given[case.given]
            model = players(name, given["pictures"])
            run = foveal.run(name, source, model=model, out=Path(place) / name, **(case.knobs or {}))
            counts, records = spent(run), open_source(source).count() or n
            line = {"method": name, "records": records, "rows": run.rows, "failed": sum(run.progress.failed.values())}
            theirs = reference(case, counts, records) if case.reference else None
            yield line | {"ours": totals(counts), "reference": theirs, "note": case.note}


def told(line: Mapping[str, Any]) -> str:
    """Return a line of the table, by row that was kept."""
    rows = max(line["rows"], 1)
    ours = [f"{x / rows:.1f}" for x in line["ours"]]
    theirs = [f"{x / rows:.1f}" for x in line["reference"]] if line["reference"] else ["–"] * 3
    ratio = f"{line['ours'][0] / line['reference'][0]:.2f}" if line["reference"] else "–"
    cells = (line["method"], line["records"], line["rows"], *(" / ".join(p) for p in zip(ours, theirs, strict=True)))
    return "| " + " | ".join(map(str, (*cells, ratio, line["note"]))) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=60, help="scenes")
    parser.add_argument("--only", default="", help="methods, separated by commas")
    args = parser.parse_args()
    names = [name for name in args.only.split(",") if name] or list(CASES)
    print("for each row kept: ours / reference\n")
    print("| method | records | rows | calls | tokens | pictures | calls, ratio | the reference |")
    print("|---|---|---|---|---|---|---|---|")
    for line in measured(names, args.n):
        print(told(line), flush=True)


if __name__ == "__main__":
    main()
