"""Near-duplicates in large sets: pictures by their hashes, texts by MinHash, in bounded memory.

The table steps that use them are here too, but for `dedup` and `near_pictures`, which need no numpy (`table.py`).
"""

from __future__ import annotations

import zlib
from array import array
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import pairwise
from typing import Any, Literal

from foveal.errors import MissingExtra, RecipeError
from foveal.steps.table import Table, words

PERMUTATIONS = 128
CHUNK = 4096
"""Texts that are hashed at a time: their hashes fit into a processor's cache."""
AT_ONCE = 1 << 22
"""Hashes that are compared at a time, which bounds memory."""
WINDOW = 32
"""Neighbours in a bucket that a text is compared with, beside the bucket's first: what bounds time."""


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

    def firsts(self) -> list[int]:
        """Return the smallest number of each one's set."""
        return [self.first(i) for i in range(len(self._up))]

    def later(self) -> dict[int, int]:
        """Return each number that is not the smallest of its set -> the smallest."""
        return {i: first for i, first in enumerate(self.firsts()) if first != i}


# --- texts ---------------------------------------------------------------------------------------------------------


def shingles(text: str) -> frozenset[int]:
    """Return 32-bit hashes of a text's words and word pairs; of a text without words, of itself."""
    plain = words(text)
    parts = {*plain, *(f"{a} {b}" for a, b in pairwise(plain))} or {text}
    return frozenset(zlib.crc32(part.encode("utf-8", "surrogatepass")) for part in parts)


@dataclass(frozen=True)
class Bags:
    """The shingles of many texts, one after the other, and what tells which texts may be alike.

    Attributes:
        flat: the shingles, 4 bytes each.
        starts: where each text's begin, and a last number where the last one's end.
        keys: (texts, bands), a hash of each band of a text's MinHash signature.
    """

    flat: Any
    starts: Any
    keys: Any

    def alike(self, np: Any, a: Any, b: Any) -> Iterator[tuple[Any, Any, Any]]:
        """Yield (some of a, of b, their Jaccard similarities) for pairs of texts, a bounded number at a time."""
        sizes = self.starts[1:] - self.starts[:-1]
        ends = np.cumsum(sizes[a] + sizes[b])
        place = 0
        while place < len(a):
            so_far = ends[place - 1] if place else 0
            stop = max(place + 1, int(np.searchsorted(ends, so_far + AT_ONCE, side="right")))
            i, j = a[place:stop], b[place:stop]
            both = self._common(np, i, j, sizes)
            yield i, j, both / (sizes[i] + sizes[j] - both)
            place = stop

    def _common(self, np: Any, a: Any, b: Any, sizes: Any) -> Any:
        """Return how many shingles each pair of texts has in common: of both texts', sorted, those that come twice."""
        number = np.arange(len(a), dtype=np.uint64) << np.uint64(32)
        tagged = []
        for side in (a, b):
            count = sizes[side]
            before = np.cumsum(count) - count
            places = np.repeat(self.starts[side] - before, count) + np.arange(count.sum())
            tagged.append(np.repeat(number, count) | self.flat[places])
        ranked = np.sort(np.concatenate(tagged))
        twice = ranked[1:][ranked[1:] == ranked[:-1]] >> np.uint64(32)
        return np.bincount(twice.astype(np.int64), minlength=len(a))


def signatures(np: Any, flat: Any, starts: Any, seed: int = 1) -> Any:
    """Return MinHash signatures, (PERMUTATIONS, texts) of uint64: equal in a place with the probability of Jaccard.

    Source: Broder, 1997, On the resemblance and containment of documents; multiply-shift hashing.

    Args:
        np: numpy.
        flat: shingles of one text after the other, as uint64.
        starts: where each text's begin; none is empty.
        seed: of the hash functions.
    """
    rng = np.random.default_rng(seed)
    scale = rng.integers(1, 1 << 63, PERMUTATIONS, dtype=np.uint64) | np.uint64(1)
    shift = rng.integers(0, 1 << 63, PERMUTATIONS, dtype=np.uint64)
    out = np.empty((PERMUTATIONS, len(starts)), np.uint64)
    for k in range(PERMUTATIONS):
        out[k] = np.minimum.reduceat((flat * scale[k] + shift[k]) >> np.uint64(32), starts)
    return out


def bands_for(at: float, miss: float = 1e-4) -> tuple[int, int]:
    """Return (bands, rows of a band): the most selective that misses a pair of similarity `at` with at most `miss`."""
    for rows in range(16, 1, -1):
        bands = PERMUTATIONS // rows
        if (1 - at**rows) ** bands <= miss:
            return bands, rows
    return PERMUTATIONS, 1


def bags_of(np: Any, texts: Sequence[str], at: float, seed: int) -> Bags:
    """Return texts' shingles and band keys; signatures are kept of a few thousand texts at a time only."""
    bands, rows = bands_for(at)
    flat, sizes = array("I"), np.empty(len(texts), np.int64)
    keys = np.empty((len(texts), bands), np.uint64)
    for start in range(0, len(texts), CHUNK):
        found = [sorted(shingles(t)) for t in texts[start : start + CHUNK]]
        own = np.fromiter((h for bag in found for h in bag), np.uint64, sum(map(len, found)))
        here = np.array([len(bag) for bag in found])
        signed = signatures(np, own, np.cumsum(here) - here, seed)
        for band in range(bands):
            keys[start : start + len(found), band] = _mixed(np, signed[band * rows : (band + 1) * rows])
        sizes[start : start + len(found)] = here
        flat.frombytes(own.astype(np.uint32).tobytes())
    return Bags(np.frombuffer(flat, np.uint32), np.concatenate([[0], np.cumsum(sizes)]), keys)


