"""What a model says of one answer, by one ordinary forward pass: what everything cleverer is held against."""

from __future__ import annotations

from pathlib import Path

from foveal.picture import decode


def photos(folder: Path) -> list[str]:
    """Three pictures of different sizes and colours."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for i, (size, colour) in enumerate([((56, 56), "red"), ((84, 56), "blue"), ((56, 84), "green")]):
        picture = Image.new("RGB", size, colour)
        picture.paste((250, 240, 10), (4 * i, 4, 20, 30))
        picture.save(folder / f"{i}.png")
    return [str(folder / f"{i}.png") for i in range(3)]


def prompt(text, images=1):
    """A question about some pictures, with words between them."""
    shown = [{"type": "image"}, {"type": "text", "text": "+"}] * images
    return [{"role": "user", "content": [*shown, {"type": "text", "text": text}]}]


def distribution(model, processor, images, messages, answer):
    """The log-probabilities (T, V) at each token of an answer as the template closes it, and the tokens (T,)."""
    import torch

    head = processor.apply_chat_template(messages, add_generation_prompt=True)
    tail = torch.tensor([processor.tokenizer(answer + "<|end|>", add_special_tokens=False)["input_ids"]])
    shown = [[decode(Path(p).read_bytes()) for p in images]] if images else None
    inputs = dict(processor(images=shown, text=[head], return_tensors="pt", add_special_tokens=False))
    start = inputs["input_ids"].shape[1]
    for name, value in inputs.items():
        if name == "input_ids":
            inputs[name] = torch.cat((value, tail), 1)
        elif value.ndim == 2 and value.shape[1] == start:
            inputs[name] = torch.cat((value, torch.full_like(tail, int(name == "attention_mask"))), 1)
    return model(**inputs).logits[0, start - 1 : -1].log_softmax(-1), tail[0]


def tokens(model, processor, images, messages, answer):
    """The log-probability of each token of an answer, (T,)."""
    said, tail = distribution(model, processor, images, messages, answer)
    return said.gather(1, tail[:, None])[:, 0]
