"""One training from start to end: check the data, open the model, train, save, write the card."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from foveal import __version__
from foveal.errors import MissingExtra, RecipeError, SetupError, nearest
from foveal.record import digest
from foveal.runner.folder import write
from foveal.train import card, rewards
from foveal.train.data import VERBS, Rows, read
from foveal.train.loss_table import Mix, parse

if TYPE_CHECKING:
    from foveal.train.models import Opened

ADAPTER_RATE = 10.0
"""How much faster an adapter learns by default than whole weights."""

RATES = {"sft": 2e-5, "dpo": 1e-6, "kto": 1e-6, "grpo": 1e-6, "rloo": 1e-6}
"""TRL's own learning rates."""

LIBRARIES = ("transformers", "trl", "peft", "datasets", "accelerate")
REFERENCES = ("precomputed", "adapter", "resident")


@dataclass(frozen=True)
class Job:
    """What is to be trained, on what and how. All of it stands in the run card.

    Attributes:
        verb: one of VERBS.
        data: a run folder or data file.
        model: "small", "small:<folder>", a path or a hub id.
        out: the folder that will hold the trained model.
        loss: names and weights as `mix.parse` reads them (dpo), or a loss of TRL's for kto.
        knobs: of the losses.
        reference: who tells what the reference says: "precomputed" (before training, nothing stays in memory),
            "adapter" (the policy without its adapter), "resident" (a copy). "" chooses.
        rewards: names of rewards with weights (grpo, rloo).
        strict: names of rewards that are only watched.
        auxiliary: other data for a language-modelling term (`lm`).
        held_out: data that is only evaluated on.
        lora: rank of an adapter; 0 trains the whole language model and projector.
        settings: fields of the trainer's own configuration, which have the last word.
    """

    verb: str
    data: str
    model: str
    out: str
    loss: str = ""
    knobs: Mapping[str, Any] = field(default_factory=dict)
    reference: str = ""
    rewards: tuple[str, ...] = ()
    strict: tuple[str, ...] = ()
    auxiliary: str = ""
    held_out: str = ""
    lora: int = 0
    alpha: int = 0
    tower: bool = False
    merge: bool = False
    dtype: str = "auto"
    epochs: float = 1.0
    steps: int = 0
    batch: int = 4
    accumulate: int = 1
    rate: float = 0.0
    longest: int = 0
    save_every: int = 0
    seed: int = 0
    limit: int = 0
    skip_broken: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Checked:
    """A job whose data fits.

    Attributes:
        rows: to train on.
        held_out: to evaluate on; None without.
        auxiliary: for a language-modelling term; None without.
        mix: the losses of a dpo job; None for other verbs.
        reference: one of REFERENCES, "" where no loss asks for one.
        warnings: what may be wrong and does not stop it.
    """

    rows: Rows
    held_out: Rows | None = None
    auxiliary: Rows | None = None
    mix: Mix | None = None
    reference: str = ""
    warnings: tuple[str, ...] = ()


def train(job: Job, say: Callable[[str], object] = print) -> dict[str, Any]:
    """Train a model; the same job again continues where it was killed, or does nothing when it is done.

    Returns:
        The run card.

    Raises:
        SetupError: something does not fit; told before a model is loaded.
    """
    require()
    out = Path(job.out)
    known = card.read(out)
    if not known and out.is_dir() and any(p.name != "pictures" for p in out.iterdir()):
        raise SetupError(f"{out} holds other files; name an empty or new folder with -o")
    checked = check(job)
    key = _key(job, checked)
    if known and known["key"] != key:
        raise SetupError(
            f"{out} holds another training ({known['verb']} on {known['data']['path']}); name another with -o"
        )
    if known and known["state"] == "finished":
        say(f"{out} holds this very training, finished")
        return known
    for warning in checked.warnings:
        say(f"note: {warning}")
    return _trained(job, checked, key, say)


