"""What a free text claims about a scene, and which of it is true; rules and a table of synonyms, no model.

After CHAIR (1809.02156): the objects a text mentions are found by name and synonym and held against what
is there. Beyond CHAIR, counts, places, colours and relations are read where the sentence is plain enough; what is not
plain is left alone, so a claim found is nearly always one made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from typing import Literal, TypeAlias

from foveal.scrapbook.layout import holds
from foveal.scrapbook.parts import Scene, Thing
from foveal.scrapbook.scene import COLOURS, looks
from foveal.scrapbook.themes import like
from foveal.scrapbook.truth import MASS, PAIRS, PLURAL_ONLY, plural

Kind: TypeAlias = Literal[
    "object", "absent", "count", "place", "colour", "relation", "ground", "text", "chart", "table", "value"
]

BROADER: dict[str, str] = {
    "animal": "bear bee butterfly camel cat chicken cow deer dog dolphin donkey duck elephant fish fox frog giraffe "
    "goat horse kangaroo ladybug lion monkey mouse owl parrot penguin pig rabbit rooster sheep snail spider squirrel "
    "tiger whale",
    "bird": "chicken duck owl parrot penguin rooster",
    "insect": "bee butterfly ladybug",
    "fruit": "apple banana cherry grapes lemon orange pear pineapple strawberry watermelon",
    "vegetable": "corn pepper pumpkin",
    "vehicle": "airplane bicycle boat bus car motorcycle train truck",
    "instrument": "drum guitar trumpet violin",
    "tool": "hammer scissors wrench",
    "building": "castle house",
    "chicken": "chicken rooster",
}
"""Words for several nouns: true where any of them is there. A rooster is a chicken, but not the other way round."""
TOTAL = "object"
"""The noun of claims about how many things there are in all."""
EVERYTHING = {"object", "objects", "thing", "things", "item", "items"}
_PANELS = """
    chart, bar chart, line chart, pie chart, graph, bar graph, table, sign, tag, label, caption, strip, board, column,
    row, bar, text, word, title, value, price tag
"""
_OTHERS = """
    hot dog, sea lion, teddy bear, guinea pig, sea horse, computer mouse, orange juice, apple juice, bottle cap,
    sun glasses, egg plant, pepper mill, book shelf, book case, sun set, sun rise, star fish, cat fish, pan cake,
    dog house, tree house, bird house, key board, tea bag
