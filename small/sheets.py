"""Sheets: many cut-outs in a grid, or words on boards, for the projector alone.

Encoding is what costs; a sheet shows three times as many things as a scene does.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foveal.scrapbook import Album, Page, Scene, Settings, Text, panels
from foveal.scrapbook.layout import WHOLE, Slot
from foveal.scrapbook.scene import COLOURS, GRID, SIDE, _draw_ground, _paste, _piece

SIDES = {2: (0.34, 0.52), 3: (0.24, 0.36), 4: (0.2, 0.28)}
"""The longest side of things in a grid of so many rows, as a share of the picture's."""


def sheet(album: Album, seed: int) -> Page:
    """Draw a grid of 4, 9 or 16 training cut-outs. The same album and seed give the same sheet."""
    rng = random.Random(f"sheet/{seed}")
    ground, picture = _draw_ground(album, rng)
    n = rng.choices((2, 3, 4), (0.35, 0.5, 0.15))[0]
    pieces = []
    for k in range(n * n):
        cutout = rng.choice(album.of(rng.choice(album.nouns), "train"))
        x, y = ((c + 0.5) / n + rng.uniform(-0.03, 0.03) for c in (k % n, k // n))
        pieces.append(_piece(cutout, Slot(x, y, rng.uniform(*SIDES[n]), ""), rng, Settings(treated=0.1), WHOLE, ground))
    things, cells = _paste(picture, pieces)
    return Page(picture, Scene(seed, "sheet", ground, things), cells)


def boards(album: Album, seed: int) -> Page:
    """Draw three or four boards with words, one below the other; `cells` holds the index of the board in each cell."""
    rng = random.Random(f"boards/{seed}")
    ground, picture = _draw_ground(album, rng)
    n = rng.choice((3, 3, 4))
    texts = []
    for k in range(n):
        font, said = album.font("train", rng), panels.words(rng, held=False)
        height = round(SIDE * rng.uniform(0.12, 0.22))
        wide = round(font.at(32).getlength(said) / 32 * height * 0.8) + 16
        width = SIDE if rng.random() < 0.3 else min(SIDE - 4, max(round(height * 1.2), wide))
        left, top = rng.randint(0, SIDE - width), round((k + 0.5) * SIDE / n - height / 2) + rng.randint(-4, 4)
        colour = rng.choice(sorted(COLOURS))
        panels.board(picture, said, (left, top, left + width, top + height), colour, font, rng.choice((0, 4, 10)))
        box = (left / SIDE, top / SIDE, (left + width) / SIDE, (top + height) / SIDE)
        texts.append(Text(said, "sign", "", box, colour))
    return Page(picture, Scene(seed, "boards", ground, (), tuple(texts)), board_cells(texts))


def board_cells(texts: Sequence[Text]) -> NDArray[np.int8]:
    """Return, for each cell, the index of the text that covers more than a quarter of it, or -1."""
    ends = np.arange(GRID + 1) / GRID
    share = [np.outer(_covered(t.box[1], t.box[3], ends), _covered(t.box[0], t.box[2], ends)).ravel() for t in texts]
    covers = np.stack([*share, np.full(GRID * GRID, 0.25)])
    return np.where(covers.argmax(0) < len(texts), covers.argmax(0), -1).astype(np.int8)


def _covered(low: float, high: float, ends: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of each cell of a row or column between low and high."""
    return np.clip(np.minimum(ends[1:], high) - np.maximum(ends[:-1], low), 0, None) * GRID
