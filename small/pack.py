"""Lessons into tensors: one row holds a picture and all its conversations, each of which sees only the picture and itself."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foveal.models.small.tokenizer import END, IMAGE, IMAGE_TOKENS, USER, Tokenizer
from foveal.scrapbook.scene import Scene
from tasks import Talk, lesson

LONGEST = 288
SPELLED = 0.12
"""Share of conversations whose prompts are read word by word, so that an edited prompt is not all new."""

DECIDING = {*"12345", "Yes", "No,"}
DECISIVE = 4.0
"""A score, or the Yes or No before a sentence, is one token but the whole point."""


@dataclass
class Batch:
    """Rows of token ids and what goes with them, as numpy arrays."""

    ids: np.ndarray
    positions: np.ndarray
    talk: np.ndarray
    sees: np.ndarray
    target: np.ndarray
    weight: np.ndarray


def tokens(talk: Talk, tokenizer: Tokenizer, spelled: bool) -> tuple[list[int], list[float]]:
    """Return a conversation's ids and, for each, its weight as a target. A talk with a picture leaves out its first header."""
    ids: list[int] = []
    weights: list[float] = []
    for n, turn in enumerate(talk.turns):
        head = [] if n == 0 and talk.image else tokenizer.head(turn.role)
        words = tokenizer.encode(turn.text, lines=not spelled)
        ids += [*head, *words, tokenizer.ids[END]]
        weights += [0.0] * len(head) + [
            turn.weight * (DECISIVE if turn.text[:3] in DECIDING and turn.role == "assistant" else 1)
        ]
        weights += [turn.weight] * len(words)
    return ids, weights


def row(scene: Scene, rng: random.Random, nouns: Sequence[str], tokenizer: Tokenizer) -> list[np.ndarray]:
    """Return one scene's row: ids, positions, talk numbers, whether each sees the picture, targets, weights."""
    talks = lesson(scene, rng, nouns)
    start = 1 + IMAGE_TOKENS
    ids = [tokenizer.ids[USER], *[tokenizer.ids[IMAGE]] * IMAGE_TOKENS]
    positions, number, sees = list(range(start)), [0] * start, [1] * start
    target, weight = [0] * start, [0.0] * start
    first, *others = talks
    rng.shuffle(others)
    for n, talk in enumerate([first, *others], 1):
        words, weights = tokens(talk, tokenizer, rng.random() < SPELLED)
        if len(ids) + len(words) > LONGEST:
            continue
        if n == 1:  # the first word of the model's own user turn follows the picture
            target[-1], weight[-1] = words[0], weights[0]
        begin = start if talk.image else 0
        ids += words
        positions += range(begin, begin + len(words))
        number += [n] * len(words)
        sees += [int(talk.image)] * len(words)
        target += [*words[1:], 0]
        weight += [*weights[1:], 0.0]
    return [np.array(x) for x in (ids, positions, number, sees, target, weight)]


def batch(scenes: Sequence[Scene], seed: int, nouns: Sequence[str], tokenizer: Tokenizer) -> Batch:
    """Return the batch of some scenes; the seed draws the lessons."""
    rows = [row(scene, random.Random(f"{seed}/{scene.seed}"), nouns, tokenizer) for scene in scenes]
    longest = -(-max(len(r[0]) for r in rows) // 8) * 8
    padded = []
    for k, fill in enumerate((0, 0, -1, 0, 0, 0.0)):
        out = np.full((len(rows), longest), fill, np.float32 if k == 5 else np.int64)
        for i, r in enumerate(rows):
            out[i, : len(r[k])] = r[k]
        padded.append(out)
    return Batch(*padded)
