import pytest
from PIL import Image

from foveal.scrapbook import Album
from foveal.scrapbook.album import Cutout, Look

SHADES = {
    "apple": (200, 30, 30),
    "cat": (30, 30, 30),
    "boat": (30, 60, 200),
    "fox": (230, 120, 20),
    "sheep": (240, 240, 240),
}
MORE = {"dog": (130, 60, 160), "drum": (70, 150, 60), "key": (240, 215, 50), "cup": (130, 130, 130)}


def made(shades, colours=None):
    """An album of plain rectangles, so that nothing is fetched."""
    cutouts = [
        Cutout(
            Look(noun, "clip", f"{noun}{k}.png", k, split),
            Image.new("RGBA", (90, 60 + 40 * k), (*rgb, 255)),
            (colours or {}).get(noun, ""),
        )
        for noun, rgb in shades.items()
        for k, split in enumerate(("train", "train", "held"))
    ]
    return Album(tuple(cutouts), (Image.new("RGB", (400, 300), (90, 120, 90)),))


@pytest.fixture(scope="session")
def album():
    return made(SHADES)


@pytest.fixture(scope="session")
def wide_album():
    colours = {"apple": "red", "boat": "blue", "drum": "green", "key": "yellow", "cup": "gray"}
    return made(SHADES | MORE, colours)