"""
NOT_THESE = tuple(word.strip() for word in f"{_PANELS},{_OTHERS}".split(","))
"""Names that hold a noun's name and are something else, and what is no object but may stand in a place."""
IRREGULAR = {"mouse": "mice", "loaf": "loaves", "calf": "calves", "snowman": "snowmen", "goose": "geese"}
_COUNTING = "zero one two three four five six seven eight nine ten eleven twelve"
NUMBERS = {word: n for n, word in enumerate(_COUNTING.split())} | {"single": 1}
HUES = {colour: colour for colour in COLOURS} | {"grey": "gray", "violet": "purple"}
DEFINITE = {"the", "this", "that", "these", "those", "its", "their", "both", "each"}
DETERMINERS = DEFINITE | {"a", "an", "some", "another", "any"}
_PLAIN_WORDS = """
    big small large little tiny huge bright dark light shiny cute very colored coloured colorful colourful old young new
    pale vivid cartoon ripe fresh round different similar identical
"""
PLAIN = set(_PLAIN_WORDS.split())
"""Adjectives that may stand between a number or a colour and its noun, any number of them; of others just one may."""
_STOP_WORDS = """
    and or but of with on in at to by for from near beside is are was be as than between behind i we you can there see
    sees shows show has have contains contain includes include features depicts , : ( )
"""
STOPS = set(_STOP_WORDS.split())
PAIRED = PLURAL_ONLY | PAIRS | MASS | {"shoe", "glove", "sock", "boot"}
"""Nouns of which a pair may be one thing."""
DENIES = {"not", "cannot", "never", "without", "neither", "nor"}
LONGEST = 4
"""Words of the longest name."""
NEAR = 0.05
"""Centres nearer than this, as a share of the side, are neither left nor right of each other."""
CLAUSE = re.compile(r"\b(?:but|however|although|though|whereas|while|instead(?! of)|except)\b")
SIDES = {"center": "middle", "centre": "middle"}
_SIDE = r"(left|right|top|bottom|middle|center|centre)"
_WHOLE = r"the (?:picture|image|photo|photograph|scene|frame|view|canvas)\b"
PLACE = re.compile(
    rf"\b(?:on|in|at|to|near|towards?)(?> the| its)?(?> very| far)?(?> {_SIDE})(?> {_SIDE})?"
    rf"(?> hand)?(?> side| corner| half| part| edge| third)?(?! of (?!{_WHOLE}))"
)
_ENDS = r"(?: an?| the| it| them)?(?: ,)?$"
RELATIONS = {
    "left": re.compile(rf"\bleft (?:side )?of{_ENDS}"),
    "right": re.compile(rf"\bright (?:side )?of{_ENDS}"),
    "above": re.compile(rf"\b(?:above|over){_ENDS}"),
    "below": re.compile(rf"\b(?:below|under|underneath|beneath){_ENDS}"),
    "bigger": re.compile(rf"\b(?:bigger|larger) than{_ENDS}"),
    "smaller": re.compile(rf"\bsmaller than{_ENDS}"),
}
_LINKS = "is are was there stands standing sits sitting lies lying appears you can see be seen , directly just"
_HUE = "|".join(HUES)
_PLAIN = r"(?:(?:an?|plain|solid|simple|uniform|smooth|bright|dark|light|pale) )*"
GROUND = re.compile(
    rf"\b({_HUE}|photographic|photo|gradient)(?: (?:plain|solid|colou?red|colou?r))* (?:background|backdrop)\b"
    rf"|\b(?:background|backdrop) (?:is|has|looks) {_PLAIN}({_HUE}|photographic|photo|gradient)\b"
)
PREDICATE = re.compile(
    rf"^(?:is|are|looks?|appears?) (?:very |mostly |all )?{_PLAIN}({_HUE})\b(?! (?:and|or) (?:{_HUE})\b)"
)


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that a text says of a scene.

    Attributes:
        kind: "object" (it is there), "absent" (it is not), "count", "place", "colour", "relation", "ground", "text" (it
            is written there), "chart", "table", "value" (of a chart).
        noun: what it is said of: a noun of the scenes, a word of BROADER, TOTAL, a chart's label, "" for the whole.
        value: the count, the side ("left", "top left"), the colour, the relation ("left": noun is left of other), the
            words, the kind of chart, the value.
        other: the relation's second noun; for counts and places the colour that picks the things meant.
    """

    kind: Kind
    noun: str
    value: str = ""
    other: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (self.kind, self.other, self.noun, self.value) if part)


@dataclass(frozen=True, slots=True)
class Mention:
    """A noun as it stands in a clause: words `start` to `end`, with what stands before it.

    Attributes:
        begin: where its determiner, number and adjectives begin.
        number: the number before it, None for none.
        denied: what it names is said not to be there.
    """

    noun: str
    start: int
    end: int
    begin: int
    number: int | None = None
    colour: str = ""
    denied: bool = False


# --- names ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _names() -> dict[tuple[str, ...], str]:
    """Return every name, singular and plural, as words -> noun."""
    names = {name: noun for noun, many in synonyms().items() for name in many}
    names |= {word: word for word in BROADER} | dict.fromkeys(NOT_THESE, "") | dict.fromkeys(EVERYTHING, TOTAL)
    names |= {noun: noun for noun in synonyms()}
    both = {form: noun for name, noun in names.items() for form in (name, *_plurals(name))}
    return {tuple(re.findall(r"[a-z]+", form.replace("'", ""))): noun for form, noun in both.items()}


@lru_cache(maxsize=1)
def synonyms() -> dict[str, tuple[str, ...]]:
    """Return noun -> other names, for every noun that is drawn and some that never are."""
    text = resources.files("foveal.scrapbook").joinpath("synonyms.tsv").read_text("utf-8")
    rows = (line.partition("\t") for line in text.splitlines() if line and not line.startswith("#"))
    listed = {noun: tuple(n for n in names.split(", ") if n) for noun, _, names in rows}
    return {look.noun: () for look in looks()} | listed


def _plurals(name: str) -> tuple[str, ...]:
    first, of, rest = name.partition(" of ")
    head, _, last = first.rpartition(" ")
    forms = {plural(last), IRREGULAR.get(last, plural(last))}
    return tuple(f"{head} {form}".strip() + of + rest for form in sorted(forms))


# --- reading -------------------------------------------------------------------------------------------------------


def claims(text: str) -> list[Claim]:
    """Return what a text claims, in order, every mention counted; questions claim nothing."""
    quotes: list[str] = []
    found: list[Claim] = []
    for sentence in _sentences(text, quotes):
        found += [Claim("text", "", quotes[int(n)]) for n in re.findall(r"\bquoted (\d+)\b", sentence)]
        found += _drawn(sentence)
        found += [_ground_claim(m) for m in GROUND.finditer(sentence)]
        plain = re.sub(r"\bquoted \d+\b", "", sentence)
        found += _counts_merged([c for clause in _clauses(plain) for c in _clause_claims(clause)])
    return found


def _sentences(text: str, quotes: list[str]) -> list[str]:
    """Return the sentences that assert something, in lower case without marks; what they quote goes to `quotes`."""

    def aside(found: re.Match[str]) -> str:
        quotes.append(found[1].strip())
        return f" quoted {len(quotes) - 1} "

    plain = re.sub(r"[\"“”]([^\"“”\n]{1,80})[\"“”]", aside, text)
    plain = re.sub(r"\b(?:says|reads):? +(?!quoted)([A-Z0-9$][^.!?,;\n]{0,60})", lambda m: f"says {aside(m)}", plain)
    plain = re.sub(r"[*_`#\"“”]", " ", plain.lower().replace("’", "'"))
    parts = re.findall(r"([^.!?\n;]+)([.!?\n;]*)", plain)
    return [re.sub(r"\s+", " ", body.replace("-", " ")).strip() for body, mark in parts if "?" not in mark]


def _drawn(sentence: str) -> Iterator[Claim]:
    """Yield what a sentence says of a chart or a table."""
    if re.search(r"\b(?:no|not|without)\b", sentence):
        return
    if found := re.search(r"\b(bar|line|pie) (?:chart|graph)\b", sentence):
        yield Claim("chart", "", found[1])
    if re.search(r"\ba (?:small )?table\b", sentence):
        yield Claim("table", "")
    if re.search(r"\b(?:chart|graph)\b", sentence):
        for value, label in re.findall(r"(\d+) ?%? for (\w+)", sentence):
            yield Claim("value", label, value)


def _clauses(sentence: str) -> Iterator[list[str]]:
    for clause in CLAUSE.split(sentence):
        words = re.findall(r"[a-z]+(?:'[a-z]+)?|\d+|[,():]", clause)
        if words:
            yield ["not" if w.endswith("n't") else w.removesuffix("'s") for w in words]


def _ground_claim(found: re.Match[str]) -> Claim:
    what = found[1] or found[2]
    return Claim("ground", "", "photo" if what == "photographic" else HUES.get(what, what))


def _clause_claims(words: list[str]) -> list[Claim]:
    mentions = _mentions(words)
    begins, ends = [m.begin for m in mentions] + [len(words)], [0] + [m.end for m in mentions]
    parts = [" ".join(words[end:begin]) for end, begin in zip(ends, begins, strict=True)]
    said: list[Claim] = []
    for i, mention in enumerate(mentions):
        said += _of_mention(mention, parts[i + 1])
        said += _colour_told(mention, parts[i + 1])
    for i, part in enumerate(parts):
        if mentions and "not" not in part.split():
            said += _of_part(mentions, parts, i)
    return said


def _of_mention(m: Mention, after: str) -> Iterator[Claim]:
    """Yield what a noun with its number and adjectives claims by itself."""
    if not m.noun:
        return
    if m.denied or m.number == 0:
        if m.noun != TOTAL and not PLACE.search(after) and not _relation(after):  # "no cat on the left" denies no cat
            yield Claim("absent", m.noun)
        return
    if m.noun != TOTAL:
        yield Claim("object", m.noun)
    if m.number is not None:
        yield Claim("count", m.noun, str(m.number), m.colour)
    elif m.colour and m.noun != TOTAL:
        yield Claim("colour", m.noun, m.colour)


def _colour_told(m: Mention, after: str) -> Iterator[Claim]:
    found = PREDICATE.search(after)
    if found and m.noun and m.noun != TOTAL and not m.denied:
        yield Claim("colour", m.noun, HUES[found[1]])


def _of_part(mentions: Sequence[Mention], parts: Sequence[str], i: int) -> Iterator[Claim]:
    """Yield the relations and places claimed by the words before mention i (after the last one for the last part)."""
    before = mentions[i - 1] if i else None
    after = mentions[i] if i < len(mentions) else None
    if name := _relation(parts[i]):
        following = mentions[i + 1] if i + 1 < len(mentions) else None
        yield from _related(name, parts[i], before, after, following, parts[i + 1] if after else "")
        return
    yield from _placed(parts[i], before, after)


def _relation(part: str) -> str:
    return next((name for name, pattern in RELATIONS.items() if pattern.search(part)), "")


def _related(
    name: str, part: str, before: Mention | None, after: Mention | None, following: Mention | None, then: str
) -> Iterator[Claim]:
    """Yield "x is above y", "above y is x", "x, and above it y"; other wordings are not plain enough."""
    joined = re.search(r"\band\b|,", part) is not None
    pair: tuple[Mention | None, Mention | None] = (None, None)
    if re.search(r"\b(?:it|them)(?: ,)?$", part):
        pair = after, before
    elif before is None and following and set(then.split()) <= set(_LINKS.split()):
        pair = following, after
    elif not joined:
        pair = before, after
    one, other = pair
    if one and other and _fit(one) and _fit(other):
        yield Claim("relation", one.noun, name, other.noun)


def _fit(mention: Mention) -> bool:
    return bool(mention.noun) and mention.noun != TOTAL and not mention.denied


def _placed(part: str, before: Mention | None, after: Mention | None) -> Iterator[Claim]:
    """Yield the places in a part: what stands after a comma or "and", right before a noun, is that noun's."""
    pieces = [p.strip() for p in re.split(r"\band\b|,", part)]
    told = [(n, found) for n, piece in enumerate(pieces) if (found := PLACE.search(piece))]
    for n, found in told:
        last = n == len(pieces) - 1 and len(pieces) > 1
        of_after = before is None or (after is not None and (last or (len(told) > 1 and (n, found) == told[-1])))
        mention = after if of_after else before
        if mention and _fit(mention):
            yield Claim("place", mention.noun, side_of(found), mention.colour)


