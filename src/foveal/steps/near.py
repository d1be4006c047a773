"""Near-duplicates in large sets: pictures by their hashes, texts by MinHash, in bounded memory.

The table steps that use them are here too, but for `dedup` and `near_pictures`, which need no numpy (`table.py`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from foveal.errors import MissingExtra, RecipeError
from foveal.steps.table import Table, words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints: TypeAlias = NDArray[np.uint64]

PERMUTATIONS = 64
_PRIME = (1 << 61) - 1
CHUNK = 50_000
"""Texts that are hashed at a time."""


def numpy_or_say(what: str) -> Any:
    """Return numpy.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import numpy
    except ImportError:
        raise MissingExtra(what, "curate") from None
    return numpy


class Clusters:
    """Disjoint sets of numbers, each known by its smallest."""

    def __init__(self, n: int) -> None:
        self._up = list(range(n))

    def first(self, i: int) -> int:
        """Return the smallest number of i's set."""
        while self._up[i] != i:
            self._up[i] = self._up[self._up[i]]
            i = self._up[i]
        return i

    def join(self, i: int, j: int) -> None:
        """Put two sets together."""
        a, b = self.first(i), self.first(j)
        if a != b:
            self._up[max(a, b)] = min(a, b)


# --- texts ---------------------------------------------------------------------------------------------------------


def shingles(text: str) -> frozenset[int]:
    """Return 32-bit hashes of a text's words and word pairs; of a text without words, of itself."""
    plain = words(text)
    parts = {*plain, *(f"{a} {b}" for a, b in pairwise(plain))} or {text}
    return frozenset(zlib.crc32(part.encode("utf-8", "surrogatepass")) for part in parts)


def signatures(texts: Sequence[str], seed: int = 1) -> Any:
    """Return MinHash signatures, (texts, PERMUTATIONS) of uint32: equal in a place with the probability of Jaccard.

    Source: Broder, 1997, On the resemblance and containment of documents; multiply-shift hashing.
    """
    np = numpy_or_say("MinHash")
    rng = np.random.default_rng(seed)
    scale = rng.integers(1, 1 << 63, PERMUTATIONS, dtype=np.uint64) | np.uint64(1)
    shift = rng.integers(0, 1 << 63, PERMUTATIONS, dtype=np.uint64)
    out = np.empty((len(texts), PERMUTATIONS), np.uint32)
    for start in range(0, len(texts), CHUNK):
        bags = [shingles(t) for t in texts[start : start + CHUNK]]
        flat = np.fromiter((h for bag in bags for h in bag), np.uint64, sum(map(len, bags)))
        ends = np.cumsum([0, *map(len, bags)])[:-1]
        for k in range(PERMUTATIONS):
            hashed = (flat * scale[k] + shift[k]) >> np.uint64(32)
            out[start : start + len(bags), k] = np.minimum.reduceat(hashed, ends)
    return out


def bands_for(at: float, miss: float = 1e-4) -> tuple[int, int]:
    """Return (bands, rows of a band): the most selective that misses a pair of similarity `at` with at most `miss`."""
    for rows in range(8, 1, -1):
        bands = PERMUTATIONS // rows
        if (1 - at**rows) ** bands <= miss:
            return bands, rows
    return PERMUTATIONS, 1


def near_by_minhash(texts: Sequence[str], at: float, seed: int = 1) -> Iterator[tuple[int, int]]:
    """Yield (later, earlier) pairs of texts with a Jaccard similarity >= `at`, enough of them to join all clusters.

    Candidates share a band of their signatures and are compared exactly; of a bucket each member is compared with
    the first and with the one before it, so that a thousand copies cost a thousand comparisons.
    """
    if not texts:
        return
    np = numpy_or_say("MinHash")
    found = signatures(texts, seed)
    bands, rows = bands_for(at)
    tried: set[int] = set()
    for band in range(bands):
        for i, j in _neighbours(np, _band_keys(np, found[:, band * rows : (band + 1) * rows])):
            code = i * len(texts) + j
            if code not in tried:
                tried.add(code)
                a, b = shingles(texts[i]), shingles(texts[j])
                if len(a & b) >= at * len(a | b):
                    yield max(i, j), min(i, j)


