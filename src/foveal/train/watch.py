"""A strict metric on held-out rows, logged beside the reward: what is optimised and what is wanted are seen to part."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pvariance
from typing import Any, TypeAlias

import torch
import transformers

from foveal.picture import decode
from foveal.train.rewards import Function

Row: TypeAlias = Mapping[str, Any]
Ask: TypeAlias = Callable[[Any, Sequence[Row]], list[str]]


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at the held-out rows: a metric's mean and standard error, and the reward of that time, if known."""

    step: int
    value: float
    error: float
    reward: float | None


class HeldOut(transformers.TrainerCallback):  # type: ignore[misc]
    """Asks the model about held-out rows every `every` steps, greedily, and adds `strict/<name>` to the log.

    It says so, once a metric, when the reward rises while the metric falls: more than two standard errors below its
    best, with a reward above that time's (above the first one, where the best was before any).

    Args:
        rows: held-out rows, with the columns the metrics read.
        metrics: by name; see `rewards.REWARDS`.
        ask: what answers rows with a model, one text each (`greedy`).
        every: steps from one look to the next; the start and the end are looked at too.
        say: takes a line for people.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        metrics: Mapping[str, Function],
        ask: Ask,
        every: int = 50,
        say: Callable[[str], object] = print,
    ) -> None:
        self.rows, self.metrics, self.ask, self.every, self.say = rows, metrics, ask, every, say
        self.seen: dict[str, list[Seen]] = {name: [] for name in metrics}
        self._told: set[str] = set()
        self._first: float | None = None
        self._reward: float | None = None
        self._looked = -1

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Look before the first step."""
        if self._looked < 0:
            state.log_history.append({"step": state.global_step, **self._look(state.global_step, model)})

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, model: Any = None, **_: Any
    ) -> None:
        """Add what is found to the log's last line, when it is time."""
        self._reward = (logs or {}).get("reward", self._reward)
        self._first = self._reward if self._first is None else self._first
        last = state.global_step >= state.max_steps
        due = state.global_step - self._looked >= self.every or (last and state.global_step > self._looked)
        if due and logs is not None:
            found = self._look(state.global_step, model)
            logs.update(found)
            if state.log_history:
                state.log_history[-1].update(found)

    def _look(self, step: int, model: Any) -> dict[str, float]:
        self._looked = step
        said = self.ask(model, self.rows)
        columns = {name: [row[name] for row in self.rows] for name in self.rows[0]}
        found = {}
        for name, metric in self.metrics.items():
            values = [v for v in metric(completions=said, **columns) if v is not None]
            mean, error = (
                (fmean(values), math.sqrt(pvariance(values) / len(values))) if values else (math.nan, math.nan)
            )
            found[f"strict/{name}"] = mean
            self.seen[name].append(Seen(step, mean, error, self._reward))
            self._warn(name)
        return found

    def _warn(self, name: str) -> None:
        now = self.seen[name][-1]
        best = max(self.seen[name], key=lambda s: s.value)
        fell = best.value - now.value > 2 * math.hypot(best.error, now.error)
        then = self._first if best.reward is None else best.reward
        if fell and then is not None and now.reward is not None and now.reward > then and name not in self._told:
            self._told.add(name)
            self.say(
                f"held-out {name} fell from {best.value:.3g} at step {best.step} to {now.value:.3g} at step {now.step} "
                f"while the reward rose from {then:.3g} to {now.reward:.3g}: it pays for something else"
            )


def greedy(processor: Any, longest: int = 64, batch: int = 8) -> Ask:
    """Return what answers rows without chance.

    Args:
        processor: of the model; pads on the left.
        longest: tokens an answer may have.
        batch: rows at a time.
    """

    def ask(model: Any, rows: Sequence[Row]) -> list[str]:
        inner = model.module if hasattr(model, "module") else model
        was = inner.training
        inner.eval()
        said = [text for at in range(0, len(rows), batch) for text in _answers(inner, rows[at : at + batch])]
        inner.train(was)
        return said

    def _answers(model: Any, rows: Sequence[Row]) -> list[str]:
        texts = [
            processor.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True) for row in rows
        ]
        images = [[_opened(i) for i in row.get("images") or ()] for row in rows]
        inputs = processor(
            text=texts, images=images if any(images) else None, padding=True, padding_side="left",
            add_special_tokens=False, return_tensors="pt",
        ).to(model.device)  # fmt: skip
        with torch.no_grad():
            made = model.generate(**inputs, max_new_tokens=longest, do_sample=False)
        new = made[:, inputs["input_ids"].shape[1] :]
        return [t.strip() for t in processor.batch_decode(new, skip_special_tokens=True)]

    return ask


def _opened(image: Any) -> Any:
    return decode(Path(image).read_bytes()) if isinstance(image, str) else image
