"""Scenes: one to five cut-outs pasted on a ground, with words, charts and tables, and the truth of all of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from PIL import Image, ImageEnhance

from foveal.scrapbook import panels, themes
from foveal.scrapbook.album import Album, Classes, Cutout, Look, Split, load_album, looks
from foveal.scrapbook.colours import seen_colour, treat
from foveal.scrapbook.layout import WHOLE, Box, Slot, lay_out
from foveal.scrapbook.panels import Font
from foveal.scrapbook.parts import COLOURS, Chart, Scene, Table, Text, Thing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "COLOURS", "GRID", "SIDE", "Album", "Box", "Chart", "Cutout", "Look", "Page", "Scene", "Settings", "Split",
    "Table", "Text", "Thing", "compose", "load_album", "looks",
]  # fmt: skip

SIDE = 224
"""Pixels of a scene's side: what the vision tower sees."""
GRID = 8
"""Cells of a side in `Page.cells`."""
COVERED = 0.35
"""The largest share of a thing that another may cover: the rest can still be recognised."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is drawn, and how often.

    Attributes:
        objects: weight of one, two, three, four and five things.
        text: share of scenes with a sign, caption strip or tag.
        chart: share of scenes with a chart (and at most three things).
        table: share of scenes with a table (and at most three things).
        occlusion: share of scenes of two or three things that stand so close that they may cover each other.
        treated: share of things whose colours are changed.
        repeat: share of scenes that show a noun more than once, where there is more than one thing.
        themed: share of a scene's nouns that come from its theme; see `themes`.
        classes: the hard split: "seen" leaves out the nouns that `themes.set_apart` names, "unseen" draws only those.
    """

    objects: tuple[float, ...] = (0.15, 0.30, 0.25, 0.17, 0.13)
    text: float = 0.18
    chart: float = 0.06
    table: float = 0.04
    occlusion: float = 0.15
    treated: float = 0.3
    repeat: float = 0.35
    themed: float = themes.FROM_THEME
    classes: Classes = "all"


DEFAULT = Settings()


@dataclass(frozen=True, slots=True)
class Page:
    """A drawn scene; `cells` holds, for each of 8 x 8 cells, the index of the thing that covers it, or -1."""

    picture: Image.Image
    scene: Scene
    cells: NDArray[np.int8]


# --- composing -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Piece:
    """A cut-out as it is pasted: its pixels, where its left top corner is, and what is told of it."""

    cutout: Cutout
    pixels: Image.Image
    left: int
    top: int
    slot: Slot
    treatment: str

    @property
    def box(self) -> tuple[int, int, int, int]:
        return self.left, self.top, self.left + self.pixels.width, self.top + self.pixels.height


def compose(album: Album, seed: int, split: Split = "train", settings: Settings = DEFAULT) -> Page:
    """Draw the scene of a seed. The same album, seed, split and settings give the same picture and truth."""
    rng = random.Random(f"{split}/{seed}")
    ground, picture = _draw_ground(album, rng)
    kind = _kind(rng, settings)
    font, held = album.font(split, rng), split == "held"
    chart = panels.chart(picture, rng, font) if kind == "chart" else None
    table = panels.table(picture, rng, font) if kind == "table" else None
    texts, area = _board(picture, rng, font, held) if kind == "text" else ((), WHOLE)
    if panel := chart or table:
        area = (0.0, panel.box[3], 1.0, 1.0)
    layout, slots = _slots(rng, settings, area)
    theme, cutouts = _choose(album, rng, len(slots), split, settings, ground)
    pieces = [_piece(c, slot, rng, settings, area, ground) for c, slot in zip(cutouts, slots, strict=True)]
    things, cells = _paste(picture, pieces)
    if kind == "tag":
        texts, things = _tagged(picture, rng, font, held, things)
    return Page(picture, Scene(seed, layout, ground, things, texts, chart, table, theme), cells)


def _kind(rng: random.Random, settings: Settings) -> str:
    rest = 1 - settings.chart - settings.table - settings.text
    weights = (rest, settings.text * 0.65, settings.text * 0.35, settings.chart, settings.table)
    return rng.choices(("plain", "text", "tag", "chart", "table"), weights)[0]


