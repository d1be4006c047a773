"""What is asked of natural pictures, and the pool of creative tasks; all wording is our own."""

from __future__ import annotations

import re

TASKS = ("knowledge", "inferential", "creation", "detail")
LEVELS = ("simple", "moderate", "difficult")
"""Of creative tasks, in the order in which they are given out."""
CREATIONS = (
    "a post for a social network, in the voice of somebody who was there",
    "a short story that begins or ends in this scene",
    "a poem, in a form that is named",
    "a slogan and a short text for an advertisement",
    "a page of a travel guide",
    "a letter or postcard to a friend",
    "a diary entry of a person or animal in the picture",
    "a dialogue between two of those who, or things that, are shown",
    "a scene of a play or film, with stage directions",
    "a children's story with a small lesson",
    "a news report about what is going on",
    "an entry for a museum's catalogue",
    "a role to play: speak as somebody who belongs into the picture",
    "a riddle whose answer is in the picture",
    "song lyrics with a chorus",
    "a recipe, menu or shopping list that the picture suggests",
    "instructions for making or repairing something that is shown",
    "a speech for an occasion that suits the picture",
    "a product description for a shop",
    "a design brief: another picture, room, garment or poster in this style",
    "a game with rules, for people who look at the picture",
    "a lesson plan that uses the picture",
    "a plan for an event at this place",
    "alternative text for somebody who cannot see the picture, with its mood",
)
"""Kinds of creative task; three that suit the picture are drawn."""
DETAIL = (
    "Describe the picture closely, from the foreground to the background.",
    "What small details could one overlook in this picture? Go through them.",
    "Describe the main subject in detail: shape, material, colours, condition.",
    "Explain how the picture is composed: what is where, how it is lit, what draws the eye.",
    "Describe the surroundings and what they tell about place and time.",
    "List everything that can be seen, and say for each thing where it is and how it looks.",
)
"""Requests for detail."""


def numbers_in(text: str, n: int) -> list[int]:
    """Return the numbers from 1 to n that a text names, as places from 0 on, each once."""
    found = (int(number) - 1 for number in re.findall(r"(?<![\d.])\d{1,3}(?!\d)", text))
    return list(dict.fromkeys(place for place in found if 0 <= place < n))
