"""Methods measured by the truth: with a judge that makes no mistakes, what is false goes and what is true stays."""

from __future__ import annotations

import random
from typing import Any

import pytest

import foveal
from foveal.models.oracle import Oracle
from foveal.models.scripted import Scripted, words_of
from foveal.models.wire import Request
from foveal.record import Image
from foveal.scrapbook import load_truth, make, oracle
from foveal.scrapbook.truth import caption

METHODS = (
    "caption", "caption-conversation", "faithful-caption", "detailed-instruction", "evolve-prompt", "match-score",
    "mmevol", "continuation", "omnialign-select", "omnialign",
)  # fmt: skip


@pytest.fixture(scope="module")
def scenes(wide_album, tmp_path_factory):
    folder = tmp_path_factory.mktemp("truth") / "scenes"
    make(folder, 12, 5, album=wide_album, workers=1)
    return folder


@pytest.fixture(scope="module")
def truths(scenes):
    return {digest: truth.scene for digest, truth in load_truth(scenes).items()}


@pytest.mark.parametrize("method", METHODS)
def test_rows_of_the_oracle_are_true(method: str, scenes: Any, truths: Any, tmp_path: Any) -> None:
    done = foveal.run(method, scenes, model=f"oracle:{scenes}", out=tmp_path / "out", limit=6)
    rows = list(done.records())
    assert not done.progress.failed, done.progress.failed
    assert rows
    for row in rows:
        scene = truths[row.images[0].digest]
        if row.body is not None and row.tags.get("task") not in ("creation", "detail", "following"):
            assert oracle.true(scene, row.body.answer) == 5, (row.body.question, row.body.answer)


def absent(scene: Any) -> str:
    """Return the name of something that a scene does not show."""
    return next(noun for noun in ("drum", "key", "boat", "cup") if noun not in {t.noun for t in scene.things})


class Liar(Scripted):
    """Tells of each picture something true and something false."""

    def __init__(self, truths: Any) -> None:
        self.truths = truths
        super().__init__(self.tell)

    def tell(self, request: Request) -> str:
        scene = self.truths[next(p.digest for m in request.messages for p in m.parts if isinstance(p, Image))]
        if "Question: the new question" not in words_of(request):
            return f"{caption(scene, random.Random(1))} There is a {absent(scene)}."
        noun, lie = scene.things[0].noun, request.seed % 2
        said = f"No, there is no {noun}." if lie else f"Yes, there is a {noun}."
        return f"Question: Is there a {noun} in the picture?\nAnswer: {said}"


def test_faithful_captions_lose_just_what_is_false(scenes: Any, truths: Any, tmp_path: Any) -> None:
    judge = Oracle(scenes)
    models = {"vlm": Liar(truths), "judge": judge}
    done = foveal.run("faithful-caption", scenes, models=models, out=tmp_path / "out", share=0.3)
    rows = list(done.records())
    assert len(rows) == 12
    for row in rows:
        scene = truths[row.images[0].digest]
        assert oracle.true(scene, row.body.answer) == 5
        assert row.tags["removed"] == [f"There is a {absent(scene)}."]


def test_elimination_takes_out_wrong_answers_and_no_right_ones(scenes: Any, truths: Any, tmp_path: Any) -> None:
    """Half of the answers are lies: without elimination they are rows, with it none is, and no true one is lost."""
    knobs: dict[str, Any] = {"rounds": 1, "seed": 3}

    def run(name: str, eliminate: bool) -> list[Any]:
        models = {"evolver": Oracle(scenes, Liar(truths)), "judge": Oracle(scenes)}
        done = foveal.run("mmevol", scenes, models=models, out=tmp_path / name, eliminate=eliminate, **knobs)
        return list(done.records())

    def right(row: Any) -> bool:
        return oracle.good(truths[row.images[0].digest], row.body.question, row.body.answer) == 1

    def told(rows: list[Any]) -> set[str]:
        return {row.body.question + row.body.answer for row in rows}

    plain, judged = run("a", False), run("b", True)
    assert 0 < sum(map(right, plain)) < len(plain)
    assert all(map(right, judged))
    assert told(judged) == told([row for row in plain if right(row)])