def _board(picture: Image.Image, rng: random.Random, font: Font, held: bool) -> tuple[tuple[Text, ...], Box]:
    """Draw a sign or a caption strip; return its truth and the area that stays free."""
    at_top = rng.random() < 0.5
    text = (panels.sign if rng.random() < 0.6 else panels.strip)(picture, rng, font, held, at_top)
    return (text,), (0.0, text.box[3], 1.0, 1.0) if at_top else (0.0, 0.0, 1.0, text.box[1])


def _slots(rng: random.Random, settings: Settings, area: Box) -> tuple[str, list[Slot]]:
    weights = settings.objects if area == WHOLE else settings.objects[:3]
    weights = weights if any(weights) else (1.0,)
    n = rng.choices(range(1, len(weights) + 1), weights)[0]
    close = 2 <= n <= 3 and area == WHOLE and rng.random() < settings.occlusion
    return lay_out(n, rng, area, rng.uniform(1.3, 1.6) if close else 1.0)


def _choose(
    album: Album, rng: random.Random, n: int, split: Split, settings: Settings, ground: str
) -> tuple[str, list[Cutout]]:
    """Return a theme and n cut-outs; some scenes repeat a noun, so that counting means something."""
    different = rng.randint(1, n - 1) if n > 1 and rng.random() < settings.repeat else n
    theme, nouns = themes.draw(album.drawn(split, settings.classes), different, rng, settings.themed)
    nouns += rng.choices(nouns, k=n - len(nouns))
    rng.shuffle(nouns)
    return theme, [rng.choice(_apart(album.of(noun, split), ground)) for noun in nouns]


def _apart(cutouts: list[Cutout], ground: str) -> list[Cutout]:
    """Return the cut-outs that stand out from a plain ground of their colour, where there are any."""
    return [c for c in cutouts if c.colour != ground] or cutouts


def _draw_ground(album: Album, rng: random.Random) -> tuple[str, Image.Image]:
    import numpy as np

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
        ramped = np.broadcast_to(line[:, None], (SIDE, SIDE, 3)).astype(np.uint8)
        return "gradient", Image.fromarray(ramped if rng.random() < 0.5 else ramped.transpose(1, 0, 2).copy())
    name = rng.choice(sorted(COLOURS))
    shade = tuple(min(255, max(0, c + rng.randrange(-12, 13))) for c in COLOURS[name])
    return name, Image.new("RGB", (SIDE, SIDE), shade)


def _piece(cutout: Cutout, slot: Slot, rng: random.Random, settings: Settings, area: Box, ground: str) -> _Piece:
    """Return a cut-out sized, turned and coloured for its slot."""
    pixels, treatment = cutout.pixels, ""
    stretch = rng.uniform(0.88, 1.14)
    width, height = pixels.width * stretch, float(pixels.height)
    scale = slot.side * SIDE / max(width, height)
    piece = pixels.resize((max(8, round(width * scale)), max(8, round(height * scale))), Image.Resampling.BILINEAR)
    # A blue orange is still an orange, but nobody could be blamed for the answer.
    if rng.random() < settings.treated and cutout.look.noun not in COLOURS:
        piece, treatment = treat(piece, rng, ground)
    if rng.random() < 0.5:
        piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.5:
        piece = piece.rotate(rng.uniform(-10, 10), Image.Resampling.BILINEAR, expand=True)
        piece = piece.crop(piece.getchannel("A").getbbox())
    alpha = piece.getchannel("A")
    piece = ImageEnhance.Brightness(piece.convert("RGB")).enhance(rng.uniform(0.85, 1.12))
    piece.putalpha(alpha)
    left, top, right, bottom = (v * SIDE for v in area)
    x = min(max(slot.x * SIDE - piece.width / 2, left), max(left, right - piece.width))
    y = min(max(slot.y * SIDE - piece.height / 2, top), max(top, bottom - piece.height))
    return _Piece(cutout, piece, round(x), round(y), slot, treatment)


