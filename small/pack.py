"""Lessons into tensors: a row holds a picture and its conversations, each of which sees the picture and itself."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from foveal.models.small.tokenizer import END, IMAGE, IMAGE_TOKENS, USER, Tokenizer
from foveal.scrapbook.colours import COLOURS
from foveal.scrapbook.scene import Scene
from foveal.scrapbook.truth import NUMBERS, capital, plural
from tasks import Talk, lesson

LONGEST = 304
SPELLED = 0.12
"""Share of conversations whose prompts are read word by word, so that an edited prompt is not all new."""

DECIDING = {*"12345", "Yes", "No,"}
DECISIVE = 4.0
"""A score, or the Yes or No before a sentence, is one token but the whole point."""
TELLING = 3.0
"""So is a noun, a number, a colour or a place beside the words around it."""
TOLD = {*COLOURS, *NUMBERS, "left", "right", "top", "bottom", "middle", "above", "below"}


@lru_cache(maxsize=4)
def telling(tokenizer: Tokenizer, nouns: tuple[str, ...]) -> np.ndarray:
    """Return how much each token weighs in an answer."""
    weights = np.ones(tokenizer.size)
    for word in {*TOLD, *nouns, *map(plural, nouns)}:
        for form in (" " + word, capital(word)):
            if len(ids := tokenizer.encode(form)) == 1:
                weights[ids[0]] = TELLING
    return weights


@dataclass
class Batch:
    """Rows of token ids and what goes with them, as numpy arrays."""

    ids: np.ndarray
    positions: np.ndarray
    talk: np.ndarray
    sees: np.ndarray
    target: np.ndarray
    weight: np.ndarray


def tokens(talk: Talk, tokenizer: Tokenizer, weighs: np.ndarray, spelled: bool) -> tuple[list[int], list[float]]:
    """Return a conversation's ids and their weights as targets. A talk with a picture leaves out its first header."""
    ids: list[int] = []
    weights: list[float] = []
    for n, turn in enumerate(talk.turns):
        head = [] if n == 0 and talk.image else tokenizer.head(turn.role)
        words = tokenizer.encode(turn.text, lines=not spelled)
        each = turn.weight * weighs[words] if turn.role == "assistant" else np.full(len(words), turn.weight)
        if turn.role == "assistant" and turn.text[:3] in DECIDING:
            each[0] = turn.weight * DECISIVE
        ids += [*head, *words, tokenizer.ids[END]]
        weights += [0.0] * len(head) + [*each, turn.weight]
    return ids, weights


def row(scene: Scene, rng: random.Random, nouns: Sequence[str], tokenizer: Tokenizer) -> list[np.ndarray]:
    """Return one scene's row: ids, positions, talk numbers, whether each sees the picture, targets, weights."""
    weighs = telling(tokenizer, tuple(nouns))
    start = 1 + IMAGE_TOKENS
    ids = [tokenizer.ids[USER], *[tokenizer.ids[IMAGE]] * IMAGE_TOKENS]
    positions, number, sees = list(range(start)), [0] * start, [1] * start
    target, weight = [0] * start, [0.0] * start
    for n, talk in enumerate(lesson(scene, rng, nouns), 1):
        words, weights = tokens(talk, tokenizer, weighs, rng.random() < SPELLED)
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
