"""Who plays: the subject that is trained, the teacher that makes data where a paper has one, and what arms become."""

from __future__ import annotations

import os
import shutil
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from foveal.errors import ModelSetupError
from foveal.models.connect import connect, spec_of
from foveal.models.wire import Backend
from foveal.proof.parallel import THREADS

if TYPE_CHECKING:
    from foveal.models.small.tower import Tower

WEAK = "small:weak"
"""The embedded model's early checkpoint: it stands for a model before alignment."""
TEACHER = "small"
"""Who makes data for the subject where the paper has a stronger model for it."""
REMEMBERED = 1500
"""Pictures whose features are kept in memory (393 kB each): those of one seed."""


def subject() -> str:
    """Return who is trained when nobody is named: the early checkpoint, or where none comes along the model itself."""
    return WEAK if (_packaged() / "weak.safetensors").is_file() else "small"


def _packaged() -> Path:
    return Path(str(resources.files("foveal.models"))) / "small"


def settled(spec: str, folder: Path) -> str:
    """Return a spec that trainings and runs open alike: of the early checkpoint, a folder of its own.

    Raises:
        ModelSetupError: no early checkpoint comes along.
    """
    if spec != WEAK:
        return spec
    early, target = _packaged() / "weak.safetensors", folder / "weak"
    if not early.is_file():
        raise ModelSetupError(f"{WEAK}: this foveal comes without the embedded model's early checkpoint")
    target.mkdir(parents=True, exist_ok=True)
    _copied(early, target / "model.safetensors")
    _copied(_packaged() / "tokenizer.json", target / "tokenizer.json")
    return f"small:{target}"


def _copied(source: Path, target: Path) -> None:
    """Copy a file at once or not at all: others may be reading it, or copying it, too."""
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.copyfile(source, partial)
    partial.replace(target)


class Cast:
    """Opens models; weights of the embedded model share one vision tower, which sees every picture once a process."""

    @cached_property
    def tower(self) -> Tower:
        """The vision tower of the embedded model."""
        from foveal.models.small.tower import Tower

        return Tower(int(os.environ.get(THREADS) or 0), REMEMBERED)

    def open(self, spec: str | Path) -> Backend:
        """Return the backend of a spec, or of the folder of a trained model; every run needs a new one.

        Raises:
            ModelSetupError: it names nobody.
        """
        if isinstance(spec, Path):
            spec = f"small:{spec}" if (spec / "small").is_dir() else f"hf:{spec}"
        backend = connect(spec_of(spec))
        # Of the truth with somebody who answers, the latter.
        player = getattr(backend, "writer", None) or backend
        if hasattr(player, "see_with"):
            player.see_with(self.tower)
        return backend
