"""Which words two answers differ in, and what a tokenizer's tokens weigh by it (DDPO, 2312.00849; CHiP, 2501.16629)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, TypeAlias

from foveal.errors import SetupError

if TYPE_CHECKING:
    from torch import Tensor

Span: TypeAlias = tuple[int, int]

GAMMA = 5.0
"""What a changed token counts for in the paper."""

# Scripts without spaces are compared letter by letter, the rest by word; marks stand alone.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0eff]|[^\W_]+(?:['’][^\W_]+)*|[^\s]")


def changed(chosen: str, rejected: str) -> tuple[list[Span], list[Span]]:
    """Return where each text has words that the other has not, as character spans, by a longest-matching word diff."""
    ours, theirs = (list(_WORD.finditer(text)) for text in (chosen, rejected))
    matcher = SequenceMatcher(None, [m[0] for m in ours], [m[0] for m in theirs], autojunk=False)
    first: list[Span] = []
    second: list[Span] = []
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind != "equal":
            first += [m.span() for m in ours[a:b]]
            second += [m.span() for m in theirs[c:d]]
    return first, second


def token_weights(offsets: Sequence[Span], spans: Sequence[Span], gamma: float = GAMMA) -> list[float]:
    """Return what each token counts for: `gamma` where it shares a character with a changed word, else 1.

    Args:
        offsets: where each token lies in the text, start and end; an empty one (a special token) counts 1.
        spans: where the changed words lie, as `changed` returns them.
        gamma: weight of a changed token.
    """
    return [
        gamma if start < end and any(start < last and first < end for first, last in spans) else 1.0
        for start, end in offsets
    ]


def weigh(tokenizer: Any, chosen: str, rejected: str, gamma: float = GAMMA) -> tuple[list[float], list[float]]:
    """Return the token weights of two answers, tokenised as trainers do: without special tokens added.

    Args:
        tokenizer: one that knows where its tokens lie (a fast tokenizer of transformers).
        chosen: the answer as it is tokenised, with what the chat template closes it with.
        rejected: likewise.
        gamma: weight of a changed token.

    Raises:
        SetupError: the tokenizer does not tell offsets.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise SetupError("token weights need a fast tokenizer: this one does not tell where its tokens lie in the text")
    sides = zip((chosen, rejected), changed(chosen, rejected), strict=True)
    return tuple(token_weights(_offsets(tokenizer, text), spans, gamma) for text, spans in sides)  # type: ignore[return-value]


def _offsets(tokenizer: Any, text: str) -> list[Span]:
    encoded = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
    return [(start, end) for start, end in encoded["offset_mapping"]]


def placed(weights: Sequence[Sequence[float]], mask: Tensor) -> Tensor:
    """Return (N, T): each answer's weights on its tokens, in order, 0 elsewhere. Weights of tokens cut off are dropped.

    Args:
        weights: of each answer, one a token.
        mask: (N, T) 1 on the answer's tokens, as a collator left them.

    Raises:
        SetupError: an answer has more tokens than weights: it was tokenised otherwise.
    """
    import torch

    out = torch.zeros(mask.shape, dtype=torch.float32, device=mask.device)
    for row, own in enumerate(weights):
        places = mask[row].nonzero(as_tuple=True)[0]
        if len(places) > len(own):
            raise SetupError(f"token weights: row {row} has {len(places)} answer tokens but {len(own)} weights")
        out[row, places] = torch.tensor(own[: len(places)], dtype=torch.float32, device=mask.device)
    return out
