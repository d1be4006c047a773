"""Vision-language models of random weights and three architectures, made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.models.tiny import SPECIAL, TEMPLATE

SIDE = 28
NAMES = ("llava", "internvl", "qwen2_vl")


def make(name: str) -> tuple[Any, Any]:
    """Return a model and its processor; the same seed, so the same weights."""
    import torch

    torch.manual_seed(0)
    model, processor = {"llava": _llava, "internvl": _internvl, "qwen2_vl": _qwen}[name]()
    model.generation_config.eos_token_id = 2
    return model.eval(), processor


def saved(name: str, folder: Path) -> Path:
    """Write a model as `from_pretrained` reads it (not qwen2_vl: its own processor wants torchvision)."""
    model, processor = make(name)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _tokenizer(more: tuple[str, ...] = ()) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = [*SPECIAL, *more]
    vocabulary = {t: i for i, t in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    raw = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", unk_token="<unk>", eos_token="<|end|>",
        additional_special_tokens=special[3:],
    )  # fmt: skip


SMALL = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def _text(vocabulary: int) -> dict[str, Any]:
    ids = {"bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0}
    return {**SMALL, "vocab_size": vocabulary, "num_key_value_heads": 2, "max_position_embeddings": 512, **ids}


def _processor(tokenizer: Any, pictures: Any, **more: Any) -> Any:
    from transformers import LlavaProcessor

    return LlavaProcessor(pictures, tokenizer, chat_template=TEMPLATE, image_token="<image>", **more)


def _llava() -> tuple[Any, Any]:
    from transformers import CLIPImageProcessorPil, CLIPVisionConfig, LlamaConfig, LlavaConfig
    from transformers import LlavaForConditionalGeneration as Model

    tokenizer = _tokenizer()
    vision = CLIPVisionConfig(**SMALL, image_size=SIDE, patch_size=14)
    config = LlavaConfig(
        vision_config=vision, text_config=LlamaConfig(**_text(len(tokenizer))), image_token_index=6, image_seq_length=4,
        vision_feature_select_strategy="default",
    )  # fmt: skip
    pictures = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    more = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    return Model(config), _processor(tokenizer, pictures, **more)


def _internvl() -> tuple[Any, Any]:
    from transformers import BitImageProcessorPil, InternVLConfig, InternVLVisionConfig, LlamaConfig
    from transformers import InternVLForConditionalGeneration as Model

    tokenizer = _tokenizer()
    vision = InternVLVisionConfig(**SMALL, image_size=[2 * SIDE, 2 * SIDE], patch_size=[14, 14], use_mean_pooling=False)
    config = InternVLConfig(
        vision_config=vision, text_config=LlamaConfig(**_text(len(tokenizer))), image_token_id=6, image_seq_length=4,
        downsample_ratio=0.5, vision_feature_layer=-1, vision_feature_select_strategy="default",
    )  # fmt: skip
    pictures = BitImageProcessorPil(
        size={"height": 2 * SIDE, "width": 2 * SIDE}, do_center_crop=False, do_convert_rgb=True
    )
    return Model(config), _processor(tokenizer, pictures, patch_size=SIDE, vision_feature_select_strategy="full")


def _qwen() -> tuple[Any, Any]:
    from transformers import ProcessorMixin, Qwen2VLConfig, Qwen2VLImageProcessorPil, Qwen2VLProcessor
    from transformers import Qwen2VLForConditionalGeneration as Model

    class Pictures(Qwen2VLProcessor):
        """Without the video processor, which wants torchvision."""

        def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: Any = None) -> None:
            self.image_token, self.video_token = "<image>", "<video>"
            self.image_token_id, self.video_token_id = 6, 7
            ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)

    tokenizer = _tokenizer(("<video>",))
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 1, "patch_size": 14}
    text = {
        **_text(len(tokenizer)),
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4},
    }
    config = Qwen2VLConfig(vision_config=vision, text_config=text, image_token_id=6, video_token_id=7)
    pictures = Qwen2VLImageProcessorPil(min_pixels=56 * 56, max_pixels=84 * 84)
    return Model(config), Pictures(pictures, tokenizer, chat_template=TEMPLATE)
