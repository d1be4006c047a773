"""Constraints on an answer that code can check: each is one sentence for the model, and a rule for what it wrote.

Six families, as OmniAlign-V (2502.18411, section 3.3) names its instruction types: length, format, keywords,
punctuation, language and structure. The check decides; no judge has to be believed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from foveal.errors import RecipeError, nearest
from foveal.steps.language import language
from foveal.steps.text import paragraphs, told

Check = Callable[[str], bool]


@dataclass(frozen=True)
class Constraint:
    """One condition on an answer.

    Attributes:
        family: length, format, keywords, punctuation, language or structure.
        name: what it is, in a word or two.
        says: the sentence that is put to the model.
        holds: whether an answer keeps it.
    """

    family: str
    name: str
    says: str
    holds: Check


def words_in(text: str) -> int:
    """Count the words of a text; marks of lists and headings are none."""
    return len(re.findall(r"\w+(?:['’.-]\w+)*", text))


def _lines(text: str) -> list[str]:
    return [line for line in text.strip().splitlines() if line.strip()]


# --- length --------------------------------------------------------------------------------------------------------


def at_most(n: int) -> Constraint:
    """At most n words."""
    return Constraint("length", "at most", f"Use at most {n} words.", lambda text: words_in(text) <= n)


def at_least(n: int) -> Constraint:
    """At least n words."""
    return Constraint("length", "at least", f"Use at least {n} words.", lambda text: words_in(text) >= n)


def sentences(n: int) -> Constraint:
    """Exactly n sentences."""
    says = f"Answer in exactly {_number(n)} sentence{'s' * (n > 1)}."
    return Constraint("length", "sentences", says, lambda text: len(told(text)) == n)


def _number(n: int) -> str:
    return (
        ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")[n] if n <= 10 else str(n)
    )


# --- format --------------------------------------------------------------------------------------------------------


def bullets(n: int) -> Constraint:
    """A list of n points, each beginning with a dash or star, and nothing else."""

    def holds(text: str) -> bool:
        lines = _lines(text)
        return len(lines) == n and all(re.match(r"\s*[-*•]\s+\S", line) for line in lines)

    return Constraint(
        "format", "bullets", f"Give a list of {_number(n)} points that begin with a dash, nothing else.", holds
    )


def numbered(n: int) -> Constraint:
    """A list numbered from 1 to n, and nothing else."""

    def holds(text: str) -> bool:
        found = [re.match(r"\s*(\d+)[.)]\s+\S", line) for line in _lines(text)]
        return [m and int(m[1]) for m in found] == list(range(1, n + 1))

    return Constraint("format", "numbered", f"Give a list numbered from 1 to {n}, nothing else.", holds)


def lower_case() -> Constraint:
    """No capital letter."""
    return Constraint(
        "format",
        "lower case",
        "Write everything in lower case.",
        lambda text: text == text.lower() and bool(text.strip()),
    )


def upper_case() -> Constraint:
    """Capital letters only."""
    return Constraint(
        "format",
        "upper case",
        "Write everything in capital letters.",
        lambda text: text == text.upper() != text.lower(),
    )


# --- keywords ------------------------------------------------------------------------------------------------------


def mentions(*keywords: str) -> Constraint:
    """Every keyword, as a whole word in any case."""
    named = " and ".join(f'"{word}"' for word in keywords)
    return Constraint(
        "keywords", "mentions", f"Use the word{'s' * (len(keywords) > 1)} {named}.",
        lambda text: all(_has(text, word) for word in keywords),
    )  # fmt: skip


def avoids(*keywords: str) -> Constraint:
    """None of the keywords, as whole words in any case."""
    named = " or ".join(f'"{word}"' for word in keywords)
    return Constraint(
        "keywords", "avoids", f"Do not use the word{'s' * (len(keywords) > 1)} {named}.",
        lambda text: bool(text.strip()) and not any(_has(text, word) for word in keywords),
    )  # fmt: skip


def _has(text: str, word: str) -> bool:
    return bool(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE))


# --- punctuation ---------------------------------------------------------------------------------------------------


def without(mark: str, name: str) -> Constraint:
    """A mark that may not occur."""
    return Constraint(
        "punctuation", f"no {name}", f"Use no {name}s.", lambda text: bool(text.strip()) and mark not in text
    )


def ends_in(mark: str, name: str) -> Constraint:
    """The last character is the mark."""
    return Constraint("punctuation", f"ends in {name}", f"End with {name}.", lambda text: text.rstrip().endswith(mark))


def quoted() -> Constraint:
    """The whole answer stands in double quotes."""
    marks = re.compile(r'\A\s*(?:"[^"]+"|“[^”]+”)\s*\Z')
    return Constraint(
        "punctuation", "quoted", "Put the whole answer in double quotes.", lambda text: bool(marks.match(text))
    )


# --- language ------------------------------------------------------------------------------------------------------


def in_language(name: str) -> Constraint:
    """Another language, as far as its script or its common short words tell."""
    return Constraint("language", name, f"Answer in {name}.", lambda text: language(text) == name)


LANGUAGES = ("French", "German", "Spanish", "Italian", "Portuguese", "Chinese", "Japanese", "Korean")

# --- structure -----------------------------------------------------------------------------------------------------


def in_paragraphs(n: int) -> Constraint:
    """Exactly n paragraphs with an empty line between them."""

    def holds(text: str) -> bool:
        return len(paragraphs(text.strip())) == n and (n == 1 or bool(re.search(r"\n\s*\n", text.strip())))

    return Constraint(
        "structure", "paragraphs", f"Write exactly {_number(n)} paragraphs with an empty line between them.", holds
    )


def begins_with(words: str) -> Constraint:
    """The answer begins with these words."""
    return Constraint(
        "structure", "begins with", f'Begin with the words "{words}".',
        lambda text: text.lstrip(" \n\"“*").casefold().startswith(words.casefold()),
    )  # fmt: skip


def titled() -> Constraint:
    """The first line is a heading of Markdown, and something follows."""

    def holds(text: str) -> bool:
        lines = _lines(text)
        return len(lines) > 1 and bool(re.match(r"#{1,6} \S", lines[0])) and not lines[1].startswith("#")

    return Constraint("structure", "titled", "Put a title on the first line, as a Markdown heading.", holds)


# --- drawing -------------------------------------------------------------------------------------------------------

_BEGINNINGS = ("In short", "At first sight", "Looking closely", "To begin with", "Here is what matters")


def _length(rng: Random, answer: str) -> Constraint:
    n = max(8, words_in(answer))
    kind = rng.choice(("most", "least", "sentences"))
    if kind == "sentences":
        return sentences(rng.randint(1, 4))
    return (
        at_most(max(10, round(n * rng.uniform(0.4, 0.8))))
        if kind == "most"
        else at_least(round(n * rng.uniform(0.6, 1)))
    )


def _format(rng: Random, answer: str) -> Constraint:
    return rng.choice(
        (lambda: bullets(rng.randint(2, 5)), lambda: numbered(rng.randint(2, 5)), lower_case, upper_case)
    )()


def _keywords(rng: Random, answer: str) -> Constraint:
    found = sorted({w.casefold() for w in re.findall(r"[^\W\d_]{5,}", answer)})
    if not found:
        return avoids("very")
    word = rng.choice(found)
    return mentions(word) if rng.random() < 0.5 else avoids(word)


def _punctuation(rng: Random, answer: str) -> Constraint:
    return rng.choice((
        lambda: without(",", "comma"), lambda: without("!", "exclamation mark"),
        lambda: ends_in("!", "an exclamation mark"), lambda: ends_in("?", "a question"), quoted,
    ))()  # fmt: skip


def _language(rng: Random, answer: str) -> Constraint:
    return in_language(rng.choice(LANGUAGES))


def _structure(rng: Random, answer: str) -> Constraint:
    return rng.choice(
        (lambda: in_paragraphs(rng.randint(2, 3)), lambda: begins_with(rng.choice(_BEGINNINGS)), titled)
    )()


FAMILIES: Mapping[str, Callable[[Random, str], Constraint]] = {
    "length": _length, "format": _format, "keywords": _keywords, "punctuation": _punctuation, "language": _language,
    "structure": _structure,
}  # fmt: skip
"""Family -> draws one of its constraints for an answer as it stands."""
_APART = (
    {"bullets", "numbered", "paragraphs", "titled", "quoted", "sentences", "begins with"},
    {"lower case", "titled", "begins with", "mentions", "upper case"},
    {"ends in an exclamation mark", "ends in a question", "no exclamation mark", "quoted", "bullets", "numbered"},
    {"mentions", "begins with", "avoids", *LANGUAGES},
)
"""Names of which only one may be asked for at a time: together they contradict each other, or nearly."""


def draw(rng: Random, answer: str, n: int, families: Sequence[str] = tuple(FAMILIES)) -> list[Constraint]:
    """Draw n constraints of different families that can hold together, fewer where there are not as many.

    Args:
        rng: the only randomness.
        answer: the answer as it stands; lengths and keywords depend on it.
        n: how many.
        families: drawn from.

    Raises:
        RecipeError: a family is not known.
    """
    for family in families:
        if family not in FAMILIES:
            raise RecipeError(f"there is no family of constraints {family!r}{nearest(family, FAMILIES)}")
    drawn: list[Constraint] = []
    for family in rng.sample(list(families), len(families)):
        new = FAMILIES[family](rng, answer)
        if len(drawn) < n and not any(new.name in group and old.name in group for old in drawn for group in _APART):
            drawn.append(new)
    return drawn


def broken(constraints: Sequence[Constraint], answer: str) -> list[Constraint]:
    """Return the constraints that an answer does not keep."""
    return [c for c in constraints if not c.holds(answer)]
