"""The embedded model as a standard transformers model, and back: InternVL with a Llama decoder.

Why InternVL and not Llava: Llava hands every patch to the decoder; InternVL's pixel shuffle joins squares of them,
which is what this model was trained with. InternVL's own vision transformer has DINOv2's architecture under other
names, so the tower's weights fit into it as they are, with the position grid interpolated once.
"""

from __future__ import annotations

import json
import math
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BitImageProcessor,
    Dinov2Model,
    GenerationConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    LlamaConfig,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)  # fmt: skip

from foveal.errors import MissingExtra, SetupError
from foveal.models.small.decoder import read_safetensors
from foveal.models.small.tokenizer import ASSISTANT, END, IMAGE, IMAGE_TOKENS, PAD, SYSTEM, USER
from foveal.models.small.tower import MEAN, PATCHES, SIDE, STD, WIDTH, tower_file

LIGHT = "small"
"""The folder, inside a trained model's, that `small:<folder>` opens."""

TEMPLATE = (
    "{% for m in messages %}{{ {'system': '"
    + SYSTEM
    + "', 'user': '"
    + USER
    + "', 'assistant': '"
    + ASSISTANT
    + "'}[m['role']] }}"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}"
    + IMAGE
    + "{% elif p['type'] == 'text' %}{{ p['text'] }}{% endif %}{% endfor %}{% endif %}"
    + END
    + "{% endfor %}{% if add_generation_prompt %}"
    + ASSISTANT
    + "{% endif %}"
)
PATCH = SIDE // math.isqrt(PATCHES)
"""Pixels along a patch."""


def packaged() -> Path:
    """Return the folder of the weights that ship with foveal."""
    return Path(str(resources.files("foveal.models.small")))


def configuration(shape: dict[str, Any], tokens: PreTrainedTokenizerFast) -> InternVLConfig:
    """Return the configuration of the whole model; `shape`, the weights' own note of it, is kept in it."""
    heads = int(shape["heads"])
    text = LlamaConfig(
        vocab_size=int(shape["vocabulary"]), hidden_size=int(shape["width"]), num_hidden_layers=int(shape["layers"]),
        num_attention_heads=heads, num_key_value_heads=int(shape.get("kv_heads", heads)),
        intermediate_size=int(shape["inner"]),
        rms_norm_eps=shape["eps"], rope_theta=shape["theta"], max_position_embeddings=1024, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=tokens.eos_token_id, pad_token_id=tokens.pad_token_id,
    )  # fmt: skip
    vision = InternVLVisionConfig(
        hidden_size=WIDTH, num_hidden_layers=12, num_attention_heads=6, intermediate_size=4 * WIDTH,
        image_size=[SIDE, SIDE], patch_size=[PATCH, PATCH],
        attention_bias=True, norm_type="layer_norm", layer_norm_eps=1e-6,
        use_absolute_position_embeddings=True, use_mask_token=False,
        use_mean_pooling=False, hidden_act="gelu",
    )  # fmt: skip
    return InternVLConfig(
        vision_config=vision, text_config=text, image_token_id=tokens.convert_tokens_to_ids(IMAGE),
        downsample_ratio=math.sqrt(IMAGE_TOKENS / PATCHES), projector_hidden_act="gelu",
        vision_feature_layer=-1, vision_feature_select_strategy="default", image_seq_length=IMAGE_TOKENS,
        tie_word_embeddings=True, foveal_small=shape,
    )  # fmt: skip


NAMES = {
    "norm1": "layernorm_before", "norm2": "layernorm_after", "layer_scale1.lambda1": "lambda_1",
    "layer_scale2.lambda1": "lambda_2",
    "attention.o_proj": "attention.projection_layer",
}  # fmt: skip
"""DINOv2's names and InternVL's for the same weights."""


