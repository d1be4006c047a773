"""Rounds: data by the policy, training on it, data by the trained policy, and so on, each with a fresh reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from foveal.errors import RunStopped, SetupError
from foveal.runner.local import run
from foveal.train.job import Job, train


def rounds(
    job: Job,
    method: str,
    count: int,
    roles: Mapping[str, str] | None = None,
    knobs: tuple[str, ...] = (),
    say: Callable[[str], object] = print,
) -> list[dict[str, Any]]:
    """Train in rounds; the same call continues where it was killed.

    Round n lies in `OUT/round-n`: `data`, a run of the method by the policy so far, and `model`, what became of it.
    The reference of a round is the policy that made its data.

    Args:
        job: what each round trains; its `data` is the method's source (pictures, conversations).
        method: as `foveal.run` takes it.
        count: how many rounds.
        roles: who plays roles that are not the policy's, such as a judge.
        knobs: of the method, `knob=value`.
        say: takes lines for people.

    Returns:
        The rounds' run cards.

    Raises:
        SetupError: something does not fit.
        RunStopped: a run of the method ended early.
    """
    require_policy(job)
    cards, policy = [], job.model
    for n in range(1, count + 1):
        folder = Path(job.out) / f"round-{n}"
        say(f"round {n}: {method} by {policy}")
        made = run(method, job.data, models={"model": spec(policy), **(roles or {})}, out=folder / "data", knobs=knobs)
        if made.state != "finished":
            raise RunStopped(f"round {n}: {made.note}; the same command continues")
        trained = folder / "model"
        cards.append(train(replace(job, data=str(folder / "data"), model=policy, out=str(trained), merge=True), say))
        policy = f"small:{trained}" if policy.startswith("small") else str(trained)
    return cards


def require_policy(job: Job) -> None:
    """Refuse what cannot answer for itself between the rounds.

    Raises:
        SetupError: the verb learns from rewards, on its own answers already.
    """
    if job.verb in ("grpo", "rloo"):
        raise SetupError(f"{job.verb} asks the policy anew at every step; rounds are for sft, dpo and kto")


def spec(model: str) -> str:
    """Return a model to train as who answers in a run."""
    return model if model.startswith(("small", "hf:")) else f"hf:{model}"
