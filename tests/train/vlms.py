"""Three tiny vision-language models of random weights, and what a trainer reads from them."""

from __future__ import annotations

import copy

import torch
from transformers import (
    CLIPVisionConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

WORDS, IMAGE, PLACES = 40, 39, 4
"""Vocabulary, the token that stands for a picture, and how many of them a picture of 28 pixels takes."""

TEXT = {
    "vocab_size": WORDS, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2,
}  # fmt: skip
EYE = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


def _llava():
    vision = CLIPVisionConfig(**EYE, image_size=28, patch_size=14)
    return LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=vision, text_config=LlamaConfig(**TEXT), image_token_index=IMAGE, image_seq_length=PLACES
        )
    )


def _internvl():
    vision = {**EYE, "image_size": [28, 28], "patch_size": [7, 7]}
    config = InternVLConfig(
        vision_config=vision, text_config={"model_type": "llama", **TEXT}, image_token_id=IMAGE, downsample_ratio=0.5
    )
    return InternVLForConditionalGeneration(config)


def _qwen2vl():
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    text = {**TEXT, "rope_parameters": rope}
    vision = {"depth": 2, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "mlp_ratio": 1, "patch_size": 7}
    return Qwen2VLForConditionalGeneration(
        Qwen2VLConfig(
            text_config=text,
            vision_config=vision,
            image_token_id=IMAGE,
            vision_start_token_id=37,
            vision_end_token_id=38,
        )
    )


MAKERS = {"llava": _llava, "internvl": _internvl, "qwen2vl": _qwen2vl}


def make(name: str, seed: int = 0):
    """A tiny model of this family that has opinions, and a frozen reference with somewhat other ones."""
    torch.manual_seed(seed)
    model = MAKERS[name]().eval()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(20)
    reference = copy.deepcopy(model)
    with torch.no_grad():
        for p in reference.parameters():
            p.add_(0.1 * p.std() * torch.randn_like(p) if p.numel() > 1 else 0.0)
    return model, reference.requires_grad_(False)


def pictures(count: int, seed: int):
    """Random pictures, (count, 3, 28, 28)."""
    return torch.randn(count, 3, 28, 28, generator=torch.Generator().manual_seed(seed))


def _seen(model, seen):
    """Pictures in the shape of the family: Qwen2-VL takes flat patches with their grid."""
    if model.config.model_type != "qwen2_vl":
        return {"pixel_values": seen}
    side, frames = 28 // 7, 2
    blocks = seen.reshape(len(seen), 3, side // 2, 2, 7, side // 2, 2, 7).permute(0, 2, 5, 3, 6, 1, 4, 7)
    flat = blocks.reshape(len(seen) * side * side, 3, 1, 7, 7).expand(-1, -1, frames, -1, -1)
    return {
        "pixel_values": flat.reshape(len(seen) * side * side, -1),
        "image_grid_thw": torch.tensor([[1, side, side]] * len(seen)),
    }


def logits(model, seen, answers, length=None):
    """Read answers (lists of tokens) about pictures: logits (N, T, V), tokens (N, T) and mask (N, T)."""
    length = length or max(map(len, answers))
    prompt = [2, 37, *[IMAGE] * PLACES, 38, 3]
    ids = torch.tensor([prompt + a + [0] * (length - len(a)) for a in answers])
    attention = torch.tensor([[1] * (len(prompt) + len(a)) + [0] * (length - len(a)) for a in answers])
    more = {"mm_token_type_ids": (ids == IMAGE).int()} if model.config.model_type == "qwen2_vl" else {}
    out = model(input_ids=ids, attention_mask=attention, **_seen(model, seen), **more).logits
    said = ids[:, len(prompt) :]
    return out[:, len(prompt) - 1 : -1], said, attention[:, len(prompt) :]


def logps(model, seen, answers, length=None):
    """Read answers: log-probabilities (N, T) of their tokens, and mask (N, T)."""
    out, said, mask = logits(model, seen, answers, length)
    return out.log_softmax(-1).gather(-1, said[..., None])[..., 0], mask