def tower_state(tower: Dinov2Model) -> dict[str, torch.Tensor]:
    """Return the tower's weights under InternVL's names."""
    state = {}
    for name, weight in tower.state_dict().items():
        for old, new in NAMES.items():
            name = name.replace(old, new)
        state[name] = weight
    del state["embeddings.mask_token"]
    with torch.inference_mode():
        hidden = torch.zeros(1, 1 + PATCHES, WIDTH)
        state["embeddings.position_embeddings"] = tower.embeddings.interpolate_pos_encoding(hidden, SIDE, SIDE).clone()
    return state


def model(folder: Path) -> InternVLForConditionalGeneration:
    """Return the model with the weights of a folder (`packaged()`, or one that `to_light` wrote) and the tower.

    Raises:
        SetupError: the folder holds no such weights, or the tower could not be fetched.
        MissingExtra: onnx is not there to read the tower with.
    """
    if not (folder / "model.safetensors").is_file():
        raise SetupError(f"{folder} holds no weights of the embedded model (model.safetensors, tokenizer.json)")
    weights, shape = read_safetensors(folder / "model.safetensors")
    made = InternVLForConditionalGeneration(configuration(shape, tokenizer(folder)))
    state = {f"model.vision_tower.{n}": w for n, w in tower_state(_tower()).items()}
    for name, weight in weights.items():
        home = "multi_modal_projector" if name.startswith("projector.") else "language_model"
        state[f"model.{home}.{name.removeprefix('projector.')}"] = torch.from_numpy(weight.copy())
    state["lm_head.weight"] = state["model.language_model.embed_tokens.weight"]
    made.load_state_dict(state)
    text = made.config.text_config
    made.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=128, eos_token_id=text.eos_token_id, pad_token_id=text.pad_token_id
    )
    return made.eval()


def _tower() -> Dinov2Model:
    try:
        from foveal.train.tower import load_tower
    except ImportError as error:
        raise MissingExtra("training the embedded model", "train") from error
    return load_tower(tower_file())


def to_light(trained: Any, tokens: Path, out: Path) -> Path:
    """Write a trained model in the form that foveal's own runtime opens as `small:<folder>`; returns the folder.

    The tower is not written: the runtime runs it as it was published, so it must not have been trained.

    Args:
        trained: an InternVLForConditionalGeneration that `model` made, adapters merged.
        tokens: the folder of its tokenizer.json.
        out: where to.
    """
    from safetensors.torch import save_file

    weights = {}
    for name, weight in trained.state_dict().items():
        _, home, *rest = name.split(".")
        if home in ("language_model", "multi_modal_projector"):
            prefix = "projector." if home == "multi_modal_projector" else ""
            weights[prefix + ".".join(rest)] = weight.detach().float().contiguous().cpu().clone()
    out.mkdir(parents=True, exist_ok=True)
    shape = json.dumps(trained.config.foveal_small)
    save_file(weights, out / "model.safetensors.part", metadata={"shape": shape, "format": "pt"})
    (out / "model.safetensors.part").replace(out / "model.safetensors")
    if tokens.resolve() != out.resolve():
        shutil.copyfile(tokens / "tokenizer.json", out / "tokenizer.json")
    return out


def tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Return the tokenizer as transformers' own."""
    return PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        pad_token=PAD,
        eos_token=END,
        extra_special_tokens=[SYSTEM, USER, ASSISTANT, IMAGE],
    )


def processor(folder: Path) -> LlavaProcessor:
    """Return the processor: squeezed to a square, not cropped; one image token for each square of joined patches."""
    pictures = BitImageProcessor(
        size={"height": SIDE, "width": SIDE},
        do_center_crop=False,
        resample=3,
        image_mean=MEAN.tolist(),
        image_std=STD.tolist(),
        do_convert_rgb=True,
    )
    return LlavaProcessor(
        pictures,
        tokenizer(folder),
        patch_size=SIDE // math.isqrt(IMAGE_TOKENS),
        vision_feature_select_strategy="full",
        chat_template=TEMPLATE,
    )
