"""The model to train: opened, frozen where it is to stay, given an adapter, and saved."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.modeling_outputs import BaseModelOutputWithPooling

from foveal.errors import MissingExtra, ModelSetupError


@dataclass
class Opened:
    """A model to train.

    Attributes:
        model: with its adapter when it has one.
        processor: turns pictures and text into its inputs.
        identity: what it is, for the card: a name, or a path, with a digest or revision.
        light: the folder of the embedded model's weights that it was made from; None for any other model.
    """

    model: Any
    processor: Any
    identity: str
    light: Path | None = None


def open_model(named: str, *, lora: int = 0, alpha: int = 0, tower: bool = False, dtype: str = "auto") -> Opened:
    """Open a model for training.

    Args:
        named: "small", "small:<folder>", a path, a hub id; "hf:" before a path or id is allowed.
        lora: the rank of an adapter on the language model's linear layers (not its head); 0 trains all of it.
        alpha: the adapter's scale; 0 is twice the rank.
        tower: train the vision tower too.
        dtype: of the weights: "auto" is float32, which autocast needs on full training, or the name of another.

    Raises:
        ModelSetupError: transformers cannot load it, or it is no image-text-to-text model.
        MissingExtra: an adapter without peft.
    """
    kind, _, rest = named.partition(":")
    opened = _small(rest, tower) if kind == "small" else _hf(rest if kind == "hf" else named, dtype)
    tokenizer = opened.processor.tokenizer
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if not tower:
        for weight in tower_of(opened.model).parameters():
            weight.requires_grad_(False)
    if opened.light is not None:
        remember(tower_of(opened.model), known=_SEEN)
    if lora:
        opened.model = _adapted(opened.model, lora, alpha or 2 * lora)
    return opened


def _small(folder: str, tower: bool) -> Opened:
    try:
        from foveal.models.small import weights_in
        from foveal.train import small
    except ImportError as error:
        raise MissingExtra("the embedded model", "small,train") from error
    if tower:
        raise ModelSetupError(
            "the embedded model's vision tower is run as it was published: train it without --train-tower"
        )
    light = weights_in(Path(folder)) if folder else small.packaged()
    told = hashlib.sha256((light / "model.safetensors").read_bytes() + (light / "tokenizer.json").read_bytes())
    return Opened(small.model(light), small.processor(light), f"foveal-small@{told.hexdigest()[:12]}", light)


def _hf(path: str, dtype: str) -> Opened:
    kind = torch.float32 if dtype == "auto" else getattr(torch, dtype, None)
    if not isinstance(kind, torch.dtype):
        raise ModelSetupError(f"no kind of weights {dtype!r}; float32, bfloat16 or float16")
    try:
        processor = transformers.AutoProcessor.from_pretrained(path)
        model = transformers.AutoModelForImageTextToText.from_pretrained(path, dtype=kind)
    except (OSError, ValueError, KeyError, ImportError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelSetupError(f"transformers cannot load {path!r} for training: {first[:300]}") from error
    if not hasattr(processor, "tokenizer"):
        raise ModelSetupError(f"{path!r} has no processor for pictures: only a tokenizer was found")
    commit = getattr(model.config, "_commit_hash", None)
    return Opened(model, processor, f"{path}@{commit[:12]}" if commit else path)


def tower_of(model: Any) -> Any:
    """Return the vision tower.

    Raises:
        ModelSetupError: transformers does not know where this model has it.
    """
    tower = model.get_encoder(modality="image")
    if tower is model or tower is getattr(model, "base_model", None):
        raise ModelSetupError(f"{type(model).__name__}: no vision tower was found to freeze; add --train-tower")
    return tower


_SEEN: dict[bytes, Any] = {}
"""What the embedded model's tower said: it is always the published one, so trainings of one process share it."""


def remember(tower: Any, most: int = 2 << 30, known: dict[bytes, Any] | None = None) -> None:
    """Keep what a frozen tower says of each picture, for the next epoch, the other side, the reference.

    For towers that take one tensor a picture and are asked for their last hidden state alone, as the embedded model's.

    Args:
        tower: the frozen vision tower; its `forward` is replaced.
        most: bytes to keep at most; what comes after that is computed each time.
        known: what the same tower said before, and where it is kept; by default this training's own.
    """
    known = {} if known is None else known
    forward, size = tower.forward, sum(state.nbytes for state in known.values())

    def remembered(pixel_values: Any, **more: Any) -> Any:
        nonlocal size
        pictures = pixel_values.detach().float().cpu().contiguous().numpy()
        keys = [hashlib.blake2b(p.tobytes(), digest_size=16).digest() for p in pictures]
        fresh = list({key: at for at, key in enumerate(keys) if key not in known}.values())
        out = forward(pixel_values[fresh], **more) if fresh else None
        said = {keys[at]: state.detach() for at, state in zip(fresh, out.last_hidden_state, strict=True)} if out else {}
        rows = torch.stack([said[k] if k in said else known[k] for k in keys])
        for key, state in said.items():
            if size < most:
                known[key] = state.clone()
                size += state.nbytes
        return BaseModelOutputWithPooling(last_hidden_state=rows)

    tower.forward = remembered


def _adapted(model: Any, rank: int, alpha: int) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise MissingExtra("an adapter", "train") from error
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=_targets(model)))


def _targets(model: Any) -> str:
    """Return a pattern of the language model's linear layers, wherever this architecture keeps it."""
    decoder = model.get_decoder()
    where = next(name for name, module in model.named_modules() if module is decoder)
    leaves = {name.rsplit(".", 1)[-1] for name, m in decoder.named_modules() if isinstance(m, torch.nn.Linear)}
    return rf"{re.escape(where)}\..*\.({'|'.join(sorted(leaves))})"


def save(opened: Opened, out: Path, merge: bool = False) -> list[str]:
    """Write the trained model; returns what was written, for people.

    Args:
        opened: after training.
        out: where `from_pretrained` will find it.
        merge: melt an adapter into the weights; the embedded model's always is.
    """
    model = opened.model
    if hasattr(model, "merge_and_unload") and (merge or opened.light is not None):
        model = model.merge_and_unload()
    model.save_pretrained(out)
    opened.processor.save_pretrained(out)
    wrote = [f"{out}: the adapter" if hasattr(model, "peft_config") else f"{out}: the model (hf:{out})"]
    if opened.light is not None:
        from foveal.train.small import LIGHT, to_light

        to_light(model, opened.light, out / LIGHT)
        wrote.append(f"{out / LIGHT}: the same for foveal's own runtime (small:{out})")
    return wrote
