"""What scenes are made of: cut-outs with their names, grounds and fonts, fetched once and kept."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Literal, TypeAlias

from PIL import Image

from foveal.errors import MissingExtra
from foveal.record import digest
from foveal.scrapbook import themes
from foveal.scrapbook.colours import seen_colour
from foveal.scrapbook.panels import Font, load_fonts
from foveal.scrapbook.sources import CUTOUTS, GROUNDS, SOURCES, cache_folder, fetch

CUTOUT = 176
"""Longest side of a cut-out in memory."""
KEPT = "1"
"""Raised when a cut-out or its colour comes out differently than before, so that kept ones are drawn again."""

Split: TypeAlias = Literal["train", "held"]
Classes: TypeAlias = Literal["all", "seen", "unseen"]

GROUND_FILES = {
    "Aqua.jpg", "Blinds.jpg", "Bridge_by_Sander_Klootwijk.jpg", "Dragonfly_by_Bolly.jpg", "Dune.jpg",
    "Elephants_3840x2160.jpg", "Fossa_by_Jasper_Roks.jpg", "GreenMeadow.jpg", "Infinite-Sea_by_Aury88.jpg",
    "Painting-Colors_by__herobrine7gamer.jpg", "RainDrops.jpg", "Storm.jpg", "Wood.jpg",
    "aitzgorri_by_Aitzol_Berasategi.jpg", "analogpattern_by_Peter_Nerlich.jpg", "life_by_Aitzol_Berasategi.jpg",
    "picosdeeuropa_by_Aitzol_Berasategi.jpg", "umang_by_Abhishek_Mudgal.jpg",
}  # fmt: skip
"""The wallpapers that show none of the nouns: a flower in the ground would make the truth a lie."""


@dataclass(frozen=True, slots=True)
class Look:
    """One cut-out: what it shows, where its file is, and whether it is kept out of training.

    Attributes:
        look: near-duplicates of a noun share one number and one split.
    """

    noun: str
    source: str
    file: str
    look: int
    split: Split


@dataclass(frozen=True, slots=True)
class Cutout:
    """A look as pixels, with the name of its colour where one colour covers most of it."""

    look: Look
    pixels: Image.Image
    colour: str


@dataclass(frozen=True, slots=True)
class Album:
    """Everything scenes are made of."""

    cutouts: tuple[Cutout, ...]
    grounds: tuple[Image.Image, ...]
    fonts: tuple[Font, ...] = ()
    _by: dict[tuple[str, str], list[Cutout]] = field(init=False, repr=False, compare=False)
    _drawn: dict[tuple[str, str], tuple[str, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by = defaultdict(list)
        for cutout in self.cutouts:
            by[cutout.look.noun, cutout.look.split].append(cutout)
        object.__setattr__(self, "_by", dict(by))
        object.__setattr__(self, "_drawn", {})

    @property
    def nouns(self) -> list[str]:
        """All nouns, sorted."""
        return sorted({c.look.noun for c in self.cutouts})

    def of(self, noun: str, split: Split) -> list[Cutout]:
        """Return the noun's cut-outs of a split."""
        return self._by.get((noun, split), [])

    def drawn(self, split: Split, classes: Classes = "all") -> tuple[str, ...]:
        """Return the nouns that scenes of a split are drawn from, sorted."""
        if (split, classes) not in self._drawn:
            names = sorted(noun for noun, of in self._by if of == split)
            self._drawn[split, classes] = tuple(
                n for n in names if classes == "all" or themes.set_apart(n) == (classes == "unseen")
            )
        return self._drawn[split, classes]

    def font(self, split: Split, rng: random.Random) -> Font:
        """Return a font of a split: Pillow's own where the album has none."""
        return rng.choice([f for f in self.fonts if f.split == split] or [Font()])


def looks() -> list[Look]:
    """Return the reviewed list of looks that ships with foveal."""
    text = resources.files("foveal.scrapbook").joinpath("looks.tsv").read_text("utf-8")
    rows = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return [
        Look(noun, source, file, int(look), "held" if split == "held" else "train")
        for noun, source, file, look, split in rows
    ]


def load_album() -> Album:
    """Fetch the sources (first time) and return all cut-outs, grounds and fonts.

    Raises:
        SourceError: a source cannot be fetched.
        MissingExtra: what draws is not installed.
    """
    _numpy()
    of = looks()
    sources = [f"{name} {SOURCES[name].sha256}" for name in (*CUTOUTS, *GROUNDS)]
    what = (KEPT, repr(of), repr(sorted(GROUND_FILES)), str(CUTOUT), *sources)
    kept = cache_folder() / "scrapbook" / f"album-{digest(*what)[:12]}.zip"
    if not kept.exists():
        _keep(of, kept)
    with zipfile.ZipFile(kept) as archive:
        names = archive.namelist()
        colours = json.loads(archive.read("colours.json"))
        cutouts = tuple(
            Cutout(look, _opened(archive, f"cutouts/{i}", "RGBA"), colour)
            for i, (look, colour) in enumerate(zip(of, colours, strict=True))
        )
        grounds = tuple(_opened(archive, name, "RGB") for name in names if name.startswith("grounds/"))
    return Album(cutouts, grounds, load_fonts())


def _numpy() -> None:
    try:
        import numpy  # noqa: F401
    except ImportError:
        raise MissingExtra("drawing scenes", "scrapbook") from None


def _keep(of: Sequence[Look], kept: Path) -> None:
    """Draw what an album is made of once; it is kept, lossless, in the cache."""
    homes = {name: fetch(name) for name in CUTOUTS}
    files = sorted(p for name in GROUNDS for p in fetch(name).rglob("*.jpg") if p.name in GROUND_FILES)
    colours = []
    with NamedTemporaryFile(dir=kept.parent, delete=False) as fresh, zipfile.ZipFile(fresh, "w") as archive:
        for i, look in enumerate(of):
            pixels = _pixels(homes[look.source] / look.file)
            colours.append(seen_colour(pixels))
            archive.writestr(f"cutouts/{i}", _png(pixels))
        for i, path in enumerate(files):
            archive.writestr(f"grounds/{i:03}", _png(_ground(path)))
        archive.writestr("colours.json", json.dumps(colours))
    Path(fresh.name).replace(kept)


def _png(pixels: Image.Image) -> bytes:
    held = io.BytesIO()
    pixels.save(held, "png", compress_level=1)
    return held.getvalue()


def _opened(archive: zipfile.ZipFile, name: str, mode: str) -> Image.Image:
    return Image.open(io.BytesIO(archive.read(name))).convert(mode)


def _ground(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        picture.draft("RGB", (900, 600))
        small = picture.convert("RGB")
    small.thumbnail((900, 600))
    return small


def _pixels(path: Path) -> Image.Image:
    pixels = _rasterise(path) if path.suffix == ".svg" else Image.open(path).convert("RGBA")
    pixels = pixels.crop(pixels.getchannel("A").getbbox())
    pixels.thumbnail((CUTOUT, CUTOUT), Image.Resampling.LANCZOS)
    return pixels


def _rasterise(path: Path) -> Image.Image:
    try:
        import resvg_py
    except ImportError:
        raise MissingExtra("drawing SVG cut-outs (pip install resvg-py)", "scrapbook") from None
    return Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_path=str(path), width=CUTOUT)))).convert("RGBA")
