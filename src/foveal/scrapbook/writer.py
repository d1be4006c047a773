"""What an oracle writes where a method asks for text: questions, evolved exchanges, broad requests; all of it true."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from foveal.scrapbook import claims as said
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


def evolved(scene: Scene, rng: random.Random, nouns: Sequence[str], values: Mapping[str, Any]) -> str:
    """Return another exchange in the direction that is asked for, in the labelled lines of MMEvol's prompt."""
    made = _other(scene, rng, nouns, str(values.get("question", "")), DIRECTIONS.get(str(values.get("direction")), ()))
    objects = sorted({c.noun for c in said.claims(made.answer) if c.kind == "object"})
    return "\n".join((
        f"Question: {made.question}", f"Answer: {made.answer}", f"Objects: {', '.join(objects) or 'none'}",
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
