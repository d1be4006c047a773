"""Scrapbook: pictures pasted together from cut-outs, so that everything in them is known exactly."""

from foveal.scrapbook.folder import Truth, load_truth, make
from foveal.scrapbook.parts import Chart, Scene, Table, Text, Thing
from foveal.scrapbook.scene import Album, Page, Settings, compose, load_album

__all__ = [
    "Album", "Chart", "Page", "Scene", "Settings", "Table", "Text", "Thing", "Truth", "compose", "load_album",
    "load_truth", "make",
]  # fmt: skip
