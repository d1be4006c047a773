"""What a proof will cost in time, from what its stages took before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foveal.proof.claim import Arm, Claim, Made, Sizes, methods_of
from foveal.proof.data import slug
from foveal.proof.prove import arms_of, scenes_of

SECONDS: Mapping[str, float] = {
    "scene": 0.006,
    "picture": 0.06,
    "call": 0.03,
    "sft row": 0.04,
    "dpo answer": 0.04,
    "training": 5.0,
    "pope": 0.03,
    "chair": 0.07,
    "exact": 0.06,
    "consistency": 0.2,
    "following": 0.05,
}
"""Seconds on two free cores with the embedded model: a scene drawn, a picture encoded, a call answered, a row or answer
trained on, a training opened and saved, a held-out picture evaluated."""
CALLS = 5
"""Calls of Oasis for a picture: some end early."""


def plan(claims: Sequence[Claim], seeds: int, sizes: Sizes) -> dict[str, Any]:
    """Return the estimate: seconds by stage for a seed, and in all; arms, trainings and scenes."""
    arms = arms_of(claims)
    made = {slug(m.method, m): m for arm, _ in arms.values() for m in methods_of(arm.data)}
    reach = max((scenes_of(arm.data) for arm, _ in arms.values()), default=0)
    s = SECONDS
    one = {
        "scenes": s["scene"] * (reach + sizes.held),
        "data": sum(map(_made, made.values())) + s["picture"] * reach,
        "training": s["picture"] * reach + sum(_training(arm) for arm, _ in arms.values()),
        "evaluation": s["picture"] * sizes.held + sum(_asked(names, sizes) for _, names in arms.values()),
    }
    counts = {"arms": len(arms), "trainings": sum(bool(a.training) for a, _ in arms.values()), "runs": len(made)}
    each = {stage: round(seconds, 1) for stage, seconds in one.items()}
    return {"seeds": seeds, **counts, "scenes": reach, "held": sizes.held, "seed_seconds": each,
            "seconds": round(seeds * sum(one.values()), 1)}  # fmt: skip


def _made(made: Made) -> float:
    given = made.scenes * (made.each if made.given == "questions" else 1)
    views = len(made.knobs.get("perturb", ()))
    calls = given * (1 + views) if views else CALLS * given
    # A perturbed picture is drawn for every question about it, and each is another picture.
    return SECONDS["call"] * calls + SECONDS["picture"] * given * views


def _training(arm: Arm) -> float:
    if arm.training is None:
        return 0.0
    rows = arm.training.steps * arm.training.batch
    if arm.training.verb != "dpo":
        return SECONDS["training"] + SECONDS["sft row"] * rows
    answers = 1 + max((len(m.knobs.get("perturb", ())) for m in methods_of(arm.data)), default=1)
    # A third more: the reference reads every answer once, without going back.
    return SECONDS["training"] + SECONDS["dpo answer"] * rows * answers * 4 / 3


def _asked(names: Sequence[str], sizes: Sizes) -> float:
    return sum(SECONDS.get(n, 0.2) * (sizes.sampled if n == "consistency" else sizes.held) for n in names)


def lines(told: Mapping[str, Any]) -> list[str]:
    """Return the estimate for people."""
    stages = ", ".join(f"{stage} {seconds / 60:.1f}" for stage, seconds in told["seed_seconds"].items())
    return [
        f"{told['arms']} arms, {told['trainings']} trainings, {told['runs']} method runs, {told['scenes']} training "
        f"scenes and {told['held']} held-out ones for each of {told['seeds']} seeds",
        f"a seed in minutes: {stages}",
        f"in all: about {told['seconds'] / 3600:.1f} h on two free cores with the embedded model; less where arms "
        "were done before",
    ]
