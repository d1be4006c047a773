"""Scenes: one to three cut-outs pasted on a ground, with the truth of where everything is."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from foveal.errors import MissingExtra
from foveal.scrapbook.sources import CUTOUTS, GROUNDS, fetch

SIDE = 224
"""Pixels of a scene's side: what the vision tower sees."""
GRID = 6
"""Cells of a side in `Page.cells`."""
CUTOUT = 176
"""Longest side of a cut-out in memory."""

Split: TypeAlias = Literal["train", "held"]
Box: TypeAlias = tuple[float, float, float, float]

GROUND_FILES = {
    "Aqua.jpg", "Blinds.jpg", "Bridge_by_Sander_Klootwijk.jpg", "Dragonfly_by_Bolly.jpg", "Dune.jpg",
    "Elephants_3840x2160.jpg", "Fossa_by_Jasper_Roks.jpg", "GreenMeadow.jpg", "Infinite-Sea_by_Aury88.jpg",
    "Painting-Colors_by__herobrine7gamer.jpg", "RainDrops.jpg", "Storm.jpg", "Wood.jpg",
    "aitzgorri_by_Aitzol_Berasategi.jpg", "analogpattern_by_Peter_Nerlich.jpg", "life_by_Aitzol_Berasategi.jpg",
    "picosdeeuropa_by_Aitzol_Berasategi.jpg", "umang_by_Abhishek_Mudgal.jpg",
}  # fmt: skip
"""The wallpapers that show none of the nouns: a flower in the ground would make the truth a lie."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 35, 35),
    "orange": (240, 140, 30),
    "yellow": (245, 215, 50),
    "green": (70, 150, 60),
    "blue": (45, 95, 200),
    "purple": (130, 65, 165),
    "pink": (245, 150, 190),
    "brown": (125, 80, 45),
    "black": (25, 25, 25),
    "gray": (130, 130, 130),
    "white": (245, 245, 245),
}


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

    @property
    def nouns(self) -> list[str]:
        """All nouns, sorted."""
        return sorted({c.look.noun for c in self.cutouts})

    def of(self, noun: str, split: Split) -> list[Cutout]:
        """Return the noun's cut-outs of a split."""
        return [c for c in self.cutouts if c.look.noun == noun and c.look.split == split]


@dataclass(frozen=True, slots=True)
class Thing:
    """One object in a scene; the box is left, top, right, bottom as shares of the side."""

    noun: str
    box: Box
    colour: str = ""
    file: str = ""

    @property
    def x(self) -> float:
        """Centre, from the left."""
        return (self.box[0] + self.box[2]) / 2

    @property
    def y(self) -> float:
        """Centre, from the top."""
        return (self.box[1] + self.box[3]) / 2

    @property
    def area(self) -> float:
        """Share of the picture its box covers."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


@dataclass(frozen=True, slots=True)
class Scene:
    """The truth about one picture. Things stand in reading order of their layout (left to right, or top to bottom).

    Attributes:
        layout: "one", "row" (left to right) or "column" (top to bottom).
        ground: "photo", "gradient" or the name of a plain colour.
    """

    seed: int
    layout: str
    ground: str
    things: tuple[Thing, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A drawn scene; `cells` holds, for each of 6 x 6 cells, the index of the thing that covers it, or -1."""

    picture: Image.Image
    scene: Scene
    cells: NDArray[np.int8]


def looks() -> list[Look]:
    """Return the reviewed list of looks that ships with foveal."""
    text = resources.files("foveal.scrapbook").joinpath("looks.tsv").read_text("utf-8")
    rows = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return [
        Look(noun, source, file, int(look), "held" if split == "held" else "train")
        for noun, source, file, look, split in rows
    ]


def load_album() -> Album:
    """Fetch the sources (first time) and return all cut-outs and grounds as pixels."""
    homes = {name: fetch(name) for name in CUTOUTS}
    cutouts = tuple(_cutout(look, homes[look.source] / look.file) for look in looks())
    files = sorted(p for name in GROUNDS for p in fetch(name).rglob("*.jpg") if p.name in GROUND_FILES)
    return Album(cutouts, tuple(_ground(p) for p in files))


def _ground(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        picture.draft("RGB", (900, 600))
        small = picture.convert("RGB")
    small.thumbnail((900, 600))
    return small


def _cutout(look: Look, path: Path) -> Cutout:
    pixels = _rasterise(path) if path.suffix == ".svg" else Image.open(path).convert("RGBA")
    pixels = pixels.crop(pixels.getchannel("A").getbbox())
    pixels.thumbnail((CUTOUT, CUTOUT), Image.Resampling.LANCZOS)
    return Cutout(look, pixels, _colour(pixels))


def _rasterise(path: Path) -> Image.Image:
    try:
        import resvg_py
    except ImportError:
        raise MissingExtra("drawing SVG cut-outs (pip install resvg-py)", "scrapbook") from None
    return Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_path=str(path), width=CUTOUT)))).convert("RGBA")


def _colour(pixels: Image.Image) -> str:
    """Name the colour that covers more than half of the opaque pixels, or return ""."""
    small = np.asarray(pixels.resize((24, 24)), dtype=np.float64)
    opaque = small[small[..., 3] > 200][:, :3]
    if len(opaque) < 40:
        return ""
    names = list(COLOURS)
    points = np.array([_opponent(np.array(rgb, dtype=np.float64)) for rgb in COLOURS.values()])
    near = np.argmin(((_opponent(opaque)[:, None] - points) ** 2).sum(-1), axis=1)
    counts = np.bincount(near, minlength=len(names))
    best = int(counts.argmax())
    return names[best] if counts[best] > 0.55 * len(opaque) else ""


