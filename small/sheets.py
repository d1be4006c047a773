"""Sheets: many cut-outs in a grid, for the projector alone.

Encoding is what costs; a sheet shows three times as many things as a scene does.
"""

from __future__ import annotations

import random

from foveal.scrapbook import Album, Page, Scene, Settings
from foveal.scrapbook.layout import WHOLE, Slot
from foveal.scrapbook.scene import _draw_ground, _paste, _piece

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
