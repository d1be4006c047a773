"""The truth about a picture, as values: Thing, Text, Chart, Table, Scene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from foveal.scrapbook.layout import Box

RGB: TypeAlias = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
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
class Thing:
    """One object in a scene; the box is left, top, right, bottom as shares of the side.

    Attributes:
        box: of the whole object, also where a part of it is covered.
        colour: the colour that is seen on most of it, "" where no colour is.
        file: the cut-out's source and file.
        place: the words for where it stands ("at the top left"), true beyond doubt.
        occluded: the share of its pixels that another object or a label covers.
        treatment: "", "grey", "tinted" or "recoloured": what was done to its colours.
    """

    noun: str
    box: Box
    colour: str = ""
    file: str = ""
    place: str = ""
    occluded: float = 0.0
    treatment: str = ""

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
class Text:
    """Written words.

    Attributes:
        kind: "sign" (a board of its own), "caption" (a strip along an edge) or "tag" (fixed to a thing).
        colour: of the board.
        on: the index of the thing a tag is fixed to, else -1.
    """

    words: str
    kind: str
    place: str
    box: Box
    colour: str
    on: int = -1


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with exact values; a pie's are percent and sum to 100.

    Attributes:
        kind: "bar", "line" or "pie".
        colours: of each bar or piece; one for a line.
    """

    kind: str
    title: str
    labels: tuple[str, ...]
    values: tuple[int, ...]
    colours: tuple[str, ...]
    box: Box
    place: str = "at the top"


@dataclass(frozen=True, slots=True)
class Table:
    """A small table; the first column names the rows."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    box: Box
    place: str = "at the top"


@dataclass(frozen=True, slots=True)
class Scene:
    """The truth about one picture. Things stand in reading order of their layout.

    Attributes:
        layout: "one", "row" (left to right), "column" (top to bottom), "corners" or "scattered" (line by line).
        ground: "photo", "gradient" or the name of a plain colour.
        theme: what most of its nouns have in common; see `themes.THEMES`.
    """

    seed: int
    layout: str
    ground: str
    things: tuple[Thing, ...]
    texts: tuple[Text, ...] = ()
    chart: Chart | None = None
    table: Table | None = None
    theme: str = ""
