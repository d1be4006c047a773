"""Colours: their names, which one is seen on a cut-out, and how a cut-out gets another."""

from __future__ import annotations

import random
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

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
BRIGHT = ("red", "orange", "yellow", "green", "blue", "purple", "pink")
"""Colours a cut-out may be tinted in."""


def seen_colour(pixels: Image.Image) -> str:
    """Name the colour that covers more than half of the opaque pixels, or return ""."""
    small = np.asarray(pixels.resize((24, 24)), dtype=np.float64)
    opaque = small[small[..., 3] > 200][:, :3]
    if len(opaque) < 40:
        return ""
    near = np.argmin(((_opponent(opaque)[:, None] - _POINTS) ** 2).sum(-1), axis=1)
    counts = np.bincount(near, minlength=len(COLOURS))
    best = int(counts.argmax())
    return list(COLOURS)[best] if counts[best] > 0.55 * len(opaque) else ""


def _opponent(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn RGB into half lightness and two colour axes: shade matters less than hue when naming a colour."""
    r, g, b = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    return np.stack([(r + g + b) / 6, r - g, (r + g) / 2 - b], axis=-1)


_POINTS = np.stack([_opponent(np.array(rgb, dtype=np.float64)) for rgb in COLOURS.values()])


def treat(pixels: Image.Image, rng: random.Random, ground: str = "") -> tuple[Image.Image, str]:
    """Return an RGBA cut-out in other colours than the ground's, and what was done to it.

    Returns:
        the pixels, and "grey", "tinted", "recoloured", or "" where they are left as they are.
    """
    for _ in range(3):
        kind = rng.choices(("grey", "tinted", "recoloured"), (0.2, 0.5, 0.3))[0]
        made = {"grey": _grey, "tinted": _tinted, "recoloured": _recoloured}[kind](pixels, rng)
        made.putalpha(pixels.getchannel("A"))
        if ground not in COLOURS or seen_colour(made) != ground:
            return made, kind
    return pixels, ""


def _grey(pixels: Image.Image, rng: random.Random) -> Image.Image:
    return pixels.convert("L").convert("RGB")


def _tinted(pixels: Image.Image, rng: random.Random) -> Image.Image:
    middle = COLOURS[rng.choice(BRIGHT)]
    dark, light = (tuple(round(c * a + b) for c in middle) for a, b in ((0.35, 0), (0.55, 115)))
    return ImageOps.colorize(ImageOps.autocontrast(pixels.convert("L"), 1), dark, light, middle)


def _recoloured(pixels: Image.Image, rng: random.Random) -> Image.Image:
    hue, saturation, value = pixels.convert("RGB").convert("HSV").split()
    turned = np.asarray(hue) + np.uint8(rng.randrange(48, 208))
    return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")


def ink_on(colour: str) -> RGB:
    """Return black or white, whichever reads better on a colour."""
    r, g, b = COLOURS[colour]
    return (20, 20, 20) if 0.3 * r + 0.59 * g + 0.11 * b > 125 else (250, 250, 250)
