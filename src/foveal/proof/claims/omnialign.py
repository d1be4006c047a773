"""OmniAlign-V (2502.18411): choosing rich pictures helps, and so do instructions with constraints."""

from typing import Any, Literal

from foveal.proof.claim import BASE, Arm, Claim, Expect, Labelled, Made, Sampled, Training, Upsampled

ORIGINAL = Labelled(scenes=60)
ROWS = 400
CHOSEN = Made("omnialign-select", 240, first=60, by="truth", knobs={"percentile.least": 30, "percentile-2.least": 30})
"""Complexity is computed; the truth about a scene names what is in it, as a tagger would."""


def rows(follow: Literal["also", "never"] = "never", on: Made | None = None) -> Sampled:
    """Return rows about unlabelled scenes; the truth asks, sorts and rewrites, the teacher answers."""
    knobs: dict[str, Any] = {
        "tasks": ("knowledge", "inferential"), "follow": follow, "constraints": 1, "enrich": False,
        "families": ("length", "format", "keywords", "punctuation", "structure"),
    }  # fmt: skip
    return Sampled(Made("omnialign", 240, first=60, knobs=knobs, by="asker", on=on), ROWS)


def sft() -> Training:
    """Return the training all arms share."""
    return Training("sft", steps=160, rate=1e-4)


CLAIM = Claim(
    name="omnialign",
    paper="2502.18411",
    about="Open-ended rows align a model, more so about rich pictures and with constraints among the instructions.",
    arms=(
        BASE,
        Arm("original", "labelled rows, up-sampled to as many as the others have",
            (ORIGINAL, Upsampled(ORIGINAL, rows())), sft()),
        Arm("unfiltered", "labelled rows and rows about all pictures", (ORIGINAL, rows()), sft()),
        Arm("filtered", "the same, about pictures chosen by complexity and tags", (ORIGINAL, rows(on=CHOSEN)), sft()),
        Arm("following", "about all pictures, with constrained instructions among them",
            (ORIGINAL, rows("also")), sft()),
    ),
    expects=(
        Expect("Rows about unlabelled pictures help: descriptions name more", "chair/recall", "unfiltered", "original",
               "higher"),
        Expect("Rows about unlabelled pictures help: exact answers", "exact/all", "unfiltered", "original", "higher"),
        Expect("Choosing pictures helps: descriptions name more", "chair/recall", "filtered", "unfiltered", "higher"),
        Expect("Choosing pictures helps: exact answers", "exact/all", "filtered", "unfiltered", "higher"),
        Expect("Augmented instructions are followed", "following/kept", "following", "unfiltered", "higher"),
        Expect("They cost no exact answers", "exact/all", "following", "unfiltered", "kept"),
        Expect("They cost no recall", "chair/recall", "following", "unfiltered", "kept"),
    ),
    metrics=("following/kept", "exact/all", "chair/recall", "chair/chair_i", "chair/words"),
    smoke=("unfiltered", "filtered", "following"),
    notes=(
        "Every arm has as many rows and steps, whatever the selection left.",
        "The embedded model cannot ask open-ended questions, nor rewrite an answer to keep a constraint, so the truth "
        "does both by rule, as GPT-4o and Claude did in the paper; the teacher answers, with its mistakes.",
        "Requests for detail and creative tasks are left out: the teacher answers that it can only say simple things.",
        "Constraints in another language are left out: the subject has one language.",
        "The paper measures by preference on MM-AlignBench and WildVision; here it is what can be checked.",
    ),
)  # fmt: skip
