"""The strict metric on held-out rows: when it is looked at, where it is logged, when it warns."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]
pytest.importorskip("transformers")

from foveal.train.rewards import exact  # noqa: E402
from foveal.train.watch import HeldOut  # noqa: E402


def run(shares, given, every=10, steps=30):
    """Train in appearance: at each log the reward is `given`, and a share of the held-out answers is right."""
    rows = [{"images": [], "prompt": [], "answer": "two"} for _ in range(100)]
    left = iter(shares)
    told: list[str] = []
    asked: list[int] = []

    def ask(model, rows):
        asked.append(state.global_step)
        right = round(next(left) * len(rows))
        return ["Two."] * right + ["three"] * (len(rows) - right)

    state = SimpleNamespace(global_step=0, max_steps=steps, log_history=[])
    watch = HeldOut(rows, {"exact": exact}, ask, every, told.append)
    watch.on_train_begin(None, state, None, model="m")
    for n, reward in enumerate(given, 1):
        state.global_step = 5 * n
        logs = {"loss": 0.1, "reward": reward}
        state.log_history.append({**logs, "step": state.global_step})
        watch.on_log(None, state, None, logs=logs, model="m")
    return state.log_history, told, asked


def test_it_is_logged_beside_the_reward():
    history, told, asked = run([0.2, 0.3, 0.4, 0.5], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert asked == [0, 10, 20, 30]
    assert [(h["step"], h["strict/exact"]) for h in history if "strict/exact" in h] == [
        (0, 0.2), (10, 0.3), (20, 0.4), (30, 0.5),
    ]  # fmt: skip
    assert history[2]["reward"] == 0.2 and not told


def test_a_reward_that_rises_while_the_metric_falls_is_told_once():
    _, told, _ = run([0.5, 0.6, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert told == [
        "held-out exact fell from 0.6 at step 10 to 0.2 at step 20 while the reward rose from 0.2 to 0.4: "
        "it pays for something else"
    ]


def test_a_fall_from_the_start_is_measured_from_the_first_reward():
    _, told, _ = run([0.6, 0.2, 0.2, 0.2], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert told and "from 0.6 at step 0 to 0.2 at step 10 while the reward rose from 0.1 to 0.2" in told[0]


@pytest.mark.parametrize(
    ("shares", "given"),
    [
        ([0.5, 0.45, 0.5, 0.44], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),  # within two standard errors
        ([0.9, 0.5, 0.3, 0.1], [0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),  # both fall: the training fails, nothing is gamed
    ],
)
def test_no_false_alarm(shares, given):
    assert run(shares, given)[1] == []


def test_the_end_is_looked_at_once():
    _, _, asked = run([0.5] * 4, [0.1] * 6, every=20)
    assert asked == [0, 20, 30]
