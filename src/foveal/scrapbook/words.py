"""Nouns in sentences: articles, plurals, verbs and lists, as English has them."""

from __future__ import annotations

from collections.abc import Sequence

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
PLURAL_ONLY = {
    "grapes", "scissors", "glasses", "sunglasses", "jeans", "shorts", "pliers", "french fries", "headphones",
    "binoculars", "pants", "goggles", "chopsticks",
}  # fmt: skip
PAIRS = {"scissors", "glasses", "sunglasses", "jeans", "shorts", "pliers", "headphones", "binoculars", "pants"}
MASS = {"grapes", "bread", "french fries", "popcorn", "broccoli", "garlic", "sushi", "chopsticks"}
PLURALS = {
    "mouse": "mice", "sheep": "sheep", "fish": "fish", "deer": "deer", "knife": "knives", "leaf": "leaves",
    "wolf": "wolves", "scarf": "scarves", "goose": "geese", "tomato": "tomatoes", "potato": "potatoes",
    "goldfish": "goldfish", "starfish": "starfish", "dice": "dice", "bread": "loaves of bread", "cactus": "cacti",
    "snowman": "snowmen", "mango": "mangoes", "moose": "moose", "shrimp": "shrimp",
}  # fmt: skip


def plural(noun: str) -> str:
    """Return the noun's plural."""
    if noun in PLURAL_ONLY:
        return noun
    *before, last = noun.split(" ")
    if last in PLURALS:
        return " ".join([*before, PLURALS[last]])
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def a(noun: str) -> str:
    """Return the noun (or adjective and noun) with its article."""
    last = noun.split()[-1]
    if last in MASS or noun in MASS:
        return f"some {noun}"
    if last in PAIRS:
        return f"a pair of {noun}"
    vowel = noun[0] in "aeiou" and not noun.startswith(("uni", "uku"))
    return f"{'an' if vowel else 'a'} {noun}"


def some(noun: str, n: int) -> str:
    """Return "a cat", "two cats"."""
    return a(noun) if n == 1 else f"{NUMBERS[n]} {plural(noun)}"


def is_(noun: str) -> str:
    """Return the verb that fits the noun."""
    return "are" if noun.split()[-1] in PLURAL_ONLY or noun in PLURAL_ONLY else "is"


def joined(parts: Sequence[str]) -> str:
    """Join as English does: "x", "x and y", "x, y and z"."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def capital(text: str) -> str:
    """Return the text with a capital letter in front."""
    return text[0].upper() + text[1:]
