"""The same training as a command of another trainer, for people with their own: TRL, ms-swift, LLaMA-Factory."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from foveal.errors import SetupError
from foveal.train.job import ADAPTER_RATE, RATES, Job
from foveal.train.loss_table import Mix, parse

Options = dict[str, Any]


def command(job: Job, trainer: str) -> str:
    """Return shell lines: one that exports the rows, one that trains.

    Raises:
        SetupError: that trainer has no such verb, loss or model; says what it has.
    """
    if job.model.startswith("small"):
        raise SetupError("the embedded model is trained by foveal alone; name another with --model")
    mix = parse(job.loss or "dpo", job.knobs) if job.verb == "dpo" else None
    head, options, export = TRAINERS[trainer](job, mix)
    words = " \\\n    ".join([head, *(f"--{name} {_shown(value)}" for name, value in options.items())])
    run = (Path(job.data) / "rows.jsonl").is_file() or not Path(job.data).exists()
    made = f"foveal export {shlex.quote(job.data)} --to {export}\n" if run else ""
    return made + words


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_shown, value))
    return shlex.quote(f"{value:g}" if isinstance(value, float) else str(value))


def _model(job: Job) -> str:
    return job.model.removeprefix("hf:")


def _folder(job: Job, export: str) -> Path:
    """Return where `foveal export` puts a run's rows; data that is no run is taken as it is."""
    run = (Path(job.data) / "rows.jsonl").is_file() or not Path(job.data).exists()
    return Path(job.data) / "export" / export if run else Path(job.data)


def _shared(job: Job) -> Options:
    """Return what transformers' configuration calls alike everywhere."""
    length = {"max_steps": job.steps} if job.steps else {"num_train_epochs": job.epochs}
    return {
        "output_dir": job.out, **length, "per_device_train_batch_size": job.batch,
        "gradient_accumulation_steps": job.accumulate,
        "learning_rate": job.rate or RATES[job.verb] * (ADAPTER_RATE if job.lora else 1), "seed": job.seed,
        **({"save_steps": job.save_every} if job.save_every else {}), **job.settings,
    }  # fmt: skip


def _alone(mix: Mix, trainer: str, known: Mapping[str, str]) -> tuple[str, float]:
    """Return a mix as one loss of another trainer and the weight of a cross-entropy term beside it.

    Raises:
        SetupError: it has no such loss.
    """
    terms = {t.name: t.weight for t in mix.terms}
    beside = terms.pop("sft", 0.0)
    name, weight = next(iter(terms.items()), ("", 1.0))
    if len(terms) != 1 or name not in known or weight != 1:
        raise SetupError(
            f"{trainer} has no loss {mix}; it has {', '.join(known)}, each with sft:WEIGHT beside it or alone"
        )
    return known[name], beside


def _beta(job: Job) -> Options:
    return {"beta": job.knobs["beta"]} if "beta" in job.knobs else {}


# --- the trainers ----------------------------------------------------------------------------------------------------


def _trl(job: Job, mix: Mix | None) -> tuple[str, Options, str]:
    kind = {"sft": "completion", "dpo": "dpo", "kto": "dpo"}.get(job.verb)
    if kind is None or job.verb == "kto":
        raise SetupError(
            f"trl's command line takes no {job.verb} with what foveal exports: write a script with trl, or train here"
        )
    export = "trl-completion" if job.verb == "sft" else "trl"
    loss: Options = {}
    if mix is not None:
        ours = [t.name for t, _ in mix.ours if t.name not in ("sigmoid", "sft")]
        if ours:
            raise SetupError(f"trl has no loss {ours[0]!r} (of {mix}); foveal train adds it")
        weights = {"loss_weights": [t.weight for t in mix.terms]} if len(mix.terms) > 1 else {}
        loss = {"loss_type": [t.name for t in mix.terms], **weights, **_beta(job)}
    adapter = {"use_peft": True, "lora_r": job.lora, "lora_alpha": job.alpha or 2 * job.lora} if job.lora else {}
    options = {"model_name_or_path": _model(job), "dataset_name": _folder(job, export) / kind, **loss, **adapter}
    return f"trl {job.verb}", {**options, "max_length": job.longest or "None", **_shared(job)}, export


def _swift(job: Job, mix: Mix | None) -> tuple[str, Options, str]:
    if job.verb not in ("sft", "dpo", "kto"):
        raise SetupError(f"ms-swift's {job.verb} takes rewards of its own: export ms-swift-grpo, or train here")
    known = {"sigmoid": "sigmoid", "hinge": "hinge", "ipo": "ipo", "robust": "robust", "bco_pair": "bco_pair"}
    loss: Options = {}
    if mix is not None:
        name, beside = _alone(mix, "ms-swift", known)
        loss = {"rlhf_type": "dpo", "loss_type": name, **({"rpo_alpha": beside} if beside else {}), **_beta(job)}
    elif job.verb == "kto":
        loss = {"rlhf_type": "kto", **_beta(job)}
    export = "ms-swift-kto" if job.verb == "kto" else "ms-swift"
    rows = _folder(job, export)
    adapter: Options = {"tuner_type": "full"}
    if job.lora:
        adapter = {"tuner_type": "lora", "lora_rank": job.lora, "lora_alpha": job.alpha or 2 * job.lora}
    options = {
        "model": _model(job), "dataset": rows if rows.suffix else rows / f"swift_{job.verb}.jsonl",
        **loss, **adapter, "freeze_vit": str(not job.tower).lower(),
        **({"max_length": job.longest} if job.longest else {}),
    }  # fmt: skip
    return "swift sft" if job.verb == "sft" else "swift rlhf", {**options, **_shared(job)}, export


def _factory(job: Job, mix: Mix | None) -> tuple[str, Options, str]:
    if job.verb not in ("sft", "dpo", "kto"):
        raise SetupError(f"llamafactory has no {job.verb}; train here")
    known = {"sigmoid": "sigmoid", "hinge": "hinge", "ipo": "ipo", "simpo": "simpo"}
    loss: Options = {}
    if mix is not None:
        name, beside = _alone(mix, "llamafactory", known)
        beta = {"pref_beta": job.knobs["beta"]} if "beta" in job.knobs else {}
        loss = {"pref_loss": name, **({"pref_ftx": beside} if beside else {}), **beta}
    elif job.verb == "kto":
        loss = {"pref_beta": job.knobs["beta"]} if "beta" in job.knobs else {}
    export = "sharegpt-kto" if job.verb == "kto" else "sharegpt"
    adapter: Options = {"finetuning_type": "full"}
    if job.lora:
        adapter = {"finetuning_type": "lora", "lora_rank": job.lora, "lora_alpha": job.alpha or 2 * job.lora}
    options = {
        "stage": job.verb, "do_train": True, "model_name_or_path": _model(job), "template": "TEMPLATE",
        "dataset_dir": _folder(job, export), "dataset": f"DATASET_{job.verb}", **loss, **adapter,
        "freeze_vision_tower": str(not job.tower).lower(), **({"cutoff_len": job.longest} if job.longest else {}),
    }  # fmt: skip
    head = (
        "# TEMPLATE is LLaMA-Factory's name of the model's chat template, DATASET the name in dataset_info.json\n"
        "llamafactory-cli train"
    )
    return head, {**options, **_shared(job)}, export


TRAINERS: Mapping[str, Callable[[Job, Mix | None], tuple[str, Options, str]]] = {
    "trl": _trl, "ms-swift": _swift, "llamafactory": _factory,
}  # fmt: skip
