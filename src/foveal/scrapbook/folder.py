"""A folder of scenes: pictures, `truth.jsonl` with a line for each, and a card; see docs/scrapbook.md."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from foveal.errors import SourceError
from foveal.record import digest
from foveal.scrapbook.panels import FONTS
from foveal.scrapbook.parts import Chart, Scene, Table, Text, Thing
from foveal.scrapbook.scene import DEFAULT, Album, Settings, Split, compose, load_album, looks
from foveal.scrapbook.sources import CUTOUTS, GROUNDS, SOURCES
from foveal.scrapbook.truth import KINDS, absents, counts, relations

TRUTH, MADE, CARD = "truth.jsonl", "made.json", "README.md"
FORMAT = 1
"""Version of `truth.jsonl`; a reader refuses what it does not know."""
BATCH = 32
ABSENT = 6
"""Absent nouns of each kind in a line."""


@dataclass(frozen=True, slots=True)
class Truth:
    """A line of `truth.jsonl`.

    Attributes:
        file: the picture, relative to the folder.
        digest: of the file's bytes, as in `Image.digest`.
        absent: nouns that are not there, by how they were picked: random, popular, adversarial.
    """

    file: str
    digest: str
    split: str
    scene: Scene
    absent: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


# --- as JSON -------------------------------------------------------------------------------------------------------


def to_json(truth: Truth) -> dict[str, Any]:
    """Return a truth as JSON values; counts, sizes and relations are told, though they follow from the rest."""
    scene = asdict(truth.scene)
    for told, thing in zip(scene["things"], truth.scene.things, strict=True):
        told["size"] = round(thing.area, 4)
    return {
        "format": FORMAT,
        "file": truth.file,
        "digest": truth.digest,
        "split": truth.split,
        **scene,
        "counts": counts(truth.scene),
        "relations": [[r.subject, r.kind, r.object] for r in relations(truth.scene)],
        "absent": truth.absent,
    }


def from_json(line: Mapping[str, Any]) -> Truth:
    """Undo `to_json`."""
    scene = Scene(
        line["seed"],
        line["layout"],
        line["ground"],
        tuple(Thing(**{k: _frozen(v) for k, v in t.items() if k != "size"}) for t in line["things"]),
        tuple(Text(**_frozen_all(t)) for t in line["texts"]),
        Chart(**_frozen_all(line["chart"])) if line["chart"] else None,
        Table(**_frozen_all(line["table"])) if line["table"] else None,
        line["theme"],
    )
    absent = {kind: tuple(nouns) for kind, nouns in line["absent"].items()}
    return Truth(line["file"], line["digest"], line["split"], scene, absent)


def _frozen_all(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _frozen(v) for k, v in fields.items()}


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value


def load_truth(folder: str | Path) -> dict[str, Truth]:
    """Return the truth about each picture of a folder, by the digest of the picture's bytes.

    Raises:
        SourceError: there is no truth, or a line of it cannot be read.
    """
    path = Path(folder) / TRUTH
    if not path.is_file():
        raise SourceError(f"{folder} has no {TRUTH}: `foveal scrapbook make -o {folder}` draws scenes with their truth")
    return {truth.digest: truth for truth in _lines(path)}


def _lines(path: Path) -> Iterator[Truth]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield _line(line)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise SourceError(f"{path}, line {number}: not a scene's truth ({error!r})") from error


def _line(line: bytes) -> Truth:
    read = orjson.loads(line)
    if read["format"] != FORMAT:
        raise ValueError(f"format {read['format']}, this foveal reads {FORMAT}")
    return from_json(read)


# --- making --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Made:
    """What `make` did: the folder, how many scenes it holds, and how many of them were drawn now."""

    folder: Path
    scenes: int
    drawn: int


@dataclass(frozen=True, slots=True)
class _Job:
    folder: Path
    seed: int
    split: Split
    settings: Settings


def make(
    folder: Path,
    n: int,
    seed: int = 0,
    split: Split = "train",
    settings: Settings = DEFAULT,
    workers: int | None = None,
    album: Album | None = None,
) -> Made:
    """Draw n scenes into a folder; what is there already from the same settings is kept.

    Args:
        folder: where to.
        n: how many the folder shall hold in all.
        seed: of the first scene; the others count up from it.
        split: whose looks, words and fonts are drawn from.
        settings: what is drawn, and how often.
        workers: processes; by default as many as there are cores.
        album: what scenes are made of; by default fetched.

    Raises:
        SourceError: the folder holds something else, or cannot be written.
    """
    of = looks() if album is None else [c.look for c in album.cutouts]
    _claim(folder, {"seed": seed, "split": split, **asdict(settings), "looks": digest(repr(of))[:12]})
    with (folder / TRUTH).open("r+b") as truth:
        done = _resume(truth, folder)
        if done < n:
            album = album or load_album()
            job = _Job(folder, seed, split, settings)
            for lines in _drawn(job, album, range(done, n), workers or _cores()):
                truth.write(lines)
                truth.flush()
    _write_card(folder)
    return Made(folder, max(n, done), max(0, n - done))


def _claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Note what the folder is made with, or check that it is the same."""
    what = orjson.loads(orjson.dumps({"format": FORMAT, **settings}))
    note = folder / MADE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if note.exists():
            _check_same(folder, orjson.loads(note.read_bytes()), what)
        elif next(folder.iterdir(), None) is not None:
            raise SourceError(f"{folder} holds something else already: name an empty folder")
        else:
            note.write_bytes(orjson.dumps(what, option=orjson.OPT_INDENT_2) + b"\n")
        (folder / TRUTH).touch()
    except OSError as error:
        raise SourceError(f"cannot write to {folder}: {error.strerror or error}") from error
    except ValueError as error:
        raise SourceError(f"{note} cannot be read: name an empty folder") from error


