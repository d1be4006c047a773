"""Preference training of vision-language models: transformers' Trainer with foveal's reading, references and losses."""

from __future__ import annotations

import copy
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from foveal.train import diff
from foveal.train.answers import Answers, Preferences, RunningMean
from foveal.train.data import Row
from foveal.train.loss_table import AGAINST, CONTRAST, Mix
from foveal.train.losses import noisy_choice, token_divergence
from foveal.train.reading import Collector, Read, Reading, read

LIVE = frozenset({"divergence", "noisy"})
"""Needs that take the reference's whole distribution at every token: it cannot be computed before."""


@dataclass
class Collator:
    """Rows to batches: what each loss needs read, once.

    A batch's answers stand in this order: chosen, rejected, chosen words about the other pictures.

    Args:
        processor: of the model.
        needs: of the losses (`Mix.needs`).
        longest: tokens after which an answer is cut, None for no limit.
        auxiliary: rows for a language-modelling term; a row takes the one at its index, around and around.
        apart: see `Collector`.
    """

    processor: Any
    needs: frozenset[str]
    longest: int | None = None
    auxiliary: Sequence[Row] = ()
    apart: bool = False

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Return a batch."""
        main, blind = (Collector(self.processor, self.longest, self.apart) for _ in range(2))
        contrast = bool(CONTRAST & self.needs)
        weights: list[list[float]] = []
        for row in rows:
            text = main.add(row["images"], row["prompt"], row["chosen"])
            weights.append(self._weights(text, row, 0))
        for row in rows:
            images = row["images" if AGAINST & self.needs or "rejected_images" not in row else "rejected_images"]
            for rejected in row["rejected"]:
                text = main.add(images, row["prompt"], rejected)
                weights.append(self._weights(text, row, 1))
        if contrast:
            for at, row in enumerate(rows):
                main.add(row["rejected_images"], row["prompt"], row["chosen"])
                weights.append(weights[at])
        batch: dict[str, Any] = {"main": main.reading(), "group": _owners(rows)}
        if "token_weights" in self.needs:
            batch["weights"] = torch.nn.utils.rnn.pad_sequence([torch.tensor(w) for w in weights], batch_first=True)
        if "blind" in self.needs:
            for row, answer in [*((r, r["chosen"]) for r in rows), *((r, a) for r in rows for a in r["rejected"])]:
                blind.add((), _without_pictures(row["prompt"]), answer)
            batch["blind"] = blind.reading()
        if "auxiliary" in self.needs:
            other = Collector(self.processor, self.longest)
            for row in rows:
                some = self.auxiliary[row["index"] % len(self.auxiliary)]
                other.add(some["images"], some["prompt"], some["completion"][0]["content"][0]["text"])
            batch["auxiliary"] = other.reading()
        if "margin" in self.needs:
            batch["margin"] = torch.tensor([row["margin"] for row in rows])
        if "reference" in rows[0]:
            kept = [row["reference"] for row in rows]
            sides = [k[0] for k in kept] + [
                r for k, row in zip(kept, rows, strict=True) for r in k[1 : 1 + len(row["rejected"])]
            ]
            sides += [k[-1] for k in kept] if contrast else []
            batch["reference"] = torch.nn.utils.rnn.pad_sequence(sides, batch_first=True)
        return batch

    def _weights(self, text: str, row: Row, side: int) -> list[float]:
        """Return what each token of a side counts for."""
        if "token_weights" not in self.needs:
            return []
        chosen, rejected = row["chosen"], row["rejected"][0]
        # The template closes both sides alike, so the ending is not among what differs.
        closing = text.removeprefix((chosen, rejected)[side]) if text.startswith((chosen, rejected)[side]) else ""
        return diff.weigh(self.processor.tokenizer, chosen + closing, rejected + closing)[side]


def _owners(rows: Sequence[Row]) -> Tensor:
    return torch.tensor([at for at, row in enumerate(rows) for _ in row["rejected"]])


def _without_pictures(prompt: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{**m, "content": [b for b in m["content"] if b["type"] != "image"]} for m in prompt]


class Listed(torch.utils.data.Dataset[Row]):  # type: ignore[misc]
    """Rows with their index, and what the reference says of them when that was computed before."""

    def __init__(self, rows: Sequence[Row], reference: Sequence[Sequence[Tensor]] | None = None) -> None:
        self.rows, self.reference = rows, reference

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        told = {} if self.reference is None else {"reference": self.reference[index]}
        return {**self.rows[index], "index": index, **told}


# --- the reference ---------------------------------------------------------------------------------------------------


def precompute(
    model: Any, rows: Sequence[Row], collate: Collator, batch: int, keep: Path, key: str
) -> list[list[Tensor]]:
    """Return the log-probability of every token of every row's answers under a model, kept in a file for a resumed run.

    With it no reference is in memory while training and none is run: TRL refuses this for data with pictures.

    Args:
        model: the policy before its first step; adapters are switched off.
        rows: the data.
        collate: the trainer's own, so that the same answers are read.
        batch: rows at a time.
        keep: the file.
        key: says what it was computed from; a file with another key is computed anew.
    """
    if keep.is_file():
        with safe_open(keep, "pt") as file:
            if (file.metadata() or {}).get("key") == key:
                return _unpacked(file.get_tensor("logps"), json.loads(file.metadata()["lengths"]))
    found: list[list[Tensor]] = []
    device = next(model.parameters()).device
    was = model.training
    model.eval()
    with torch.no_grad(), switched_off(model):
        for at in range(0, len(rows), batch):
            some = [{**row, "index": at + n} for n, row in enumerate(rows[at : at + batch])]
            read_ = read(model, to_device(collate(some)["main"], device))
            found += _by_row(read_, some, collate)
    model.train(was)
    keep.parent.mkdir(parents=True, exist_ok=True)
    flat = [x for row in found for x in row]
    lengths = json.dumps([[len(x) for x in row] for row in found])
    save_file({"logps": torch.cat(flat)}, keep.with_suffix(".part"), metadata={"key": key, "lengths": lengths})
    keep.with_suffix(".part").replace(keep)
    return found


def _unpacked(flat: Tensor, lengths: Sequence[Sequence[int]]) -> list[list[Tensor]]:
    parts = iter(flat.split([n for row in lengths for n in row]))
    return [[next(parts) for _ in row] for row in lengths]


def _by_row(found: Read, rows: Sequence[Row], collate: Collator) -> list[list[Tensor]]:
    """Return each row's answers: chosen, rejected ones, chosen words about other pictures."""
    said = [logps[: int(n)].float().cpu() for logps, n in zip(found.logps, found.mask.sum(1), strict=True)]
    chosen, rest = said[: len(rows)], iter(said[len(rows) :])
    rejected = [[next(rest) for _ in row["rejected"]] for row in rows]
    return [[c, *r, *([next(rest)] if collate.needs & CONTRAST else [])]
            for c, r in zip(chosen, rejected, strict=True)]  # fmt: skip


