"""Deterministic JPEGs, 256x256 to 1024x768, 57 kB on average: gradients, shapes and a little grain."""

from __future__ import annotations

import random
from pathlib import Path

SIZES = ((256, 256), (512, 384), (640, 480), (768, 512), (1024, 768))


def save(number: int, path: Path, shrink: int = 1) -> None:
    """Write picture `number`, its sides divided by `shrink`."""
    import numpy as np
    from PIL import Image, ImageDraw

    rnd = random.Random(number)
    w, h = (side // shrink for side in SIZES[number % len(SIZES)])
    a, b = (np.array([rnd.randrange(256) for _ in range(3)]) for _ in range(2))
    across, down = np.linspace(0, 1, w)[None, :, None], np.linspace(0, 1, h)[:, None, None]
    t = across * rnd.random() + down * rnd.random()
    pixels = a * (1 - t) + b * t + np.random.default_rng(number).normal(0, 6, (h, w, 1))
    image = Image.fromarray(pixels.clip(0, 255).astype("uint8"))
    draw = ImageDraw.Draw(image)
    for _ in range(rnd.randrange(4, 14)):
        x, y = rnd.randrange(w), rnd.randrange(h)
        box = [x, y, x + rnd.randrange(8, w // 2), y + rnd.randrange(8, h // 2)]
        shape = draw.ellipse if rnd.random() < 0.5 else draw.rectangle
        shape(box, fill=tuple(rnd.randrange(256) for _ in range(3)))
    draw.text((8, 8), f"sample {number}", fill="white")
    image.save(path, "JPEG", quality=85)


def make(folder: Path, count: int, shrink: int = 1) -> list[Path]:
    """Make the first `count` pictures, those not there yet; return their paths in order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:05d}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        if not path.exists():
            partial = path.with_name(f".{path.name}")
            save(number, partial, shrink)
            partial.replace(path)
    return paths
