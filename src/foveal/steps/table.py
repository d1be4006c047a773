"""Table steps: pure functions of the whole set. A Table holds ids and the columns asked for, never pictures."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from foveal.errors import RecipeError


@dataclass(frozen=True)
class Table:
    """The records that came this far.

    Attributes:
        ids: their ids, in order.
        load: fills a column on demand: "question", "answer"; "chosen", "rejected", "rejected_images" (None where the
            row is no pair); "picture" (the first image's digest, "" for none), and of that image "dhash" (64-bit
            perceptual hash), "dhash.flip" (mirrored), "dhash.crops" (a list, of parts of it) and "size" (width and
            height), each None when unreadable; or "tags.<name>".
        dropped: id -> reason, of those that steps took out.
        details: id -> more about it, such as the row that it is like; reasons are counted, details shown with the row.
        seed: of the recipe's name; the only randomness.
    """

    ids: tuple[str, ...]
    load: Callable[[str, Sequence[str]], list[Any]]
    dropped: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    details: Mapping[str, str] = field(default_factory=dict)

    def column(self, name: str) -> list[Any]:
        """Return one column, a value for each id."""
        return self.load(name, self.ids)

    def without(self, reasons: Mapping[str, str], details: Mapping[str, str] | None = None) -> Table:
        """Return the table without some ids, each with its reason, and with details where there are any."""
        left = tuple(i for i in self.ids if i not in reasons)
        return Table(left, self.load, {**self.dropped, **reasons}, self.seed, {**self.details, **(details or {})})

    def without_copies(self, like: Mapping[int, int], reason: str) -> Table:
        """Return the table without the rows at some places, each told to be like the row at another."""
        found = {self.ids[i]: self.ids[j] for i, j in like.items()}
        return self.without(dict.fromkeys(found, reason), {i: f"like {j}" for i, j in found.items()})


def words(text: str) -> list[str]:
    """Return a text's words in lower case; in scripts without spaces, its letters."""
    return re.findall(r"[^\W\d_぀-鿿가-힯]+|\d+|[぀-鿿가-힯]", text.casefold())


def near_texts(texts: Sequence[str], at: float) -> Iterable[tuple[int, int]]:
    """Yield (later, earlier) pairs of texts whose sets of words and word pairs have a Jaccard similarity >= `at`.

    Exact, by prefix filtering (Bayardo et al., WWW 2007): with tokens in order of rarity, two similar sets share a
    token among their first |x| - ceil(at * |x|) + 1.
    """
    bags = [_shingles(t) for t in texts]
    rarity: dict[str, int] = defaultdict(int)
    for bag in bags:
        for token in bag:
            rarity[token] += 1
    index: dict[str, list[int]] = defaultdict(list)
    for i, bag in enumerate(bags):
        ordered = sorted(bag, key=lambda t: (rarity[t], t))
        prefix = ordered[: len(ordered) - _at_least(at, len(ordered)) + 1]
        candidates = {j for token in prefix for j in index[token]}
        for j in sorted(candidates):
            if _jaccard(bag, bags[j]) >= at:
                yield i, j
        for token in prefix:
            index[token].append(i)


def _shingles(text: str) -> frozenset[str]:
    plain = words(text)
    return frozenset(plain) | {f"{a} {b}" for a, b in pairwise(plain)} or frozenset({text})


def _at_least(share: float, size: int) -> int:
    return max(1, -int(-share * size // 1))


def _jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    both = len(a & b)
    return both / (len(a) + len(b) - both)


def dedup(
    table: Table,
    by: Literal["question", "answer"] = "question",
    at: float = 0.9,
    within: Literal["image", "set"] = "image",
    most: int = 1,
) -> Table:
    """Take out near-duplicate texts, keeping the first `most` of each group.

    Args:
        table: rows.
        by: which text to compare.
        at: Jaccard similarity of words and word pairs from which two texts are the same, above 0 and at most 1.
        within: compare rows about the same picture, or all rows. Across pictures the same question is not the same row.
        most: how many near-duplicates may stay.

    Raises:
        RecipeError: `at` or `most` is out of range.
    """
    if not 0 < at <= 1 or most < 1:
        raise RecipeError(f"dedup: at={at} must be above 0 and at most 1, most={most} at least 1")
    groups: dict[str, list[int]] = defaultdict(list)
    pictures = table.column("picture") if within == "image" else [""] * len(table.ids)
    for i, picture in enumerate(pictures):
        groups[picture].append(i)
    texts = table.column(by)
    like: dict[int, int] = {}
    for members in groups.values():
        if len(members) > most:
            gone = _surplus([texts[m] for m in members], at, most)
            like |= {members[i]: members[j] for i, j in gone.items()}
    return table.without_copies(like, f"near-duplicate {by}")


def _surplus(texts: Sequence[str], at: float, most: int) -> dict[int, int]:
    """Return the places of texts that are too many -> the first of those kept that each is like."""
    similar: dict[int, set[int]] = defaultdict(set)
    for later, earlier in near_texts(texts, at):
        similar[later].add(earlier)
    gone: dict[int, int] = {}
    for i in range(len(texts)):
        kept = similar[i] - gone.keys()
        if len(kept) >= most:
            gone[i] = min(kept)
    return gone


def percentile(table: Table, of: str = "", least: float = 0.0, most: float = 100.0) -> Table:
    """Keep the rows whose number lies between two percentiles of the set's own numbers.

    Args:
        table: rows with a numeric tag.
        of: the tag's name, such as "complexity".
        least: percentile below which rows are taken out, 0 for none.
        most: percentile above which rows are taken out, 100 for none.

    Raises:
        RecipeError: no tag is named, no row has a number in it, or the percentiles do not rise from 0 to 100.
    """
    if not of:
        raise RecipeError("percentile: name the tag whose numbers decide, as of: complexity")
    if not 0 <= least <= most <= 100:
        raise RecipeError(f"percentile: least={least:g} and most={most:g} must rise, from 0 to 100")
    values = [v if isinstance(v, int | float) else None for v in table.column(f"tags.{of}")]
    numbers = sorted(v for v in values if v is not None)
    if table.ids and not numbers:
        raise RecipeError(f"percentile: no row has a number in its tag {of!r}")
    low, high = (_at_percentile(numbers, share) for share in (least, most))
    reasons: dict[str, str] = {}
    for id_, value in zip(table.ids, values, strict=True):
        if value is None:
            reasons[id_] = f"no {of}"
        elif value < low:
            reasons[id_] = f"{of} below {low:.4g}, percentile {least:g}"
        elif value > high:
            reasons[id_] = f"{of} above {high:.4g}, percentile {most:g}"
    return table.without(reasons)


def _at_percentile(numbers: Sequence[float], share: float) -> float:
    """Return a percentile of sorted numbers by linear interpolation, 0 of none."""
    if not numbers:
        return 0.0
    place = share / 100 * (len(numbers) - 1)
    low = int(place)
    high = min(low + 1, len(numbers) - 1)
    return numbers[low] + (numbers[high] - numbers[low]) * (place - low)


def for_a_person(table: Table, tag: str = "for_a_person") -> Table:
    """Take out rows that a method has flagged for a person to look at; they stay in the run with all they hold.

    Args:
        table: rows.
        tag: the flag's name.
    """
    flags = zip(table.ids, table.column(f"tags.{tag}"), strict=True)
    return table.without({id_: "flagged for a person" for id_, flag in flags if flag})
