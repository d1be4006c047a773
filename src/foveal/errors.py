"""Every error foveal raises, named by the boundary it crossed.

FovealError
├── SetupError            bad set-up: told in one sentence, before anything is paid
│   ├── RecipeError       a recipe, step, knob, role or format name that does not bind
│   ├── SourceError       input that cannot be opened at all: no such folder, no pictures, corrupt line
│   ├── StoreError        a store or run folder of another version, in use, read-only
│   ├── ModelSetupError   a server that is not there, a model that cannot do what a role needs
│   └── MissingExtra      an optional part that is not installed; names the pip line
├── RecordFailed          this record ends here as failed(cause); the run goes on
│   ├── ImageError        a picture that cannot be read, is truncated, lies about its size
│   ├── ModelFailed       the model answered, or failed to, in a way that re-asking did not mend
│   └── MethodFailed      the method itself raised
└── RunStopped            the run ends early and can be continued by the same command
    ├── BudgetSpent       a limit the user set is reached
    ├── Interrupted       Ctrl-C, SIGTERM
    ├── Unreachable       no endpoint of a role answers any more
    └── DiskFull          the store cannot be written

Dropped is not an error: `keep(condition, reason)` raises it and the runner counts it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FovealError(Exception):
    """Base of all errors told to the user in one sentence."""


class SetupError(FovealError):
    """Bad set-up; nothing has been paid."""


class RecipeError(SetupError):
    """A name in a recipe or on the command line does not bind."""


class SourceError(SetupError):
    """Input that cannot be opened at all."""


class StoreError(SetupError):
    """A store or run folder that cannot be used."""


class ModelSetupError(SetupError):
    """A model that is not there or cannot do what its role needs."""


class MissingExtra(SetupError):
    """An optional part is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional part: pip install 'foveal[{extra}]'")


class RecordFailed(FovealError):
    """This record ends as failed(cause).

    Attributes:
        cause: a short phrase that failures are counted under.
        raw: the model's text that could not be used, if there is one.
    """

    def __init__(self, cause: str, detail: str = "", raw: str = "") -> None:
        super().__init__(f"{cause}: {detail}" if detail else cause)
        self.cause = cause
        self.detail = detail
        self.raw = raw


class ImageError(RecordFailed):
    """A picture that cannot be used."""


class ModelFailed(RecordFailed):
    """A model call that re-asking did not mend."""


class MethodFailed(RecordFailed):
    """The method's own code raised."""


class RunStopped(FovealError):
    """The run ends early; the same command continues it."""


class BudgetSpent(RunStopped):
    """A limit the user set is reached."""


class Interrupted(RunStopped):
    """A signal asked the run to stop."""


class Unreachable(RunStopped):
    """No endpoint of a role answers any more."""


class DiskFull(RunStopped):
    """The store cannot be written."""


class Dropped(Exception):
    """Raised by `keep`: the record ends here, counted under `reason`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint that names the nearest known name, and all of them when they are few."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{hint} (known: {', '.join(names)})" if names and len(names) <= 24 else hint
