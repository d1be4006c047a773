"""Answers as a model reads them: every prompt with its pictures encoded once, however many answers continue it.

TRL encodes a row's pictures for each side and knows one list of pictures a row. Here a batch is a list of *contexts*,
each a prompt with its pictures, and of *answers*, each continuing one context: k rejected answers share a context with
the chosen one, and the other side of an image contrast is a context of its own. The vision tower runs once a context.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from trl.data_utils import apply_chat_template
from trl.trainer.utils import selective_log_softmax

from foveal.errors import ModelSetupError, SetupError
from foveal.picture import decode

Reading = dict[str, Any]
"""A batch for `read`: "tokens" (input_ids, attention_mask, ...), each (S, L); "images" (the processor's others, one
set for the contexts); "context" (S,), "images_of" (contexts,), "prompt" (S,) and "answer" (S,) lengths in tokens."""


@dataclass
class Answer:
    """One answer to be read: the index of its context, and its text as the chat template closes it."""

    context: int
    text: str


@dataclass
class Collector:
    """Gathers the contexts and answers of a batch.

    Args:
        processor: of the model.
        longest: tokens of prompt and answer together after which an answer is cut; None for no limit.
        apart: give every answer a context of its own, as TRL does: for measuring what sharing them saves.
    """

    processor: Any
    longest: int | None = None
    apart: bool = False
    contexts: dict[tuple[str, tuple[str, ...], int], int] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)

    def add(self, images: Sequence[str], prompt: Sequence[Mapping[str, Any]], answer: str) -> str:
        """Add an answer to a prompt about some pictures (paths); returns its text as the template closes it."""
        said = [{"role": "assistant", "content": [{"type": "text", "text": answer}]}]
        text = apply_chat_template({"prompt": list(prompt), "completion": said}, self.processor)
        own = len(self.answers) if self.apart else 0
        at = self.contexts.setdefault((text["prompt"], tuple(images), own), len(self.contexts))
        self.answers.append(Answer(at, text["completion"]))
        return str(text["completion"])

    def reading(self) -> Reading:
        """Return the batch.

        Raises:
            SetupError: the length limit leaves no room for an answer.
        """
        tokenizer = self.processor.tokenizer
        ends = tokenizer([a.text for a in self.answers], add_special_tokens=False)["input_ids"]
        prompts, per_token, images = self._prompts()
        starts = [prompts[a.context] for a in self.answers]
        ends = [e[: max(0, self.longest - len(s))] if self.longest else e for s, e in zip(starts, ends, strict=True)]
        if not all(ends):
            longest = max(map(len, prompts))
            raise SetupError(
                f"a prompt has {longest} tokens, so --max-length {self.longest} leaves no room for its answer"
            )
        rows = [s + e for s, e in zip(starts, ends, strict=True)]
        tokens = {
            "input_ids": _padded(rows, tokenizer.pad_token_id),
            "attention_mask": _padded([[1] * len(r) for r in rows]),
        }
        for name, values in per_token.items():  # kinds of tokens: those of an answer are text, 0
            tokens[name] = _padded([values[a.context] + [0] * len(e) for a, e in zip(self.answers, ends, strict=True)])
        return {
            "tokens": tokens,
            "images": images,
            "context": torch.tensor([a.context for a in self.answers]),
            "images_of": torch.tensor([len(paths) for _, paths, _ in self.contexts]),
            "prompt": torch.tensor([len(s) for s in starts]),
            "answer": torch.tensor([len(e) for e in ends]),
        }

    def _prompts(self) -> tuple[list[list[int]], dict[str, list[list[int]]], dict[str, Any]]:
        """Return each context's ids and kinds of tokens, and the tensors of all pictures."""
        texts = [text for text, _, _ in self.contexts]
        shown = [[_open(p) for p in paths] for _, paths, _ in self.contexts]
        out = dict(
            self.processor(
                images=shown if any(shown) else None, text=texts, padding=True, padding_side="right",
                return_tensors="pt", add_special_tokens=False,
            )
        )  # fmt: skip
        ids, mask = out.pop("input_ids"), out.pop("attention_mask").bool()
        kinds = [n for n, v in out.items() if isinstance(v, Tensor) and v.shape == ids.shape and "type_ids" in n]
        per_token = {n: [row[m].tolist() for row, m in zip(out.pop(n), mask, strict=True)] for n in kinds}
        return [row[m].tolist() for row, m in zip(ids, mask, strict=True)], per_token, out


def _open(path: str) -> Any:
    return decode(Path(path).read_bytes())


def _padded(rows: Sequence[Sequence[int]], value: int = 0) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(r) for r in rows], batch_first=True, padding_value=value)


# --- through a model -------------------------------------------------------------------------------------------------


