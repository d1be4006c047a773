"""Scenes without pictures: the truth alone, drawn at random."""

from __future__ import annotations

import random
from functools import lru_cache

from PIL import Image

from foveal.scrapbook.scene import COLOURS, Album, Cutout, Look, Scene, Settings, Thing, compose, looks

NOUNS = sorted({look.noun for look in looks()})
GROUNDS = ("photo", "gradient", "red", "blue")


def thing(noun: str, x: float = 0.5, y: float = 0.5, colour: str = "", side: float = 0.2) -> Thing:
    """Return a thing with its centre at x, y."""
    return Thing(noun, (x - side / 2, y - side / 2, x + side / 2, y + side / 2), colour)


def row(*nouns: str, ground: str = "photo", colours: tuple[str, ...] = ()) -> Scene:
    """Return a scene of nouns from left to right."""
    told = [*colours, *[""] * len(nouns)]
    things = tuple(thing(n, (i + 0.5) / len(nouns), colour=told[i]) for i, n in enumerate(nouns))
    return Scene(0, "row" if len(nouns) > 1 else "one", ground, things)


def any_scene(seed: int) -> Scene:
    """Return a scene of one to three things, in a row or a column, with what colours may be known."""
    rng = random.Random(seed)
    n = rng.randint(1, 3)
    layout = "one" if n == 1 else rng.choice(("row", "column"))
    nouns = rng.sample(NOUNS, n) if rng.random() < 0.7 else [rng.choice(NOUNS)] * n
    ways = [(i + 0.5) / n + rng.uniform(-0.03, 0.03) for i in range(n)]
    across = [0.5 + rng.uniform(-0.15, 0.15) for _ in range(n)]
    places = zip(across, ways, strict=True) if layout == "column" else zip(ways, across, strict=True)
    colours = [rng.choice(("", *COLOURS)) for _ in range(n)]
    things = (
        thing(noun, x, y, c, rng.uniform(0.1, 0.3)) for noun, (x, y), c in zip(nouns, places, colours, strict=True)
    )
    return Scene(seed, layout, rng.choice(GROUNDS), tuple(things))


@lru_cache(maxsize=1)
def plain_album() -> Album:
    """Return an album of every noun as a square of some colour."""
    names = list(COLOURS)
    cutouts = tuple(
        Cutout(Look(noun, "made", f"{noun}.png", 0, "train"), Image.new("RGBA", (40, 40), (*COLOURS[hue], 255)), hue)
        for noun, hue in ((noun, names[i % len(names)]) for i, noun in enumerate(NOUNS))
    )
    return Album(cutouts, (Image.new("RGB", (60, 60), (90, 120, 90)),))


@lru_cache(maxsize=1024)
def drawn_scene(seed: int) -> Scene:
    """Return a scene as the scrapbook draws it, with words, charts and tables in most."""
    return compose(plain_album(), seed, settings=Settings(text=0.3, chart=0.25, table=0.2)).scene
