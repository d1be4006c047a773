"""Image contrast: the same words about the perturbed picture are the less likely ones (mDPO, 2406.11839)."""

from foveal.proof.claim import BASE, Arm, Claim, Contrast, Expect, Training
from foveal.proof.claims.seva import MIDDLE, dpo, pairs

ROWS = Contrast(pairs(MIDDLE))


def contrast(loss: str) -> Training:
    """Return SeVa's training with another loss on the same pairs."""
    return Training("dpo", steps=50, rate=1e-4, loss=loss, knobs={"beta": 0.1})


CLAIM = Claim(
    name="image-contrast",
    paper="2406.11839",
    about="Preferring the picture over its perturbed copy, words being equal, makes a model look: it invents less.",
    arms=(
        BASE,
        Arm("seva-500", "the same pairs, words alone", (pairs(MIDDLE),), dpo()),
        Arm("mdpo", "words, pictures and an anchor (mDPO)", (ROWS,), contrast("mdpo")),
        Arm("image-dpo", "pictures alone (Image-DPO)", (ROWS,), contrast("image")),
    ),
    expects=(
        Expect("mDPO lowers hallucination", "chair/chair_i", "mdpo", "base", "lower"),
        Expect("mDPO keeps recall", "chair/recall", "mdpo", "base", "kept"),
        Expect("mDPO lowers hallucination more than DPO on words", "chair/chair_i", "mdpo", "seva-500", "lower"),
        Expect("Image-DPO lowers hallucination", "chair/chair_i", "image-dpo", "base", "lower"),
        Expect("Image-DPO keeps recall", "chair/recall", "image-dpo", "base", "kept"),
        Expect("mDPO raises POPE", "pope/f1", "mdpo", "base", "higher", 0.01),
    ),
    metrics=("chair/chair_i", "chair/recall", "chair/words", "pope/f1", "exact/all"),
    smoke=("mdpo",),
    notes=(
        "The learning rate (1e-4) was tried on 60 held-out scenes of the first seed before the proof ran, and kept.",
    ),
)