def _mixed(np: Any, rows: Any) -> Any:
    """Return one hash for each column."""
    keys = np.zeros(rows.shape[1], np.uint64)
    for row in rows:
        keys = (keys ^ row) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    return keys


def near_by_minhash(
    texts: Sequence[str], at: float, seed: int = 1, groups: Sequence[Hashable] | None = None
) -> Iterator[tuple[int, int]]:
    """Yield (later, earlier) pairs of texts with a Jaccard similarity >= `at`, just enough to join all clusters.

    Texts of the same words in the same order are one. Others that share a band of their signatures are compared
    exactly: of a bucket each with the first and with WINDOW others near it, so that many texts made from one template
    cost no square of their number. Memory is 4 bytes a distinct word or pair of a text, and 8 a band (about 200).

    Args:
        texts: any number.
        at: similarity above 0 and at most 1.
        seed: of the hash functions.
        groups: one for each text; only texts of the same group are compared.
    """
    places: list[int] = []
    first: dict[tuple[Hashable, bytes], int] = {}
    for i, text in enumerate(texts):
        told = blake2b("\0".join(words(text) or [text]).encode("utf-8", "surrogatepass"), digest_size=12).digest()
        same = first.setdefault((groups[i] if groups else None, told), i)
        if same == i:
            places.append(i)
        else:
            yield i, same
    if len(places) > 1:
        mine = [groups[i] for i in places] if groups else None
        for i, j in _near_distinct([texts[i] for i in places], at, seed, mine):
            yield places[i], places[j]


def _near_distinct(
    texts: Sequence[str], at: float, seed: int, groups: Sequence[Hashable] | None
) -> Iterator[tuple[int, int]]:
    np = numpy_or_say("MinHash")
    bags = bags_of(np, texts, at, seed)
    if groups:
        numbers: dict[Hashable, int] = {}
        own = np.array([numbers.setdefault(g, len(numbers)) for g in groups], np.uint64)
        bags = replace(bags, keys=np.stack([_mixed(np, np.stack([own, k])) for k in bags.keys.T], 1))
    clusters = Clusters(len(texts))
    for band in range(bags.keys.shape[1]):
        root = np.array(clusters.firsts()) if band else np.arange(len(texts))
        a, b = _candidates(np, bags.keys[:, band], root)
        for i, j, similar in bags.alike(np, a, b):
            near = similar >= at
            for later, earlier in zip(np.maximum(i, j)[near].tolist(), np.minimum(i, j)[near].tolist(), strict=True):
                if clusters.first(later) != clusters.first(earlier):
                    clusters.join(later, earlier)
                    yield later, earlier


def _candidates(np: Any, keys: Any, root: Any) -> tuple[Any, Any]:
    """Return pairs of places with equal keys that are not joined yet, in two arrays."""
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    begins = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    bucket = np.repeat(begins, np.diff(np.concatenate([begins, [len(keys)]])))
    left = np.arange(len(keys))
    pairs = [(left[left > bucket], bucket[left > bucket])]
    for step in range(1, WINDOW + 1):
        left = left[left - step > bucket[left]]
        pairs.append((left, left - step))
    a, b = (order[np.concatenate(side)] for side in zip(*pairs, strict=True))
    apart = root[a] != root[b]
    return a[apart], b[apart]


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
    texts = [text or "" for text in table.column(by)]
    clusters = Clusters(len(texts))
    for later, earlier in near_by_minhash(
        texts, at, table.seed, table.column("picture") if within == "image" else None
    ):
        clusters.join(later, earlier)
    return table.without_copies(clusters.later(), f"near-duplicate {by}")


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

    # Neighbouring bits are of neighbouring pixels and alike; far ones in one band make smaller buckets.
    plain, whole = np.array(codes, np.uint64), np.zeros(len(codes), np.uint64)
    for bit in range(64):
        whole |= (plain >> np.uint64(bit) & np.uint64(1)) << np.uint64(27 * bit % 64)
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
    """Take out rows whose picture is a near-duplicate of an earlier row's; rows about the very same picture stay.

    Args:
        table: rows with pictures.
        bits: how many of the 64 bits of the perceptual hash (dHash) may differ, 0 to 16.
        flips: a picture and its mirror image are the same.
        crops: a picture and a part of it (three quarters of its sides, in the middle or a corner) are the same. Parts
            of other sizes are not found, and a plain part may be like another picture: look at what goes.

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
    like = {i: j for i, j in clusters.later().items() if pictures[i] and pictures[j] != pictures[i]}
    return table.without_copies(like, "near-duplicate picture")


def _join_variants(
    clusters: Clusters, hashes: Sequence[int | None], variants: Sequence[Sequence[int | None] | None], bits: int
) -> None:
    """Join rows with those whose whole picture is near one of their variants (mirrored, cropped)."""
    whole: dict[int, int] = {}
    owners: dict[int, list[int]] = defaultdict(list)
    for i, (code, several) in enumerate(zip(hashes, variants, strict=True)):
        if code is not None:
            whole.setdefault(code, i)
        for other in several or ():
            if other is not None:
                owners[other].append(i)
    codes = [*whole, *owners]
    for later, earlier in near_hashes(codes, bits):
        if earlier < len(whole) <= later:
            for i in owners[codes[later]]:
                clusters.join(i, whole[codes[earlier]])
