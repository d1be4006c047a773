"""How much goes on in a picture, from 0 to 1, by a proxy that needs no network: for choosing pictures by rank.

The field's measure is IC9600's network, whose weights no package ships. What is computed here are three quantities
that such networks are known to follow: the entropy of grey levels, the share of edges, and how badly the picture
compresses. Their mean orders pictures; it is not IC9600's scale, so choose thresholds by percentile of your own pool.
"""

from __future__ import annotations

import asyncio
from io import BytesIO

from PIL import Image as Pillow
from PIL import ImageFilter

from foveal.picture import decode
from foveal.record import Image

SIDE = 256
"""Pixels of the longer side at which pictures are measured, so that large files do not count as complex."""
EDGE = 40
"""Brightness of an edge filter's pixel from which it is an edge, of 255."""
MUCH_EDGE, MUCH_DATA = 0.35, 2.4
"""Share of edges, and bits of JPEG a pixel, that count as 1."""


def complexity(picture: Pillow.Image) -> dict[str, float]:
    """Return the complexity of an RGB picture and its three parts, each from 0 to 1."""
    small = picture.convert("RGB")
    small.thumbnail((SIDE, SIDE), Pillow.Resampling.BICUBIC)
    grey = small.convert("L")
    parts = {"entropy": grey.entropy() / 8, "edges": _edges(grey), "data": _data(small)}
    return {"complexity": round(sum(parts.values()) / len(parts), 4), **{k: round(v, 4) for k, v in parts.items()}}


def _edges(grey: Pillow.Image) -> float:
    found = (
        grey.filter(ImageFilter.FIND_EDGES).crop((1, 1, max(2, grey.width - 1), max(2, grey.height - 1))).histogram()
    )
    return min(1.0, sum(found[EDGE:]) / max(1, sum(found)) / MUCH_EDGE)


def _data(small: Pillow.Image) -> float:
    out = BytesIO()
    small.save(out, "JPEG", quality=75)
    return min(1.0, 8 * len(out.getvalue()) / (small.width * small.height) / MUCH_DATA)


async def measured(image: Image) -> dict[str, float]:
    """Return `complexity` of a picture, off the event loop.

    Raises:
        ImageError: it cannot be read.
    """
    return await asyncio.to_thread(lambda: complexity(decode(image.data())))