def _trained(job: Job, checked: Checked, key: str, say: Callable[[str], object]) -> dict[str, Any]:
    import transformers
    from transformers.utils import logging

    from foveal.train import models, trainers

    logging.disable_progress_bar()
    transformers.set_seed(job.seed)  # an adapter is random at its start
    out, began = Path(job.out), time.time()
    opened = models.open_model(job.model, lora=job.lora, alpha=job.alpha, tower=job.tower, dtype=job.dtype)
    told = _policy_warning(checked, opened)
    if told:
        say(f"note: {told}")
    about = {**_about(job, checked, opened, key), "warnings": [*checked.warnings, *([told] if told else [])]}
    write(out_file(out), [orjson.dumps({**about, "state": "running"}, option=orjson.OPT_INDENT_2)])
    before = last_checkpoint(out)
    trainer = trainers.make(job, checked, opened, key, say, before)
    if before is not None:
        say(f"continuing from {before.name}")
    result = trainer.train(resume_from_checkpoint=str(before) if before else None)
    history = trainer.state.log_history
    opened.model = trainer.accelerator.unwrap_model(trainer.model)
    if not trainer.is_world_process_zero():
        return about
    wrote = models.save(opened, out, job.merge)
    write(out / "log.jsonl", [orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in history])
    done = {
        **about, "state": "finished", "steps": trainer.state.global_step, "seconds": round(time.time() - began, 1),
        "metrics": {k: v for k, v in result.metrics.items() if isinstance(v, int | float)}, "wrote": wrote,
    }  # fmt: skip
    write(out_file(out), [orjson.dumps(done, option=orjson.OPT_INDENT_2)])
    write(out / "README.md", [card.page(done, history).encode()])
    return done


def out_file(out: Path) -> Path:
    """Return the run card's place, its folder made.

    Raises:
        SetupError: the folder cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"cannot write to {out}: {error.strerror or error}") from error
    return out / card.NAME


def require() -> None:
    """Refuse early, in one sentence, where the training libraries are not installed.

    Raises:
        SetupError: PyTorch is missing: which build is right is for the user to choose.
        MissingExtra: one of the others is.
    """
    if importlib.util.find_spec("torch") is None:
        raise SetupError(
            "training needs PyTorch, and which build is yours to choose: "
            "pip install torch (pytorch.org tells the line for your machine), then pip install 'foveal[train]'"
        )
    for name in LIBRARIES:
        if importlib.util.find_spec(name) is None:
            raise MissingExtra(f"training ({name})", "train")


# --- what fits -------------------------------------------------------------------------------------------------------


def check(job: Job) -> Checked:
    """Read and check the data of a job.

    Raises:
        SetupError: in one sentence, what does not fit.
    """
    if job.verb not in VERBS:
        raise RecipeError(f"no verb {job.verb!r}{nearest(job.verb, VERBS)}")
    pictures = Path(job.out) / "pictures"
    mix = parse(job.loss or "dpo", job.knobs) if job.verb == "dpo" else None
    grouped = mix is not None and "negatives" in mix.needs

    def rows(data: str, verb: str = job.verb, limit: int = 0) -> Rows:
        return read(data, verb, pictures, grouped=grouped, limit=limit or None, skip=job.skip_broken)

    found = rows(job.data, limit=job.limit)
    held_out = rows(job.held_out) if job.held_out else None
    auxiliary = rows(job.auxiliary, "sft") if job.auxiliary else None
    warnings = tuple(f"{n} records left out: {why}" for why, n in found.left_out.most_common())
    _rewarded(job, found, held_out)
    if mix is None:
        _no_loss_knobs(job)
        return Checked(found, held_out, auxiliary, warnings=warnings)
    for some in (found, *([held_out] if held_out else [])):
        fits(mix, some)
    if "auxiliary" in mix.needs and auxiliary is None:
        raise SetupError(f"loss {mix} has a language-modelling term: name its rows with --auxiliary DATA")
    return Checked(found, held_out, auxiliary, mix, _reference(job, mix), warnings)


def fits(mix: Mix, rows: Rows) -> None:
    """Refuse pairs that lack what a loss is about.

    Raises:
        SetupError: names the loss, the column and how many rows lack it.
    """
    for term in mix.terms:
        for column in term.loss.columns if term.loss else ():
            lacking = 0 if column == "negatives" else sum(column not in row for row in rows.rows)
            if lacking:
                raise SetupError(
                    f"loss {term.name!r} needs {column!r}, which {lacking} of {len(rows)} rows do not have; "
                    "make such rows, or choose another loss (docs/training.md)"
                )
    theirs = next((n for n in mix.native), "")
    if theirs and any("rejected_images" in row for row in rows.rows):
        raise SetupError(
            f"loss {theirs!r} is TRL's, which has no rejected_images; choose one of foveal's (docs/training.md)"
        )


def _rewarded(job: Job, found: Rows, held_out: Rows | None) -> None:
    """Refuse rewards that are not there or have nothing to judge by."""
    if job.verb in ("grpo", "rloo"):
        rewards.chosen(job.rewards, job.strict)
        rewards.check([*job.rewards, *job.strict], found.rows, job.data)
        if held_out is not None:
            rewards.check(job.strict, held_out.rows, job.held_out)
    elif job.rewards or job.strict:
        raise RecipeError(f"{job.verb} learns from data, not from rewards; --reward and --strict are for grpo and rloo")


def _no_loss_knobs(job: Job) -> None:
    if job.knobs:
        raise RecipeError(f"{job.verb} has no loss knobs; settings of TRL's configuration go with --set NAME=VALUE")


def _reference(job: Job, mix: Mix) -> str:
    """Return who tells what the reference says."""
    if "reference" not in mix.needs:
        return ""
    live = bool(mix.needs & {"divergence", "noisy"}) or bool(mix.native)
    chosen = job.reference or (("adapter" if job.lora else "resident") if live else "precomputed")
    if chosen not in REFERENCES:
        raise RecipeError(f"no reference {chosen!r}{nearest(chosen, REFERENCES)}")
    if chosen == "precomputed" and live:
        raise SetupError(f"loss {mix} compares with the reference's every choice: --reference adapter or resident")
    if chosen == "adapter" and not job.lora:
        raise SetupError(
            "--reference adapter needs --lora: without an adapter to switch off the policy is no reference"
        )
    return chosen


def _policy_warning(checked: Checked, opened: Opened) -> str:
    """Say so when the answers of preference data are not the trained model's own (SeVa and its kin are on-policy)."""
    others = sorted(p for p in checked.rows.policies if not same_model(p, opened.identity))
    if not others:
        return ""
    return f"the answers are of {', '.join(others)}, not of {opened.identity}: off-policy pairs teach less"


