"""Train the byte-level BPE on the lessons' own words, with the lines of foveal's prompts as tokens of their own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from foveal.methods.oasis.method import P
from foveal.models.small.tokenizer import SPECIALS, WORDS
from foveal.scrapbook.truth import plural


def prompt_lines() -> list[str]:
    """Return the fixed lines of foveal's Oasis prompts, with the line breaks around them."""
    lines: set[str] = set()
    for name in P.names():
        for fixed in re.split(r"\{[{%].*?[%}]\}", P.text(name).strip()):
            lines |= {line for line in re.findall(r"\n*[^\n]+\n*", fixed) if len(line.strip()) >= 5}
    return sorted(lines)


def train(texts: Iterable[str], path: Path, size: int = 2048) -> None:
    """Write `tokenizer.json`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    lines = prompt_lines()
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(lines), special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False, min_frequency=4,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(line, normalized=False, special=False) for line in lines])
    tokenizer.save(str(path))


def corpus(texts: Iterable[str], nouns: Iterable[str]) -> list[str]:
    """Return texts without the prompts' fixed lines, those lines a few times so that they can be spelled, and nouns."""
    lines = prompt_lines()
    known = re.compile("|".join(re.escape(line) for line in sorted(lines, key=len, reverse=True)))
    return [known.sub("\n", text) for text in texts] + lines * 60 + [f" {noun} {plural(noun)}" for noun in nouns] * 60
