"""Questions about a scene, understood by rules and answered from the truth.

It reads the question forms that `truth` makes and their common variants.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from foveal.scrapbook import claims as said
from foveal.scrapbook.layout import holds
from foveal.scrapbook.parts import COLOURS, Scene, Text, Thing
from foveal.scrapbook.truth import (
    NUMBERS,
    WORDED,
    Fact,
    a,
    at,
    capital,
    description,
    ground,
    is_,
    joined,
    listed,
    placed,
    places,
    plural,
    related,
    unit,
)

UNKNOWN = "The picture does not tell."
_WHOLE = r"(?: (?:in|of|on) (?:the|this|that) (?:picture|image|photo|photograph|scene)| here| shown)+$"
SIDES = "top left|top right|bottom left|bottom right|left|right|top|bottom|middle"
_AT = rf"(?:on|in|at|to) the (?:very |far )?({SIDES})(?: side| corner| hand side| edge)?"
_NEXT = {
    r"(?:directly )?(?:to|on) the left (?:side )?of|left of": "left of",
    r"(?:directly )?(?:to|on) the right (?:side )?of|right of": "right of",
    r"(?:directly )?(?:above|over|on top of)": "above",
    r"(?:directly )?(?:below|under|underneath|beneath)": "below",
}
HUES = "|".join([*COLOURS, "grey"])
_OBJECTS = {"objects", "things", "items", "different objects", "object", "things or objects"}


def reply(scene: Scene, question: str) -> Fact | None:
    """Return the true answer to a question or request, None where it is not understood or the picture does not tell.

    What takes for granted something that is not there is answered by saying so (topic "absent").
    """
    asked = plain(question)
    for pattern, answer in FORMS:
        if (found := pattern.search(asked)) and (made := answer(scene, found)):
            topic, text = made
            return Fact(question, text, topic, 4 if topic in ("list", "describe") else 5)
    return None


def plain(question: str) -> str:
    """Return a question in lower case without frills: "please", "in the picture", "answer with one word"."""
    text = re.sub(r"\s+", " ", question.lower().replace("’", "'").strip())
    text = re.sub(r"(?<=[.?!:]) (?:please )?(?:answer|reply|respond|use)\b.*$", "", text)
    text = re.sub(r"^(?:please |now |so |and |ok,? |\d+[.)] )+", "", text).rstrip(" ?.!")
    text = re.sub(r"^(?:can|could|would|will) you (?:please )?(?!see\b)", "", text)
    text = re.sub(
        r"^(?:tell me|say|i want to know|i would like to know|do you know),? (?=what|wh|how|if|is|are)", "", text
    )
    text = re.sub(r"\b(?:center|centre)\b", "middle", text)
    return re.sub(r"\blower (?=left|right)", "bottom ", re.sub(r"\bupper (?=left|right)", "top ", text))


def _short(text: str) -> str:
    return re.sub(_WHOLE, "", text)


Answer = tuple[str, str]
"""Topic and words."""


def nouns_in(phrase: str) -> list[str]:
    """Return the nouns that a phrase names."""
    return [c.noun for c in said.claims(f"There is {phrase}.") if c.kind in ("object", "absent")]


def _meant(scene: Scene, phrase: str) -> tuple[str, list[Thing]]:
    """Return the noun that a phrase names and the things it means: "the red car at the top"."""
    found = [c for c in said.claims(f"{phrase}.") if c.kind != "absent"]
    noun = next((c.noun for c in found if c.kind == "object"), "")
    things = _called(scene, noun)
    for claim in found:
        if claim.noun == noun and claim.kind == "colour":
            things = [t for t in things if t.colour == claim.value]
        if claim.noun == noun and claim.kind == "place":
            things = [t for t in things if holds(claim.value, _place(scene, t))]
    return noun, things


def _called(scene: Scene, noun: str) -> list[Thing]:
    """Return the things of that very name, else those that a broader word is true of."""
    named = [t for t in scene.things if t.noun == noun]
    return named or [t for t in scene.things if t.noun in said.covers(noun)]


def _place(scene: Scene, thing: Thing) -> str:
    return places(scene)[scene.things.index(thing)]


def _not_there(noun: str) -> Answer:
    return "absent", f"There {is_(noun)} no {noun} in the picture."


def _one(scene: Scene, phrase: str) -> Thing | Answer | None:
    """Return the one thing a phrase means; an answer where it means nothing there; None where it is not sure."""
    noun, things = _meant(scene, phrase)
    if not noun:
        return None
    if not things:
        return _not_there(noun)
    return things[0] if len(things) == 1 else None


def _yes_no(scene: Scene, claim: str, sure: bool = True) -> Answer | None:
    """Return whether a statement is true, and what is."""
    checked = [_strictly(scene, j) for j in said.judged(claim, scene)]
    if not checked or any(j.true is None for j in checked if sure):
        return None
    yes = all(j.true for j in checked)
    return _topic(checked), f"{'Yes' if yes else 'No'}, {_truly(scene, checked, yes)}"


def _strictly(scene: Scene, judged: said.Judged) -> said.Judged:
    """Hold a place against the places of the truth: who asks for a place does not want its neighbour."""
    if judged.claim.kind != "place":
        return judged
    things = _called(scene, judged.claim.noun)
    return said.Judged(judged.claim, any(holds(judged.claim.value, _place(scene, t)) for t in things))


def _topic(checked: Sequence[said.Judged]) -> str:
    kinds = {j.claim.kind for j in checked}
    order = {"relation": "relation", "place": "side", "colour": "color", "count": "count", "ground": "background"}
    return next((topic for kind, topic in order.items() if kind in kinds), "exists")


def _truly(scene: Scene, checked: Sequence[said.Judged], yes: bool) -> str:
    """Return what is true of the last and most special thing claimed."""
    absent = [j.claim.noun for j in checked if j.claim.kind in ("object", "absent") and not _there(scene, j.claim.noun)]
    if absent:
        return f"there {is_(absent[0])} no {absent[0]}."
    claim = checked[-1].claim
    special = next((j.claim for j in checked if j.claim.kind not in ("object", "absent")), claim)
    things = _called(scene, special.noun)
    match special.kind:
        case "count":
            n = len(things) if things else len(scene.things)
            noun = special.noun if special.noun != said.TOTAL else "object"
            return f"there {'is' if n == 1 else 'are'} {NUMBERS[n]} {noun if n == 1 else plural(noun)}."
        case "place" if len(things) == 1:
            return f"the {special.noun} {is_(special.noun)} {_place(scene, things[0])}."
        case "colour" if len(things) == 1:
            return f"the {special.noun} {is_(special.noun)} {things[0].colour}."
        case "relation":
            others = _called(scene, special.other)
            if len(things) == len(others) == 1 and (truly := _truly_related(things[0], others[0], special.value)):
                return truly
        case "ground":
            return f"it is {ground(scene)}."
        case "object" if yes:
            return f"there {is_(special.noun)} {a(special.noun)}."
    return "that is so." if yes else "that is not so."


def _there(scene: Scene, noun: str) -> bool:
    return noun == said.TOTAL or any(t.noun in said.covers(noun) for t in scene.things)


def _truly_related(one: Thing, other: Thing, asked: str) -> str:
    if asked in ("bigger", "smaller"):
        word = "bigger" if one.area > other.area else "smaller"
        return f"the {one.noun} {is_(one.noun)} {word} than the {other.noun}."
    axis = {"left of", "right of"} if asked in ("left", "right") else {"above", "below"}
    kind = next((k for k in related(one, other) if k in axis), "")
    return f"the {one.noun} {is_(one.noun)} {WORDED[kind]} the {other.noun}." if kind else ""


# Each of these answers one form of question; it returns None where the question is of another form after all.


def _is_there(scene: Scene, m: re.Match[str]) -> Answer | None:
    what = _short(m[1])
    if re.search(r"\b(?:sign|caption|tag|label|text|words?|writing|chart|graph|table)\b", what) and not nouns_in(what):
        return _is_panel(scene, what)
    return _yes_no(scene, f"There is {re.sub(r'^(?:exactly|only|just) ', '', what)}.")


def _is_panel(scene: Scene, what: str) -> Answer:
    here = {
        "chart": scene.chart is not None, "graph": scene.chart is not None, "table": scene.table is not None,
        "sign": any(t.kind == "sign" for t in scene.texts), "caption": any(t.kind == "caption" for t in scene.texts),
        "tag": any(t.kind == "tag" for t in scene.texts),
    }  # fmt: skip
    written = bool(scene.texts or scene.chart or scene.table)
    yes = next((there for word, there in here.items() if word in what), written)
    name = re.sub(r"^(?:an?|any|some) ", "", what)
    return "exists", f"Yes, there is a {name}." if yes else f"No, there is no {name}."


def _is_so(scene: Scene, m: re.Match[str]) -> Answer | None:
    what = _short(m[1])
    if either := re.search(rf"^(.+?) ({HUES}) or ({HUES})$", what):
        return _colour_of(scene, either[1])
    hue = re.search(rf"^(.+?)(?<! the)(?<! an)(?<! a) (?:mostly |really )?({HUES})$", what)
    if hue:
        return _background(scene, hue[2]) if "background" in hue[1] else _yes_no(scene, f"The {hue[1]} is {hue[2]}.")
    return _yes_no(scene, f"The {what}.")


def _background(scene: Scene, hue: str = "") -> Answer | None:
    one_colour = scene.ground not in ("photo", "gradient")
    if hue:
        return "background", f"{'Yes' if hue == scene.ground else 'No'}, it is {ground(scene)}."
    return "background", f"{capital(scene.ground)}." if one_colour else f"It is {ground(scene)}."


def _ground_of(scene: Scene) -> Answer:
    return "background", f"It is {ground(scene)}."


def _how_many(scene: Scene, m: re.Match[str]) -> Answer | None:
    what = _short(re.sub(r" (?:are|is|can|do)\b.*$", "", _short(m[1])))
    if what in _OBJECTS:
        return "count", f"{capital(NUMBERS[len(scene.things)])}."
    if what.startswith("row") and scene.table:
        return "table", f"{capital(NUMBERS[len(scene.table.rows)])}."
    noun, things = _meant(scene, f"some {what}")
    return ("count", f"{capital(NUMBERS[len(things)])}.") if noun else None


def _colour_of(scene: Scene, phrase: str) -> Answer | None:
    if "background" in phrase:
        return _background(scene)
    thing = _one(scene, f"the {phrase}")
    if not isinstance(thing, Thing):
        return thing
    return ("color", f"{capital(thing.colour)}.") if thing.colour else None


def _what_colour(scene: Scene, m: re.Match[str]) -> Answer | None:
    return _colour_of(scene, _short(m[1]))


def _where(scene: Scene, m: re.Match[str]) -> Answer | None:
    thing = _one(scene, f"the {_short(m[1])}")
    return ("where", f"{capital(_place(scene, thing))}.") if isinstance(thing, Thing) else thing


def _what_at(scene: Scene, m: re.Match[str]) -> Answer | None:
    asked = m[1]
    exact = [i for i, p in enumerate(places(scene)) if set(p.split()) & _words(SIDES) == set(asked.split())]
    here = exact or at(scene, asked)
    if not here:
        return "what", "Nothing."
    return "what", f"{capital(joined([a(scene.things[i].noun) for i in here]))}."


def _words(sides: str) -> set[str]:
    return set(re.split(r"[| ]", sides))


def _what_beside(scene: Scene, m: re.Match[str]) -> Answer | None:
    other = _one(scene, f"the {_short(m[2])}")
    if not isinstance(other, Thing):
        return other
    kind = next(k for pattern, k in _NEXT.items() if re.fullmatch(pattern, m[1]))
    here = [t for t in scene.things if t is not other and kind in related(t, other)]
    return "relation", f"{capital(joined([a(t.noun) for t in here]))}." if here else "Nothing."


def _which_bigger(scene: Scene, m: re.Match[str]) -> Answer | None:
    sides = [_one(scene, f"the {_short(m[k])}") for k in (2, 3)]
    for side in sides:
        if not isinstance(side, Thing):
            return side
    one, other = (side for side in sides if isinstance(side, Thing))
    big, small = (one, other) if one.area > other.area else (other, one)
    if big.area < 1.2 * small.area:
        return None
    return "size", f"The {(small if m[1] == 'smaller' else big).noun}."


def _written(scene: Scene, m: re.Match[str]) -> Answer | None:
    asked = m[0]
    texts: list[Text] = [t for t in scene.texts if t.kind in asked] or (
        [] if re.search(r"\b(?:sign|caption|tag)\b", asked) else list(scene.texts)
    )
    if len(texts) == 1:
        return "ocr", f'It says "{texts[0].words}".'
    kind = next((k for k in ("sign", "caption", "tag") if k in asked), "text")
    return ("absent", f"There is no {kind} in the picture.") if not texts else None


def _charted(scene: Scene, m: re.Match[str]) -> Answer | None:
    chart, asked = scene.chart, m[0]
    if chart is None:
        return "absent", "There is no chart in the picture."
    if re.search(r"\b(?:what|which) (?:kind|type|sort)\b", asked):
        return "chart", f"It is a {chart.kind} chart."
    if re.search(r"\b(?:title|about|topic)\b", asked):
        return "chart", f'"{chart.title}".'
    if extreme := re.search(r"\b(?:(highest|largest|biggest|most)|lowest|smallest|least)\b", asked):
        value = (max if extreme[1] else min)(chart.values)
        return "chart", f"{chart.labels[chart.values.index(value)]}, with {value}{unit(scene)}."
    named = [
        i for i, label in enumerate(chart.labels) if re.search(rf"\b{re.escape(label.lower())}\b", _no_article(asked))
    ]
    return ("chart", f"{chart.values[named[0]]}{unit(scene)}.") if len(named) == 1 else None


def _no_article(asked: str) -> str:
    """Drop articles, so that a row or bar called A is not found in them."""
    return re.sub(r"\ba (?=chart|bar|line|pie|graph|table|picture)", "", asked)


def _tabled(scene: Scene, m: re.Match[str]) -> Answer | None:
    table, asked = scene.table, _no_article(m[0])
    if table is None:
        return "absent", "There is no table in the picture."
    columns = [k for k, c in enumerate(table.columns) if k and re.search(rf"\b{re.escape(c.lower())}\b", asked)]
    if not columns and len(table.columns) == 2:
        columns = [1]
    rows = [row for row in table.rows if re.search(rf"\b{re.escape(row[0].lower())}\b", asked)]
    return ("table", f"{rows[0][columns[0]]}.") if len(rows) == len(columns) == 1 else None


def _listing(scene: Scene, m: re.Match[str]) -> Answer:
    return "list", f"{capital(listed(scene))}."


def _describing(scene: Scene, m: re.Match[str]) -> Answer | None:
    asked, rng = m.string, random.Random(scene.seed)
    if "background" in asked:
        return _ground_of(scene)
    if thing := re.search(r"^describe (?:the )?(.+)$", _short(asked)):
        noun, things = _meant(scene, f"the {thing[1]}")
        if noun and not things:
            return _not_there(noun)
        if noun:
            told = things[0]
            shown = f"{told.colour} {noun}" if told.colour else noun
            return "describe", f"It is {a(shown)} {_place(scene, told)}."
    if re.search(r"\b(?:caption|one sentence|single sentence|brief|briefly|short)\b", asked):
        return "describe", f"{capital(placed(scene, rng))}."
    detail = re.search(r"\b(?:detail|detailed|thorough|everything|full|closely|walk|account|all|explain)\b", asked)
    return "describe", description(scene, rng, detail=bool(detail))


def _form(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


FORMS: tuple[tuple[re.Pattern[str], Callable[[Scene, re.Match[str]], Answer | None]], ...] = (
    (_form(r"^.*\bchart\b.*|^.*\bgraph\b.*"), lambda s, m: _charted(s, m) if _asks_panel(m[0]) else None),
    (_form(r"^.*\btable\b.*"), lambda s, m: _tabled(s, m) if _asks_panel(m[0]) and "rows" not in m[0] else None),
    (_form(r"^(?:what|which)\b.*\b(?:say|says|written|words?|text|writing|reads?)\b.*|^read\b.*"), _written),
    (_form(r"^(?:is|are) there (?:exactly |only |just )?(.+)$"), _is_there),
    (_form(r"^(?:can|do|could) you see (.+)$"), _is_there),
    (_form(r"^(?:does|do|did) (?:the|this) (?:picture|image|photo|scene) (?:show|contain|have|include|depict) (.+)$"),
     _is_there),
    (_form(rf"^(?:is|are) ((?:an?|any|some) .+?)(?: (?:present|visible|depicted))?(?:{_WHOLE[:-1]})?$"), _is_there),
    (_form(r"^(?:is|are) (?:the|its) (.+)$"), _is_so),
    (_form(r"^how many (.+)$"), _how_many),
    (_form(r"^count (?:all )?(?:of )?(?:the )?(.+)$"), _how_many),
    (_form(r"^(?:what|which) colou?r (?:is|are|does|do) (?:the )?(.+?)(?: have)?$"), _what_colour),
    (_form(r"^what is the colou?r of (?:the )?(.+)$"), _what_colour),
    (_form(r"^what is the background(?: like)?$|^how does the background look$"), lambda s, m: _ground_of(s)),
    (_form(r"^where (?:in the (?:picture|image) )?(?:is|are) (?:the )?(.+)$"), _where),
    (_form(r"^where (?:the )?(.+?) (?:is|are)$"), _where),
    (_form(r"^which (?:one |object |thing )?is (bigger|larger|smaller)[,:]? (?:the )?(.+?) or (?:the )?(.+)$"),
     _which_bigger),
    (_form(rf"^(?:what|(?:what|which) (?:object|thing)|name (?:what|the (?:object|thing))|identify (?:what|the object))"
           rf"(?: is| are| can be seen| do you see| stands| you see| that is)* ({'|'.join(_NEXT)}) (?:the )?(.+)$"),
     _what_beside),
    (_form(rf"^(?:what|(?:what|which) (?:object|thing)|name (?:what|the (?:object|thing))|identify (?:what|the object))"
           rf"(?: is| are| can be seen| do you see| stands| you see| that is)* {_AT}(?:{_WHOLE[:-1]})?$"), _what_at),
    (_form(r"^what (?:is|are|can be seen|do you see|can you see|things are|objects are)(?: there)?"
           r"(?: (?:in|on) (?:the|this) (?:picture|image|photo|scene)| here)?$"), _listing),
    (_form(r"^(?:list|name|enumerate) (?:all )?(?:of )?(?:the )?(?:objects|things|items|everything|what you see)\b"),
     _listing),
    (_form(r"^what does (?:the|this) (?:picture|image|photo|scene) (?:show|contain|depict)$"), _listing),
    (_form(r"\bdescri(?:be|ption)\b|\bcaption\b|^walk me|^give a full account|^explain the contents"
           r"|^what does .* show[.?]|^summari[sz]e the (?:picture|image|scene)"), _describing),
)  # fmt: skip
"""Forms of questions, tried in order, and who answers them."""


def _asks_panel(asked: str) -> bool:
    return not re.search(r"^(?:is|are) there|^(?:can|do) you see|^does the|^describe|^list|^name", asked)