def same_model(one: str, other: str) -> bool:
    """Whether two identities name one model: the same, or the same last part of a path."""

    def short(name: str) -> str:
        return name.removeprefix("hf:").rstrip("/").rsplit("/", 1)[-1]

    return short(one) == short(other) or short(one).split("@")[0] == short(other)


# --- the card --------------------------------------------------------------------------------------------------------


def _key(job: Job, checked: Checked) -> str:
    """Return a digest of what decides the weights, so that a killed job is continued and another is not."""
    told = {k: v for k, v in asdict(job).items() if k not in ("out", "data", "held_out", "merge", "save_every")}
    data = [checked.rows.digest, checked.auxiliary.digest if checked.auxiliary else ""]
    return digest(orjson.dumps(told, option=orjson.OPT_SORT_KEYS), *data)


def _about(job: Job, checked: Checked, opened: Opened, key: str) -> dict[str, Any]:
    rows = checked.rows
    data = {"path": job.data, "digest": rows.digest, "rows": len(rows), "left_out": dict(rows.left_out)}
    others = {"auxiliary": checked.auxiliary, "held_out": checked.held_out}
    return {
        "key": key,
        "verb": job.verb,
        "model": {"named": job.model, "identity": opened.identity},
        "data": {**data, "policies": sorted(rows.policies)},
        **{name: {"path": getattr(job, name), "digest": some.digest, "rows": len(some)}
           for name, some in others.items() if some},
        "loss": str(checked.mix) if checked.mix else job.loss,
        "reference": checked.reference,
        "settings": json.loads(orjson.dumps(asdict(job))),
        "command": shlex.join(["foveal", *sys.argv[1:]]),
        "seed": job.seed,
        "versions": {"foveal": __version__, "python": platform.python_version()}
        | {p: importlib.metadata.version(p) for p in ("torch", *LIBRARIES)},
    }  # fmt: skip


def last_checkpoint(out: Path) -> Path | None:
    """Return the newest whole checkpoint: a process killed while writing one leaves one without its last file."""
    found = sorted(out.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]), reverse=True)
    return next((p for p in found if _whole(p)), None)


def _whole(checkpoint: Path) -> bool:
    try:
        orjson.loads((checkpoint / "trainer_state.json").read_bytes())
    except (OSError, ValueError):
        return False
    return True
