"""The rows of an arm: original ones from the truth, those a method makes, and what is derived from them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from foveal.data import Source
from foveal.errors import RunStopped, SourceError
from foveal.evals.answer import Shot
from foveal.proof.cast import Cast
from foveal.proof.claim import Contrast, Labelled, Made, Part, Sampled, Upsampled, recipe_for
from foveal.recipe import bind, with_backends
from foveal.record import Chat, Pair, Record, body_to_json, digest
from foveal.runner.folder import write
from foveal.runner.local import Run, run_plan
from foveal.runner.waiting import wait
from foveal.scrapbook.truth import fact, fact_of


@dataclass
class Kitchen:
    """Makes the rows of one seed; runs are shared between all arms that name the same one.

    Attributes:
        folder: of the seed's data.
        seed: of runs, questions and draws.
        shots: the training scenes.
        who: "subject", "teacher", "truth" and "asker" -> spec.
        made: calls paid; `remembered`: calls that were not.
    """

    folder: Path
    seed: int
    shots: Sequence[Shot]
    who: Mapping[str, str]
    cast: Cast
    made: int = 0
    remembered: int = 0
    _runs: dict[str, list[Record]] = field(default_factory=dict)

    def rows(self, part: Part) -> list[Record]:
        """Return the rows of a part.

        Raises:
            SetupError: something is not there; nothing has been paid.
            RunStopped: a signal; the same call continues.
        """
        match part:
            case Labelled():
                return self._labelled(part)
            case Made():
                return self._made(part)
            case Sampled(of=made):
                return sampled(self._made(made), part.rows, self.seed)
            case Upsampled(of=original, like=other):
                return upsampled(self._labelled(original), len(self.rows(other)), self.seed)
            case Contrast(of=made):
                return [contrasted(r) for r in self._made(made)]

    def write(self, parts: Sequence[Part], name: str) -> Path:
        """Write the rows of an arm as `foveal train` reads them; returns the folder.

        Raises:
            SourceError: there are none.
        """
        rows = [row for part in parts for row in self.rows(part)]
        if not rows:
            raise SourceError(f"{name}: no row is left of {len(self.shots)} scenes, so there is nothing to train on")
        folder = self.folder / "rows" / name
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / "rows.jsonl", [orjson.dumps(as_row(r), option=orjson.OPT_APPEND_NEWLINE) for r in rows])
        return folder

    def _labelled(self, part: Labelled) -> list[Record]:
        shots = self.shots[part.first : part.first + part.scenes]
        return [r for shot in shots for r in asked(shot, part.each, self.seed)]

    def _made(self, part: Made) -> list[Record]:
        name = slug(part.method, part)
        if name not in self._runs:
            self._runs[name] = list(self._run(part, self.folder / "runs" / name).records())
            for record in self._runs[name]:
                for image in record.images:
                    image.source = opened(image.source, self.folder / "runs" / name)
        return self._runs[name]

    def _run(self, part: Made, folder: Path) -> Run:
        shots = self._shots(part)
        plain = [Record((s.image,), None, {"source": s.image.source}) for s in shots]
        given = [r for s in shots for r in asked(s, part.each, self.seed)] if part.given == "questions" else plain
        where = f"{len(given)} {part.given}"
        recipe = recipe_for(part).model_copy(update={"source": where, "seed": self.seed})
        plan = bind(recipe)
        names = {role: part.roles.get(role, part.by) for role in plan.roles}
        players = {name: self.cast.open(self.who[name]) for name in sorted(set(names.values()))}
        plan = with_backends(plan, {role: players[name] for role, name in names.items()})
        source = Source("rows", where, lambda: iter(given), lambda: len(given), Counter())
        run = wait(run_plan(plan, source, folder, self._calls(folder)))
        self.made += run.progress.meter.total.made
        self.remembered += run.progress.meter.total.remembered
        if run.state == "stopped":
            raise RunStopped(run.note)
        return run

    def _shots(self, part: Made) -> list[Shot]:
        shots = list(self.shots[part.first : part.first + part.scenes])
        if part.on is None:
            return shots
        chosen = {image.digest for row in self._made(part.on) for image in row.images}
        return [shot for shot in shots if shot.image.digest in chosen]

    def _calls(self, folder: Path) -> Path | None:
        """Return the run whose calls all others use: what was asked there is not paid twice."""
        note = self.folder / "runs" / "calls"
        named = folder.with_name(note.read_text(encoding="utf-8")) if note.exists() else folder
        if named != folder and (named / "store.db").exists():
            return named
        note.parent.mkdir(parents=True, exist_ok=True)
        write(note, [folder.name.encode()])
        return None


def slug(name: str, part: Any) -> str:
    """Return a name for a folder: the part's, and the beginning of a digest of all that it says."""
    return f"{name}-{digest(orjson.dumps(_said(asdict(part)), option=orjson.OPT_SORT_KEYS))[:8]}"


LATER: Mapping[str, Any] = {"roles": {}, "on": None}
"""Fields that parts did not have at first: left out where they say nothing, so that an older proof is gone on with."""


def _said(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _said(v) for k, v in value.items() if k not in LATER or v != LATER[k]}
    return [_said(v) for v in value] if isinstance(value, list | tuple) else value


def opened(source: str, run: Path) -> str:
    """Return a source that can be read without its run: of a picture that the run made, the file."""
    name = source.removeprefix("blob:")
    return source if name == source else str(run / "images" / name[:2] / name)


# --- questions with their answers ------------------------------------------------------------------------------------


def asked(shot: Shot, n: int, seed: int) -> list[Record]:
    """Return n questions about a scene with their true answers, the first of them for a description."""
    nouns = _nouns()
    rng = random.Random(digest("asked", str(seed), shot.image.digest))
    facts = [fact_of("describe", shot.scene, rng, nouns)]
    while len(facts) < n:
        facts.append(fact(shot.scene, rng, nouns, leave_out=("describe", "chart", "table", "ocr")))
    rows = [
        Record((shot.image,), Chat((("user", f.question), ("assistant", f.answer))),
               {"source": shot.image.source, "topic": f.topic})
        for f in facts[:n] if f
    ]  # fmt: skip
    return list({row.id: row for row in rows}.values())


def _nouns() -> list[str]:
    from foveal.scrapbook.scene import looks

    return sorted({look.noun for look in looks()})


def upsampled(rows: Sequence[Record], n: int, seed: int) -> list[Record]:
    """Return n rows: all in turn, in another order each time around, so that none comes much more often than others."""
    rng, out = random.Random(digest("upsampled", str(seed))), list[Record]()
    while rows and len(out) < n:
        out += rng.sample(list(rows), len(rows))
    return out[:n]


def sampled(rows: Sequence[Record], n: int, seed: int) -> list[Record]:
    """Return n rows drawn at random, in the order they came in."""
    drawn = random.Random(digest("sampled", str(seed))).sample(range(len(rows)), min(n, len(rows)))
    return [rows[i] for i in sorted(drawn)]


def contrasted(row: Record) -> Record:
    """Return a pair whose rejected side sees the perturbed picture, which stands last among its pictures."""
    body = row.body
    assert isinstance(body, Pair)
    return Record(row.images, Pair(body.prompt, body.chosen, body.rejected, (len(row.images) - 1,)), row.tags, row.id)


def as_row(record: Record) -> dict[str, Any]:
    """Return a record as a line of `rows.jsonl`."""
    told = {"id": record.id, "parent": record.parent, "step": record.step, "tags": dict(record.tags)}
    images = [{"digest": i.digest, "source": i.source} for i in record.images]
    return {**told, "images": images, "body": body_to_json(record.body)}
