"""What is written and drawn beside the cut-outs: signs, caption strips, tags, charts and small tables."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

from PIL import Image, ImageDraw, ImageFont

from foveal.record import digest
from foveal.scrapbook.colours import ink_on
from foveal.scrapbook.layout import Box
from foveal.scrapbook.parts import COLOURS, RGB, Chart, Table, Text
from foveal.scrapbook.sources import fetch

Pixels: TypeAlias = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""

_WORDS = """
OPEN CLOSED EXIT ENTER STOP SLOW SALE FREE HELLO WELCOME MENU CAFE BAKERY MARKET
HOTEL MUSEUM SCHOOL LIBRARY OFFICE PARKING TAXI POLICE BANK CINEMA BEACH HARBOR STATION CAMP
SHOP PARTY THANKS SORRY NEW HOT COLD FRESH LOUD QUIET DANGER CAUTION PRIVATE PUBLIC
LEFT NORTH SOUTH EAST WEST MONDAY FRIDAY SUNDAY APRIL JUNE AUGUST PARIS ROME OSLO
LIMA CAIRO TOKYO BERLIN MADRID LUCKY HAPPY FAST GOOD BEST FIRST LAST ONLY TODAY
TICKETS TOILET PLEASE WAIT PUSH PULL START FINISH WINNER HERO DREAM MAGIC WONDER SUMMER
WINTER FESTIVAL CONCERT GARDEN
"""
WORDS = tuple(_WORDS.split())
PHRASES = (
    "Good morning", "Do not touch", "For sale", "Keep out", "Way out", "No entry", "Happy birthday", "See you soon",
    "Best friends", "On my way", "Made by hand", "Just arrived", "Big sale", "Last chance", "Old town", "Second floor",
    "Wet paint", "Game over", "Thank you", "Room to let", "Not for sale", "Come in", "Ask here", "Pay here",
)  # fmt: skip
TITLES = ("Visitors", "Points", "Sales", "Votes", "Hours", "Goals", "Steps", "Rainfall", "Members", "Orders", "Calls")
LABELS = (
    ("Mon", "Tue", "Wed", "Thu", "Fri"),
    ("Jan", "Feb", "Mar", "Apr", "May"),
    ("Q1", "Q2", "Q3", "Q4"),
    ("A", "B", "C", "D", "E"),
    ("Ann", "Ben", "Eva", "Leo", "Mia"),
    ("Oslo", "Rome", "Lima", "Paris", "Cairo"),
    ("2021", "2022", "2023", "2024", "2025"),
)
PAPER = {"white": (252, 252, 250), "light": (240, 240, 232), "dark": (38, 40, 48)}

FONTS: dict[str, tuple[tuple[str, str], ...]] = {
    "train": (
        ("fonts-dejavu", "DejaVuSans.ttf"), ("fonts-dejavu", "DejaVuSans-Bold.ttf"),
        ("fonts-dejavu", "DejaVuSerif.ttf"),
        ("fonts-dejavu", "DejaVuSansMono-Bold.ttf"), ("fonts-liberation", "LiberationSans-Bold.ttf"),
        ("fonts-liberation", "LiberationSerif-Regular.ttf"),
    ),
    "held": (
        ("fonts-dejavu", "DejaVuSerif-Bold.ttf"), ("fonts-liberation", "LiberationSans-Regular.ttf"),
        ("fonts-liberation", "LiberationMono-Bold.ttf"), ("fonts-liberation", "LiberationSerif-Bold.ttf"),
    ),
}  # fmt: skip
"""The fonts of training pictures, and those that only held pictures use."""


@dataclass(frozen=True, slots=True)
class Font:
    """A font file; an empty path is the font that comes with Pillow."""

    path: str = ""
    split: Literal["train", "held"] = "train"

    def at(self, pixels: int) -> ImageFont.FreeTypeFont:
        """Return the font at a size."""
        return _sized(self.path, pixels)


@lru_cache(maxsize=256)
def _sized(path: str, pixels: int) -> ImageFont.FreeTypeFont:
    if path:
        # The basic layout engine is in every build of Pillow: the same letters fall on the same pixels.
        return ImageFont.truetype(path, pixels, layout_engine=ImageFont.Layout.BASIC)
    font = ImageFont.load_default(pixels)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def load_fonts() -> tuple[Font, ...]:
    """Fetch the fonts (first time) and return them."""
    return tuple(
        Font(str(Path(fetch(source)) / file), "held" if split == "held" else "train")
        for split, files in FONTS.items()
        for source, file in files
    )


# --- words ---------------------------------------------------------------------------------------------------------


def words(rng: random.Random, held: bool) -> str:
    """Return what a label says: a word, a number, a price or a short phrase; one in four is only for held pictures."""
    kind = rng.random()
    if kind < 0.25:
        n = rng.randrange(1, 1000)
        return rng.choice((str(n), f"${n % 100}", f"No. {n % 100}", f"{n % 12 + 1}:{n % 60:02d}", f"{n % 100} %"))
    said = rng.choice(_of(WORDS if kind < 0.75 else PHRASES, held))
    if kind < 0.75:
        return rng.choice((said, said, said.capitalize()))
    return rng.choice((said, said.upper()))


@lru_cache(maxsize=8)
def _of(choices: tuple[str, ...], held: bool) -> tuple[str, ...]:
    return tuple(w for w in choices if held or int(digest("words", w)[:8], 16) % 4)


def board(picture: Image.Image, text: str, box: Pixels, colour: str, font: Font, round_: int = 4) -> None:
    """Draw a board with words that fill it as far as they fit."""
    left, top, right, bottom = box
    draw = ImageDraw.Draw(picture)
    ink = ink_on(colour)
    draw.rounded_rectangle((left, top, right - 1, bottom - 1), round_, fill=COLOURS[colour], outline=ink)
    size = fitting(text, font, right - left - 8, bottom - top - 4)
    draw.text(((left + right) / 2, (top + bottom) / 2), text, ink, font.at(size), anchor="mm")


def fitting(text: str, font: Font, width: int, height: int) -> int:
    """Return the size in pixels at which a text fits a room."""
    wide = font.at(32).getlength(text) / 32
    return max(9, min(int(height * 0.8), int(width / max(wide, 0.1)), 44))


def sign(picture: Image.Image, rng: random.Random, font: Font, held: bool, at_top: bool) -> Text:
    """Draw a sign of its own in the upper or lower quarter of the picture."""
    said, side = words(rng, held), picture.width
    height = round(side * rng.uniform(0.15, 0.22))
    width = min(side - 12, max(round(height * 1.2), round(font.at(32).getlength(said) / 32 * height * 0.8) + 16))
    left = round((side - width) * rng.uniform(0.2, 0.8))
    top = round(side * 0.03) if at_top else side - height - round(side * 0.03)
    colour = rng.choice(sorted(COLOURS))
    box = (left, top, left + width, top + height)
    board(picture, said, box, colour, font, rng.choice((0, 4, 10)))
    return Text(said, "sign", "at the top" if at_top else "at the bottom", _shares(box, side), colour)


def strip(picture: Image.Image, rng: random.Random, font: Font, held: bool, at_top: bool) -> Text:
    """Draw a caption strip along the upper or lower edge."""
    said, side = words(rng, held), picture.width
    height = round(side * rng.uniform(0.11, 0.14))
    top = 0 if at_top else side - height
    colour = rng.choice(("black", "white", "blue", "yellow", "red"))
    board(picture, said, (0, top, side, top + height), colour, font, 0)
    place = "at the top" if at_top else "at the bottom"
    return Text(said, "caption", place, _shares((0, top, side, top + height), side), colour)


def tag(
    picture: Image.Image, rng: random.Random, font: Font, held: bool, boxes: Sequence[Box], fits: Callable[[Box], bool]
) -> Text | None:
    """Draw a small tag over the lower edge of one of the boxes, where it fits; None where it fits nowhere."""
    said, side = words(rng, held), picture.width
    height = round(side * 0.085)
    width = round(font.at(32).getlength(said) / 32 * height * 0.75) + 10
    colour = rng.choice(("white", "yellow", "red", "blue", "green", "black"))
    for on in rng.sample(range(len(boxes)), len(boxes)):
        left = round(min(max((boxes[on][0] + boxes[on][2]) / 2 * side - width / 2, 0), side - width))
        top = round(min(boxes[on][3] * side - height * 0.4, side - height))
        box = (left, top, left + width, top + height)
        if fits(_shares(box, side)):
            board(picture, said, box, colour, font, 3)
            return Text(said, "tag", "", _shares(box, side), colour, on)
    return None


def _shares(box: Pixels, side: int) -> Box:
    left, top, right, bottom = (round(max(0, min(v, side)) / side, 4) for v in box)
    return left, top, right, bottom


# --- charts and tables ---------------------------------------------------------------------------------------------


def chart(picture: Image.Image, rng: random.Random, font: Font) -> Chart:
    """Draw a bar, line or pie chart over the upper two thirds of the picture; its values can be read off exactly."""
    side = picture.width
    box = (round(side * 0.03), round(side * 0.02), round(side * 0.97), round(side * 0.66))
    kind = rng.choices(("bar", "line", "pie"), (0.5, 0.25, 0.25))[0]
    names = rng.choice(LABELS)
    labels = names[: rng.randint(3, len(names))]
    n, title = len(labels), rng.choice(TITLES)
    colours = tuple(rng.sample(("red", "orange", "yellow", "green", "blue", "purple", "brown"), n))
    if kind == "line" or (kind == "bar" and rng.random() < 0.5):
        colours = colours[:1] * (n if kind == "bar" else 1)
    step = rng.choice((1, 5, 10))
    values = _percents(rng, n) if kind == "pie" else tuple(v * step for v in rng.sample(range(1, 10), n))
    made = Chart(kind, title, labels, values, colours, _shares(box, side))
    paper = rng.choice(("white", "light", "dark"))
    ink: RGB = (235, 235, 235) if paper == "dark" else (30, 30, 30)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=PAPER[paper])
    draw.text(((box[0] + box[2]) / 2, box[1] + 10), title, ink, font.at(14), anchor="mm")
    {"bar": _bars, "line": _line, "pie": _pie}[kind](picture, made, box, font, ink)
    return made


def _percents(rng: random.Random, n: int) -> tuple[int, ...]:
    """Return n different multiples of five, each at least 5, that sum to 100."""
    while True:
        cuts = sorted(rng.sample(range(1, 20), n - 1))
        parts = [b - a for a, b in zip([0, *cuts], [*cuts, 20], strict=True)]
        if len(set(parts)) == n:
            return tuple(5 * p for p in parts)


def _plot(made: Chart, box: Pixels) -> tuple[list[float], list[float], float, float]:
    """Return each value's x and y, the base line's y and the width of a column."""
    left, top, right, bottom = box
    low, high = bottom - 18, top + 32
    step = (right - left - 12) / len(made.values)
    xs = [left + 6 + step * (i + 0.5) for i in range(len(made.values))]
    return xs, [low - (low - high) * v / max(made.values) for v in made.values], low, step


def _bars(picture: Image.Image, made: Chart, box: Pixels, font: Font, ink: RGB) -> None:
    draw, (xs, ys, low, step) = ImageDraw.Draw(picture), _plot(made, box)
    for x, y, label, value, colour in zip(xs, ys, made.labels, made.values, made.colours, strict=True):
        draw.rectangle((x - step * 0.32, y, x + step * 0.32, low), fill=COLOURS[colour], outline=ink)
        draw.text((x, y - 7), str(value), ink, font.at(12), anchor="mm")
        draw.text((x, low + 9), label, ink, font.at(12), anchor="mm")
    draw.line((box[0] + 6, low, box[2] - 6, low), fill=ink)


def _line(picture: Image.Image, made: Chart, box: Pixels, font: Font, ink: RGB) -> None:
    draw, (xs, ys, low, _) = ImageDraw.Draw(picture), _plot(made, box)
    colour = COLOURS[made.colours[0]]
    draw.line(list(zip(xs, ys, strict=True)), fill=colour, width=2)
    for x, y, label, value in zip(xs, ys, made.labels, made.values, strict=True):
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
        draw.text((x, y - 10), str(value), ink, font.at(12), anchor="mm")
        draw.text((x, low + 9), label, ink, font.at(12), anchor="mm")
    draw.line((box[0] + 6, low, box[2] - 6, low), fill=ink)


def _pie(picture: Image.Image, made: Chart, box: Pixels, font: Font, ink: RGB) -> None:
    left, top, _, bottom = box
    across = bottom - top - 30
    big = Image.new("L", (across * 3, across * 3))
    start = -90.0
    for value, colour in zip(made.values, made.colours, strict=True):
        big.paste(0, (0, 0, *big.size))
        ImageDraw.Draw(big).pieslice((0, 0, across * 3 - 1, across * 3 - 1), start, start + 3.6 * value, fill=255)
        mask = big.resize((across, across), Image.Resampling.BOX)
        picture.paste(COLOURS[colour], (left + 8, top + 24, left + 8 + across, top + 24 + across), mask)
        start += 3.6 * value
    draw, x = ImageDraw.Draw(picture), left + across + 18
    for i, (label, value, colour) in enumerate(zip(made.labels, made.values, made.colours, strict=True)):
        y = top + 32 + i * (bottom - top - 36) / len(made.labels)
        draw.rectangle((x, y, x + 10, y + 10), fill=COLOURS[colour], outline=ink)
        draw.text((x + 15, y + 5), f"{label} {value}%", ink, font.at(12), anchor="lm")


def table(picture: Image.Image, rng: random.Random, font: Font) -> Table:
    """Draw a table of two or three columns over the upper part of the picture."""
    side = picture.width
    names = rng.choice(LABELS)
    columns = ("Name", *rng.sample(TITLES, rng.choice((1, 2))))
    rows = tuple((n, *(str(rng.randrange(1, 100)) for _ in columns[1:])) for n in names[: rng.randint(2, 4)])
    height = round(side * 0.125)
    box = (round(side * 0.03), round(side * 0.02), round(side * 0.97), round(side * 0.02) + height * (len(rows) + 1))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=PAPER["white"], outline=(40, 40, 40))
    head = COLOURS[rng.choice(("blue", "gray", "green", "black", "purple"))]
    draw.rectangle((box[0], box[1], box[2] - 1, box[1] + height), fill=head)
    for i, row in enumerate((columns, *rows)):
        _cells(draw, row, box, box[1] + i * height, height, font, (255, 255, 255) if i == 0 else (30, 30, 30))
    return Table(columns, rows, _shares(box, side))


def _cells(
    draw: ImageDraw.ImageDraw, row: Sequence[str], box: Pixels, top: float, height: int, font: Font, ink: RGB
) -> None:
    step = (box[2] - box[0]) / len(row)
    for k, cell in enumerate(row):
        x = box[0] + k * step
        draw.rectangle((x, top, x + step - 1, top + height), outline=(90, 90, 90))
        draw.text((x + step / 2, top + height / 2), cell, ink, font.at(13), anchor="mm")
