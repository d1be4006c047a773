"""Near-duplicates against comparing every pair."""

from __future__ import annotations

import random
from io import BytesIO
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from foveal.errors import MissingExtra, RecipeError
from foveal.picture import dhash, dhash_crops, dhash_flip
from foveal.steps import near
from foveal.steps.near import Clusters, bands_for, minhash, near_by_minhash, near_hashes, near_pictures, shingles
from tests.steps.tables import components, table, whole

np = pytest.importorskip("numpy")

CODES = st.lists(
    st.integers(0, 255).map(lambda n: n * 0x0101010101010101 & 0xF0F0FF00FF0F1133) | st.integers(0, 2**64 - 1),
    max_size=14,
)


def alike(a: str, b: str) -> float:
    one, other = shingles(a), shingles(b)
    return len(one & other) / len(one | other)


def sentence(rng: random.Random, n: int) -> str:
    return " ".join(f"w{min(int(rng.paretovariate(0.7)), 2000)}" for _ in range(n))


def changed(text: str, rng: random.Random, times: int) -> str:
    plain = text.split()
    for _ in range(times):
        plain[rng.randrange(len(plain))] = f"new{rng.randrange(99)}"
    return " ".join(plain)


def many_texts(seed: int, n: int) -> list[str]:
    rng = random.Random(seed)
    texts: list[str] = []
    for _ in range(n):
        old = texts and rng.random() < 0.4
        texts.append(changed(rng.choice(texts), rng, rng.randint(0, 3)) if old else sentence(rng, rng.randint(4, 30)))
    return texts


# --- pictures ------------------------------------------------------------------------------------------------------


@given(CODES, st.integers(0, 16))
def test_near_hashes_finds_what_comparing_all_finds(codes: list[int], bits: int) -> None:
    expected = components(len(codes), lambda i, j: (codes[i] ^ codes[j]).bit_count() <= bits)
    for pairs in (near._near_plain, near._near_many):
        distinct = list(dict.fromkeys(codes))
        found = {(max(i, j), min(i, j)) for i, j in pairs(distinct, bits)} if distinct else set()
        everything = combinations(range(len(distinct)), 2)
        assert found == {(j, i) for i, j in everything if (distinct[i] ^ distinct[j]).bit_count() <= bits}
    clusters = Clusters(len(codes))
    for later, earlier in near_hashes(codes, bits):
        assert later > earlier
        clusters.join(later, earlier)
    assert clusters.firsts() == expected


@given(st.lists(st.tuples(st.sampled_from(["", "p", "q", "r", "s"]), st.none() | st.integers(0, 40)), min_size=1))
def test_rows_about_the_first_picture_of_a_cluster_stay(rows: list[tuple[str, int | None]]) -> None:
    codes = dict(rows)  # a picture has one hash
    pictures = [p for p, _ in rows]
    hashes = [codes[p] if p else None for p in pictures]

    def same(i: int, j: int) -> bool:
        a, b = hashes[i], hashes[j]
        near = a is not None and b is not None and (a ^ b).bit_count() <= 1
        return bool(pictures[i] and pictures[j]) and (pictures[i] == pictures[j] or near)

    first = components(len(rows), same)
    before = table(picture=pictures, dhash=hashes)
    after = near_pictures(before, bits=1)
    whole(before, after)
    kept = [f"r{i}" for i in range(len(rows)) if pictures[i] == pictures[first[i]] or not pictures[i]]
    assert list(after.ids) == kept
    assert after.details == {i: f"like r{first[int(i[1:])]}" for i in after.dropped}


def photo(seed: int) -> Pillow.Image:
    """Soft blobs: pictures that are unlike each other, as photographs are."""
    rng = np.random.default_rng(seed)
    return Pillow.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize(
        (240, 180), Pillow.Resampling.BICUBIC
    )


def spoken(picture: Pillow.Image, form: str = "PNG", **how: Any) -> bytes:
    out = BytesIO()
    picture.save(out, form, **how)
    return out.getvalue()