def _opponent(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn RGB into half lightness and two colour axes: shade matters less than hue when naming a colour."""
    r, g, b = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    return np.stack([(r + g + b) / 6, r - g, (r + g) / 2 - b], axis=-1)


def compose(album: Album, seed: int, split: Split = "train") -> Page:
    """Draw the scene of a seed. The same album and seed give the same picture and truth."""
    rng = random.Random(seed)
    ground, picture = _draw_ground(album, rng)
    layout, boxes = _layout(rng)
    covers = np.zeros((len(boxes), GRID * GRID))
    things = []
    for i, (cutout, slot) in enumerate(zip(_choose(album, rng, len(boxes), split), boxes, strict=True)):
        box, cover = _paste(picture, cutout.pixels, slot, rng)
        covers[i] = cover
        things.append(Thing(cutout.look.noun, box, cutout.colour, f"{cutout.look.source}/{cutout.look.file}"))
    cells = np.where(covers.max(0) > 0.2, covers.argmax(0), -1).astype(np.int8)
    return Page(picture, Scene(seed, layout, ground, tuple(things)), cells)


def _choose(album: Album, rng: random.Random, n: int, split: Split) -> list[Cutout]:
    """Choose n cut-outs; one scene in four repeats a noun, so that counting means something."""
    nouns = rng.sample(album.nouns, n)
    if n > 1 and rng.random() < 0.25:
        nouns = [nouns[0]] * n if n == 2 or rng.random() < 0.5 else [nouns[0], nouns[0], nouns[1]]
        rng.shuffle(nouns)
    return [rng.choice(album.of(noun, split)) for noun in nouns]


def _layout(rng: random.Random) -> tuple[str, list[tuple[float, float, float]]]:
    """Return the layout's name and a slot (centre x, centre y, longest side) for each thing, in shares."""
    n = rng.choices((1, 2, 3), (0.2, 0.45, 0.35))[0]
    if n == 1:
        return "one", [(0.5 + rng.uniform(-0.12, 0.12), 0.5 + rng.uniform(-0.12, 0.12), rng.uniform(0.35, 0.75))]
    layout = "row" if rng.random() < 0.7 else "column"
    ways = [(i + 0.5) / n + rng.uniform(-0.03, 0.03) for i in range(n)]
    room = 0.48 if n == 2 else 0.34
    slots = []
    for along in ways:
        side, across = room * rng.uniform(0.7, 1.15), 0.5 + rng.uniform(-0.18, 0.18)
        slots.append((along, across, side) if layout == "row" else (across, along, side))
    return layout, slots


def _draw_ground(album: Album, rng: random.Random) -> tuple[str, Image.Image]:
    kind = rng.random()
    if kind < 0.5:
        photo = rng.choice(album.grounds)
        side = rng.uniform(0.45, 1.0) * min(photo.size)
        x, y = rng.uniform(0, photo.width - side), rng.uniform(0, photo.height - side)
        return "photo", photo.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=(x, y, x + side, y + side))
    if kind < 0.75:
        ends = np.array([[rng.randrange(256) for _ in range(3)] for _ in range(2)], dtype=np.float32)
        ramp = np.linspace(0, 1, SIDE, dtype=np.float32)[:, None]
        line = ends[0] * (1 - ramp) + ends[1] * ramp
        field = np.broadcast_to(line[:, None], (SIDE, SIDE, 3)).astype(np.uint8)
        return "gradient", Image.fromarray(field if rng.random() < 0.5 else field.transpose(1, 0, 2).copy())
    name = rng.choice(sorted(COLOURS))
    shade = tuple(min(255, max(0, c + rng.randrange(-12, 13))) for c in COLOURS[name])
    return name, Image.new("RGB", (SIDE, SIDE), shade)


def _paste(
    picture: Image.Image, pixels: Image.Image, slot: tuple[float, float, float], rng: random.Random
) -> tuple[Box, NDArray[np.float64]]:
    """Paste a cut-out into its slot; return its box and how much of each cell it covers."""
    x, y, side = slot
    stretch = rng.uniform(0.88, 1.14)
    width, height = pixels.width * stretch, float(pixels.height)
    scale = side * SIDE / max(width, height)
    piece = pixels.resize((max(8, round(width * scale)), max(8, round(height * scale))), Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.5:
        piece = piece.rotate(rng.uniform(-10, 10), Image.Resampling.BILINEAR, expand=True)
    alpha = piece.getchannel("A")
    shaded = ImageEnhance.Brightness(piece.convert("RGB")).enhance(rng.uniform(0.85, 1.12))
    left = round(min(max(x * SIDE - piece.width / 2, 0), max(0, SIDE - piece.width)))
    top = round(min(max(y * SIDE - piece.height / 2, 0), max(0, SIDE - piece.height)))
    picture.paste(shaded, (left, top), alpha)
    mask = Image.new("L", (SIDE, SIDE))
    mask.paste(alpha, (left, top))
    cover = np.asarray(mask.resize((GRID, GRID), Image.Resampling.BOX), dtype=np.float64).ravel() / 255
    box = (left / SIDE, top / SIDE, min(1, (left + piece.width) / SIDE), min(1, (top + piece.height) / SIDE))
    return box, cover
