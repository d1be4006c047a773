"""Draw examples/pictures again: small scenes of cut-outs that may be passed on, on plain and graded grounds.

python examples/make.py            # needs npm, apt-get and: pip install 'foveal[small]' resvg-py
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path

from foveal.scrapbook.scene import Album, Page, compose, load_album

FREE = {"clip": "public domain", "fluent": "MIT"}
"""Sources whose pictures may be passed on without conditions beyond a notice."""


def free(album: Album) -> Album:
    """Return the album with only free cut-outs, of nouns that have one to train on."""
    cutouts = [c for c in album.cutouts if c.look.source in FREE]
    nouns = {c.look.noun for c in cutouts if c.look.split == "train"}
    return replace(album, cutouts=tuple(c for c in cutouts if c.look.noun in nouns))


def scenes(album: Album, number: int) -> list[Page]:
    """Return scenes without a photographic ground, from seeds that training does not use."""
    pages: list[Page] = []
    for seed in count(5_000_000):
        page = compose(album, seed)
        if page.scene.ground != "photo":
            pages.append(page)
        if len(pages) == number:
            break
    return pages


def main() -> None:
    """Write the pictures."""
    folder = Path(__file__).parent / "pictures"
    folder.mkdir(exist_ok=True)
    for number, page in enumerate(scenes(free(load_album()), 24), 1):
        names = "-".join(thing.noun.replace(" ", "_") for thing in page.scene.things)
        page.picture.save(folder / f"{number:02d}-{names}.png", optimize=True)


if __name__ == "__main__":
    main()
