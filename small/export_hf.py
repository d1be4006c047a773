"""Write the embedded model as a standard transformers model, for training: InternVL with a Llama decoder.

    python small/export_hf.py OUT        # then AutoModelForImageTextToText.from_pretrained(OUT), no remote code

Why InternVL and not Llava: Llava hands every patch to the decoder; InternVL's pixel shuffle joins 2 x 2 of them, which
is what this model was trained with (168 px, 144 patches, 36 image tokens). InternVL's own vision transformer has
DINOv2's architecture under other names, so the tower's weights fit into it as they are, with the position grid
interpolated once to 12 x 12.
"""

from __future__ import annotations

import argparse
from importlib import resources
from pathlib import Path

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

from foveal.models.small.decoder import read_safetensors
from foveal.models.small.tokenizer import ASSISTANT, END, IMAGE, PAD, SYSTEM, USER
from foveal.models.small.tower import MEAN, SIDE, STD, tower_file
from tower_torch import load_tower

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


def packaged() -> Path:
    """Return the folder of the weights that ship with foveal."""
    return Path(str(resources.files("foveal.models.small")))


def configuration(shape: dict[str, float], image_token: int) -> InternVLConfig:
    """Return the configuration of the whole model."""
    text = LlamaConfig(
        vocab_size=int(shape["vocabulary"]), hidden_size=int(shape["width"]), num_hidden_layers=int(shape["layers"]),
        num_attention_heads=int(shape["heads"]), num_key_value_heads=int(shape["heads"]),
        intermediate_size=int(shape["inner"]),
        rms_norm_eps=shape["eps"], rope_theta=shape["theta"], max_position_embeddings=1024, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=4, pad_token_id=0,
    )  # fmt: skip
    vision = InternVLVisionConfig(
        hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1536,
        image_size=[SIDE, SIDE], patch_size=[14, 14],
        attention_bias=True, norm_type="layer_norm", layer_norm_eps=1e-6,
        use_absolute_position_embeddings=True, use_mask_token=False,
        use_mean_pooling=False, hidden_act="gelu",
    )  # fmt: skip
    return InternVLConfig(
        vision_config=vision, text_config=text, image_token_id=image_token, downsample_ratio=0.5,
        projector_hidden_act="gelu",
        vision_feature_layer=-1, vision_feature_select_strategy="default", image_seq_length=36,
        tie_word_embeddings=True,
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
        hidden = torch.zeros(1, 1 + (SIDE // 14) ** 2, 384)
        state["embeddings.position_embeddings"] = tower.embeddings.interpolate_pos_encoding(hidden, SIDE, SIDE).clone()
    return state


def model(folder: Path, tower: Path) -> InternVLForConditionalGeneration:
    """Return the model with the weights of a folder and the tower of an ONNX file."""
    weights, shape = read_safetensors(folder / "model.safetensors")
    tokens = tokenizer(folder)
    made = InternVLForConditionalGeneration(configuration(shape, tokens.convert_tokens_to_ids(IMAGE)))
    state = {f"model.vision_tower.{n}": w for n, w in tower_state(load_tower(tower)).items()}
    for name, weight in weights.items():
        home = "multi_modal_projector" if name.startswith("projector.") else "language_model"
        state[f"model.{home}.{name.removeprefix('projector.')}"] = torch.from_numpy(weight.copy())
    state["lm_head.weight"] = state["model.language_model.embed_tokens.weight"]
    made.load_state_dict(state)
    return made.eval()


def tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Return the tokenizer as transformers' own."""
    return PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        pad_token=PAD,
        eos_token=END,
        extra_special_tokens=[SYSTEM, USER, ASSISTANT, IMAGE],
    )


def processor(folder: Path) -> LlavaProcessor:
    """Return the processor: 168 px without cropping, one image token for each 28 x 28 px."""
    pictures = BitImageProcessor(
        size={"height": SIDE, "width": SIDE},
        do_center_crop=False,
        resample=3,
        image_mean=MEAN.tolist(),
        image_std=STD.tolist(),
        do_convert_rgb=True,
    )
    return LlavaProcessor(
        pictures, tokenizer(folder), patch_size=28, vision_feature_select_strategy="full", chat_template=TEMPLATE
    )


def main() -> None:
    """Write model, processor and generation settings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", type=Path, default=packaged())
    args = parser.parse_args()
    made = model(args.weights, tower_file())
    made.generation_config = GenerationConfig(do_sample=False, max_new_tokens=128, eos_token_id=4, pad_token_id=0)
    made.save_pretrained(args.out)
    processor(args.weights).save_pretrained(args.out)


if __name__ == "__main__":
    main()