def _band_keys(np: Any, columns: Any) -> Ints:
    keys = np.zeros(len(columns), np.uint64)
    for k in range(columns.shape[1]):
        keys = (keys ^ columns[:, k].astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    return keys  # type: ignore[no-any-return]


def _neighbours(np: Any, keys: Ints) -> Iterator[tuple[int, int]]:
    """Yield pairs of equal keys: each with the one before it and with the first of its bucket."""
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    same = np.flatnonzero(ranked[1:] == ranked[:-1])
    first = -1
    for at, place in enumerate(same.tolist()):
        if at == 0 or same[at - 1] != place - 1:
            first = place
        i, j = int(order[place + 1]), int(order[place])
        yield i, j
        if first != place:
            yield i, int(order[first])


def minhash(
    table: Table,
    by: Literal["question", "answer"] = "question",
    at: float = 0.8,
    within: Literal["image", "set"] = "set",
) -> Table:
    """Take out near-duplicate texts of sets of any size, keeping the first of each cluster.

    Clusters are connected: a text that resembles one that resembles a third is of their cluster. `dedup` compares
    every pair exactly and greedily instead, which small sets can afford.

    Args:
        table: rows.
        by: which text to compare.
        at: Jaccard similarity of words and word pairs from which two texts are the same, above 0 and at most 1.
        within: compare rows about the same picture, or all rows.

    Raises:
        RecipeError: `at` is out of range.
        MissingExtra: numpy is not installed.
    """
    if not 0 < at <= 1:
        raise RecipeError(f"minhash: at={at} must be above 0 and at most 1")
    numpy_or_say("minhash")
    texts = table.column(by)
    pictures = table.column("picture") if within == "image" else None
    clusters = Clusters(len(texts))
    for later, earlier in near_by_minhash(texts, at, table.seed + 1):
        if pictures is None or pictures[later] == pictures[earlier]:
            clusters.join(later, earlier)
    return table.without(_named(table.ids, clusters, f"near-duplicate {by}"))


def _named(ids: Sequence[str], clusters: Clusters, reason: str) -> dict[str, str]:
    return {id_: reason for i, id_ in enumerate(ids) if clusters.first(i) != i}


# --- pictures ------------------------------------------------------------------------------------------------------

PLAIN = 4096
"""Hashes up to which they are compared without numpy."""


def near_hashes(codes: Sequence[int], bits: int) -> Iterator[tuple[int, int]]:
    """Yield (later, earlier) pairs of 64-bit hashes that differ in at most `bits` bits, enough to join all clusters.

    Two codes that differ in at most `bits` bits agree in at least one of bits + 1 bands (pigeonhole). Equal codes are
    compared with the first of them only.
    """
    first: dict[int, int] = {}
    for i, code in enumerate(codes):
        if first.setdefault(code, i) != i:
            yield i, first[code]
    places = list(first.values())
    distinct = [codes[i] for i in places]
    pairs = _near_plain if len(distinct) <= PLAIN or not _has_numpy() else _near_many
    for i, j in pairs(distinct, bits):
        yield max(places[i], places[j]), min(places[i], places[j])


def _has_numpy() -> bool:
    try:
        import numpy  # noqa: F401
    except ImportError:
        return False
    return True


def _cuts(bits: int) -> list[tuple[int, int]]:
    edges = [64 * k // (bits + 1) for k in range(bits + 2)]
    return list(pairwise(edges))


def _near_plain(codes: Sequence[int], bits: int) -> Iterator[tuple[int, int]]:
    for low, high in _cuts(bits):
        buckets: dict[int, list[int]] = {}
        for i, code in enumerate(codes):
            bucket = buckets.setdefault(code >> low & (1 << (high - low)) - 1, [])
            yield from ((i, j) for j in bucket if (code ^ codes[j]).bit_count() <= bits)
            bucket.append(i)


def _near_many(codes: Sequence[int], bits: int) -> Iterator[tuple[int, int]]:
    """Compare within buckets of sorted codes, all of them at once: each code with the k-th after it, k = 1, 2, ..."""
    import numpy as np

    whole = np.array(codes, np.uint64)
    for low, high in _cuts(bits):
        keys = (whole >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(keys, kind="stable")
        keys, sorted_ = keys[order], whole[order]
        left = np.arange(len(keys) - 1)
        step = 1
        while len(left):
            left = left[left + step < len(keys)]
            left = left[keys[left] == keys[left + step]]
            far = np.bitwise_count(sorted_[left] ^ sorted_[left + step])
            for i in left[far <= bits].tolist():
                yield int(order[i]), int(order[i + step])
            step += 1


def clusters_of(pictures: Sequence[str], hashes: Sequence[int | None], bits: int) -> Clusters:
    """Return clusters of rows: those of the same picture, and of pictures whose hashes are near.

    Args:
        pictures: each row's picture digest, "" for none.
        hashes: each row's perceptual hash, None where it has none.
        bits: how many bits of near hashes differ at most.
    """
    clusters = Clusters(len(pictures))
    first: dict[str, int] = {}
    for i, picture in enumerate(pictures):
        if picture:
            clusters.join(i, first.setdefault(picture, i))
    known = [i for i in first.values() if hashes[i] is not None]
    for later, earlier in near_hashes([hashes[i] or 0 for i in known], bits):
        clusters.join(known[later], known[earlier])
    return clusters


def near_pictures(table: Table, bits: int = 4, flips: bool = False, crops: bool = False) -> Table:
    """Take out rows whose picture is a near-duplicate of an earlier row's; rows about the very same picture stay together.

    Args:
        table: rows with pictures.
        bits: how many of the 64 bits of the perceptual hash (dHash) may differ, 0 to 16.
        flips: a picture and its mirror image are the same.
        crops: a picture and a part of it (five ninths of its area or more, in the middle or a corner) are the same.
            A part is often enough like another picture: look at what goes before trusting it.

    Raises:
        RecipeError: `bits` is out of range.
    """
    if not 0 <= bits <= 16:
        raise RecipeError(f"near_pictures: bits={bits} must be from 0 to 16")
    pictures, hashes = table.column("picture"), table.column("dhash")
    clusters = clusters_of(pictures, hashes, bits)
    if flips:
        _join_variants(clusters, hashes, [[h] for h in table.column("dhash.flip")], bits)
    if crops:
        _join_variants(clusters, hashes, table.column("dhash.crops"), bits)
    reasons: dict[str, str] = {}
    for i, id_ in enumerate(table.ids):
        first = clusters.first(i)
        if pictures[i] and pictures[first] != pictures[i]:
            reasons[id_] = "near-duplicate picture"
    return table.without(reasons)


def _join_variants(
    clusters: Clusters, hashes: Sequence[int | None], variants: Sequence[Sequence[int | None] | None], bits: int
) -> None:
    """Join rows with those whose hash is near one of their variants' (mirrored, cropped)."""
    plain = [(i, h) for i, h in enumerate(hashes) if h is not None]
    other = [(i, h) for i, several in enumerate(variants) for h in several or () if h is not None]
    codes = [h for _, h in (*plain, *other)]
    for later, earlier in near_hashes(codes, bits):
        if later >= len(plain):
            clusters.join(
                other[later - len(plain)][0],
                (plain[earlier] if earlier < len(plain) else other[earlier - len(plain)])[0],
            )
