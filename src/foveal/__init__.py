"""foveal turns images into aligned vision-language models, and proves that it did."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

__all__ = [
    "Chat",
    "Image",
    "Item",
    "Model",
    "Pair",
    "Record",
    "Run",
    "Scale",
    "Turn",
    "branches",
    "gather",
    "keep",
    "once",
    "run",
]

_HOMES = {
    **dict.fromkeys(
        ("Chat", "Image", "Item", "Pair", "Record", "Turn", "branches", "gather", "keep", "once"), "foveal.record"
    ),
    **dict.fromkeys(("Model", "Scale"), "foveal.models.model"),
    **dict.fromkeys(("Run", "run"), "foveal.runner.local"),
}


def __getattr__(name: str) -> Any:
    # Loaded when first used: `foveal --help` and `import foveal` stay quick.
    if name not in _HOMES:
        raise AttributeError(f"module 'foveal' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
