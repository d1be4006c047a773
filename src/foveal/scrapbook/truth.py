"""What is true of a scene, in words: captions, and questions with their answers."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from foveal.scrapbook.scene import Scene, Thing

NUMBERS = ("no", "one", "two", "three", "four", "five")
PLURAL_ONLY = {"grapes", "scissors"}
PLURALS = {"mouse": "mice", "sheep": "sheep", "fish": "fish", "deer": "deer"}
PLACES = {
    ("one", 1): ("in the middle",),
    ("row", 2): ("on the left", "on the right"),
    ("row", 3): ("on the left", "in the middle", "on the right"),
    ("column", 2): ("at the top", "at the bottom"),
    ("column", 3): ("at the top", "in the middle", "at the bottom"),
}
OPPOSITE = {
    "on the left": "on the right",
    "on the right": "on the left",
    "at the top": "at the bottom",
    "at the bottom": "at the top",
}


@dataclass(frozen=True, slots=True)
class Fact:
    """A question or request with its true answer.

    Attributes:
        topic: what kind of question it is.
        definite: how definite its answer is, from 1 to 5 (the scale of Oasis' clarity).
    """

    question: str
    answer: str
    topic: str
    definite: int = 5


def plural(noun: str) -> str:
    """Return the noun's plural."""
    if noun in PLURAL_ONLY:
        return noun
    if noun in PLURALS:
        return PLURALS[noun]
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def a(noun: str) -> str:
    """Return the noun (or adjective and noun) with its article."""
    last = noun.split()[-1]
    if last in {"grapes", "bread"}:
        return f"some {noun}"
    if last == "scissors":
        return f"a pair of {noun}"
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def some(noun: str, n: int) -> str:
    """Return "a cat", "two cats"."""
    return a(noun) if n == 1 else f"{NUMBERS[n]} {plural(noun)}"


def is_(noun: str) -> str:
    """Return the verb that fits the noun."""
    return "are" if noun.split()[-1] in PLURAL_ONLY else "is"


def joined(parts: Sequence[str]) -> str:
    """Join as English does: "x", "x and y", "x, y and z"."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def capital(text: str) -> str:
    """Return the text with a capital letter in front."""
    return text[0].upper() + text[1:]


def places(scene: Scene) -> tuple[str, ...]:
    """Return where each thing is, in the order of the scene's things."""
    return PLACES[scene.layout, len(scene.things)]


def counts(scene: Scene) -> dict[str, int]:
    """Return how often each noun is there, in reading order."""
    return dict(Counter(thing.noun for thing in scene.things))


def ground(scene: Scene) -> str:
    """Return the background with its article."""
    return {"photo": "a photographic background", "gradient": "a gradient background"}.get(
        scene.ground, f"a plain {scene.ground} background"
    )


def coloured(thing: Thing, rng: random.Random) -> str:
    """Return the thing's name, with its colour now and then."""
    return f"{thing.colour} {thing.noun}" if thing.colour and rng.random() < 0.4 else thing.noun


def listed(scene: Scene) -> str:
    """Return what is there: "a cat and two dogs"."""
    return joined([some(noun, n) for noun, n in counts(scene).items()])


def placed(scene: Scene, rng: random.Random) -> str:
    """Return what is where: "a cat on the left and a dog on the right"."""
    return joined([f"{a(coloured(t, rng))} {place}" for t, place in zip(scene.things, places(scene), strict=True)])


def caption(scene: Scene, rng: random.Random) -> str:
    """Return a true caption of one to three sentences."""
    kind = rng.random()
    if kind < 0.15:
        return capital(listed(scene)) + "."
    if kind < 0.3:
        return f"{capital(listed(scene))} on {ground(scene)}."
    if kind < 0.6 or len(scene.things) == 1:
        return capital(placed(scene, rng)) + rng.choice(("", f", on {ground(scene)}")) + "."
    return description(scene, rng)


def description(scene: Scene, rng: random.Random) -> str:
    """Return a true description of two or three sentences."""
    n = len(scene.things)
    first = rng.choice(
        (
            f"The picture shows {listed(scene)}.",
            f"There {'is one object' if n == 1 else f'are {NUMBERS[n]} objects'} in the picture.",
        )
    )
    middle = joined(
        [f"{a(coloured(t, rng))} {is_(t.noun)} {place}" for t, place in zip(scene.things, places(scene), strict=True)]
    )
    last = f" It has {ground(scene)}."
    return f"{first} {capital(middle)}." + (last if rng.random() < 0.7 else "")


# Each maker returns a fact about the scene, or None where the scene has nothing of the kind to ask about.


def _exists(scene: Scene, rng: random.Random, nouns: Sequence[str], there: bool) -> Fact:
    noun = rng.choice([t.noun for t in scene.things]) if there else absent(scene, rng, nouns)
    ask = rng.choice(
        ("{is} there {a} in the picture?", "Can you see {a}?", "Does the picture show {a}?", "{is} there {a} here?")
    )
    question = ask.format(is_="", a=a(noun), **{"is": capital(is_(noun))})
    answer = f"Yes, there {is_(noun)} {a(noun)}." if there else f"No, there {is_(noun)} no {noun}."
    return Fact(question, answer, "exists")


def absent(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> str:
    """Return a noun that is not in the scene."""
    there = {t.noun for t in scene.things}
    return rng.choice([noun for noun in nouns if noun not in there])


def _present(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Fact:
    return _exists(scene, rng, nouns, there=True)


def _not_present(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Fact:
    return _exists(scene, rng, nouns, there=False)


def _what_is(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Fact:
    i = rng.randrange(len(scene.things))
    thing, place = scene.things[i], places(scene)[i]
    ask = rng.choice(
        (
            "What is {p}?",
            "What can be seen {p}?",
            "Which object is {p}?",
            "Name the object {p}.",
            "Tell me what is {p}.",
        )
    )
    return Fact(ask.format(p=place), f"{capital(a(thing.noun))}.", "what")


def _list(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Fact:
    ask = (
        "What is in the picture?",
        "What do you see?",
        "Name all objects in the picture.",
        "List the objects.",
        "What does the picture show?",
    )
    return Fact(rng.choice(ask), capital(listed(scene)) + ".", "list", 4)


def _describe(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Fact:
    if rng.random() < 0.4:
        ask = rng.choice(
            (
                "Write a short caption for the picture.",
                "Describe the picture in one sentence.",
                "Give the picture a caption.",
            )
        )
        return Fact(ask, capital(placed(scene, rng)) + ".", "describe", 4)
    ask = rng.choice(
        (
            "Describe the picture in detail.",
            "Describe the picture.",
            "Describe the scene and where things are.",
            "Describe this image.",
        )
    )
    return Fact(ask, description(scene, rng), "describe", 4)


def _count(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Fact:
    if rng.random() < 0.4:
        n = len(scene.things)
        ask = rng.choice(
            ("How many objects are there?", "How many things are in the picture?", "Count the objects in the picture.")
        )
        return Fact(ask, f"{capital(NUMBERS[n])}.", "count")
    noun, n = rng.choice(list(counts(scene).items()))
    ask = rng.choice(("How many {x} are there?", "How many {x} can you see?", "Count the {x} in the picture."))
    return Fact(ask.format(x=plural(noun)), f"{capital(NUMBERS[n])}.", "count")


def _single(scene: Scene) -> list[int]:
    number = counts(scene)
    return [i for i, t in enumerate(scene.things) if number[t.noun] == 1]


def _where(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Fact | None:
    single = _single(scene)
    if not single:
        return None
    i = rng.choice(single)
    noun, place = scene.things[i].noun, places(scene)[i]
    ask = rng.choice(("Where {is} the {x}?", "Where in the picture {is} the {x}?", "Tell me where the {x} {is}."))
    return Fact(ask.format(x=noun, **{"is": is_(noun)}), f"{capital(place)}.", "where")


def _colour(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Fact | None:
    known = [scene.things[i] for i in _single(scene) if scene.things[i].colour]
    if not known:
        return None
    thing = rng.choice(known)
    ask = rng.choice(("What color {is} the {x}?", "What is the color of the {x}?", "Which color does the {x} have?"))
    return Fact(ask.format(x=thing.noun, **{"is": is_(thing.noun)}), f"{capital(thing.colour)}.", "color")


def _background(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Fact:
    plain = scene.ground not in {"photo", "gradient"}
    if plain and rng.random() < 0.6:
        return Fact(
            rng.choice(("What color is the background?", "Which color does the background have?")),
            f"{capital(scene.ground)}.",
            "background",
        )
    return Fact(
        rng.choice(("What is the background like?", "Describe the background.")),
        f"It is {ground(scene)}.",
        "background",
    )


def _relation(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Fact | None:
    """Ask about the neighbour of a thing: to the left, right, above, below."""
    n = len(scene.things)
    pairs = [
        (i, j)
        for i in _single(scene)
        for j in (i - 1, i + 1)
        if 0 <= j < n and scene.things[j].noun != scene.things[i].noun
    ]
    if not pairs:
        return None
    i, j = rng.choice(pairs)
    side = (
        ("to the left of" if j < i else "to the right of") if scene.layout == "row" else ("above" if j < i else "below")
    )
    ask = rng.choice(("What is {s} the {x}?", "Which object is {s} the {x}?", "Name what is {s} the {x}."))
    return Fact(ask.format(s=side, x=scene.things[i].noun), f"{capital(a(scene.things[j].noun))}.", "relation")


def _side(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Fact | None:
    """Ask whether a thing is in a place, half of the time in the wrong one."""
    single = _single(scene)
    if len(scene.things) == 1 or not single:
        return None
    i = rng.choice(single)
    noun, place = scene.things[i].noun, places(scene)[i]
    right = rng.random() < 0.5
    asked = place if right else rng.choice([p for p in places(scene) if p != place])
    ask = f"{capital(is_(noun))} the {noun} {asked}?"
    return Fact(
        ask, f"Yes, the {noun} {is_(noun)} {place}." if right else f"No, the {noun} {is_(noun)} {place}.", "side"
    )


def _bigger(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Fact | None:
    pairs = [(s, t) for s in scene.things for t in scene.things if s.area > 1.6 * t.area and s.noun != t.noun]
    pairs = [(s, t) for s, t in pairs if counts(scene)[s.noun] == counts(scene)[t.noun] == 1]
    if not pairs:
        return None
    big, small = rng.choice(pairs)
    one, other = rng.sample([big.noun, small.noun], 2)
    larger = rng.random() < 0.5
    return Fact(
        f"Which is {'bigger' if larger else 'smaller'}, the {one} or the {other}?",
        f"The {(big if larger else small).noun}.",
        "size",
    )


Maker = Callable[[Scene, random.Random, Sequence[str]], Fact | None]
MAKERS: dict[Maker, float] = {
    _present: 2.0, _not_present: 2.0, _what_is: 3.0, _list: 1.5, _describe: 1.5, _count: 1.5, _where: 1.5, _colour: 1.0,
    _background: 0.7, _relation: 1.5, _side: 1.5, _bigger: 0.7,
}  # fmt: skip


def fact(scene: Scene, rng: random.Random, nouns: Sequence[str], leave_out: Sequence[str] = ()) -> Fact:
    """Return a question about the scene with its true answer, of any topic but those left out."""
    while True:
        maker = rng.choices(list(MAKERS), list(MAKERS.values()))[0]
        made = maker(scene, rng, nouns)
        if made is not None and made.topic not in leave_out:
            return made


def existence(scene: Scene, rng: random.Random, nouns: Sequence[str], there: bool) -> Fact:
    """Return a yes/no question whether something is in the scene."""
    return _exists(scene, rng, nouns, there)


def natural(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Fact:
    """Return a question as somebody who looks at the picture asks: mostly about what is there."""
    made = fact(scene, rng, nouns)
    while made.answer.startswith("No,") and rng.random() < 0.75:
        made = fact(scene, rng, nouns)
    return made
