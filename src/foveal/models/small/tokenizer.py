"""The embedded model's tokenizer and chat template: byte-level BPE in plain Python, read from `tokenizer.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from foveal.models.wire import Message

WORDS = r" ?[A-Za-z]+| ?[0-9]| ?[^A-Za-z0-9 \n\t\r]+|[ \n\t\r]+"
"""How text is cut before merging; the training tokenizer uses the very same expression."""

PAD, SYSTEM, USER, ASSISTANT, END, IMAGE = "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<image>"
SPECIALS = (PAD, SYSTEM, USER, ASSISTANT, END, IMAGE)
HEADERS = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT}
IMAGE_TOKENS = 64


def byte_letters() -> list[str]:
    """Return the printable letter that stands for each byte, as GPT-2 chose them."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {b: chr(b) for b in printable}
    others = (b for b in range(256) if b not in letters)
    letters.update({b: chr(256 + i) for i, b in enumerate(others)})
    return [letters[b] for b in range(256)]


class Tokenizer:
    """Text to ids and back.

    Whole lines of foveal's own prompts are tokens too: they never change, so they need not be spelled out.
    """

    def __init__(self, path: Path) -> None:
        described = json.loads(path.read_text("utf-8"))
        self.vocabulary: dict[str, int] = described["model"]["vocab"]
        merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in described["model"]["merges"]]
        self._rank = {(left, right): i for i, (left, right) in enumerate(merges)}
        added = {t["content"]: int(t["id"]) for t in described["added_tokens"]}
        self.ids = {name: added[name] for name in SPECIALS}
        self._lines = {text: i for text, i in added.items() if text not in self.ids}
        self._whole = {i: text.encode() for text, i in self._lines.items()}
        self._special = {i: name.encode() for name, i in self.ids.items()}
        self._letters = byte_letters()
        self._bytes = {letter: byte for byte, letter in enumerate(self._letters)}
        self._pieces = {i: piece for piece, i in self.vocabulary.items()}
        self._split = re.compile("(" + "|".join(re.escape(t) for t in sorted(self._lines, key=len, reverse=True)) + ")")
        self._words = re.compile(WORDS)
        self._word = lru_cache(50_000)(self._merge)
        self.size = max([*self._pieces, *added.values()]) + 1

    def encode(self, text: str, lines: bool = True) -> list[int]:
        """Return the ids of a text. Special tokens cannot be written in it: they are read as their letters.

        Args:
            text: any text.
            lines: read the known lines of foveal's prompts as one token each; else everything is spelled out.
        """
        ids: list[int] = []
        for part in self._split.split(text) if lines else [text]:
            if lines and part in self._lines:
                ids.append(self._lines[part])
            else:
                for word in self._words.findall(part):
                    ids.extend(self._word(word))
        return ids

    def _merge(self, word: str) -> tuple[int, ...]:
        pieces = [self._letters[b] for b in word.encode("utf-8", "replace")]
        while len(pieces) > 1:
            ranked = [(self._rank.get(pair, len(self._rank)), i) for i, pair in enumerate(pairwise(pieces))]
            rank, i = min(ranked)
            if rank == len(self._rank):
                break
            pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]
        return tuple(self.vocabulary[p] for p in pieces)

    def decode(self, ids: Iterable[int], special: bool = False) -> str:
        """Return the text of ids; special tokens are left out unless asked for."""
        out = bytearray()
        for i in ids:
            if i in self._whole:
                out += self._whole[i]
            elif i in self._special:
                out += self._special[i] if special else b""
            elif i in self._pieces:
                out += bytes(self._bytes[letter] for letter in self._pieces[i])
        return out.decode("utf-8", "replace")

    def head(self, role: str) -> list[int]:
        """Return the ids that open a turn."""
        return [self.ids[HEADERS[role]]]

    def prompt(self, messages: Sequence[Message], open_turn: bool) -> list[int]:
        """Return the chat template's ids for messages; the last turn is left open, or an assistant's turn is opened."""
        ids: list[int] = []
        for n, message in enumerate(messages):
            ids += self.head(message.role)
            for part in message.parts:
                ids += self.encode(part) if isinstance(part, str) else [self.ids[IMAGE]] * IMAGE_TOKENS
            if n < len(messages) - 1 or not open_turn:
                ids.append(self.ids[END])
        return ids if open_turn else [*ids, *self.head("assistant")]


def render(messages: Sequence[Message], open_turn: bool) -> str:
    """Return the chat template's text: what the hooking self-test looks at."""
    text = ""
    for n, message in enumerate(messages):
        text += HEADERS[message.role] + "".join(p if isinstance(p, str) else IMAGE for p in message.parts)
        text += END if n < len(messages) - 1 or not open_turn else ""
    return text if open_turn else text + ASSISTANT
