"""TRL's own collators and trainers on what foveal exports, with a tiny random LLaVA."""

from __future__ import annotations

import copy

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]
trl = pytest.importorskip("trl")
torch = pytest.importorskip("torch")

from foveal.data import export  # noqa: E402
from tests.consumers.samples import SIZE, chats, load_parquet, pairs, spoilt  # noqa: E402

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="module")
def processor():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import CLIPImageProcessor, LlavaProcessor, PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<pad>", "<eos>", "<image>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        ["a b"], trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", extra_special_tokens={"image_token": "<image>"}
    )
    pictures = CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    return LlavaProcessor(
        pictures, tokenizer, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )  # fmt: skip


@pytest.fixture(scope="module")
def model(processor):
    from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration, Qwen2Config

    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = CLIPVisionConfig(**small, image_size=SIZE, patch_size=8, projection_dim=32)
    text = Qwen2Config(**small, num_key_value_heads=2, vocab_size=len(processor.tokenizer), max_position_embeddings=512)
    image = processor.tokenizer.convert_tokens_to_ids("<image>")
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=image, vision_feature_layer=-1)
    return LlavaForConditionalGeneration(config)


def arguments(kind, folder, **more):
    length = {} if kind is trl.GRPOConfig else {"max_length": None}
    return kind(
        output_dir=str(folder), max_steps=2, per_device_train_batch_size=4, report_to="none", use_cpu=True, bf16=False,
        gradient_checkpointing=False, **length, save_strategy="no", logging_steps=1, disable_tqdm=True, **more,
    )  # fmt: skip


@pytest.mark.parametrize(("name", "table"), [("trl", "sft"), ("trl-completion", "completion")])
def test_sft(name, table, processor, model, tmp_path):
    export(chats(), name, tmp_path)
    data = load_parquet(tmp_path, table)
    config = arguments(trl.SFTConfig, tmp_path / "run")
    trainer = trl.SFTTrainer(model=copy.deepcopy(model), args=config, train_dataset=data, processing_class=processor)
    batch = trainer.data_collator([data[i] for i in range(4)])
    images = sum(len(data[i]["images"]) for i in range(4))
    assert batch["pixel_values"].shape == (images, 3, SIZE, SIZE)
    per_image = (SIZE // 8) ** 2
    image = processor.tokenizer.convert_tokens_to_ids("<image>")
    assert int((batch["input_ids"] == image).sum()) == images * per_image
    seen = processor.tokenizer.decode(batch["input_ids"][2][batch["attention_mask"][2].bool()])
    assert seen.replace("<image>" * per_image, "@").startswith("<|user|>Left @ right @ which?<|end|><|assistant|>")
    told = processor.tokenizer.decode(batch["labels"][2][batch["labels"][2] >= 0])
    assert told.startswith("The second" if name == "trl-completion" else "<|user|>Left")
    trainer.train()
    assert torch.isfinite(torch.tensor(trainer.state.log_history[0]["loss"]))


def test_dpo(processor, model, tmp_path):
    export(pairs(), "trl", tmp_path)
    data = load_parquet(tmp_path, "dpo")
    config = arguments(trl.DPOConfig, tmp_path / "run")
    trainer = trl.DPOTrainer(
        model=copy.deepcopy(model), ref_model=copy.deepcopy(model), args=config, train_dataset=data,
        processing_class=processor,
    )  # fmt: skip
    batch = trainer.data_collator([data[i] for i in range(2)])
    words = [
        processor.tokenizer.decode(row[mask.bool()])
        for row, mask in zip(batch["input_ids"], batch["completion_mask"], strict=True)
    ]
    assert [w.removesuffix("<|end|>") for w in words] == ["good 0", "good 1", "bad 0", "bad 1"]
    trainer.train()
    assert torch.isfinite(torch.tensor(trainer.state.log_history[0]["loss"]))


def test_dpo_shows_no_picture_that_no_turn_names(processor, model, tmp_path):
    export([spoilt()] * 4, "trl", tmp_path)
    data = load_parquet(tmp_path, "dpo")
    assert [len(images) for images in data["images"]] == [1] * 4
    config = arguments(trl.DPOConfig, tmp_path / "run")
    trainer = trl.DPOTrainer(
        model=copy.deepcopy(model), ref_model=copy.deepcopy(model), args=config, train_dataset=data,
        processing_class=processor,
    )  # fmt: skip
    trainer.train()
    assert torch.isfinite(torch.tensor(trainer.state.log_history[0]["loss"]))


def test_kto(processor, model, tmp_path):
    export(pairs(), "trl-kto", tmp_path)
    data = load_parquet(tmp_path, "kto")
    assert data["label"] == [True, False] * 6
    config = arguments(trl.KTOConfig, tmp_path / "run")
    trainer = trl.KTOTrainer(
        model=copy.deepcopy(model), ref_model=copy.deepcopy(model), args=config, train_dataset=data,
        processing_class=processor,
    )  # fmt: skip
    trainer.train()
    assert torch.isfinite(torch.tensor(trainer.state.log_history[0]["loss"]))


def test_grpo(processor, model, tmp_path):
    export(pairs(), "trl-grpo", tmp_path)
    data = load_parquet(tmp_path, "grpo")
    told = []

    def reward(prompts, completions, solution, **_):
        told.extend(solution)
        return [float(len(str(completion))) for completion in completions]

    config = arguments(trl.GRPOConfig, tmp_path / "run", num_generations=4, max_completion_length=4)
    config.max_steps = 1
    trainer = trl.GRPOTrainer(
        model=copy.deepcopy(model), reward_funcs=reward, args=config, train_dataset=data, processing_class=processor
    )
    trainer.train()
    assert set(told) <= {f"good {i}" for i in range(6)} and told
