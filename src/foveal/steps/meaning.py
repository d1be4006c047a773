"""Texts that say the same in other words: compared by an encoder of sentences, which is fetched the first time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Literal

from foveal.errors import MissingExtra, RecipeError
from foveal.steps.table import Table

BLOCK = 512
"""Texts that are compared with all that were kept before them at a time."""


def encoder(what: str) -> Callable[[Sequence[str]], Any]:
    """Return the function from texts to unit vectors, (texts, 384).

    Raises:
        MissingExtra: a package that it needs is not installed.
    """
    try:
        from foveal.models.sentences import sentences
    except ImportError:
        raise MissingExtra(what, "curate") from None
    return sentences


def same_meaning(
    table: Table,
    by: Literal["question", "answer"] = "question",
    at: float = 0.95,
    within: Literal["image", "set"] = "image",
) -> Table:
    """Take out texts that say what an earlier one says, by the cosine of all-MiniLM-L6-v2's vectors. English, mostly.

    Exact and greedy: each text is compared with all that were kept. For more than some hundred thousand texts that
    are all compared, take out what `minhash` finds first.

    Args:
        table: rows.
        by: which text to compare.
        at: cosine from which two texts say the same, above 0 and at most 1. Look at what goes: questions that differ
            in one noun may be as near as 0.9.
        within: compare rows about the same picture, or all rows.

    Raises:
        RecipeError: `at` is out of range.
        MissingExtra: a package that the encoder needs is not installed.
        ModelSetupError: the encoder could not be fetched.
    """
    if not 0 < at <= 1:
        raise RecipeError(f"same_meaning: at={at} must be above 0 and at most 1")
    read = encoder("same_meaning")
    if not table.ids:
        return table
    groups: dict[str, list[int]] = defaultdict(list)
    for i, picture in enumerate(table.column("picture") if within == "image" else [""] * len(table.ids)):
        groups[picture].append(i)
    rows = read([text or "" for text in table.column(by)])
    like: dict[int, int] = {}
    for members in groups.values():
        like |= {members[i]: members[j] for i, j in near_vectors(rows[members], at).items()}
    return table.without_copies(like, f"{by} of the same meaning")


def near_vectors(rows: Any, at: float) -> dict[int, int]:
    """Return the place of each unit vector that is like an earlier one which is kept -> the place of the nearest.

    Args:
        rows: (vectors, dimensions) of float32.
        at: cosine from which two are alike.
    """
    kept: list[int] = []
    like: dict[int, int] = {}
    edge = at - 1e-6  # a vector's cosine with itself may be rounded below 1
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        before = block @ rows[kept].T if kept else None
        inside = block @ block.T
        fresh: list[int] = []
        for i in range(len(block)):
            known = [(float(inside[i, j]), start + j) for j in fresh]
            if before is not None:
                known.append((float(before[i].max()), kept[int(before[i].argmax())]))
            cosine, nearest = max(known, default=(-1.0, -1), key=lambda pair: (pair[0], -pair[1]))
            if cosine >= edge:
                like[start + i] = nearest
            else:
                fresh.append(i)
        kept += [start + i for i in fresh]
    return like
