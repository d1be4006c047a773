"""Choosing rows of a set: the best, a balance, a mixture, the most different, one part of a split."""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from random import Random
from typing import Any, Literal

from foveal.errors import RecipeError
from foveal.record import digest
from foveal.steps.meaning import encoder
from foveal.steps.near import clusters_of, numpy_or_say
from foveal.steps.table import Table, words

DIMENSIONS = 256
"""Of hashed bags of words."""


def top(
    table: Table, of: tuple[str, ...] = (), n: int = 0, share: float = 1.0, within: str = "", lowest: bool = False
) -> Table:
    """Keep the best rows by the mean of some numeric tags: quality first.

    Args:
        table: rows.
        of: names of the tags; a row that lacks one of them is out.
        n: how many to keep, 0 for any number.
        share: share to keep, above 0 and at most 1; with `n` the smaller number counts.
        within: keep so many of each value of this tag, instead of all the rows.
        lowest: the smallest numbers are the best.

    Raises:
        RecipeError: no tag is named, or a number is out of range.
    """
    if not of or n < 0 or not 0 < share <= 1:
        raise RecipeError(f"top: of={list(of)} must name a tag, n={n} be at least 0, share={share:g} from 0 to 1")
    columns = [table.column(f"tags.{name}") for name in of]
    values = [_mean(row) for row in zip(*columns, strict=True)]
    groups = _groups(table, within)
    reasons = {id_: f"no {' and '.join(of)}" for id_, value in zip(table.ids, values, strict=True) if value is None}
    for members in groups.values():
        ranked = sorted(
            (m for m in members if values[m] is not None), key=lambda m: values[m] or 0.0, reverse=not lowest
        )
        most = min(n or len(ranked), math.ceil(share * len(ranked) - 1e-9))
        reasons |= {table.ids[m]: f"not among the best by {' and '.join(of)}" for m in ranked[most:]}
    return table.without(reasons)


def _mean(row: Sequence[Any]) -> float | None:
    numbers = [v for v in row if isinstance(v, int | float) and not isinstance(v, bool)]
    return sum(numbers) / len(numbers) if len(numbers) == len(row) else None


def origin(source: str) -> str:
    """Return the file, run or folder that a row came from, by its tag `source`.

    That tag tells a place in it: `a.jsonl row 3`, `a.tar!7.png`, `cats/7.png`.
    """
    if of_rows := re.fullmatch(r"(.*) row \d+", source, re.DOTALL):
        return of_rows[1]
    archive, inside, _ = source.partition("!")
    return archive if inside else source.rpartition("/")[0]


def _groups(table: Table, by: str) -> dict[str, list[int]]:
    """Return value of a tag -> places of its rows; "" for rows without it, and for all where no tag is named."""
    values = table.column(f"tags.{by}") if by else [""] * len(table.ids)
    if by == "source":
        values = [origin(str(v or "")) for v in values]
    groups: dict[str, list[int]] = defaultdict(list)
    for place, value in enumerate(values):
        groups["" if value is None else str(value)].append(place)
    return groups


def _sampled(table: Table, members: Sequence[int], n: int, *label: str) -> list[int]:
    """Return the members of a group that go when n of it stay, drawn by the recipe's name."""
    rng = Random(digest(str(table.seed), *label))
    stay = set(rng.sample(list(members), min(n, len(members))))
    return [m for m in members if m not in stay]


def balance(table: Table, by: str = "", most: int = 0, quotas: Mapping[str, int] | None = None) -> Table:
    """Let no value of a tag have more rows than its quota, at random.

    Args:
        table: rows.
        by: the tag's name; rows without it are of the value "".
        most: rows of each value, 0 for as many as the rarest value has.
        quotas: value -> rows, for values that have a quota of their own.

    Raises:
        RecipeError: no tag is named, or a number is below 0.
    """
    quotas = dict(quotas or {})
    if not by or most < 0 or min(quotas.values(), default=0) < 0:
        raise RecipeError(f"balance: by={by!r} must name a tag, and no number may be below 0")
    groups = _groups(table, by)
    usual = most or min((len(m) for value, m in groups.items() if value not in quotas), default=0)
    reasons: dict[str, str] = {}
    for value, members in sorted(groups.items()):
        gone = _sampled(table, members, quotas.get(value, usual), "balance", by, value)
        reasons |= {table.ids[m]: f"more than enough of {by} {value or 'none'}" for m in gone}
    return table.without(reasons)


