"""What an instruction asks for: its root verb and that verb's noun.

Rules of thumb, so that the base install stays light; where spaCy and its small English model are installed, spaCy's
parser finds verbs and nouns instead. `VERB_METHODS` says how, in the words the report uses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, TypeAlias

Rooted: TypeAlias = tuple[str, str]
"""A root verb and its noun, "" for none."""

VERB_METHODS = {
    "rules": "English texts only, first request or question of each. A rule of thumb, no parser: an imperative's "
    "first verb, or the verb after a question's auxiliary, with the last noun of the phrase that follows; questions "
    "with only a form of “be” count under “be” with what is asked about.",
    "spacy": "English texts only, first request or question of each. The root verb of spaCy's dependency parse and its "
    "direct object (with “be”: its attribute or subject).",
}

# --- verbs and nouns -----------------------------------------------------------------------------------------------


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_VERBS = _set(
    """
    add adjust advise analyze analyse answer apply arrange ask assess attach belong blow break bring brush build buy
    calculate carry catch cause change check choose circle classify clean climb close collect come compare complete
    compose compute consider contain convert cook correct count cover craft create cross cut cycle dance decide
    decorate define depict describe design detail detect determine develop differ discuss display draft draw drink
    drive eat edit elaborate estimate evaluate examine expect explain express extract face fall feature feed feel
    fill find fit fix fly focus follow generate get give go grow guess guide hang happen help hide highlight hit
    hold identify imagine imply improve include indicate infer interpret introduce invent jump keep kick know label
    land lead lean learn leave let lie lift list locate look make match mean measure mention move name need note
    notice observe offer open organize organise outline park pass pay perform pick place plan play point pour
    prepare present produce propose prove provide pull push put rank rate reach read recognize recommend reflect
    relate remember replace represent reply report rest ride rephrase rewrite run say search see sell select serve
    share shine show simplify sing sit sketch skate ski sleep smile solve sort speak specify spell stand start stay
    stop suggest summarize summarise support surround swim take talk tell think throw touch train transcribe
    translate travel try turn understand update use verify visit wait walk want wash watch wear win work write"""
)
_IRREGULAR = dict(
    pair.split(":")
    for pair in _set(
        """
        wrote:write written:write made:make held:hold shown:show drawn:draw taken:take seen:see saw:see built:build
        worn:wear sat:sit stood:stand found:find kept:keep hung:hang lying:lie given:give broken:break eaten:eat
        driven:drive says:say said:say"""
    )
)
_BE = _set(
    """
    is are was were am be been"""
)
_HELPERS = _BE | _set("do does did can could will would should may might must has have had")
_WH = _set(
    """
    what which who whom whose where when why how"""
)
_STOPS = _set(
    """
    through down up out off away together of in on at by for from with to about into over under near behind beside
    between that who which where when if as so because and or but than then based using is are was were be can could
    will would do does did has have"""
)
_THIN = _set(
    """
    the a an this that these those some any all each every both several many much more most few your my his her its
    their our me us you him them it there please just only following given two three four five six seven eight nine
    ten one what which whose how who not also very really step here they he she we i"""
)
_OPENING = re.compile(
    r"^(?:please|kindly|now|hey|hi|hello|ok|okay|so|and|(?:can|could|would|will) you|i (?:want|need|would like) you to"
    r"|let us|let's|help me|(?:based on|in|looking at) (?:the|this) (?:image|picture|photo))\b[,:\s]*",
    re.IGNORECASE,
)
_NOT_ING = _set(
    """
    building ceiling morning evening thing something anything nothing king ring string spring wing painting clothing
    setting lighting wedding drawing parking meeting"""
)


def root(text: str) -> Rooted | None:
    """Return the root verb and noun of the first request or question in an English text, None when no rule fits."""
    words = _first_request(text)
    if not words:
        return None
    if words[0] in _WH or words[0] in _HELPERS:
        return _of_question(words)
    if verb := _base(words[0]):
        return verb, _noun(words[1:])
    at = next((i for i, w in enumerate(words[:8]) if w in _WH), None)
    return None if at is None else _of_question(words[at:])


def _first_request(text: str) -> list[str]:
    sentences = [s for s in re.split(r"(?<=[.!?])\s+|\n+", text.strip()) if s]
    chosen = next((s for s in sentences if s.endswith("?")), sentences[0] if sentences else "")
    first = _words(_opened(sentences[0])) if sentences else []
    return first if first and _base(first[0]) else _words(_opened(chosen))


def _opened(sentence: str) -> str:
    while shorter := _OPENING.match(sentence):
        sentence = sentence[shorter.end() :]
    return sentence


def _words(sentence: str) -> list[str]:
    return re.findall(r"[a-z]+(?:'[a-z]+)?|[,;:()]", sentence.casefold())


def _base(word: str) -> str:
    """Return the base form of a known verb, "" when it is none."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    stems = [word]
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            stem = word.removesuffix(ending)
            stems += [stem, stem + "e", stem[:-1] if stem[-1] == stem[-2:-1] else stem]
    if word.endswith("ies"):
        stems.append(word[:-3] + "y")
    return next((s for s in stems if s in _VERBS), "")


