"""Pairs as people look at them: which words differ, which picture each side saw, how lengths compare over the set."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any, TypeAlias

from foveal.record import Pair, body_from_json
from foveal.steps.pairs import Lengths, distance, leak, lengths_of, log_ratio

Piece: TypeAlias = tuple[str, bool]
"""A run of text, and whether the other side lacks it."""

MOST_DISTANCES = 4000
MOST_WORDS = 1500


def word_diff(one: str, other: str) -> tuple[list[Piece], list[Piece]]:
    """Return both texts in pieces, those words marked that the other lacks. Joined, the pieces are the text."""
    a, b = _words(one), _words(other)
    if max(len(a), len(b)) > MOST_WORDS:
        return [(one, False)], [(other, False)]
    matcher = SequenceMatcher(None, [w.strip() for w in a], [w.strip() for w in b], autojunk=False)
    left: list[Piece] = []
    right: list[Piece] = []
    for kind, i, j, k, n in matcher.get_opcodes():
        left += _piece("".join(a[i:j]), kind != "equal")
        right += _piece("".join(b[k:n]), kind != "equal")
    return left, right


def _words(text: str) -> list[str]:
    return re.findall(r"\S+\s*|\s+", text)


def _piece(text: str, marked: bool) -> list[Piece]:
    bare = text.rstrip() if marked else text
    return [piece for piece in ((bare, marked), (text[len(bare) :], False)) if piece[0]]


@dataclass(frozen=True)
class Side:
    """One side of a pair.

    Attributes:
        name: "chosen" or "rejected".
        pieces: its words, those marked that the other side lacks.
        images: (digest, source) of the pictures it answers about.
        about: what was done to them, "" for nothing.
    """

    name: str
    pieces: Sequence[Piece]
    images: Sequence[tuple[str, str]]
    about: str = ""


@dataclass(frozen=True)
class Shown:
    """A pair to be shown.

    Attributes:
        turns: the prompt's (role, text).
        sides: chosen and rejected.
        apart: whether the sides saw different pictures.
    """

    turns: Sequence[tuple[str, str]]
    sides: tuple[Side, Side]
    apart: bool


def shown(body: Any, images: Sequence[tuple[str, str]], tags: Mapping[str, Any]) -> Shown | None:
    """Return a stored record's pair as it is shown, None when the record is none.

    Args:
        body: as stored.
        images: (digest, source) of its pictures.
        tags: its tags; `rejected_saw` names pictures that the rejected answer was about though no side is trained on
            them, `perturb` what was done to them.
    """
    try:
        pair = body_from_json(body)
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(pair, Pair):
        return None
    saw = tags.get("rejected_saw")
    spoilt = [image for image in images if isinstance(saw, list) and image[0] in saw]
    own = {*(pair.chosen_images or ()), *(pair.rejected_images or ())}
    named = [i for turn in pair.prompt for i in turn.positions] or [n for n in range(len(images)) if n not in own]
    clean = _picked(images, pair.chosen_images or named)
    clean = [image for image in clean if image not in spoilt]
    rejected = spoilt or _picked(images, pair.rejected_images or ()) or clean
    left, right = word_diff(pair.chosen, pair.rejected)
    how = str(tags.get("perturb") or "") if rejected != clean else ""
    sides = Side("chosen", left, clean), Side("rejected", right, rejected, how)
    return Shown([(t.role, t.text) for t in pair.prompt], sides, rejected != clean)


def _picked(images: Sequence[tuple[str, str]], indices: Sequence[int]) -> list[tuple[str, str]]:
    return [images[i] for i in indices if 0 <= i < len(images)]


# --- over the set --------------------------------------------------------------------------------------------------


@dataclass
class PairFindings:
    """What a set of pairs is like.

    Attributes:
        logs: logarithms of chosen over rejected length.
        distances: share of words that differ, of the first few thousand pairs.
        same: pairs whose sides have the same words, about different pictures as a rule.
        leaking: side -> pairs in which it speaks of how the picture was spoilt.
        groups: tag `group` -> rejected answers, when there are several to one question.
    """

    logs: list[float] = field(default_factory=list)
    distances: list[float] = field(default_factory=list)
    same: int = 0
    leaking: Counter[str] = field(default_factory=Counter)
    groups: Counter[str] = field(default_factory=Counter)

    def add(self, body: Mapping[str, Any], tags: Mapping[str, Any], question: str) -> None:
        """Count a stored pair."""
        chosen, rejected = str(body.get("chosen", "")), str(body.get("rejected", ""))
        self.logs.append(log_ratio(chosen, rejected))
        self.same += chosen == rejected
        if len(self.distances) < MOST_DISTANCES:
            self.distances.append(distance(chosen, rejected))
        for side, text in (("chosen", chosen), ("rejected", rejected)):
            self.leaking[side] += bool(leak(text, question))
        if isinstance(group := tags.get("group"), str):
            self.groups[group] += 1

    @property
    def lengths(self) -> Lengths:
        """How the sides' lengths compare."""
        return lengths_of(self.logs)

    @property
    def several(self) -> int:
        """Most rejected answers to one question."""
        return max(self.groups.values(), default=1)
