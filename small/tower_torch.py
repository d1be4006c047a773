"""The tower as a transformers model lives in the package, for users train too: see foveal.train.tower."""

from foveal.train.tower import config, load_tower

__all__ = ["config", "load_tower"]