def side_of(found: re.Match[str]) -> str:
    """Return the side or corner that a match of PLACE names: "left", "top left", "middle"."""
    sides = [SIDES.get(side, side) for side in found.groups() if side]
    outer = [side for side in sides if side != "middle"]
    return " ".join(sorted(set(outer), reverse=True)) or "middle"


def _counts_merged(said: list[Claim]) -> list[Claim]:
    """Merge "one cat on the left and two cats on the right" into a single count of three."""
    sums: dict[tuple[str, str], int] = {}
    for claim in said:
        if claim.kind == "count":
            key = claim.noun, claim.other
            sums[key] = sums.get(key, 0) + int(claim.value)
    merged = []
    for claim in said:
        if claim.kind != "count":
            merged.append(claim)
        elif (n := sums.pop((claim.noun, claim.other), None)) is not None:
            merged.append(replace(claim, value=str(n)))
    return merged


def _mentions(words: list[str]) -> list[Mention]:
    """Return the nouns of a clause in order; of "apple tree" only the tree."""
    spans = list(_spans(words))
    begins = {start for _, start, _ in spans}
    heads = [span for span in spans if span[2] not in begins]
    mentions: list[Mention] = []
    for noun, start, end in heads:
        if words[start] == "orange" and _is_colour(words, start, end):
            continue
        mention = _with_adjectives(words, noun, start, end)
        mentions.append(replace(mention, denied=mention.denied or _denied(words, mention, mentions)))
    return mentions


