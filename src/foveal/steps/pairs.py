"""Pair checks: how far apart two answers are, which is longer, and whether one gives away how its picture was spoilt.

The functions are for methods that make pairs; the table steps (`near_sides`, `leaks`, `balance_length`) go into
recipes, and leave rows that are no pairs alone.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from foveal.errors import RecipeError
from foveal.steps.table import Table, words

# --- distance ------------------------------------------------------------------------------------------------------


def normal(text: str) -> str:
    """Return a text's words in lower case, without marks; a text without words is itself, without outer space."""
    folded = unicodedata.normalize("NFKC", text)
    return " ".join(words(folded)) or folded.strip()


def same(a: str, b: str, how: Literal["exact", "normalised"] = "normalised") -> bool:
    """Tell whether two answers are equal: as strings, or by their words alone."""
    return a == b if how == "exact" else normal(a) == normal(b)


def edits(a: Sequence[str], b: Sequence[str]) -> int:
    """Return the fewest words to put in, take out or change on the way from one to the other (Levenshtein).

    A row of the table is one whole number and is worked on at once (Myers 1999, in Hyyrö's form of 2003).
    """
    if not a or not b:
        return max(len(a), len(b))
    places: dict[str, int] = defaultdict(int)
    for at, word in enumerate(a):
        places[word] |= 1 << at
    all_ones, last = (1 << len(a)) - 1, 1 << (len(a) - 1)
    up, down, count = all_ones, 0, len(a)
    for word in b:
        match = places.get(word, 0)
        level = ((((match & up) + up) ^ up) | match | down) & all_ones
        right, left = down | ~(level | up) & all_ones, up & level
        count += bool(right & last) - bool(left & last)
        right, left = right << 1 | 1, left << 1
        up, down = (left | ~(level | right)) & all_ones, right & level & all_ones
    return count


def distance(a: str, b: str) -> float:
    """Return the share of words that differ, from 0 (the same words) to 1 (none in common): edits over the longer."""
    one, other = normal(a).split(), normal(b).split()
    return edits(one, other) / max(len(one), len(other), 1)


def lopsided(a: str, b: str) -> float:
    """Return how many times as many words the longer of two texts has; an empty one counts as one word."""
    one, other = (max(1, len(words(text))) for text in (a, b))
    return max(one, other) / min(one, other)


# --- length --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lengths:
    """How the lengths of a set's sides compare, in words.

    Attributes:
        longer: pairs whose chosen side is the longer.
        shorter: whose rejected side is.
        equal: whose sides are of one length.
        ratio: geometric mean of chosen length over rejected length; 1 is no bias.
    """

    longer: int
    shorter: int
    equal: int
    ratio: float

    @property
    def share(self) -> float:
        """Share of pairs whose chosen side is the longer, of those whose sides differ in length; 0.5 is no bias."""
        return self.longer / (self.longer + self.shorter) if self.longer + self.shorter else 0.5


def lengths_of(logs: Iterable[float]) -> Lengths:
    """Return how lengths compare, given the logarithm of chosen over rejected of each pair."""
    known = list(logs)
    longer, shorter = sum(x > 0 for x in known), sum(x < 0 for x in known)
    ratio = math.exp(sum(known) / len(known)) if known else 1.0
    return Lengths(longer, shorter, len(known) - longer - shorter, ratio)


def log_ratio(chosen: str, rejected: str) -> float:
    """Return the logarithm of chosen length over rejected length, in words; an empty side counts as one word."""
    return math.log(max(1, len(words(chosen))) / max(1, len(words(rejected))))


# --- leakage -------------------------------------------------------------------------------------------------------

_PICTURE = r"(?:image|picture|photo|photograph|photographs|pic|snapshot|visual|scene|view)s?"
_SPOILT = (
    r"noisy|noise|static|blank|corrupted|distorted|distortion|unclear|not\W+clear|fuzzy|hazy|obscured|degraded|"
    r"glitchy|glitched|cropped|zoomed[ -]in|flipped|mirrored|inverted|upside[ -]down|tinted|"
    r"discolou?red|over[ -]?exposed|"
    r"(?:poor|low|bad)\W+quality|covered\W+(?:in|by|with)\W+(?:\w+\W+)?(?:squares|blocks|patches|dots|noise|pixels)"
)
_SPARE = (
    r"(?:very|quite|so|too|rather|bit|somewhat|extremely|completely|entirely|mostly|heavily|slightly|highly|just|a|an|"
    r"to\W+be|of)"
)
_COLOURS = r"black|blank|gr[ae]y|white|empty"
_LEAK = re.compile(
    rf"""
      \b(?:pixelated|pixelation|pixellated|grainy|blurry|blurred|blurriness|unfocused|out[ -]of[ -]focus)\b
    | \blow(?:er)?[ -]res(?:olution)?\b
    | \b(?:image|visual|digital|random|colou?rful|colou?red|static|gaussian|film)\W+(?:noise|grain)\b
    | \b(?:tv|television|white)\W+static\b
    | \b(?:hard|difficult|impossible|unable)\W+to\W+(?:see|make\W+out|discern|distinguish)\b
    | \btoo\W+(?:dark|blurry|noisy|unclear|small|distorted|grainy)\W+to\b
    | \b(?:{_SPOILT})\W+(?:\w+\W+){{0,1}}{_PICTURE}\b
    | \b{_PICTURE}\W+(?:is|are|was|were|looks?|appears?|seems?|has|have|with)\W+(?:{_SPARE}\W+){{0,3}}(?:{_SPOILT})\b
    | \b(?:{_COLOURS})\W+(?:{_PICTURE}|screen|canvas|rectangle)\b
    | \b{_PICTURE}\W+(?:is|looks|appears|seems)\W+(?:{_SPARE}\W+){{0,3}}(?:{_COLOURS}|dark)\b(?!\W+\w)
    | \b(?:solid|plain|uniform|entirely|completely|all)\W+(?:black|gr[ae]y|white)\W+(?:{_PICTURE}|background|square)?\b
    """,
    re.IGNORECASE | re.VERBOSE,
)
_FINE = re.compile(r"\bbackground\b|\bblack\W+and\W+white\b", re.IGNORECASE)
"""What photographs are rightly said to have: a blurred background, no colours."""


