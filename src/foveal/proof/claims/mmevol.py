"""MMEvol (2409.05840): evolved exchanges teach more than as many of the seeds; each direction adds, elimination too."""

from foveal.proof.claim import BASE, Arm, Claim, Expect, Labelled, Made, Sampled, Training, Upsampled

SEEDS = Labelled(scenes=120, each=3)
ROWS = 400
"""Evolved rows of every arm: what elimination leaves, which is the least of them."""
ALL = ("perception", "reasoning", "interaction")


def evolved(*directions: str, eliminate: bool = False) -> Sampled:
    """Return rows evolved from the seeds; the truth asks and judges, the teacher answers."""
    knobs = {"directions": directions, "eliminate": eliminate, "rounds": 3}
    made = Made("mmevol", 120, knobs=knobs, given="questions", each=3, by="asker", roles={"judge": "truth"})
    return Sampled(made, ROWS)


def sft() -> Training:
    """Return the training all arms share."""
    return Training("sft", steps=120, rate=1e-4)


CLAIM = Claim(
    name="mmevol",
    paper="2409.05840",
    about="Exchanges that evolve over rounds improve a model more than as many of the exchanges they began with.",
    arms=(
        BASE,
        Arm("seeds", "the seeds, up-sampled to as many rows as the others have",
            (SEEDS, Upsampled(SEEDS, evolved(*ALL))), sft()),
        Arm("perception", "seeds and rows that look closer", (SEEDS, evolved("perception")), sft()),
        Arm("reasoning", "seeds and rows that need more thought", (SEEDS, evolved("reasoning")), sft()),
        Arm("interaction", "seeds and rows of another form", (SEEDS, evolved("interaction")), sft()),
        Arm("all", "seeds and rows of all three, a third each", (SEEDS, evolved(*ALL)), sft()),
        Arm("eliminated", "the same, but what is wrong or no better is eliminated",
            (SEEDS, evolved(*ALL, eliminate=True)), sft()),
    ),
    expects=(
        Expect("Looking closer helps", "exact/all", "perception", "seeds", "higher"),
        Expect("More thought helps", "exact/all", "reasoning", "seeds", "higher"),
        Expect("Another form helps", "exact/all", "interaction", "seeds", "higher"),
        Expect("All three directions help", "exact/all", "all", "seeds", "higher"),
        Expect("More thought helps more than looking closer", "exact/all", "reasoning", "perception", "higher"),
        Expect("All three are better than more thought alone", "exact/all", "all", "reasoning", "higher"),
        Expect("Elimination helps: exact answers", "exact/all", "eliminated", "all", "higher"),
        Expect("Elimination helps: POPE", "pope/f1", "eliminated", "all", "higher", 0.01),
        Expect("Evolution with elimination helps", "exact/all", "eliminated", "seeds", "higher"),
    ),
    metrics=("exact/all", "pope/f1", "chair/chair_i", "chair/recall"),
    smoke=("seeds", "eliminated"),
    notes=(
        "Every arm has as many rows and steps: reviewers of the paper note that its model trained on seeds saw fewer.",
        "The embedded model cannot evolve a question, so the truth about the scenes does, as GPT-4o-mini did in the "
        "paper; the teacher answers, with its mistakes, and the truth judges. What is measured is how evolution and "
        "elimination work, not how well a small model evolves.",
        "Scenes ask for little: the forms of interaction that need prose, style or translation do not come up.",
    ),
)  # fmt: skip