@dataclass
class Read:
    """What a model says of S answers, aligned at their first token.

    Attributes:
        logps: (S, T) log-probability of each token.
        mask: (S, T) 1 on the answer's tokens.
        logits: (S, T, V), kept only where asked for.
    """

    logps: Tensor
    mask: Tensor
    logits: Tensor | None = None


def read(model: Any, reading: Reading, logits: bool = False) -> Read:
    """Read a batch of answers with one forward pass in which every context's pictures are encoded once.

    Args:
        model: a transformers image-text-to-text model, wrapped or not.
        reading: from `Collector.reading`, on the model's device.
        logits: keep the logits too.

    Raises:
        ModelSetupError: the model does not encode pictures in a way that can be shared.
    """
    tokens, prompt, answer = reading["tokens"], reading["prompt"], reading["answer"]
    ids = tokens["input_ids"]
    start = int(prompt.min())
    keep = {"logits_to_keep": ids.shape[1] - start + 1} if _takes(model, "logits_to_keep") else {}
    with _shared(model, reading) as images:
        out = model(**tokens, **images, **keep, use_cache=False).logits
    said = out[:, -(ids.shape[1] - start + 1) : -1].float()  # what was expected at tokens start, start + 1, ...
    logps = selective_log_softmax(said, ids[:, start:])
    places = torch.arange(int(answer.max()), device=ids.device)
    mask = (places < answer[:, None]).long()
    at = (prompt[:, None] - start + places).clamp(max=said.shape[1] - 1)
    kept = said.gather(1, at[..., None].expand(-1, -1, said.shape[-1])) if logits else None
    return Read(logps.gather(1, at), mask, kept)


def _takes(model: Any, name: str) -> bool:
    """Whether the innermost model's forward has a parameter."""
    while hasattr(model, "module"):  # as distributed training wraps it
        model = model.module
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return name in inspect.signature(base.forward).parameters


@contextmanager
def _shared(model: Any, reading: Reading) -> Iterator[Mapping[str, Any]]:
    """Let the model encode the pictures of every context once and give them to each of its answers.

    The features are repeated inside the forward pass, not computed before it: wrappers that gather weights or gradients
    around `forward` see every use of a weight.

    Yields:
        The picture arguments of `forward`, repeated for every answer where positions are computed from them.
    """
    once: Mapping[str, Any] = reading["images"]
    if not once:
        yield once
        return
    home = _encoder(model)
    encode = home.get_image_features
    home.get_image_features = _repeating(encode, once, _tokens_of(model, reading), reading["context"].tolist())
    try:
        yield {name: _repeated(name, value, reading) for name, value in once.items()}
    finally:
        del home.get_image_features  # the class's own shows again


def _encoder(model: Any) -> Any:
    homes = [m for m in model.modules() if hasattr(type(m), "get_image_features")]
    if not homes:
        raise ModelSetupError(
            f"{type(model).__name__} has no get_image_features: its pictures cannot be encoded once a group"
        )
    return homes[-1]


def _tokens_of(model: Any, reading: Reading) -> list[int]:
    """Return how many picture tokens each context has."""
    ids, context = reading["tokens"]["input_ids"], reading["context"].tolist()
    count = (ids == model.config.image_token_id).sum(1).tolist()
    by = dict(zip(context, count, strict=True))
    return [by.get(c, 0) for c in range(len(reading["images_of"]))]


def _repeating(
    encode: Callable[..., Any], once: Mapping[str, Any], tokens: Sequence[int], context: Sequence[int]
) -> Callable[..., Any]:
    signature = inspect.signature(encode)

    def features(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        inner = given.pop("kwargs", {})
        out = encode(**{n: once.get(n, v) for n, v in {**given, **inner}.items()})
        out.pooler_output = _spread(out.pooler_output, tokens, context)
        if getattr(out, "deepstack_features", None) is not None:
            out.deepstack_features = [_spread(f, tokens, context) for f in out.deepstack_features]
        return out

    return features


def _spread(found: Any, tokens: Sequence[int], context: Sequence[int]) -> Any:
    """Return features of all contexts as features of all answers, flat, in the kind of container they came in."""
    listed = isinstance(found, list | tuple)
    flat = torch.cat([f.flatten(0, -2) for f in found]) if listed else found.flatten(0, -2)
    if len(flat) != sum(tokens):
        raise ModelSetupError(
            f"the model makes {len(flat)} picture tokens where the prompts have room for {sum(tokens)}"
        )
    parts = flat.split(list(tokens))
    spread = torch.cat([parts[c] for c in context])
    return (spread,) if listed else spread


def _repeated(name: str, value: Any, reading: Reading) -> Any:
    """Return an argument with one entry a picture (sizes, grids) with one for every answer's pictures; pixels stay."""
    images_of = reading["images_of"].tolist()
    if name == "pixel_values" or not isinstance(value, Tensor) or len(value) != sum(images_of):
        return value
    parts = value.split(images_of)
    return torch.cat([parts[c] for c in reading["context"].tolist()])
