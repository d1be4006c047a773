"""What an oracle writes where a method asks for text: questions, evolved exchanges, broad requests; all of it true.

And rewritten answers that keep a constraint, where that can be done without saying anything new.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from foveal.scrapbook import claims as said
from foveal.scrapbook import oracle
from foveal.scrapbook.parts import Scene
from foveal.scrapbook.truth import Fact, description, fact, natural

SKILLS: Mapping[str, str] = {
    "exists": "existence", "count": "calculating", "what": "grounding", "where": "grounding", "side": "grounding",
    "relation": "relationship description", "size": "relationship description", "color": "referencing", "ocr": "OCR",
    "chart": "calculating", "table": "OCR",
}  # fmt: skip
"""Topic of a question -> the skill that answers it, in MMEvol's words."""
USUAL_SKILL = "context understanding"
BROAD = "Describe everything in the picture and how it is arranged."
DIRECTIONS: Mapping[str, Sequence[str]] = {
    "perception": ("color", "count", "ocr", "side", "where"),
    "reasoning": ("relation", "size", "chart", "table", "count"),
    "interaction": ("exists", "what", "list"),
}
"""MMEvol's directions -> topics that lie in them."""


def evolved(
    scene: Scene, rng: random.Random, nouns: Sequence[str], values: Mapping[str, Any], answered: bool = True
) -> str:
    """Return another exchange in the direction that is asked for, in the labelled lines of MMEvol's prompt.

    Without its answer the method asks for one.
    """
    made = _other(scene, rng, nouns, str(values.get("question", "")), DIRECTIONS.get(str(values.get("direction")), ()))
    objects = sorted({c.noun for c in said.claims(made.answer) if c.kind == "object"})
    answer = (f"Answer: {made.answer}",) if answered else ()
    return "\n".join((
        f"Question: {made.question}", *answer, f"Objects: {', '.join(objects) or 'none'}",
        f"Skills: {SKILLS.get(made.topic, USUAL_SKILL)}", "Steps: look; answer", "Form: multiple choice",
    ))  # fmt: skip


def _other(scene: Scene, rng: random.Random, nouns: Sequence[str], asked: str, topics: Sequence[str]) -> Fact:
    """Return a fact that was not asked for, of one of the topics if one is found in a few draws."""
    drawn = [made for made in (fact(scene, rng, nouns) for _ in range(12)) if made.question != asked]
    return next((made for made in drawn if made.topic in topics), (drawn or [fact(scene, rng, nouns)])[0])


def questions(scene: Scene, rng: random.Random, nouns: Sequence[str], n: int) -> str:
    """Return n different questions about a scene, a line each; fewer where chance repeats itself."""
    drawn = [natural(scene, rng, nouns).question for _ in range(3 * n)]
    return "\n".join(list(dict.fromkeys(drawn))[:n])


def questions_about(text: str, n: int) -> str:
    """Return up to n questions about what a text names, a line each, by its words alone."""
    nouns = list(dict.fromkeys(c.noun for c in said.claims(text) if c.kind == "object"))
    kinds = ("How many {}s are there?", "Where is the {}?", "Is there a {}?")
    return "\n".join([kinds[i % 3].format(noun) for i, noun in enumerate(nouns)][:n]) or "What is in the picture?"


def part(scene: Scene, rng: random.Random) -> str:
    """Return a true sentence about a scene."""
    return description(scene, rng).split(". ")[0].rstrip(".") + "."


# --- keeping constraints ---------------------------------------------------------------------------------------------

_WAYS: Mapping[str, Callable[[str, str], str]] = {
    r"Use at most (\d+) words": lambda text, n: _cut(text, int(n)),
    r"Answer in exactly (\w+) sentence": lambda text, n: " ".join(_first(text, n)),
    r"Give a list of (\w+) points": lambda text, n: "\n".join(f"- {s}" for s in _first(text, n)),
    r"Give a list numbered from 1 to (\d+)": lambda text, n: "\n".join(
        f"{i}. {s}" for i, s in enumerate(_first(text, n), 1)
    ),
    r"Write everything in (lower case)": lambda text, _: text.lower(),
    r"Write everything in (capital letters)": lambda text, _: text.upper(),
    r"Use no (comma)s": lambda text, _: text.replace(",", ""),
    r"Use no (exclamation mark)s": lambda text, _: text.replace("!", "."),
    r"End with (an exclamation mark)": lambda text, _: text.rstrip(" .!?") + "!",
    r"Put the whole answer in (double quotes)": lambda text, _: '"' + text.replace('"', "'") + '"',
    r"Write exactly (\w+) paragraphs": lambda text, n: "\n\n".join(_first(text, n)),
    r'Begin with the words "(.+)"': lambda text, words: f"{words}, {text[:1].lower()}{text[1:]}",
    r"Put a (title) on the first line": lambda text, _: f"# The picture\n{text}",
}
"""Pattern of a constraint's sentence -> how a text is made to keep it; others are not kept."""


def complied(answer: str, constraints: Sequence[str]) -> str:
    """Return an answer rewritten to keep the constraints, as far as that needs nothing new and no other language."""
    for says in constraints:
        for pattern, way in _WAYS.items():
            if found := re.match(pattern, says):
                answer = way(answer, found[1])
    return answer


def _first(text: str, n: str) -> list[str]:
    """Return the first n sentences, n in digits or as a word."""
    return oracle.sentences(text)[: int(n) if n.isdigit() else said.NUMBERS.get(n, 1)]


def _cut(text: str, n: int) -> str:
    """Return as many sentences as n words allow; of a first one that is too long the beginning."""
    kept: list[str] = []
    for sentence in oracle.sentences(text):
        if len(" ".join((*kept, sentence)).split()) > n:
            break
        kept.append(sentence)
    return " ".join(kept) or " ".join(text.split()[:n]).rstrip(",;.") + "."
