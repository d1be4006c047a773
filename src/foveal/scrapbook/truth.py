"""What is true of a scene, in words: captions, and questions with their answers.

Nothing is said that a careful person could dispute: a place or relation is told only where the boxes leave no doubt, a
colour only where one colour covers most of the thing, and nothing is called absent that may pass for what is there.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from foveal.scrapbook import themes
from foveal.scrapbook.layout import COLUMNS, OPPOSITE, ROWS, holds
from foveal.scrapbook.parts import COLOURS, Scene, Text, Thing
from foveal.scrapbook.words import MASS, NUMBERS, PAIRS, PLURAL_ONLY, a, capital, is_, joined, plural, some

__all__ = [
    "KINDS",
    "MASS",
    "NUMBERS",
    "OPPOSITE",
    "PAIRS",
    "PLURAL_ONLY",
    "TOPICS",
    "WORDED",
    "Fact",
    "Relation",
    "a",
    "absent",
    "absents",
    "asks_for",
    "at",
    "board",
    "capital",
    "caption",
    "coloured",
    "counts",
    "description",
    "existence",
    "extras",
    "fact",
    "fact_of",
    "ground",
    "is_",
    "joined",
    "listed",
    "natural",
    "placed",
    "places",
    "plural",
    "related",
    "relations",
    "single",
    "some",
    "unit",
]  # fmt: skip

Kind: TypeAlias = Literal["random", "popular", "adversarial"]
KINDS: tuple[Kind, ...] = ("random", "popular", "adversarial")
"""How an absent noun is picked (POPE, 2305.10355)."""

DOUBT = 0.12
"""The least distance of two centres, as a share of the side, for one thing to be left of or above another."""
BORDER = 0.2
"""How far boxes may overlap along that direction, as a share of the smaller one."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A question or request with its true answer.

    Attributes:
        topic: what kind of question it is: exists, count, what, where, side, relation, color, size, list, describe,
            background, ocr, chart or table.
        definite: how definite its answer is, from 1 to 5 (the scale of Oasis' clarity).
    """

    question: str
    answer: str
    topic: str
    definite: int = 5


@dataclass(frozen=True, slots=True)
class Relation:
    """One thing beside another: indices into the scene's things; kind is "left of" or "above"."""

    subject: int
    kind: str
    object: int


# --- what is where -------------------------------------------------------------------------------------------------


def places(scene: Scene) -> tuple[str, ...]:
    """Return where each thing is, in the order of the scene's things."""
    if all(t.place for t in scene.things):
        return tuple(t.place for t in scene.things)
    n = len(scene.things)
    return ROWS[1] if n == 1 else (ROWS if scene.layout == "row" else COLUMNS)[n]


def at(scene: Scene, place: str) -> list[int]:
    """Return the indices of the things of which it may be said that they are there."""
    return [i for i, p in enumerate(places(scene)) if holds(place, p)]


def counts(scene: Scene) -> dict[str, int]:
    """Return how often each noun is there, in reading order."""
    return dict(Counter(thing.noun for thing in scene.things))


def single(scene: Scene) -> list[int]:
    """Return the indices of the things whose noun is there once."""
    number = counts(scene)
    return [i for i, t in enumerate(scene.things) if number[t.noun] == 1]


def related(one: Thing, other: Thing) -> tuple[str, ...]:
    """Return which of "left of", "right of", "above", "below" the one is of the other beyond doubt."""
    found = []
    for low, high, kinds in ((0, 2, ("left of", "right of")), (1, 3, ("above", "below"))):
        first, second = (one.box[low], one.box[high]), (other.box[low], other.box[high])
        border = BORDER * min(first[1] - first[0], second[1] - second[0])
        apart = (sum(second) - sum(first)) / 2
        if apart >= DOUBT and first[1] <= second[0] + border:
            found.append(kinds[0])
        elif apart <= -DOUBT and second[1] <= first[0] + border:
            found.append(kinds[1])
    return tuple(found)


def relations(scene: Scene) -> tuple[Relation, ...]:
    """Return all relations that are beyond doubt, as "left of" and "above"."""
    n = range(len(scene.things))
    return tuple(
        Relation(i, kind, j)
        for i in n
        for j in n
        for kind in related(scene.things[i], scene.things[j])
        if i != j and kind in ("left of", "above")
    )


# --- what is not there ---------------------------------------------------------------------------------------------


def absents(scene: Scene, nouns: Sequence[str], kind: Kind, n: int, rng: random.Random | None = None) -> list[str]:
    """Return up to n nouns that are not in the scene and cannot pass for what is.

    Args:
        scene: what is there.
        nouns: what may be asked about.
        kind: "random", "popular" (drawn most often) or "adversarial" (seen most often with what is there).
        n: how many.
        rng: for the random kind.
    """
    there = frozenset(t.noun for t in scene.things)
    taken = frozenset().union(*map(themes.like, there))
    free = [noun for noun in nouns if noun not in taken] or [noun for noun in nouns if noun not in there]
    if kind == "random":
        return (rng or random.Random(scene.seed)).sample(free, min(n, len(free)))
    known = tuple(nouns)
    often = themes.frequency(known)
    if kind == "popular":
        return sorted(free, key=lambda x: (-often[x], x))[:n]
    return sorted(free, key=lambda x: (-themes.company(x, there, known), -often[x], x))[:n]


def absent(scene: Scene, rng: random.Random, nouns: Sequence[str], kind: Kind = "random") -> str:
    """Return a noun that is not in the scene: any, or one of the few most popular or most adversarial."""
    if kind != "random":
        return rng.choice(absents(scene, nouns, kind, 5))
    taken = frozenset().union(*(themes.like(t.noun) for t in scene.things))
    for _ in range(50):
        if (noun := rng.choice(nouns)) not in taken:
            return noun
    return rng.choice(absents(scene, nouns, "random", len(nouns), rng))


# --- captions ------------------------------------------------------------------------------------------------------


def ground(scene: Scene) -> str:
    """Return the background with its article."""
    return {"photo": "a photographic background", "gradient": "a gradient background"}.get(
        scene.ground, f"a plain {scene.ground} background"
    )


def coloured(thing: Thing, rng: random.Random, share: float = 0.4) -> str:
    """Return the thing's name, with its colour now and then."""
    shown = thing.colour and thing.colour != thing.noun and rng.random() < share
    return f"{thing.colour} {thing.noun}" if shown else thing.noun


def board(text: Text, scene: Scene) -> str:
    """Return a label's name with its article: "a sign", "a tag on the lemon"."""
    return f"a tag on {_the(scene, text.on)}" if text.kind == "tag" else f"a {text.kind}"


def _the(scene: Scene, i: int) -> str:
    """Return words that mean just this thing: "the dog", or "the dog at the top" where there are several."""
    noun = scene.things[i].noun
    return f"the {noun}" if counts(scene)[noun] == 1 else f"the {noun} {places(scene)[i]}"


def extras(scene: Scene) -> list[str]:
    """Return what is there beside the things: signs, a chart, a table."""
    said = [f'{board(t, scene)} that says "{t.words}"' for t in scene.texts]
    if scene.chart:
        said.append(f'a {scene.chart.kind} chart of "{scene.chart.title}"')
    if scene.table:
        said.append("a table")
    return said


def listed(scene: Scene) -> str:
    """Return what is there: "a cat and two dogs"."""
    return joined([*(some(noun, n) for noun, n in counts(scene).items()), *extras(scene)])


def placed(scene: Scene, rng: random.Random) -> str:
    """Return what is where: "a cat on the left and a dog on the right"."""
    things = [f"{a(coloured(t, rng))} {place}" for t, place in zip(scene.things, places(scene), strict=True)]
    return joined([*things, *_placed_extras(scene)])


def _placed_extras(scene: Scene) -> list[str]:
    where = [f" {text.place}" if text.place else "" for text in scene.texts]
    where += [f" {panel.place}" for panel in (scene.chart, scene.table) if panel]
    return [said + place for said, place in zip(extras(scene), where, strict=True)]


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


def description(scene: Scene, rng: random.Random, detail: bool = False) -> str:
    """Return a true description of two or three sentences; with `detail`, of up to ten."""
    said = [_opening(scene, rng), *_standing(scene, rng, detail)]
    if detail:
        said += [s for s in (_compared(scene, rng), _beside(scene, rng)) if s]
        said += [s for i in single(scene) if rng.random() < 0.5 and (s := _hue(scene, i))]
        said += _read_out(scene)
    elif extras(scene):
        said.append(f"There is also {joined(extras(scene))}.")
    if detail or rng.random() < 0.7:
        said.append(f"{rng.choice(('It has', 'The picture has'))} {ground(scene)}.")
    return " ".join(said)


def _opening(scene: Scene, rng: random.Random) -> str:
    n = len(scene.things)
    here = joined([some(noun, k) for noun, k in counts(scene).items()])
    number = f"There {'is one object' if n == 1 else f'are {NUMBERS[n]} objects'} in the picture."
    return rng.choice((f"The picture shows {here}.", number))


def _standing(scene: Scene, rng: random.Random, detail: bool) -> list[str]:
    """Return where things stand: one sentence, or with `detail` one for every two."""
    share = 0.0 if detail else 0.4
    parts = [
        f"{a(coloured(t, rng, share))} {'is' if t.noun in PAIRS else is_(t.noun)} {place}"
        for t, place in zip(scene.things, places(scene), strict=True)
    ]
    step = 2 if detail else len(parts)
    return [f"{capital(joined(parts[i : i + step]))}." for i in range(0, len(parts), step)]


def _hue(scene: Scene, i: int) -> str:
    thing = scene.things[i]
    fits = thing.colour and thing.colour != thing.noun
    return f"The {thing.noun} {is_(thing.noun)} {thing.colour}." if fits else ""


def _compared(scene: Scene, rng: random.Random) -> str:
    pairs = _sizes(scene)
    if not pairs:
        return ""
    big, small = rng.choice(pairs)
    return f"The {big.noun} {is_(big.noun)} bigger than the {small.noun}."


def _beside(scene: Scene, rng: random.Random) -> str:
    one = single(scene)
    found = [r for r in relations(scene) if r.subject in one and r.object in one]
    if not found:
        return ""
    r = rng.choice(found)
    first, second = scene.things[r.subject].noun, scene.things[r.object].noun
    return f"The {first} {is_(first)} {WORDED[r.kind]} the {second}."


def _read_out(scene: Scene) -> list[str]:
    """Return what is written and drawn, value by value."""
    said = [f'There is {board(t, scene)}{" " + t.place if t.place else ""} that says "{t.words}".' for t in scene.texts]
    if chart := scene.chart:
        values = joined([f"{v}{unit(scene)} for {k}" for k, v in zip(chart.labels, chart.values, strict=True)])
        said.append(f'{capital(chart.place)} there is a {chart.kind} chart of "{chart.title}": {values}.')
    if table := scene.table:
        columns = joined([f'"{c}"' for c in table.columns])
        said.append(f"{capital(table.place)} there is a table with the columns {columns} and {_rows(scene)}.")
    return said


def _rows(scene: Scene) -> str:
    assert scene.table
    n = len(scene.table.rows)
    return f"{NUMBERS[n]} row{'s' if n > 1 else ''}"


def unit(scene: Scene) -> str:
    """Return what stands after a value of the chart."""
    return "%" if scene.chart and scene.chart.kind == "pie" else ""


# --- questions -----------------------------------------------------------------------------------------------------
# Each maker returns a fact about the scene, or None where the scene has nothing of the kind to ask about.


def _exists(scene: Scene, rng: random.Random, nouns: Sequence[str], there: bool, kind: Kind = "random") -> Fact:
    noun = rng.choice([t.noun for t in scene.things]) if there else absent(scene, rng, nouns, kind)
    return asks_for(noun, there, rng)


def asks_for(noun: str, there: bool, rng: random.Random) -> Fact:
    """Return the question whether a thing is in the picture, and its answer."""
    ask = rng.choice(
        ("{is} there {a} in the picture?", "Can you see {a}?", "Does the picture show {a}?", "{is} there {a} here?")
    )
    question = ask.format(a=a(noun), **{"is": capital(is_(noun))})
    answer = f"Yes, there {is_(noun)} {a(noun)}." if there else f"No, there {is_(noun)} no {noun}."
    return Fact(question, answer, "exists")


def _present(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Fact:
    return _exists(scene, rng, nouns, there=True)


def _not_present(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Fact:
    return _exists(scene, rng, nouns, there=False, kind=rng.choice(KINDS))


def _what_is(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Fact | None:
    sure = [i for i, p in enumerate(places(scene)) if at(scene, p) == [i]]
    if not sure:
        return None
    i = rng.choice(sure)
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
    return Fact(ask, description(scene, rng, detail="detail" in ask), "describe", 4)


def _count(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Fact:
    if rng.random() < 0.4 and not extras(scene):
        n = len(scene.things)
        ask = rng.choice(
            ("How many objects are there?", "How many things are in the picture?", "Count the objects in the picture.")
        )
        return Fact(ask, f"{capital(NUMBERS[n])}.", "count")
    noun, n = rng.choice(list(counts(scene).items()))
    if rng.random() < 0.3 and noun not in PLURAL_ONLY | MASS:
        return _counted(noun, n, rng)
    ask = rng.choice(("How many {x} are there?", "How many {x} can you see?", "Count the {x} in the picture."))
    return Fact(ask.format(x=plural(noun)), f"{capital(NUMBERS[n])}.", "count")


def _counted(noun: str, n: int, rng: random.Random) -> Fact:
    """Ask whether a number is right, half of the time a wrong one."""
    said = n if rng.random() < 0.5 else rng.choice([k for k in (n - 1, n + 1) if k])
    verb = "Is" if said == 1 else "Are"
    named = noun if said == 1 else plural(noun)
    true = f"there {'is' if n == 1 else 'are'} {NUMBERS[n]} {noun if n == 1 else plural(noun)}."
    question = f"{verb} there exactly {NUMBERS[said]} {named} in the picture?"
    return Fact(question, f"{'Yes' if said == n else 'No'}, {true}", "count")


def _where(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Fact | None:
    if not (one := single(scene)):
        return None
    i = rng.choice(one)
    noun, place = scene.things[i].noun, places(scene)[i]
    ask = rng.choice(("Where {is} the {x}?", "Where in the picture {is} the {x}?", "Tell me where the {x} {is}."))
    return Fact(ask.format(x=noun, **{"is": is_(noun)}), f"{capital(place)}.", "where")


def _colour(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Fact | None:
    known = [scene.things[i] for i in single(scene) if scene.things[i].colour]
    if not known:
        return None
    thing = rng.choice(known)
    if rng.random() < 0.35:
        said = thing.colour if rng.random() < 0.5 else rng.choice([c for c in COLOURS if c != thing.colour])
        yes = "Yes" if said == thing.colour else "No"
        verb = is_(thing.noun)
        answer = f"{yes}, the {thing.noun} {verb} {thing.colour}."
        return Fact(f"{capital(verb)} the {thing.noun} {said}?", answer, "color")
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


WORDED = {"left of": "to the left of", "right of": "to the right of", "above": "above", "below": "below"}


def _relation(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Fact | None:
    """Ask what is to the left or right of a thing, above or below it, where one thing alone is; or whether one is."""
    if rng.random() < 0.4:
        return _is_related(scene, rng)
    sure = []
    for i in single(scene):
        for kind in WORDED:
            others = [j for j in range(len(scene.things)) if j != i]
            there = [j for j in others if kind in related(scene.things[j], scene.things[i])]
            if len(there) == 1 and all(_clear(scene.things[j], scene.things[i], kind) for j in others):
                sure.append((i, kind, there[0]))
    if not sure or extras(scene):
        return None
    i, kind, j = rng.choice(sure)
    ask = rng.choice(("What is {s} the {x}?", "Which object is {s} the {x}?", "Name what is {s} the {x}."))
    return Fact(ask.format(s=WORDED[kind], x=scene.things[i].noun), f"{capital(a(scene.things[j].noun))}.", "relation")


def _clear(one: Thing, other: Thing, kind: str) -> bool:
    """Whether it is beyond doubt that the relation, or its opposite, holds, or that neither does."""
    across = kind in ("left of", "right of")
    axis = {"left of", "right of"} if across else {"above", "below"}
    offset = one.x - other.x if across else one.y - other.y
    return bool(axis & set(related(one, other))) or abs(offset) < DOUBT


def _is_related(scene: Scene, rng: random.Random) -> Fact | None:
    one = single(scene)
    found = [r for r in relations(scene) if r.subject in one and r.object in one]
    if not found:
        return None
    r = rng.choice(found)
    first, second = scene.things[r.subject].noun, scene.things[r.object].noun
    opposite = {"left of": "right of", "above": "below"}[r.kind]
    if rng.random() < 0.5:
        return Fact(
            f"{capital(is_(first))} the {first} {WORDED[r.kind]} the {second}?",
            f"Yes, the {first} {is_(first)} {WORDED[r.kind]} the {second}.",
            "relation",
        )
    return Fact(
        f"{capital(is_(first))} the {first} {WORDED[opposite]} the {second}?",
        f"No, the {first} {is_(first)} {WORDED[r.kind]} the {second}.",
        "relation",
    )


def _side(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Fact | None:
    """Ask whether a thing is in a place, half of the time in the wrong one."""
    one = single(scene)
    if len(scene.things) == 1 or not one:
        return None
    i = rng.choice(one)
    noun, place = scene.things[i].noun, places(scene)[i]
    right = rng.random() < 0.5
    wrong = [p for p in (*places(scene), OPPOSITE.get(place, place)) if not holds(p, place)]
    if not right and not wrong:
        return None
    asked = place if right else rng.choice(wrong)
    ask = f"{capital(is_(noun))} the {noun} {asked}?"
    return Fact(
        ask, f"Yes, the {noun} {is_(noun)} {place}." if right else f"No, the {noun} {is_(noun)} {place}.", "side"
    )


def _sizes(scene: Scene) -> list[tuple[Thing, Thing]]:
    """Return the pairs of things of which the first is plainly bigger."""
    one = [scene.things[i] for i in single(scene)]
    return [(s, t) for s in one for t in one if s.area > 1.6 * t.area]


def _bigger(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Fact | None:
    if not (pairs := _sizes(scene)):
        return None
    big, small = rng.choice(pairs)
    one, other = rng.sample([big.noun, small.noun], 2)
    larger = rng.random() < 0.5
    return Fact(
        f"Which is {'bigger' if larger else 'smaller'}, the {one} or the {other}?",
        f"The {(big if larger else small).noun}.",
        "size",
    )


def _written(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Fact | None:
    if not scene.texts:
        return None
    text = rng.choice(scene.texts)
    name = board(text, scene).replace("a ", "the ", 1)
    ask = rng.choice(("What does {x} say?", "What is written on {x}?", "Read {x}.", "Which words are on {x}?"))
    if len(scene.texts) == 1 and not scene.chart and not scene.table and rng.random() < 0.3:
        ask = "What is written in the picture?"
    return Fact(ask.format(x=name), f'It says "{text.words}".', "ocr")


def _charted(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Fact | None:
    if not (chart := scene.chart):
        return None
    kind, percent = rng.random(), unit(scene)
    i = rng.randrange(len(chart.values))
    if kind < 0.45:
        ask = rng.choice(("What is the value of {x} in the chart?", "What does the chart show for {x}?"))
        return Fact(ask.format(x=chart.labels[i]), f"{chart.values[i]}{percent}.", "chart")
    if kind < 0.75:
        most = rng.random() < 0.5
        value = (max if most else min)(chart.values)
        ask = rng.choice(("Which value in the chart is the {x}?", "What is the {x} value in the chart?"))
        label = chart.labels[chart.values.index(value)]
        return Fact(ask.format(x="highest" if most else "lowest"), f"{label}, with {value}{percent}.", "chart")
    if kind < 0.88:
        return Fact(rng.choice(("What kind of chart is it?", "Which kind of chart is shown?")),
                    f"It is a {chart.kind} chart.", "chart")  # fmt: skip
    return Fact(rng.choice(("What is the title of the chart?", "What is the chart about?")),
                f'"{chart.title}".', "chart")  # fmt: skip


def _tabled(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Fact | None:
    if not (table := scene.table):
        return None
    if rng.random() < 0.2:
        n = len(table.rows)
        return Fact("How many rows does the table have, without its head?", f"{capital(NUMBERS[n])}.", "table")
    row, k = rng.choice(table.rows), rng.randrange(1, len(table.columns))
    ask = rng.choice(
        ('What is the value of "{c}" for {r} in the table?', 'What does the table say under "{c}" for {r}?')
    )
    return Fact(ask.format(c=table.columns[k], r=row[0]), f"{row[k]}.", "table")


Maker = Callable[[Scene, random.Random, Sequence[str]], Fact | None]
MAKERS: dict[Maker, float] = {
    _present: 2.0, _not_present: 2.0, _what_is: 3.0, _list: 1.5, _describe: 1.5, _count: 1.5, _where: 1.5, _colour: 1.0,
    _background: 0.7, _relation: 1.5, _side: 1.5, _bigger: 0.7, _written: 6.0, _charted: 8.0, _tabled: 8.0,
}  # fmt: skip
"""How often each kind is asked; those that few scenes have are asked more where they can be."""


def fact(scene: Scene, rng: random.Random, nouns: Sequence[str], leave_out: Sequence[str] = ()) -> Fact:
    """Return a question about the scene with its true answer, of any topic but those left out."""
    while True:
        maker = rng.choices(list(MAKERS), list(MAKERS.values()))[0]
        made = maker(scene, rng, nouns)
        if made is not None and made.topic not in leave_out:
            return made


TOPICS: dict[str, tuple[Maker, ...]] = {
    "exists": (_present, _not_present), "what": (_what_is,), "list": (_list,), "describe": (_describe,),
    "count": (_count,), "where": (_where,), "color": (_colour,), "background": (_background,),
    "relation": (_relation,), "side": (_side,), "size": (_bigger,), "ocr": (_written,), "chart": (_charted,),
    "table": (_tabled,),
}  # fmt: skip


def fact_of(topic: str, scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Fact | None:
    """Return a fact of a topic, None where the scene has nothing of the kind to ask about."""
    return rng.choice(TOPICS[topic])(scene, rng, nouns)


def existence(scene: Scene, rng: random.Random, nouns: Sequence[str], there: bool, kind: Kind = "random") -> Fact:
    """Return a yes/no question whether something is in the scene; `kind` picks what is not there."""
    return _exists(scene, rng, nouns, there, kind)


def natural(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Fact:
    """Return a question as somebody who looks at the picture asks: mostly about what is there."""
    made = fact(scene, rng, nouns)
    while made.answer.startswith("No,") and rng.random() < 0.75:
        made = fact(scene, rng, nouns)
    return made