def _spans(words: list[str]) -> Iterator[tuple[str, int, int]]:
    """Yield (noun, start, end) of the longest names."""
    names, at = _names(), 0
    while at < len(words):
        sizes = (n for n in range(min(LONGEST, len(words) - at), 0, -1) if tuple(words[at : at + n]) in names)
        size = next(sizes, 0)
        if size:
            yield names[tuple(words[at : at + size])], at, at + size
        at += size or 1


def _is_colour(words: list[str], start: int, end: int) -> bool:
    """Tell whether "orange" is a colour here: "is orange", "orange background", "orange and white"."""
    after, before = words[end : end + 2], words[start - 1] if start else ""
    told = {"background", "backdrop", "color", "colour", "one", "colored", "coloured", "shape"}
    mixed = after[:1] == ["and"] and after[1:] and after[1] in HUES and after[1] != "orange"
    alone = len(words) == 1  # the answer to what colour something is
    return alone or before in {"is", "are"} or after[:1] in [[word] for word in told] or bool(mixed)


def _with_adjectives(words: list[str], noun: str, start: int, end: int) -> Mention:
    """Walk back from a noun over its adjectives, number and determiner."""
    at, number, hues, strange, others, denied = start, None, list[str](), 0, False, False
    while at:
        word = words[at - 1]
        mixing = word == "and" and hues and at > 1 and words[at - 2] in HUES
        if word in HUES:
            hues.append(HUES[word])
        elif word in NUMBERS or word.isdigit():
            number, at = _number(word), at - 1
            break
        elif word in DETERMINERS or word == "no":
            denied, at = word == "no", at - 1
            break
        elif word in {"other", "more"}:
            others = True
        elif word not in PLAIN and not mixing:
            strange += 1
            if strange > 1 or word in STOPS or word in DENIES or word.endswith("ing"):
                break
        at -= 1
    if words[max(0, at - 2) : at] in (["couple", "of"], ["pair", "of"]):
        number, at = number if noun in PAIRED else 2, at - 2
    return Mention(noun, start, end, at, None if others else number, hues[0] if len(hues) == 1 else "", denied)


