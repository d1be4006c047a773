"""Colours: their names, which one is seen on a cut-out, and how a cut-out gets another."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

from foveal.scrapbook.parts import COLOURS, RGB

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BRIGHT = ("red", "orange", "yellow", "green", "blue", "purple", "pink")
"""Colours a cut-out may be tinted in."""


def seen_colour(pixels: Image.Image) -> str:
    """Name the colour that covers more than half of the opaque pixels, or return "" where none beyond doubt does."""
    import numpy as np

    small = np.asarray(pixels.resize((24, 24)), dtype=np.float64)
    opaque = small[small[..., 3] > 200][:, :3]
    if len(opaque) < 40:
        return ""
    counts = np.bincount(_named(opaque), minlength=len(COLOURS) + 1)[:-1]
    best = int(counts.argmax())
    return _NAMES[best] if counts[best] > 0.6 * len(opaque) else ""


_NAMES = list(COLOURS)
HUES = (
    (0, 12, "red"), (17, 39, "orange"), (46, 64, "yellow"), (78, 160, "green"), (195, 252, "blue"),
    (264, 296, "purple"), (308, 338, "pink"), (350, 360, "red"),
)  # fmt: skip
"""Degrees of hue that everybody calls by that name; what lies between (lime, teal, magenta) has none."""


def _named(rgb: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return for each pixel the index of its colour's name, len(COLOURS) where people would disagree."""
    import numpy as np

    value, least = rgb.max(-1), rgb.min(-1)
    chroma = value - least
    vivid = chroma / np.maximum(value, 1)
    hue = _hue(rgb, value, np.maximum(chroma, 1e-9))
    names = np.full(len(rgb), len(COLOURS))
    for low, high, name in HUES:
        names[(hue >= low) & (hue <= high) & (vivid > 0.35)] = _NAMES.index(name)
    warm, reddish = (hue >= 12) & (hue < 42), (hue < 12) | (hue > 350)
    names[warm & ((vivid < 0.6) | (value < 205))] = len(COLOURS)
    names[warm & (vivid > 0.35) & (value < 180)] = _NAMES.index("brown")
    names[(hue > 300) & (hue < 350) & (value < 170)] = len(COLOURS)
    names[reddish & (vivid > 0.6)] = len(COLOURS)
    names[reddish & (vivid > 0.6) & (value > 105)] = _NAMES.index("red")
    names[((hue < 14) | (hue > 308)) & (vivid > 0.2) & (vivid < 0.5) & (value > 215)] = _NAMES.index("pink")
    names[(hue > 42) & (hue < 72) & (value < 150)] = len(COLOURS)
    for low_, high_, name in ((0, 55, "black"), (85, 185, "gray"), (215, 256, "white")):
        names[(chroma < 28) & (value >= low_) & (value < high_)] = _NAMES.index(name)
    names[value < 42] = _NAMES.index("black")
    return names


def _hue(rgb: NDArray[np.float64], value: NDArray[np.float64], chroma: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the hue in degrees."""
    import numpy as np

    r, g, b = rgb[:, 0], rgb[:, 1], rgb[:, 2]
    sector = np.where(
        value == r, (g - b) / chroma % 6, np.where(value == g, (b - r) / chroma + 2, (r - g) / chroma + 4)
    )
    return np.asarray(sector * 60)


def treat(pixels: Image.Image, rng: random.Random, ground: str = "") -> tuple[Image.Image, str]:
    """Return an RGBA cut-out in other colours than the ground's, and what was done to it.

    Returns:
        the pixels, and "grey", "tinted", "recoloured", or "" where they are left as they are.
    """
    shares = (0.2, 0.5, 0.3) if _shaded(pixels) else (0, 0, 1)
    for _ in range(3):
        kind = rng.choices(("grey", "tinted", "recoloured"), shares)[0]
        made = {"grey": _grey, "tinted": _tinted, "recoloured": _recoloured}[kind](pixels, rng)
        made.putalpha(pixels.getchannel("A"))
        if ground not in COLOURS or seen_colour(made) != ground:
            return made, kind
    return pixels, ""


def _shaded(pixels: Image.Image) -> bool:
    """Whether a drawing lives by light and dark; one that lives by hues alone is a blob without them."""
    import numpy as np

    small = np.asarray(pixels.resize((24, 24)), dtype=np.float64)
    opaque = small[small[..., 3] > 200][:, :3]
    return len(opaque) > 0 and bool(opaque.mean(-1).std() > 30)


def _grey(pixels: Image.Image, rng: random.Random) -> Image.Image:
    return pixels.convert("L").convert("RGB")


def _tinted(pixels: Image.Image, rng: random.Random) -> Image.Image:
    middle = COLOURS[rng.choice(BRIGHT)]
    dark, light = (tuple(round(c * a + b) for c in middle) for a, b in ((0.4, 0), (0.7, 65)))
    return ImageOps.colorize(ImageOps.autocontrast(pixels.convert("L"), 1), dark, light, middle)


def _recoloured(pixels: Image.Image, rng: random.Random) -> Image.Image:
    import numpy as np

    hue, saturation, value = pixels.convert("RGB").convert("HSV").split()
    turned = np.asarray(hue) + np.uint8(rng.randrange(48, 208))
    return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")


def ink_on(colour: str) -> RGB:
    """Return black or white, whichever reads better on a colour."""
    r, g, b = COLOURS[colour]
    return (20, 20, 20) if 0.3 * r + 0.59 * g + 0.11 * b > 125 else (250, 250, 250)
