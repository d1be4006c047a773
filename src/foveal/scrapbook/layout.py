"""Where things stand: slots for one to five things, each with the words that tell its place without doubt."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, bottom, as shares of the picture's side."""

WHOLE: Box = (0.0, 0.0, 1.0, 1.0)

ROWS = {
    1: ("in the middle",),
    2: ("on the left", "on the right"),
    3: ("on the left", "in the middle", "on the right"),
}
COLUMNS = {2: ("at the top", "at the bottom"), 3: ("at the top", "in the middle", "at the bottom")}
BELOW = {
    1: ("at the bottom",),
    2: ("at the bottom left", "at the bottom right"),
    3: ("at the bottom left", "at the bottom", "at the bottom right"),
}
"""The words of a row that stands under a chart or table."""
CELLS = {
    (0, 0): "at the top left", (1, 0): "at the top", (2, 0): "at the top right",
    (0, 1): "on the left", (1, 1): "in the middle", (2, 1): "on the right",
    (0, 2): "at the bottom left", (1, 2): "at the bottom", (2, 2): "at the bottom right",
}  # fmt: skip
CORNERS = ((0, 0), (2, 0), (0, 2), (2, 2))
GRIDS = {4: CORNERS, 5: ((0, 0), (2, 0), (1, 1), (0, 2), (2, 2))}
"""Cells of the "corners" layout: four corners, or four corners and the middle."""

OPPOSITE = {
    "on the left": "on the right",
    "on the right": "on the left",
    "at the top": "at the bottom",
    "at the bottom": "at the top",
    "at the top left": "at the bottom right",
    "at the top right": "at the bottom left",
    "at the bottom left": "at the top right",
    "at the bottom right": "at the top left",
}


@dataclass(frozen=True, slots=True)
class Slot:
    """Room for one thing: its centre and longest side, as shares of the picture's side, and the words for it."""

    x: float
    y: float
    side: float
    place: str


def holds(place: str, of: str) -> bool:
    """Whether a thing at the place `of` may also be said to be at `place`: the top left is on the left."""
    return set(_sides(place)) <= set(_sides(of))


def _sides(place: str) -> tuple[str, ...]:
    return tuple(word for word in place.split() if word in {"left", "right", "top", "bottom", "middle"})


def lay_out(n: int, rng: random.Random, area: Box = WHOLE, tight: float = 1.0) -> tuple[str, list[Slot]]:
    """Return a layout's name and a slot for each of n things, in reading order.

    Args:
        n: 1 to 5.
        rng: draws the layout and the places.
        area: the part of the picture that is free: anything but the whole takes a row.
        tight: how much larger than their room things are; above 1 neighbours in a row or column overlap.
    """
    if area != WHOLE:
        return "row", _line(n, rng, area, True, tight)
    if n == 1:
        return "one", _line(1, rng, area, True, tight)
    kind = rng.random()
    if n <= 3 and (kind < 0.8 or tight > 1):
        across = kind < 0.56
        return "row" if across else "column", _line(n, rng, area, across, tight)
    if n >= 4 and kind < 0.5:
        return "corners", _grid(GRIDS[n], rng, 0.42 if n == 4 else 0.35, 0.02)
    return "scattered", _grid(sorted(rng.sample(list(CELLS), n), key=lambda c: (c[1], c[0])), rng, 0.34, 0.04)


def _line(n: int, rng: random.Random, area: Box, across: bool, tight: float) -> list[Slot]:
    left, top, right, bottom = area
    width, height = right - left, bottom - top
    words = (BELOW if top > 0.5 else ROWS if across else COLUMNS)[n]
    side = (rng.uniform(0.35, 0.75),) if n == 1 else tuple({2: 0.48, 3: 0.34}[n] * _size(rng) for _ in range(n))
    slots = []
    for i, place in enumerate(words):
        along = (i + 0.5) / n + (rng.uniform(-0.12, 0.12) if n == 1 else rng.uniform(-0.03, 0.03))
        over = 0.5 + rng.uniform(-0.18, 0.18) * (0.66 if n == 1 else 1)
        x, y = (along, over) if across else (over, along)
        longest = min(side[i] * tight, width, height)
        slots.append(Slot(left + x * width, top + y * height, longest, place))
    return slots


def _size(rng: random.Random) -> float:
    return rng.uniform(0.7, 1.15)


def _grid(cells: Sequence[tuple[int, int]], rng: random.Random, room: float, jitter: float) -> list[Slot]:
    """Return slots in cells of a 3 x 3 grid; jitter is small enough that no centre leaves its cell."""
    slots = []
    for column, row in cells:
        x, y = ((k + 0.5) / 3 + rng.uniform(-jitter, jitter) for k in (column, row))
        slots.append(Slot(x, y, room * _size(rng), CELLS[column, row]))
    return slots
