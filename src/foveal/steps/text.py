"""Rules about texts that need no model: is it garbled, is it one sentence, what is left without special tokens."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

_SPECIAL = re.compile(
    r"<\|[^<>|]{1,40}\|>|<\|[a-z_]+>|<[a-z_]+\|>|</?(?:image|video|audio|img|bbox|ref|box|s|pad|unk|eos|bos)\b[^<>]{0,40}>",
    re.IGNORECASE,
)
_ENDS = re.compile(r"[.!?。！？…]+(?=\s|$)|[。！？]")


def plain(text: str) -> str:
    """Return the text without what looks like special tokens of a template or format, and without outer space."""
    return _SPECIAL.sub("", text).strip()


def sentences(text: str) -> int:
    """Count sentences by their closing marks; a text without any is one."""
    return max(1, len(_ENDS.findall(text)))


def one_sentence(text: str) -> bool:
    """Tell whether a text is a single sentence on a single line."""
    return "\n" not in text and sentences(text) == 1


def taken_from(part: str, text: str, share: float = 0.9) -> bool:
    """Tell whether a part was copied out of a text: at least this share of its words are among the text's."""
    words = part.casefold().split()
    left = Counter(text.casefold().split())
    found = sum(1 for word in words if left[word] > 0 and not left.subtract([word]))
    return bool(words) and found >= share * len(words)


def garbled(text: str, shortest: int = 2) -> bool:
    """Tell whether a text is no text: nearly empty, mostly symbols, with broken characters, or going round in circles.

    Args:
        text: what a model wrote.
        shortest: fewest words (or, in scripts without spaces, fewest pairs of letters).
    """
    letters = sum(unicodedata.category(c)[0] in "LMN" for c in text)
    visible = sum(not c.isspace() for c in text)
    words = text.split()
    return (
        (len(words) < shortest and letters < 2 * shortest)
        or letters < 0.5 * visible
        or "\ufffd" in text
        or circling(words)
    )  # fmt: skip


def circling(words: list[str], run: int = 4) -> bool:
    """Tell whether the writer was stuck: a word `run` times in a row, or more than half of the runs repeated."""
    if any(len({w.casefold() for w in words[i : i + run]}) == 1 for i in range(len(words) - run + 1)):
        return True
    grams = Counter(tuple(words[i : i + run]) for i in range(len(words) - run + 1))
    total = sum(grams.values())
    return total >= 12 and total - len(grams) > total / 2