def _number(word: str) -> int | None:
    return NUMBERS[word] if word in NUMBERS else int(word) if len(word) < 4 else None


def _denied(words: list[str], mention: Mention, before: Sequence[Mention]) -> bool:
    """Tell whether a noun is said not to be there: "no x or y", "not an x", "without x", "instead of x"."""
    first = words[mention.begin]
    between = words[before[-1].end if before else 0 : mention.begin]
    if before and before[-1].denied and mention.number is None:
        if between in (["or"], ["nor"]) and first not in DEFINITE:
            return True
        if between in ([","], [",", "or"]) and first not in DETERMINERS - {"any"} and {"or", "nor"} & set(words):
            return True
    if between[-2:] in (["instead", "of"], ["rather", "than"]):
        return True
    scope = " ".join(between)
    fresh = re.split(r", (?:and )?(?=there|it|the|this|they)", scope)[-1]
    return first not in DEFINITE and any(w in DENIES for w in fresh.split())


# --- holding against the truth -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Judged:
    """A claim and whether it is true; None where the truth does not tell."""

    claim: Claim
    true: bool | None


def judged(text: str, scene: Scene) -> list[Judged]:
    """Return what a text claims about a scene, each with whether it is true."""
    return [Judged(claim, check(claim, scene)) for claim in claims(text)]


