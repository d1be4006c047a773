"""Where table steps cut by a number: the numbers of all rows that came to the step, and which of them stayed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from foveal.view.analysis import Numbers
from foveal.view.folder import Folder, StepInfo

CUTTING = ("percentile", "top")


@dataclass
class Cut:
    """One cut.

    Attributes:
        step: its label; `tag`: whose values were cut.
        kept: values of rows that stayed; `other`: of those that went.
    """

    step: str
    tag: str
    kept: Numbers
    other: Numbers

    @property
    def whole(self) -> Numbers:
        """All values."""
        return Numbers(self.kept.counts + self.other.counts)


def cuts(folder: Folder) -> Iterator[Cut]:
    """Yield the cuts of a run, in the order of its steps; steps that no row came to are left out."""
    for info in folder.steps:
        if info.step in CUTTING and (tag := _tag(info)):
            cut = Cut(info.label, tag, Numbers(), Numbers())
            for status, tags in folder.query(_VALUES, (info.label, folder.run)):
                value = orjson.loads(tags).get(tag)
                if isinstance(value, int | float) and not isinstance(value, bool):
                    (cut.kept if status == "kept" else cut.other).add(value)
            if cut.kept.n + cut.other.n:
                yield cut


def _tag(info: StepInfo) -> str:
    """Return the one tag that a step cuts by, "" where it cuts by several."""
    of = info.knobs.get("of", "")
    return of if isinstance(of, str) else str(of[0]) if len(of) == 1 else ""


_VALUES = """SELECT u.status, r.tags FROM units u CROSS JOIN records r ON r.id=u.record WHERE u.step=? AND u.run=?"""
