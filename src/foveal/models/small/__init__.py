"""The embedded model: a small real VLM, so that the first run needs no key, no GPU and no hub."""

from foveal.models.small.vlm import SmallVLM

__all__ = ["SmallVLM"]
