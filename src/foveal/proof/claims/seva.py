"""SeVa (2404.10501): a model's answers about perturbed pictures are rejected answers that teach it to look."""

from foveal.proof.claim import BASE, Arm, Claim, Expect, Labelled, Made, Training

SIDE = 224
"""Pixels of the subject's input, at which noise must be laid on."""
WEAK, MIDDLE, STRONG = "diffusion:200", "diffusion:500", "diffusion:900"


def pairs(*perturb: str, k: int = 1) -> Made:
    """Return SeVa pairs of the subject's own answers."""
    return Made("seva", 120, knobs={"perturb": perturb, "side": SIDE, "k": k}, given="questions", each=3)


def dpo(lora: int = 0, rate: float = 2e-5) -> Training:
    """Return a training with the paper's beta; the loss takes any number of rejected answers."""
    return Training("dpo", steps=50, rate=rate, loss="seva", knobs={"beta": 0.1}, lora=lora)


CLAIM = Claim(
    name="seva",
    paper="2404.10501",
    about="DPO on answers about the picture against answers about the picture perturbed improves a model by itself.",
    arms=(
        BASE,
        Arm("sft", "continued SFT on labelled rows, of equal cost",
            (Labelled(120),), Training("sft", steps=125, rate=2e-5)),
        Arm("sft-own", "SFT on the chosen answers alone, of equal cost",
            (pairs(MIDDLE),), Training("sft", steps=125, rate=2e-5)),
        Arm("seva-200", "weak noise", (pairs(WEAK),), dpo()),
        Arm("seva-500", "middling noise", (pairs(MIDDLE),), dpo()),
        Arm("seva-900", "strong noise", (pairs(STRONG),), dpo()),
        Arm("k2", "two rejected answers", (pairs("diffusion:400", "diffusion:600", k=2),), dpo()),
        Arm("k4", "four rejected answers",
            (pairs("diffusion:300", "diffusion:450", "diffusion:600", "diffusion:750", k=4),), dpo()),
        Arm("lora-8", "an adapter of rank 8", (pairs(MIDDLE),), dpo(8, 2e-4)),
        Arm("lora-64", "an adapter of rank 64", (pairs(MIDDLE),), dpo(64, 2e-4)),
    ),
    expects=(
        Expect("SeVa lowers hallucination", "chair/chair_i", "seva-500", "base", "lower"),
        Expect("SeVa raises POPE", "pope/f1", "seva-500", "base", "higher", 0.01),
        Expect("SeVa keeps recall", "chair/recall", "seva-500", "base", "kept"),
        Expect("SeVa lowers hallucination more than SFT of equal cost", "chair/chair_i", "seva-500", "sft", "lower"),
        Expect("Not its chosen answers but the contrast teaches", "chair/chair_i", "seva-500", "sft-own", "lower"),
        Expect("Middling noise beats weak noise", "chair/chair_i", "seva-500", "seva-200", "lower"),
        Expect("Middling noise beats strong noise", "chair/chair_i", "seva-500", "seva-900", "lower"),
        Expect("Two rejected answers beat one", "chair/chair_i", "k2", "seva-500", "lower"),
        Expect("Four rejected answers beat one", "chair/chair_i", "k4", "seva-500", "lower"),
        Expect("A larger adapter is better", "chair/chair_i", "lora-64", "lora-8", "lower"),
        Expect("Answers grow longer", "chair/words", "seva-500", "base", "higher", 1.0),
        Expect("Answers are more consistent", "consistency/samples", "seva-500", "base", "higher"),
        Expect("Its price: exact answers get worse", "exact/all", "seva-500", "base", "lower"),
    ),
    metrics=("chair/chair_i", "chair/recall", "chair/words", "pope/f1", "exact/all", "consistency/samples"),
    smoke=("sft", "seva-500", "k2"),
    notes=(
        "Equal cost: a DPO step reads two answers a row and, before training, the reference reads both; SFT of 2.5 "
        "times the steps reads as much.",
        "Rates of 1e-4 and 4e-4 were tried on 60 held-out scenes of the first seed before the proof ran: the model "
        "invented more, so the rate stayed at 2e-5.",
        "All weights but the vision tower's are trained; the paper trains an adapter of rank 1024, which is larger "
        "than the embedded model is wide.",
    ),
)  # fmt: skip
