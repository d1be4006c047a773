"""The explicit proposer: where the user's turn cannot be left open, ask outright, and vary how."""

from __future__ import annotations

from collections.abc import Sequence

from foveal.prompts import Prompt, Prompts
from foveal.record import Record

PERSONAS = (
    "",
    "",
    "a curious child",
    "a teacher preparing a lesson",
    "a journalist checking facts",
    "a blind user",
    "a shopper comparing things",
    "an engineer",
    "a traveller in an unknown place",
    "a doctor",
    "a designer",
    "a data analyst",
)
TASKS = (
    "a question about what can be seen",
    "a question that needs counting or comparing",
    "a question about where things are",
    "a question that needs reasoning from several details",
    "a request to read or use text in the picture, if there is any",
    "a request to write something based on the picture",
    "a question with answer options",
    "a request to explain how or why",
    "a question about a small detail",
    "a request to organise what is shown as a list or table",
)
DIFFICULTIES = ("easy to answer at a glance", "answerable after a close look", "hard, needing several steps")


def proposal(prompts: Prompts, record: Record, sample: int, languages: Sequence[str]) -> Prompt:
    """Return the request for one user message; persona, task, difficulty and language are drawn for the sample."""
    rng = record.rng("proposal", sample)
    return prompts.render(
        "propose",
        persona=rng.choice(PERSONAS),
        task=rng.choice(TASKS),
        difficulty=rng.choice(DIFFICULTIES),
        language=rng.choice(languages),
    )
