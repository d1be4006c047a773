"""The trainer of each verb: TRL's own wherever it can do the work."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
import trl

from foveal.errors import RecipeError, SetupError, nearest
from foveal.train import rewards, watch
from foveal.train.data import Row, Rows
from foveal.train.job import ADAPTER_RATE, RATES, Checked, Job
from foveal.train.models import Opened
from foveal.train.preference import Collator, Listed, PreferenceTrainer, frozen_copy, precompute

Messages = list[dict[str, Any]]
Say = Callable[[str], object]


def make(job: Job, checked: Checked, opened: Opened, key: str, say: Say = print, before: Path | None = None) -> Any:
    """Return the trainer of a job, ready for `train()`, or for continuing from the checkpoint `before`.

    Raises:
        SetupError: a setting that the trainer does not know, or does not take.
    """
    transformers.set_seed(job.seed)
    by = {"sft": _sft, "dpo": _dpo, "kto": _kto, "grpo": _rl, "rloo": _rl}
    trainer = by[job.verb](job, checked, opened, key, say)
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.add_callback(Telling(say))
    if before is not None and not job.lora:
        trainer.add_callback(Restoring(before))
    return trainer


class Restoring(transformers.TrainerCallback):  # type: ignore[misc]
    """Takes a checkpoint's weights up the way `from_pretrained` does.

    transformers' Trainer reads them by the names in memory and ignores those it does not find: where a family's files
    keep older names (Llava's do), it goes on from the weights it began with, and a warning is all there is.

    Args:
        checkpoint: with the whole model in it, not an adapter.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Restore the weights; engines that shard them have restored their own."""
        if not (args.deepspeed or args.fsdp):
            saved = type(model).from_pretrained(self.checkpoint, dtype=model.dtype)
            model.load_state_dict(saved.state_dict())


class Telling(transformers.TrainerCallback):  # type: ignore[misc]
    """Says how the training goes, a line at a time."""

    def __init__(self, say: Say) -> None:
        self.say = say

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        """Say one line of the log."""
        if state.is_world_process_zero and logs and "train_runtime" not in logs:
            told = " ".join(f"{n} {v:.4g}" for n, v in logs.items() if n in SHOWN or n.startswith("strict/"))
            self.say(f"step {state.global_step}/{state.max_steps} {told}")


datasets.disable_progress_bars()

SHOWN = (
    "loss",
    "grad_norm",
    "rewards/margins",
    "rewards/accuracies",
    "reward",
    "kl",
    "mean_token_accuracy",
    "eval_loss",
)
"""What of a log is told on the way; all of it is in log.jsonl."""


def arguments(kind: type, job: Job, held_out: Rows | None = None, **more: Any) -> Any:
    """Return a trainer's configuration: what the job says, then `more`, then the job's own settings.

    Raises:
        RecipeError: a setting that this configuration does not have.
        SetupError: a value that it does not take.
    """
    gpu = torch.cuda.is_available()
    rate = job.rate or RATES[job.verb] * (ADAPTER_RATE if job.lora else 1)
    save = {"save_strategy": "steps", "save_steps": job.save_every} if job.save_every else {"save_strategy": "no"}
    watch = {"eval_strategy": "steps", "eval_steps": job.save_every} if held_out and job.save_every else {}
    given = {
        "output_dir": job.out, "per_device_train_batch_size": job.batch, "per_device_eval_batch_size": job.batch,
        "gradient_accumulation_steps": job.accumulate, "num_train_epochs": job.epochs, "max_steps": job.steps or -1,
        "learning_rate": rate, "lr_scheduler_type": "cosine", "warmup_steps": 0.03, "seed": job.seed,
        "logging_steps": 1 if job.steps and job.steps <= 100 else 10, "logging_first_step": True,
        "save_total_limit": 2, "report_to": "none", "use_cpu": not gpu, "dataloader_pin_memory": gpu,
        "bf16": gpu and torch.cuda.is_bf16_supported(), _checkpointing(kind): gpu, "disable_tqdm": True,
        **save, **watch, **more, **dict(job.settings),
    }  # fmt: skip
    known = set(inspect.signature(kind).parameters)
    for name in job.settings:
        if name not in known:
            raise RecipeError(f"{kind.__name__} has no setting {name!r}{nearest(name, known)}")
    try:
        return kind(**{name: value for name, value in given.items() if name in known})
    except (ValueError, TypeError) as error:
        raise SetupError(f"{kind.__name__}: {str(error).splitlines()[0]}") from error


def _checkpointing(kind: type) -> str:
    """Return what a configuration calls recomputing activations: TRL keeps the name that transformers left."""
    new = "activation_checkpointing"
    ours = kind is transformers.TrainingArguments and new in inspect.signature(kind).parameters
    return new if ours else "gradient_checkpointing"


def table(rows: Sequence[Row], columns: Sequence[str]) -> datasets.Dataset:
    """Return rows as TRL wants them: a data set whose pictures are opened when a row is asked for."""

    def cell(row: Row, column: str) -> Any:
        return [{"path": p, "bytes": None} for p in row[column]] if column == "images" else row[column]

    made = datasets.Dataset.from_list([{c: cell(row, c) for c in columns} for row in rows])
    return made.cast_column("images", datasets.List(datasets.Image(mode="RGB")))


def _tables(checked: Checked, columns: Sequence[str]) -> dict[str, Any]:
    held_out = checked.held_out
    return {
        "train_dataset": table(checked.rows.rows, columns),
        "eval_dataset": table(held_out.rows, columns) if held_out else None,
    }


def _sft(job: Job, checked: Checked, opened: Opened, key: str, say: Say) -> Any:
    config = arguments(trl.SFTConfig, job, checked.held_out, max_length=job.longest or None)
    data = _tables(checked, ("images", "prompt", "completion"))
    return trl.SFTTrainer(model=opened.model, args=config, processing_class=opened.processor, **data)


def _kto(job: Job, checked: Checked, opened: Opened, key: str, say: Say) -> Any:
    if job.batch < 2:
        raise SetupError("kto compares the rows of a batch with each other: --batch must be at least 2")
    loss = {"loss_type": job.loss} if job.loss else {}
    config = arguments(trl.KTOConfig, job, checked.held_out, max_length=job.longest or None, **loss)
    data = _tables(checked, ("images", "prompt", "completion", "label"))
    other = None if job.lora else frozen_copy(opened.model)  # given a model in memory, TRL would look for it by name
    return trl.KTOTrainer(model=opened.model, ref_model=other, args=config, processing_class=opened.processor, **data)


def _rl(job: Job, checked: Checked, opened: Opened, key: str, say: Say) -> Any:
    """Return TRL's trainer with rewards that can be checked; strict metrics are watched on held-out rows."""
    kind, trainer = (trl.GRPOConfig, trl.GRPOTrainer) if job.verb == "grpo" else (trl.RLOOConfig, trl.RLOOTrainer)
    held_out = checked.held_out
    functions, weights = rewards.chosen(job.rewards, () if held_out else job.strict)
    config = arguments(kind, job, None, reward_weights=weights, remove_unused_columns=False)
    columns = ("images", "prompt", "answer", "tags")
    watching = []
    if held_out is not None:
        metrics = {name: rewards.REWARDS[name].call for name in job.strict or ("exact",)}
        ask = watch.greedy(opened.processor, config.max_completion_length, job.batch)
        watching = [watch.HeldOut(held_out.rows, metrics, ask, every=job.save_every or 50, say=say)]
    data = table(checked.rows.rows, columns)
    return trainer(
        model=opened.model, reward_funcs=functions, args=config, processing_class=opened.processor,
        train_dataset=data, callbacks=watching,
    )  # fmt: skip


# --- preferences -----------------------------------------------------------------------------------------------------


def _dpo(job: Job, checked: Checked, opened: Opened, key: str, say: Say) -> Any:
    mix = checked.mix
    assert mix is not None
    if mix.native:
        return _trl_dpo(job, checked, opened)
    config = arguments(transformers.TrainingArguments, job, checked.held_out, remove_unused_columns=False)
    auxiliary = checked.auxiliary.rows if checked.auxiliary else ()
    collate = Collator(opened.processor, mix.needs, job.longest or None, auxiliary)
    device = config.device
    opened.model.to(device)
    sets: dict[str, Any] = {}
    for name, rows in (("train", checked.rows), ("eval", checked.held_out)):
        known = None
        if rows is not None and checked.reference == "precomputed":
            told = f"{key} {rows.digest} {sorted(mix.needs)}"
            keep = Path(job.out) / f"reference-{name}.safetensors"
            kind = torch.bfloat16 if config.bf16 else torch.float32
            with torch.autocast(device.type, kind, enabled=config.bf16):  # as the policy will be read
                known = precompute(opened.model, rows.rows, collate, job.batch, keep, told)
        sets[f"{name}_dataset"] = Listed(rows.rows, known) if rows is not None else None
    other = frozen_copy(opened.model) if checked.reference == "resident" else None
    _no_dropout(opened.model)
    return PreferenceTrainer(
        mix=mix, reference=other, model=opened.model, args=config, data_collator=collate,
        processing_class=opened.processor, **sets,
    )  # fmt: skip


def _no_dropout(model: Any) -> None:
    """Switch dropout off: policy and reference must differ by nothing but their weights."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def _trl_dpo(job: Job, checked: Checked, opened: Opened) -> Any:
    """Return TRL's trainer for a mix of TRL's own losses, which it computes itself."""
    mix = checked.mix
    assert mix is not None
    strange = [t.name for t, _ in mix.ours if t.name not in ("sigmoid", "sft")]
    if strange:
        raise SetupError(f"{mix}: {strange[0]} is foveal's and {next(iter(mix.native))} is TRL's; they cannot be mixed")
    losses = [t.name for t in mix.terms]
    known: Mapping[str, Any] = {"beta": job.knobs["beta"]} if "beta" in job.knobs else {}
    config = arguments(
        trl.DPOConfig, job, checked.held_out, max_length=job.longest or None, loss_type=losses,
        loss_weights=[t.weight for t in mix.terms], **known,
    )  # fmt: skip
    data = {
        name: table([_pair(row) for row in rows.rows], ("images", "prompt", "chosen", "rejected")) if rows else None
        for name, rows in (("train_dataset", checked.rows), ("eval_dataset", checked.held_out))
    }
    other = None if checked.reference == "adapter" else frozen_copy(opened.model)
    return trl.DPOTrainer(model=opened.model, ref_model=other, args=config, processing_class=opened.processor, **data)


def _pair(row: Row) -> Row:
    return {**row, "chosen": _said(row["chosen"]), "rejected": _said(row["rejected"][0])}


def _said(text: str) -> Messages:
    return [{"role": "assistant", "content": [{"type": "text", "text": text}]}]