def switched_off(model: Any) -> AbstractContextManager[Any]:
    """Return a context in which a model has no adapter: what it was before training."""
    inner = model.module if hasattr(model, "module") else model
    return inner.disable_adapter() if hasattr(inner, "disable_adapter") else nullcontext()


def frozen_copy(model: Any) -> Any:
    """Return a copy of a model that is a reference and stays one."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def to_device(value: Any, device: Any) -> Any:
    """Return nested tensors on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {k: to_device(v, device) for k, v in value.items()}
    return [to_device(v, device) for v in value] if isinstance(value, list) else value


# --- the trainer -----------------------------------------------------------------------------------------------------


class PreferenceTrainer(transformers.Trainer):  # type: ignore[misc]
    """transformers' Trainer on preference rows.

    Args:
        mix: the losses.
        reference: a frozen model, or None when the rows carry what it said or the policy without its adapter is it.
        **rest: what transformers' Trainer takes.
    """

    loss_is_scaled_for_ga = False

    def __init__(self, *, mix: Mix, reference: Any = None, **rest: Any) -> None:
        super().__init__(**rest)
        self.mix, self.reference = mix, reference
        self.shift = RunningMean()
        self.seen: defaultdict[str, list[float]] = defaultdict(list)
        if reference is not None:
            self.reference = self.accelerator.prepare_model(reference, evaluation_mode=True)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the losses' weighted sum over a batch, ()."""
        preferences = self._preferences(model, inputs)
        loss, parts = self.mix(preferences)
        self._note(preferences, parts)
        return (loss, None) if return_outputs else loss

    def _preferences(self, model: Any, inputs: Mapping[str, Any]) -> Preferences:
        needs, group, weights = self.mix.needs, inputs["group"], inputs.get("weights")
        live = bool(LIVE & needs)
        said = read(model, inputs["main"], logits=live)
        theirs, reference = None, inputs.get("reference")
        if "reference" in needs and (reference is None or live):
            theirs = self._referred(model, inputs["main"], live)
            reference = theirs.logps
        both = Answers(said.logps, said.mask, reference, None if weights is None else weights[:, : said.mask.shape[1]])
        if "divergence" in needs:
            assert said.logits is not None and theirs is not None and theirs.logits is not None
            both = _with(both, divergence=token_divergence(said.logits, theirs.logits, said.mask))
        rows, rejected = int(len(inputs["main"]["context"]) - len(group)), len(group)
        contrast = bool(needs & CONTRAST)
        rows = rows // 2 if contrast else rows
        if "blind" in needs:
            with torch.no_grad():
                blind = read(model, inputs["blind"]).logps
            sides, _ = both.split(rows + rejected)
            both = _with(sides, blind=blind[:, : said.mask.shape[1]])
        chosen, rest = both.split(rows)
        worse, other = rest.split(rejected)
        noisy = self._noisy(said, theirs, rows, rejected) if "noisy" in needs else None
        if "shift" in needs:
            self._shifted(chosen, worse)
        return Preferences(
            chosen, worse,
            contrast=other if needs & {"rejected_images", "attacked"} else None,
            noisy=noisy,
            auxiliary=self._auxiliary(model, inputs) if "auxiliary" in needs else None,
            group=group if "negatives" in needs else None,
            margin=inputs.get("margin"),
            shift=torch.tensor(self.shift.mean, device=said.logps.device) if "shift" in needs else None,
        )  # fmt: skip

    def _referred(self, model: Any, reading: Reading, logits: bool) -> Read:
        """Return what the reference says: a model of its own, or the policy with its adapter switched off."""
        with torch.no_grad():
            if self.reference is not None:
                return read(self.reference, reading, logits)
            was = model.training
            model.eval()
            with switched_off(model):
                found = read(model, reading, logits)
            model.train(was)
            return found

    def _noisy(self, ours: Read, theirs: Read | None, rows: int, rejected: int) -> Answers:
        """Return the chosen answer's places filled with what the policy expects there about the noisy picture."""
        assert ours.logits is not None and theirs is not None and theirs.logits is not None
        noisy = ours.logits[rows + rejected :].detach()
        policy, reference = (noisy_choice(side[:rows], noisy) for side in (ours.logits, theirs.logits))
        return Answers(policy, ours.mask[:rows], reference)

    def _auxiliary(self, model: Any, inputs: Mapping[str, Any]) -> Answers:
        found = read(model, inputs["auxiliary"])
        return Answers(found.logps, found.mask)

    def _shifted(self, chosen: Answers, rejected: Answers) -> None:
        if self.model.training:
            beta = self._beta("bco")
            self.shift.update(beta * chosen.ratio, beta * rejected.ratio)

    def _beta(self, name: str = "") -> float:
        """Return the strength of a term, of the first that has one by default."""
        for term, loss in self.mix.ours:
            if "beta" in loss.knobs and name in ("", term.name):
                beta = term.knobs.get("beta", loss.knobs["beta"])
                return float(beta)
        return 1.0

    # --- what is logged and kept ---

    def _note(self, p: Preferences, parts: Mapping[str, Tensor]) -> None:
        rewarded = p.chosen.reference is not None
        better, worse = ((a.ratio if rewarded else a.mean).detach() * self._beta() for a in (p.chosen, p.rejected))
        owner = torch.arange(len(worse), device=worse.device) if p.group is None else p.group
        gap = better[owner] - worse
        seen = {
            "rewards/chosen": better, "rewards/rejected": worse, "rewards/margins": gap, "rewards/accuracies": gap > 0,
            "logps/chosen": p.chosen.total, "logps/rejected": p.rejected.total,
            **({f"loss/{name}": part for name, part in parts.items()} if len(parts) > 1 else {}),
        }  # fmt: skip
        kind = "" if self.model.training else "eval_"
        for name, value in seen.items():
            self.seen[kind + name].append(float(self.accelerator.gather(value.detach().float().mean()).mean()))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means of what was seen since the last time."""
        kind = not self.model.training
        mine = [name for name in self.seen if name.startswith("eval_") == kind]
        logs = {**logs, **{name: sum(self.seen[name]) / len(self.seen.pop(name)) for name in mine if self.seen[name]}}
        super().log(logs, start_time)

    def prediction_step(self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None) -> Any:
        """Return the loss of a batch that is held out."""
        with torch.no_grad():
            return self.compute_loss(model, self._prepare_inputs(inputs)).detach(), None, None

    def floating_point_ops(self, inputs: Any) -> int:
        """Return 0: transformers' estimate knows no answers that share a prompt."""
        return 0

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "shift.json").write_text(json.dumps(self.shift.state()))
        super()._save_checkpoint(model, trial)

    def _load_from_checkpoint(self, resume_from_checkpoint: Any, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.shift = RunningMean(*json.loads((Path(resume_from_checkpoint) / "shift.json").read_text()))


def _with(answers: Answers, **changed: Any) -> Answers:
    """Return answers with more told of them; what is told of fewer is cut to those."""
    given = {n: getattr(answers, n) for n in ("logps", "mask", "reference", "weights", "blind", "divergence")}
    return Answers(**{**given, **changed})