def _of_question(words: list[str]) -> Rooted | None:
    at = next((i for i, w in enumerate(words) if w in _HELPERS), None)
    if at is None:
        verb = next((i for i, w in enumerate(words[1:], 1) if _base(w)), None)
        return None if verb is None else (_base(words[verb]), _noun(words[verb + 1 :]) or _asked(words[:verb]))
    asked = _asked(words[:at])
    found = _main_verb(words, at)
    if found is None:
        return ("be", asked or _noun(words[at + 1 :])) if words[at] in _BE else None
    return _base(words[found]), _noun(words[found + 1 :]) or asked


def _asked(words: list[str]) -> str:
    """Return the noun of a question's opening: "which of these two animals"."""
    return _noun([w for w in words if w not in _WH and w != "of"])


def _main_verb(words: list[str], helper: int) -> int | None:
    """Return where the verb after the auxiliary is: a participle after a form of "be" or "have", else a base form."""
    if words[helper] in _BE or words[helper] in ("has", "have", "had"):
        wanted: Callable[[str], bool] = lambda w: (  # noqa: E731
            w not in _NOT_ING and (w.endswith(("ing", "ed")) or w in _IRREGULAR) and bool(_base(w))
        )
    else:
        wanted = _VERBS.__contains__
    clause = range(helper + 1, len(words))
    end = next((i for i in clause if words[i] in ("that", "who", "which", ",", ";")), len(words))
    after = range(helper + 1, end)
    # A participle behind a preposition belongs to the noun there: "the colour of the car parked ...".
    if words[helper] in _BE and (
        behind := next((i for i in after if words[i] in ("of", "in", "on", "at", "for")), None)
    ):
        after = range(helper + 1, behind)
        if not any(wanted(words[i]) for i in after):
            return None
    return next((i for i in after if wanted(words[i]) and words[i - 1] not in ("the", "a", "an", "of")), None)


def _noun(words: list[str]) -> str:
    """Return the head of the noun phrase that the words begin with: its last word before a preposition or comma."""
    phrase: list[str] = []
    for word in words:
        if word in _STOPS or not word[0].isalpha():
            break
        if word not in _THIN and not (phrase and word.endswith(("ing", "ed")) and _base(word) and word not in _NOT_ING):
            phrase.append(word)
        elif phrase:
            break
    return _singular(phrase[-1].removesuffix("'s")) if phrase else ""


def _singular(noun: str) -> str:
    if noun.endswith("ies") and len(noun) > 4:
        return noun[:-3] + "y"
    if noun.endswith(("ches", "shes", "sses", "xes")):
        return noun[:-2]
    return noun[:-1] if noun.endswith("s") and not noun.endswith(("ss", "us", "is")) and len(noun) > 3 else noun


# --- spaCy ---------------------------------------------------------------------------------------------------------


def rooter() -> tuple[Callable[[str], Rooted | None], str]:
    """Return the function that finds root verbs, and which method it is ("spacy" or "rules")."""
    parser = _spacy()
    return (root, "rules") if parser is None else (lambda text: _spacy_root(parser, text), "spacy")


@cache
def _spacy() -> Any:
    try:
        import spacy  # type: ignore[import-not-found, unused-ignore]

        return spacy.load("en_core_web_sm", disable=["ner"])
    except (ImportError, OSError):
        return None


def _spacy_root(parser: Any, text: str) -> Rooted | None:
    sentences = list(parser(text[:1000]).sents)
    if not sentences:
        return None
    chosen = next((s for s in sentences if s.text.rstrip().endswith("?")), sentences[0])
    top = (sentences[0] if sentences[0].root.pos_ == "VERB" else chosen).root
    if top.pos_ not in ("VERB", "AUX"):
        return None
    wanted: Iterable[str] = ("dobj", "obj") if top.lemma_ != "be" else ("attr", "nsubj")
    nouns = [c for c in top.children if c.dep_ in wanted and c.pos_ in ("NOUN", "PROPN")]
    return top.lemma_.lower(), nouns[0].lemma_.lower() if nouns else ""