def leak(text: str, question: str = "") -> str:
    """Return the words by which a text speaks of how the picture was spoilt, "" for none. English only.

    "The image is blurry" tells a trained model to complain of pictures, not to look at them. Words that the question
    itself has are no leak ("Is the photo blurry?"), nor is a blurred background.

    Args:
        text: an answer.
        question: what it answers.
    """
    asked = normal(question)
    for found in _LEAK.finditer(text):
        around = text[max(0, found.start() - 20) : found.end() + 20]
        if normal(found.group()) not in asked and not _FINE.search(around):
            return " ".join(found.group().split())
    return ""


# --- table steps ---------------------------------------------------------------------------------------------------


def _sides(table: Table) -> Iterator[tuple[str, str, str]]:
    """Yield (id, chosen, rejected) of the rows that are pairs."""
    for id_, chosen, rejected in zip(table.ids, table.column("chosen"), table.column("rejected"), strict=True):
        if chosen is not None:
            yield id_, chosen, rejected


def near_sides(table: Table, at: float = 0.05) -> Table:
    """Take out pairs whose sides are nearly the same; those whose sides see different pictures stay.

    Args:
        table: rows.
        at: share of words that has to differ, 0 to 1. Pairs that differ in one word of twenty are on the border.

    Raises:
        RecipeError: `at` is out of range.
    """
    if not 0 <= at <= 1:
        raise RecipeError(f"near_sides: at={at} must be from 0 to 1")
    other = dict(zip(table.ids, table.column("rejected_images"), strict=True))
    return table.without(
        {
            id_: "sides nearly the same"
            for id_, chosen, rejected in _sides(table)
            if not other[id_] and (distance(chosen, rejected) < at or same(chosen, rejected))
        }
    )


def leaks(table: Table, side: Literal["either", "chosen", "rejected"] = "either") -> Table:
    """Take out pairs a side of which speaks of how the picture was spoilt ("the image is blurry"). English only.

    Args:
        table: rows.
        side: which side is looked at.
    """
    questions = dict(zip(table.ids, table.column("question"), strict=True))
    reasons: dict[str, str] = {}
    for id_, *sides in _sides(table):
        for name, text in zip(("chosen", "rejected"), sides, strict=True):
            if side in ("either", name) and leak(text, questions[id_]):
                reasons.setdefault(id_, f"{name}: speaks of how the picture was spoilt")
    return table.without(reasons)


def balance_length(table: Table, share: float = 0.55, lose: float = 0.3) -> Table:
    """Take out pairs until neither side is the longer too often, those of the most unequal length first.

    Preference training learns length where chosen answers are longer as a rule, and rewards it afterwards.

    Args:
        table: rows.
        share: how often the same side may be the longer, of pairs whose sides differ in length; 0.5 to 1.
        lose: largest share of the pairs that may be taken out; where it does not suffice, the bias stays.

    Raises:
        RecipeError: `share` or `lose` is out of range.
    """
    if not (0.5 <= share <= 1 and 0 <= lose <= 1):
        raise RecipeError(f"balance_length: share={share} must be from 0.5 to 1, lose={lose} from 0 to 1")
    logs = {id_: log_ratio(chosen, rejected) for id_, chosen, rejected in _sides(table)}
    found = lengths_of(logs.values())
    sign, name = (1, "chosen") if found.longer >= found.shorter else (-1, "rejected")
    more, fewer = max(found.longer, found.shorter), min(found.longer, found.shorter)
    surplus = more - math.floor(fewer * share / (1 - share) + 1e-9) if share < 1 else 0
    surplus = max(0, min(surplus, math.floor(lose * len(logs))))
    worst = sorted((id_ for id_, log in logs.items() if sign * log > 0), key=lambda id_: (-sign * logs[id_], id_))
    return table.without(dict.fromkeys(worst[:surplus], f"length balance: {name} side the longer too often"))