def mix(table: Table, by: str = "", weights: Mapping[str, float] | None = None, total: int = 0) -> Table:
    """Mix rows by weights of a tag's values: as many as can be had in these proportions, at random.

    Args:
        table: rows.
        by: the tag's name, such as one that tells where a row came from.
        weights: value -> weight; values without one are left out.
        total: rows in all, 0 for as many as the scarcest value allows.

    Raises:
        RecipeError: no tag or no weight is given, or a weight is not above 0.
    """
    weights = dict(weights or {})
    if not by or not weights or min(weights.values()) <= 0 or total < 0:
        raise RecipeError(f"mix: by={by!r} must name a tag, and weights={weights} give numbers above 0")
    groups = _groups(table, by)
    whole = sum(weights.values())
    limit = min(len(groups.get(value, ())) * whole / weight for value, weight in weights.items())
    size = min(limit, total) if total else limit
    reasons: dict[str, str] = {}
    for value, members in sorted(groups.items()):
        wanted = math.floor(size * weights.get(value, 0.0) / whole + 1e-9)
        gone = _sampled(table, members, wanted, "mix", by, value)
        why = "more than its share of the mixture" if value in weights else "no part of the mixture"
        reasons |= {table.ids[m]: f"{by} {value or 'none'}: {why}" for m in gone}
    return table.without(reasons)


def diverse(
    table: Table,
    n: int = 0,
    by: Literal["question", "answer"] = "question",
    on: Literal["words", "meaning"] = "words",
) -> Table:
    """Keep n rows that are as different as can be: k-centre greedy selection (Sener and Savarese, 2018, section 4.2).

    The first is the row nearest to the middle; each next one is the farthest from those already chosen, by the cosine
    of hashed bags of words and word pairs, or of what an encoder of sentences makes of them. n rows of a million cost
    n passes over 1 kB (words) or 1.5 kB (meaning) a row.

    Args:
        table: rows.
        n: how many stay; all, where there are no more.
        by: which text is compared.
        on: by words alone, or by meaning, for which an encoder is fetched the first time.

    Raises:
        RecipeError: n is below 1.
        MissingExtra: a part that it needs is not installed.
        ModelSetupError: the encoder could not be fetched.
    """
    if n < 1:
        raise RecipeError(f"diverse: n={n} must be at least 1")
    np = numpy_or_say("diverse")
    read = encoder("diverse: {on: meaning}") if on == "meaning" else partial(_bags, np)
    if len(table.ids) <= n:
        return table
    rows = read([text or "" for text in table.column(by)])
    chosen = [int((rows @ rows.mean(0)).argmax())]
    near = rows @ rows[chosen[0]]
    while len(chosen) < n:
        near[chosen[-1]] = np.inf
        chosen.append(int(near.argmin()))
        near = np.maximum(near, rows @ rows[chosen[-1]])
    kept = set(chosen)
    return table.without({id_: "too like those chosen" for i, id_ in enumerate(table.ids) if i not in kept})


def _bags(np: Any, texts: Sequence[str]) -> Any:
    """Return unit vectors, (texts, DIMENSIONS) of float32: words and word pairs hashed with signs, rare heavier."""
    found = [Counter(w for w in (*words(t), *zip(words(t), words(t)[1:], strict=False))) for t in texts]
    often = Counter(token for bag in found for token in bag)
    out = np.zeros((len(texts), DIMENSIONS), np.float32)
    for i, bag in enumerate(found):
        for token, count in bag.items():
            code = zlib.crc32(repr(token).encode())
            out[i, code % DIMENSIONS] += (1 if code >> 31 else -1) * count * math.log(1 + len(texts) / often[token])
    length = np.linalg.norm(out, axis=1, keepdims=True)
    return out / np.where(length == 0, 1, length)


def split(table: Table, shares: Mapping[str, float] | None = None, take: str = "train", bits: int = 4) -> Table:
    """Keep one part of a split that no picture crosses, nor a near-duplicate of it.

    Pictures whose hashes are near are of one cluster, and a cluster is of one part, drawn by the smallest of its
    pictures' digests: the same for every run of a recipe of this name on these pictures. Take the other part with
    another `take`, in a run that shares the calls.

    Args:
        table: rows with pictures.
        shares: part -> share, by default 0.9 of train and 0.1 of test.
        take: the part that stays.
        bits: how many of the 64 bits of near pictures' hashes differ at most, 0 to 16.

    Raises:
        RecipeError: no such part, shares that do not add up to 1, or `bits` out of range.
    """
    shares = dict(shares or {"train": 0.9, "test": 0.1})
    if take not in shares or min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-6 or not 0 <= bits <= 16:
        raise RecipeError(f"split: take={take!r} must be one of {list(shares)}, whose shares add up to 1; bits 0 to 16")
    pictures = table.column("picture")
    clusters = clusters_of(pictures, table.column("dhash"), bits)
    smallest: dict[int, str] = {}
    for i, picture in enumerate(pictures):
        first = clusters.first(i)
        smallest[first] = min(smallest.get(first, picture or table.ids[i]), picture or table.ids[i])
    parts = {first: _part(table.seed, name, shares) for first, name in smallest.items()}
    reasons = {}
    for i, id_ in enumerate(table.ids):
        if (part := parts[clusters.first(i)]) != take:
            reasons[id_] = f"of the part {part}"
    return table.without(reasons)


def _part(seed: int, name: str, shares: Mapping[str, float]) -> str:
    """Return the part of a cluster, drawn by its name."""
    place, part = Random(digest(str(seed), "split", name)).random(), ""
    for part, share in shares.items():
        place -= share
        if place < 0:
            return part
    return part
