"""Scrapbook: pictures pasted together from cut-outs, so that everything in them is known exactly."""

from foveal.scrapbook.scene import (
    Album,
    Chart,
    Page,
    Scene,
    Settings,
    Table,
    Text,
    Thing,
    compose,
    load_album,
)

__all__ = ["Album", "Chart", "Page", "Scene", "Settings", "Table", "Text", "Thing", "compose", "load_album"]