def _check_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    other = [k for k in now if before.get(k) != now[k]]
    if other:
        told = ", ".join(f"{k} {before.get(k)}, not {now[k]}" for k in other)
        raise SourceError(f"{folder} was made with {told}: say the same, or name another folder")


def _resume(truth: io.BufferedRandom, folder: Path) -> int:
    """Return how many scenes are there whole; what comes after the last of them is cut off.

    A picture is written before its line, so a line without its picture means that somebody removed it.
    """
    done = whole = 0
    for line in truth:
        try:
            found = _line(line) if line.endswith(b"\n") else None
        except (ValueError, KeyError, TypeError, AttributeError):
            found = None
        if found is None or not (folder / found.file).is_file():
            break
        done, whole = done + 1, whole + len(line)
    truth.truncate(whole)
    truth.seek(whole)
    return done


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _drawn(job: _Job, album: Album, wanted: range, workers: int) -> Iterator[bytes]:
    """Yield the lines of each batch, in order."""
    batches = [wanted[i : i + BATCH] for i in range(0, len(wanted), BATCH)]
    if workers == 1 or len(batches) == 1:
        yield from (_batch(job, album, batch) for batch in batches)
        return
    with ProcessPoolExecutor(workers, initializer=_start, initargs=(job, album)) as pool:
        yield from pool.map(_batch_here, batches)


_here: tuple[_Job, Album]


def _start(job: _Job, album: Album) -> None:
    global _here
    _here = job, album


def _batch_here(batch: range) -> bytes:
    return _batch(*_here, batch)


def _batch(job: _Job, album: Album, batch: range) -> bytes:
    return b"".join(orjson.dumps(to_json(_one(job, album, i))) + b"\n" for i in batch)


def _one(job: _Job, album: Album, i: int) -> Truth:
    """Draw and write the i-th picture, and return its truth."""
    page = compose(album, job.seed + i, job.split, job.settings)
    held = io.BytesIO()
    # Letters keep their edges at quality 95 without chroma subsampling; PNG is four times as large and slower.
    page.picture.save(held, "jpeg", quality=95, subsampling=0)
    name, data = f"{i:06}.jpg", held.getvalue()
    (job.folder / name).write_bytes(data)
    nouns = album.drawn(job.split, job.settings.classes)
    absent: dict[str, tuple[str, ...]] = {k: tuple(absents(page.scene, nouns, k, ABSENT)) for k in KINDS}
    return Truth(name, digest(data), job.split, page.scene, absent)


# --- the card ------------------------------------------------------------------------------------------------------


def _write_card(folder: Path) -> None:
    made = orjson.loads((folder / MADE).read_bytes())
    used: Counter[str] = Counter()
    nouns: Counter[str] = Counter()
    scenes = 0
    for truth in _lines(folder / TRUTH):
        scenes += 1
        used.update(thing.file.split("/")[0] for thing in truth.scene.things)
        nouns.update(thing.noun for thing in truth.scene.things)
    last = made["seed"] + max(0, scenes - 1)
    told = {"scenes": scenes, "last": last, "nouns": len(nouns), "things": sum(nouns.values()), "rows": _rows(used)}
    (folder / CARD).write_text(CARD_TEXT.format(**told, **made))


def _rows(used: Mapping[str, int]) -> str:
    """Return the table of the packages: those whose cut-outs are used, and those of all grounds and fonts."""
    fonts = {source for files in FONTS.values() for source, _ in files}
    what = {n: str(used[n]) for n in CUTOUTS if used.get(n)}
    what |= dict.fromkeys(GROUNDS, "grounds") | dict.fromkeys(sorted(fonts), "letters")
    return "\n".join(f"| {SOURCES[n].package} | {w} | {SOURCES[n].licence} |" for n, w in what.items())


CARD_TEXT = """# Scrapbook scenes

{scenes} pictures of 224 x 224 pixels, composed by `foveal scrapbook make` (seeds {seed} to {last}, split {split},
classes {classes}): {things} things of {nouns} nouns. `truth.jsonl` holds the exact truth of each picture, a line for
each, by file and by digest of the file's bytes; `made.json` holds the settings.

The pictures are pasted together from cut-outs and grounds of these packages, and inherit the terms of what they show:

| package | things | licence |
|---|---|---|
{rows}

A picture with a cut-out under the GPL or a share-alike licence may only be passed on under its terms.
"""
