"""Every claim binds: arms, methods, knobs, losses, evaluations, figures; and adding one is adding a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from foveal.errors import RecipeError
from foveal.evals.answer import Shot
from foveal.evals.suite import Asked, named, questions_of, scored
from foveal.proof import claims
from foveal.proof.claim import (
    FULL,
    TINY,
    TINY_SCENES,
    TINY_STEPS,
    Arm,
    Claim,
    Contrast,
    Expect,
    Made,
    Training,
    all_claims,
    check,
    chosen,
    only,
    shrunk,
)
from foveal.proof.plan import plan
from foveal.proof.prove import arms_of, key, scenes_of
from foveal.record import Image
from tests.scrapbook.scenes import any_scene

CLAIMS = all_claims()


@pytest.mark.parametrize("name", sorted(CLAIMS))
def test_a_claim_binds(name: str) -> None:
    claim = CLAIMS[name]
    check(claim)
    assert claim.expects
    assert claim.paper
    assert claim.arms[0].training is None, "the subject as it is comes first"
    small = shrunk(claim)
    check(small)
    assert len(small.arms) > 1
    assert small.expects


@pytest.mark.parametrize("name", sorted(CLAIMS))
def test_its_figures_exist(name: str) -> None:
    """Every figure it shows or expects something of comes out of an evaluation."""
    shots = [Shot(Image.of(str(n).encode()), any_scene(n)) for n in range(20)]
    evaluations = named(CLAIMS[name].evaluations, two=False)
    asked = questions_of(evaluations, shots)
    told = Asked("nobody", answers={e: {} for e in evaluations})
    found = {m.name for s in scored(evaluations, asked, told).values() for m in s.measures}
    assert set(CLAIMS[name].metrics) <= found


@pytest.mark.parametrize("name", sorted(CLAIMS))
def test_an_expectation_has_its_sentence_once(name: str) -> None:
    said = [e.says for e in CLAIMS[name].expects]
    assert len(said) == len(set(said))
    assert all(e.margin > 0 for e in CLAIMS[name].expects)


def test_a_claim_is_a_file() -> None:
    files = {p.stem for p in Path(next(iter(claims.__path__))).glob("*.py")} - {"__init__"}
    assert {name.replace("-", "_") for name in CLAIMS} == files


def test_a_claim_is_found_by_name_or_the_nearest_is_told() -> None:
    assert [c.name for c in chosen(["seva"])] == ["seva"]
    assert [c.name for c in chosen([])] == sorted(CLAIMS)
    with pytest.raises(RecipeError, match="did you mean 'seva'"):
        chosen(["sevo"])


PAIRS = Made("seva", 10, knobs={"k": 1}, given="questions")
DPO = Training("dpo", steps=10, rate=1e-5, loss="seva")
GOOD = Claim(
    "good", "0000.00000", "x",
    (Arm("base", "x"), Arm("dpo", "x", (PAIRS,), DPO)),
    (Expect("x", "pope/f1", "dpo", "base", "higher"),), ("pope/f1",), ("dpo",),
)  # fmt: skip


def spoilt(**arm: object) -> Claim:
    return replace(GOOD, arms=(GOOD.arms[0], replace(GOOD.arms[1], **arm)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("claim", "says"),
    [
        (replace(GOOD, smoke=("dpu",)), "no arm is called 'dpu'"),
        (replace(GOOD, metrics=("pop/f1",)), "no evaluation 'pop'"),
        (replace(GOOD, metrics=("arena/win", "pope/f1")), "no evaluation 'arena'"),
        (replace(GOOD, metrics=("pope/ece",)), "not among the metrics"),
        (spoilt(data=(replace(PAIRS, method="sevo"),)), "no step is called 'sevo'"),
        (spoilt(data=(replace(PAIRS, knobs={"kay": 1}),)), "has a knob 'kay'"),
        (spoilt(data=(replace(PAIRS, knobs={"k": "many"}),)), "does not fit"),
        (spoilt(data=(Contrast(replace(PAIRS, knobs={"kay": 1})),)), "has a knob 'kay'"),
        (spoilt(data=()), "go together"),
        (spoilt(training=replace(DPO, verb="dpi")), "no verb 'dpi'"),
        (spoilt(training=replace(DPO, loss="sevva")), "no loss 'sevva'"),
        (spoilt(training=replace(DPO, knobs={"beeta": 1})), "no knob 'beeta'"),
        (replace(GOOD, arms=(GOOD.arms[0], GOOD.arms[1], GOOD.arms[1])), "same name"),
    ],
)
def test_what_does_not_bind_is_told(claim: Claim, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        check(claim)


def test_the_good_one_binds() -> None:
    check(GOOD)


def test_some_arms_of_a_claim_are_a_claim() -> None:
    few = only(CLAIMS["seva"], ["seva-500", "seva-900"])
    check(few)
    assert [a.name for a in few.arms] == ["base", "seva-500", "seva-900"]
    assert {n for e in few.expects for n in (e.of, e.than)} == {"base", "seva-500", "seva-900"}
    with pytest.raises(RecipeError, match="did you mean 'seva-500'"):
        only(CLAIMS["seva"], ["seva-50"])


def test_arms_with_the_same_data_and_training_are_one() -> None:
    seva, contrast = CLAIMS["seva"], CLAIMS["image-contrast"]
    assert key(seva.arm("seva-500")) == key(contrast.arm("seva-500"))
    assert key(seva.arm("base")) == key(contrast.arm("base"))
    arms = arms_of([seva, contrast])
    assert len(arms) == len(seva.arms) + len(contrast.arms) - 2
    assert set(arms["base"][1]) == {*seva.evaluations, *contrast.evaluations}


def test_no_arm_of_a_claim_is_another_under_a_second_name() -> None:
    for claim in CLAIMS.values():
        assert len({key(a) for a in claim.arms}) == len(claim.arms)


def test_the_smoke_is_small_and_the_full_proof_is_not() -> None:
    small = [shrunk(c) for c in CLAIMS.values()]
    arms = [arm for claim in small for arm in claim.arms]
    assert all(a.training.steps <= TINY_STEPS for a in arms if a.training)
    assert max(scenes_of(a.data) for a in arms) <= 2 * TINY_SCENES
    assert {a.training.verb for a in arms if a.training} == {"sft", "dpo"}
    tiny, full = plan(small, 1, TINY), plan(list(CLAIMS.values()), 3, FULL)
    assert tiny["seconds"] < full["seconds"] / 50
    assert full["seconds"] < 3 * 3600