def test_recoded_mirrored_and_cropped_pictures() -> None:
    one = photo(1)
    w, h = one.size
    variants = [
        one, one.resize((120, 90)), one.transpose(Pillow.Transpose.FLIP_LEFT_RIGHT),
        one.crop((w // 4, h // 4, w, h)), one.crop((0, 0, w - w // 4, h - h // 4)), photo(2), photo(3),
    ]  # fmt: skip
    files = [spoken(p) for p in variants] + [spoken(one, "JPEG", quality=40)]
    rows = {
        "picture": [str(n) for n in range(len(files))],
        "dhash": [dhash(f) for f in files],
        "dhash.flip": [dhash_flip(f) for f in files],
        "dhash.crops": [dhash_crops(f) for f in files],
    }
    assert set(near_pictures(table(**rows)).dropped) == {"r1", "r7"}
    assert set(near_pictures(table(**rows), flips=True).dropped) == {"r1", "r2", "r7"}
    assert set(near_pictures(table(**rows), crops=True).dropped) == {"r1", "r3", "r4", "r7"}
    # The crops came first, the whole picture later: still one cluster.
    turned = {name: column[::-1] for name, column in rows.items()}
    assert len(near_pictures(table(**turned), crops=True, flips=True).ids) == 3


def test_two_pictures_with_a_like_part_are_not_one() -> None:
    rows = {
        "picture": ["a", "b", "c"],
        "dhash": [0, 2**64 - 1, 0xFF00FF00],
        "dhash.crops": [[0xF0F0F0], [0xF0F0F0], [0x3C3C3C]],
    }
    assert near_pictures(table(**rows), crops=True).ids == ("r0", "r1", "r2")


@pytest.mark.parametrize("bits", [-1, 17])
def test_near_pictures_refuses(bits: int) -> None:
    with pytest.raises(RecipeError, match="near_pictures: "):
        near_pictures(table(picture=["p"], dhash=[1]), bits=bits)


# --- texts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0.5, 0.7, 0.8, 0.9, 1.0])
def test_minhash_finds_the_clusters_that_comparing_all_finds(at: float) -> None:
    texts = many_texts(int(at * 10), 400)
    bags = [shingles(t) for t in texts]
    first = components(len(texts), lambda i, j: len(bags[i] & bags[j]) >= at * len(bags[i] | bags[j]))
    clusters = Clusters(len(texts))
    for later, earlier in near_by_minhash(texts, at):
        assert later > earlier
        assert alike(texts[later], texts[earlier]) >= at  # nothing false
        clusters.join(later, earlier)
    wrong = sum(a != b for a, b in zip(clusters.firsts(), first, strict=True))
    assert wrong <= 1  # of a pair on the threshold one in ten thousand is missed
    assert len(set(first)) < 380


@given(st.lists(st.lists(st.sampled_from(list("abcde字。?")), max_size=5).map(" ".join), max_size=12),
       st.sampled_from([0.3, 0.5, 0.8, 1.0]), st.integers(0, 3))  # fmt: skip
def test_minhash_takes_out_only_what_is_near(texts: list[str], at: float, seed: int) -> None:
    before = table(seed, question=texts or [""], picture=["p"] * max(1, len(texts)))
    after = minhash(before, at=at)
    whole(before, after)
    for gone in after.dropped:
        text = texts[int(gone[1:])]
        assert any(alike(text, other) >= at for n, other in enumerate(texts) if n != int(gone[1:]))
    assert minhash(before, at=at) == after
    repeated = {t for t in texts if texts.count(t) > 1}
    assert all(sum(texts[int(i[1:])] == t for i in after.ids) <= 1 for t in repeated)


def test_within_a_picture_only_its_own_rows_meet() -> None:
    texts = ["a red car on a road"] * 4 + ["a red car on the road"]
    rows = table(answer=texts, picture=["p", "q", "p", "q", "q"])
    assert minhash(rows, by="answer", at=0.4, within="image").ids == ("r0", "r1")
    assert minhash(rows, by="answer", at=0.4).ids == ("r0",)
    assert minhash(rows, by="answer", at=1.0).details == {"r1": "like r0", "r2": "like r0", "r3": "like r0"}


def test_texts_from_one_template_cost_no_square(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"what is the colour of the thing number {n} in this very picture here" for n in range(3000)]
    compared = 0
    alike = near.Bags.alike

    def counting(self: near.Bags, numpy: Any, a: Any, b: Any) -> Any:
        nonlocal compared
        compared += len(a)
        return alike(self, numpy, a, b)

    monkeypatch.setattr(near.Bags, "alike", counting)
    assert len(list(near_by_minhash(texts, 0.95))) == 0
    assert compared < 3000 * (near.WINDOW + 1) * bands_for(0.95)[0]
    assert len(list(near_by_minhash(texts, 0.6))) == 2999


def test_comparing_in_pieces_is_comparing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = many_texts(3, 150)
    at_once = list(near_by_minhash(texts, 0.7))
    monkeypatch.setattr(near, "AT_ONCE", 50)
    monkeypatch.setattr(near, "CHUNK", 7)
    assert list(near_by_minhash(texts, 0.7)) == at_once != []


@given(st.floats(0.05, 1))
def test_bands_miss_less_than_one_pair_in_ten_thousand_where_they_can(at: float) -> None:
    bands, rows = bands_for(at)
    assert bands * rows <= near.PERMUTATIONS
    assert (1 - at**rows) ** bands <= 1e-4 or rows == 1


@pytest.mark.parametrize("at", [0, 1.1, -1])
def test_minhash_refuses(at: float) -> None:
    with pytest.raises(RecipeError, match="minhash: "):
        minhash(table(question=["a"]), at=at)


def test_without_numpy_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "numpy", None)
    with pytest.raises(MissingExtra, match=r"foveal\[curate\]"):
        minhash(table(question=["a"]))
    assert near_pictures(table(picture=["p", "q"], dhash=[1, 1])).ids == ("r0",)
