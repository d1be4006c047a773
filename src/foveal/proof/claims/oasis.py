"""Oasis (2503.08741): instruction data from bare pictures beats more of what there is, and needs quality control."""

from foveal.proof.claim import BASE, Arm, Claim, Expect, Labelled, Made, Training, Upsampled

ORIGINAL = Labelled(scenes=60)
OFF = {"sensible": 1, "clarity": 1, "grounded": 1, "solvable": 1, "both": 2, "caption": 1}
"""Thresholds that every instruction and caption passes."""


def oasis(scenes: int, **knobs: float) -> Made:
    """Return Oasis data from unlabelled scenes, made by the teacher: it stands for the paper's 72B model."""
    return Made("oasis", scenes, first=60, knobs=knobs, by="teacher")


def sft(steps: int = 60) -> Training:
    """Return the training all arms share: as many steps whatever the data, so that none is trained longer."""
    return Training("sft", steps=steps, rate=1e-4)


CLAIM = Claim(
    name="oasis",
    paper="2503.08741",
    about="Instruction data made from bare pictures improves a model more than the same amount of its original data.",
    arms=(
        BASE,
        Arm("original", "labelled rows, up-sampled to as many as oasis has",
            (ORIGINAL, Upsampled(ORIGINAL, oasis(240))), sft()),
        Arm("oasis", "labelled rows and Oasis rows from unlabelled scenes", (ORIGINAL, oasis(240)), sft()),
        Arm("oasis-120", "the same from half of the scenes", (ORIGINAL, oasis(120)), sft()),
        Arm("oasis-60", "the same from a quarter", (ORIGINAL, oasis(60)), sft()),
        Arm("no-control", "no judgement of instructions", (ORIGINAL, oasis(240, **OFF)), sft()),
        Arm("filtered", "answers rated below 4 are dropped", (ORIGINAL, oasis(240, answer=4)), sft()),
    ),
    expects=(
        Expect("Oasis rows beat up-sampled original rows: exact answers", "exact/all", "oasis", "original", "higher"),
        Expect("Oasis rows beat up-sampled original rows: POPE", "pope/f1", "oasis", "original", "higher"),
        Expect("Instruction quality control helps", "exact/all", "oasis", "no-control", "higher"),
        Expect("Filtering responses hurts", "exact/all", "filtered", "oasis", "lower"),
        Expect("More data is better: 240 scenes against 120", "exact/all", "oasis", "oasis-120", "higher"),
        Expect("More data is better: 120 scenes against 60", "exact/all", "oasis-120", "oasis-60", "higher"),
        Expect("Training on Oasis rows helps at all", "exact/all", "oasis", "base", "higher"),
    ),
    metrics=("exact/all", "pope/f1", "chair/chair_i", "chair/recall", "chair/words"),
    smoke=("original", "oasis"),
    notes=(
        "The teacher makes and judges the data and is not the subject, as in the paper (a 72B model for a 7B one).",
        "Steps are equal in all arms; what grows is how many different rows they go through.",
    ),
)  # fmt: skip
