"""Scrapbook: pictures pasted together from cut-outs, so that everything in them is known exactly."""

from foveal.scrapbook.scene import Album, Page, Scene, Thing, compose, load_album

__all__ = ["Album", "Page", "Scene", "Thing", "compose", "load_album"]
