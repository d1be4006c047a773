"""Who plays: the subject that is trained, the teacher that makes data where a paper has one, and what arms become."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from foveal.models.connect import connect, spec_of
from foveal.models.wire import Backend

if TYPE_CHECKING:
    from foveal.models.small.tower import Tower

SUBJECT = "small"
"""Who is trained when nobody is named: the embedded model, before alignment."""
TEACHER = "small"
"""Who makes data for the subject where the paper has a stronger model for it."""
REMEMBERED = 1500
"""Pictures whose features are kept in memory (221 kB each): those of one seed."""


class Cast:
    """Opens models; weights of the embedded model share one vision tower, which sees every picture once a process."""

    @cached_property
    def tower(self) -> Tower:
        """The vision tower of the embedded model."""
        from foveal.models.small.tower import Tower

        return Tower(remember=REMEMBERED)

    def open(self, spec: str | Path) -> Backend:
        """Return the backend of a spec, or of the folder of a trained model; every run needs a new one.

        Raises:
            ModelSetupError: it names nobody.
        """
        if isinstance(spec, Path):
            spec = f"small:{spec}" if (spec / "small").is_dir() else f"hf:{spec}"
        backend = connect(spec_of(spec))
        if str(spec).partition(":")[0] == "small":
            backend.see_with(self.tower)  # type: ignore[attr-defined]  # `Small`, which an extra holds
        return backend