def objects(text: str) -> list[str]:
    """Return the nouns a text says are there, every mention, broader words left out."""
    return [c.noun for c in claims(text) if c.kind == "object" and c.noun in synonyms()]


@lru_cache(maxsize=1024)
def covers(noun: str) -> frozenset[str]:
    """Return the nouns that a word is true of: "bird" of owls; "flower" of roses where roses are drawn by that name."""
    known = synonyms()
    return frozenset((noun, *BROADER.get(noun, "").split(), *(name for name in known.get(noun, ()) if name in known)))


def check(claim: Claim, scene: Scene) -> bool | None:
    """Tell whether a claim is true of a scene; None where the truth does not tell (a colour that nobody named)."""
    things = [t for t in scene.things if claim.noun == TOTAL or t.noun in covers(claim.noun)]
    match claim.kind:
        case "object":
            return bool(things)
        case "absent":
            if not things and any(like(claim.noun) & like(t.noun) for t in scene.things):
                return None  # what may pass for it is there
            named = claim.noun in synonyms() and not any(t.noun == claim.noun for t in things)
            return None if things and named else not things
        case "count":
            return _count_true(claim, things)
        case "place":
            return any(claim.other in ("", t.colour) or not t.colour for t in things if _stands(t, claim.value))
        case "colour":
            return _colour_true(claim.value, things)
        case "relation":
            others = [t for t in scene.things if t.noun in covers(claim.other)]
            return any(_holds(claim.value, s, t) for s in things for t in others if s is not t)
        case "text":
            return _same(claim.value) in set(map(_same, _written(scene)))
        case "chart":
            return scene.chart is not None and scene.chart.kind == claim.value
        case "table":
            return scene.table is not None
        case "value":
            chart = scene.chart
            values = dict(zip(map(str.lower, chart.labels), chart.values, strict=True)) if chart else {}
            return values.get(claim.noun) == int(claim.value)
        case "ground":
            plain = scene.ground not in ("photo", "gradient")
            return scene.ground == claim.value or (False if plain or claim.value in ("photo", "gradient") else None)


def _written(scene: Scene) -> Iterator[str]:
    """Yield everything that can be read in a scene."""
    yield from (text.words for text in scene.texts)
    if scene.chart:
        yield from (scene.chart.title, *scene.chart.labels)
    if scene.table:
        yield from (*scene.table.columns, *(cell for row in scene.table.rows for cell in row))


def _same(words: str) -> str:
    return re.sub(r"\W+", " ", words.lower()).strip()


def _count_true(claim: Claim, things: Sequence[Thing]) -> bool | None:
    n = int(claim.value)
    if not claim.other:
        return n in (len(things), sum(t.noun == claim.noun for t in things))
    sure = sum(t.colour == claim.other for t in things)
    return n == sure or (None if sure < n <= sure + sum(not t.colour for t in things) else False)


def _colour_true(colour: str, things: Sequence[Thing]) -> bool | None:
    if any(t.colour == colour for t in things):
        return True
    return None if any(not t.colour for t in things) else False


def _stands(thing: Thing, place: str) -> bool:
    """Tell whether a thing's centre is on a side, with room for what people call a side."""
    sides = {
        "left": thing.x < 0.42, "right": thing.x > 0.58, "top": thing.y < 0.42, "bottom": thing.y > 0.58,
        "middle": 0.3 < thing.x < 0.7 and 0.3 < thing.y < 0.7,
    }  # fmt: skip
    return holds(place, thing.place) or all(sides[side] for side in place.split())


def _holds(relation: str, one: Thing, other: Thing) -> bool:
    match relation:
        case "left":
            return one.x < other.x - NEAR
        case "right":
            return one.x > other.x + NEAR
        case "above":
            return one.y < other.y - NEAR
        case "below":
            return one.y > other.y + NEAR
        case "bigger":
            return one.area > other.area
    return one.area < other.area