def _paste(picture: Image.Image, pieces: Sequence[_Piece]) -> tuple[tuple[Thing, ...], NDArray[np.int8]]:
    """Paste the pieces, later ones over earlier ones; return the things and what each cell shows."""
    import numpy as np

    hidden = _uncover(pieces)
    covers = np.zeros((len(pieces), GRID * GRID))
    for i, piece in enumerate(pieces):
        picture.paste(piece.pixels, (piece.left, piece.top), piece.pixels)
        mask = Image.new("L", (SIDE, SIDE))
        mask.paste(piece.pixels.getchannel("A"), (piece.left, piece.top))
        cover = np.asarray(mask.resize((GRID, GRID), Image.Resampling.BOX), dtype=np.float64).ravel() / 255
        covers[:i] *= 1 - cover
        covers[i] = cover
    cells = np.where(covers.max(0) > 0.2, covers.argmax(0), -1).astype(np.int8)
    return tuple(_thing(p, h) for p, h in zip(pieces, hidden, strict=True)), cells


def _thing(piece: _Piece, hidden: float) -> Thing:
    look = piece.cutout.look
    colour = seen_colour(piece.pixels) if piece.treatment else piece.cutout.colour
    left, top, right, bottom = (round(min(max(v, 0), SIDE) / SIDE, 4) for v in piece.box)
    box = (left, top, right, bottom)
    return Thing(look.noun, box, colour, f"{look.source}/{look.file}", piece.slot.place, hidden, piece.treatment)


def _uncover(pieces: Sequence[_Piece]) -> list[float]:
    """Make covering pieces smaller until none hides more than `COVERED` of another; return the hidden shares."""
    hidden = [_hidden(pieces, i) for i in range(len(pieces))]
    while (most := max(hidden)) > COVERED:
        for piece in pieces[hidden.index(most) + 1 :]:
            _shrink(piece)
        hidden = [_hidden(pieces, i) for i in range(len(pieces))]
    return hidden


def _hidden(pieces: Sequence[_Piece], i: int) -> float:
    """Return the share of a piece's opaque pixels under the pieces that are pasted after it."""
    import numpy as np

    under = pieces[i]
    over = [p for p in pieces[i + 1 :] if _meet(under.box, p.box)]
    if not over:
        return 0.0
    alpha = under.pixels.getchannel("A")
    left = alpha.copy()
    for piece in over:
        left.paste(0, (piece.left - under.left, piece.top - under.top), piece.pixels.getchannel("A"))
    whole = float(np.asarray(alpha, dtype=np.float64).sum())
    return round(1 - float(np.asarray(left, dtype=np.float64).sum()) / whole, 3)


def _meet(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _shrink(piece: _Piece) -> None:
    width, height = (max(8, round(v * 0.85)) for v in piece.pixels.size)
    piece.left += (piece.pixels.width - width) // 2
    piece.top += (piece.pixels.height - height) // 2
    piece.pixels = piece.pixels.resize((width, height), Image.Resampling.BILINEAR)


def _tagged(
    picture: Image.Image, rng: random.Random, font: Font, held: bool, things: tuple[Thing, ...]
) -> tuple[tuple[Text, ...], tuple[Thing, ...]]:
    """Fix a tag to one of the things, where there is one of which enough stays in sight."""

    def fits(box: Box) -> bool:
        return all(_with_tag(t, box) <= COVERED for t in things)

    text = panels.tag(picture, rng, font, held, [t.box for t in things], fits)
    if text is None:
        return (), things
    return (text,), tuple(replace(t, occluded=_with_tag(t, text.box)) for t in things)


def _with_tag(thing: Thing, box: Box) -> float:
    """Return the share of a thing that is hidden, a tag over its box included."""
    wide = max(0.0, min(thing.box[2], box[2]) - max(thing.box[0], box[0]))
    high = max(0.0, min(thing.box[3], box[3]) - max(thing.box[1], box[1]))
    return round(min(1.0, thing.occluded + wide * high / max(thing.area, 1e-9)), 3)
