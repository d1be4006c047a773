"""Rewards that can be checked, as plain functions with the signature of TRL's GRPO and RLOO trainers.

A reward takes `completions` (texts, or lists of one message) and columns of the rows, lists of the same length, and
returns a number a completion; None where the row has nothing to compare with, so that the row does not count. What is
compared is the *final* answer: the text in the last <answer> tag, or what stands after the thoughts.

A reward that is optimised is gamed sooner or later (survey 2503.14504, on reward hacking): watch a stricter one on rows
that are held out (`watch.HeldOut`), and precision together with recall.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import orjson

from foveal.errors import RecipeError, SourceError, nearest
from foveal.train.loss_table import weight_of

Completion: TypeAlias = str | Sequence[Mapping[str, Any]]
Function: TypeAlias = Callable[..., list[float | None]]
Box: TypeAlias = tuple[float, float, float, float]

LIMIT = 64
"""Words up to which `brief` finds an answer short."""

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_AS_DIGITS = {word: str(n) for n, word in enumerate(_NUMBERS)}
_ARTICLES = {"a", "an", "the"}
_TOKEN = re.compile(r"(?<![\w.])-?\d+(?:[.,]\d+)*|[^\W_]+")
_LETTER_ALONE = re.compile(r"[\s(\[*]*([A-Za-z])[\s)\].:*]*")
_LETTER_FIRST = re.compile(r"\s*(?:\(([A-Z])\)|\*\*([A-Z])\*\*|([A-Z])[.:)])(?:\s|$)")
_LETTER_TOLD = re.compile(r"\b(?:answer|option|choice)(?: is|:)?\s*(?:option\s*)?[(\[*]{0,2}([A-Z])\b", re.IGNORECASE)
_NUMBER = r"\s*(-?\d+(?:\.\d+)?)\s*"
_BOX = re.compile(
    rf"\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]|\({_NUMBER},{_NUMBER}\)\s*,?\s*\({_NUMBER},{_NUMBER}\)"
)
_TAGGED = re.compile(r"\s*<think>(.*\S.*)</think>\s*<answer>(.*\S.*)</answer>\s*", re.DOTALL)


# --- reading answers -------------------------------------------------------------------------------------------------


def text_of(completion: Completion) -> str:
    """Return what was said, of a text or of a list of messages."""
    if isinstance(completion, str):
        return completion
    parts = [m["content"] for m in completion if m.get("role", "assistant") == "assistant"]
    return "".join(p if isinstance(p, str) else "".join(b.get("text", "") for b in p) for p in parts)


def final(completion: Completion) -> str:
    """Return the final answer: inside the last <answer> tag, else all that follows the thoughts."""
    text = text_of(completion)
    tagged = re.findall(r"<answer>(.*?)</answer>", text, re.DOTALL)
    return (tagged[-1] if tagged else text.rpartition("</think>")[2]).strip()


def normal(text: str) -> str:
    """Return a short answer without what does not matter: case, marks, articles, "two" for 2, "3.0" for 3."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("−", "-")
    words = [_AS_DIGITS.get(w, w) for w in _TOKEN.findall(folded)]
    kept = [_plain_number(w) for w in words if w not in _ARTICLES]
    return " ".join(kept or words) or folded.strip()


def _plain_number(word: str) -> str:
    if re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?", word):
        word = word.replace(",", "")
    return word.rstrip("0").rstrip(".") if re.fullmatch(r"-?\d+\.\d+", word) else word


def letter(text: str) -> str:
    """Return the option an answer to a multiple-choice question names, in upper case; "" for none or several."""
    alone = _LETTER_ALONE.fullmatch(text)
    first = _LETTER_FIRST.match(text)
    told = {m.upper() for m in _LETTER_TOLD.findall(text)}
    if alone:
        return alone[1].upper()
    if first:
        told.add(next(g for g in first.groups() if g))
    return told.pop() if len(told) == 1 else ""


def verdict(text: str) -> str:
    """Return "yes" or "no": what an answer opens with, or else the only one of them it says; "" for neither or both."""
    folded = text.casefold()
    opening = re.match(r"\W*(yes|no)\b(?!\W+(?:(?:and|or)\W+)?(?:yes|no)\b)", folded)
    said = set(re.findall(r"\b(yes|no)\b", folded))
    return opening[1] if opening else said.pop() if len(said) == 1 else ""


def box(text: str) -> Box | None:
    """Return the box in a text, [left, top, right, bottom]; None for none, for several and for an empty one."""
    found = {tuple(float(n) for n in m.groups() if n is not None) for m in _BOX.finditer(text)}
    if len(found) != 1:
        return None
    left, top, right, bottom = found.pop()
    return (left, top, right, bottom) if left < right and top < bottom else None


def overlap(one: Box, other: Box) -> float:
    """Return the intersection of two boxes over their union, 0 to 1."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other))
    return shared / (areas - shared)


# --- rewards ---------------------------------------------------------------------------------------------------------


def exact(completions: Sequence[Completion], answer: Sequence[str], **_: Any) -> list[float | None]:
    """1 when the final answer is the reference, case, marks, articles and spelt-out numbers aside; else 0."""
    return [float(normal(final(c)) == normal(a)) if a.strip() else None for c, a in _rows(completions, answer)]


def verbatim(completions: Sequence[Completion], answer: Sequence[str], **_: Any) -> list[float | None]:
    """1 when the final answer is the reference letter by letter; for watching more than for training."""
    return [float(final(c) == a.strip()) if a.strip() else None for c, a in _rows(completions, answer)]


def choice(completions: Sequence[Completion], answer: Sequence[str], **_: Any) -> list[float | None]:
    """1 when the option that is named is the right one; naming none or several is 0."""
    right = [letter(a) for a in answer]
    return [float(letter(final(c)) == r) if r else None for c, r in _rows(completions, right)]


def yes_no(completions: Sequence[Completion], answer: Sequence[str], **_: Any) -> list[float | None]:
    """1 when the answer says yes where the reference does, or no; saying neither or both is 0."""
    right = [verdict(a) for a in answer]
    return [float(verdict(final(c)) == r) if r else None for c, r in _rows(completions, right)]


def iou(completions: Sequence[Completion], answer: Sequence[str], **_: Any) -> list[float | None]:
    """Overlap of the one box that is named with the reference's, 0 to 1; several boxes are 0 (VLM-R1, 2504.07615)."""
    right = [box(a) for a in answer]
    pairs = [(box(final(c)), r) for c, r in _rows(completions, right)]
    return [None if r is None else overlap(b, r) if b else 0.0 for b, r in pairs]


def tagged(completions: Sequence[Completion], **_: Any) -> list[float | None]:
    """1 when the text is thoughts in <think>, then an answer in <answer>, neither empty, and nothing besides."""

    def fits(text: str) -> bool:
        once = all(text.count(tag) == 1 for tag in ("<think>", "</think>", "<answer>", "</answer>"))
        return once and _TAGGED.fullmatch(text) is not None

    return [float(fits(text_of(c))) for c in completions]


def brief(completions: Sequence[Completion], **_: Any) -> list[float | None]:
    """0 up to `LIMIT` words, then falling evenly to -1 at twice as many: keeps length from being what pays."""
    return [-min(max(len(text_of(c).split()) - LIMIT, 0) / LIMIT, 1.0) for c in completions]


def claims(completions: Sequence[Completion], tags: Sequence[str], **_: Any) -> list[float | None]:
    """Share of a text's claims that are true of the scene; 0 when it claims nothing, None without the scene's truth."""
    from foveal.scrapbook.claims import judged

    def precision(text: str, scene: Any) -> float:
        told = [j.true for j in judged(text, scene) if j.true is not None]
        return sum(told) / len(told) if told else 0.0

    return [precision(final(c), s) if s else None for c, s in _rows(completions, [_scene(t) for t in tags])]


def recall(completions: Sequence[Completion], tags: Sequence[str], **_: Any) -> list[float | None]:
    """Share of the kinds of things in the scene that a text mentions; None without the scene's truth."""
    from foveal.scrapbook.claims import objects

    def share(text: str, scene: Any) -> float:
        there = {t.noun for t in scene.things}
        return len(there & set(objects(text))) / len(there)

    return [share(final(c), s) if s and s.things else None for c, s in _rows(completions, [_scene(t) for t in tags])]


def _rows(completions: Sequence[Completion], column: Sequence[Any]) -> list[tuple[Completion, Any]]:
    return list(zip(completions, column, strict=True))


def _scene(tags: str | Mapping[str, Any]) -> Any:
    """Return the truth in a row's tags (tag `scene`: a line of a scrapbook's truth.jsonl), or None without one."""
    from foveal.scrapbook.folder import from_json

    try:
        told = orjson.loads(tags) if isinstance(tags, str) else tags
        return from_json(told["scene"]).scene
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


# --- rewards by name -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reward:
    """One reward: what it is for people, its function, and the columns it reads."""

    about: str
    call: Function
    columns: tuple[str, ...] = ()


REWARDS: Mapping[str, Reward] = MappingProxyType(
    {
        "exact": Reward("the final answer is the reference, but for case, marks, articles", exact, ("answer",)),
        "verbatim": Reward("the final answer is the reference, letter by letter", verbatim, ("answer",)),
        "choice": Reward("the option named is the right one", choice, ("answer",)),
        "yes_no": Reward("yes or no, as the reference", yes_no, ("answer",)),
        "iou": Reward("overlap of the box named with the reference's", iou, ("answer",)),
        "tagged": Reward("thoughts in <think>, answer in <answer>", tagged),
        "claims": Reward("share of claims that are true of the scene (tag `scene`)", claims, ("tags",)),
        "recall": Reward("share of the scene's things that are mentioned (tag `scene`)", recall, ("tags",)),
        "brief": Reward(f"below 0 beyond {LIMIT} words", brief),
    }
)  # fmt: skip
"""Every reward by its name."""


def chosen(rewards: Sequence[str], strict: Sequence[str] = ()) -> tuple[list[Function], list[float]]:
    """Return the functions for TRL's `reward_funcs` and their `reward_weights`.

    What is only watched has weight 0: TRL logs it beside the others, on held-out rows too, and learns nothing from it.

    Args:
        rewards: names, each with its weight after a colon if it is not 1: "exact", "tagged:0.5".
        strict: names of what is only watched.

    Raises:
        RecipeError: no reward, a name or weight that does not bind, a name twice.
    """
    weights: dict[str, float] = {}
    for part in rewards:
        name, _, number = part.strip().partition(":")
        _known(name)
        if name in weights:
            raise RecipeError(f"reward {name!r} is named twice; give it one weight")
        weights[name] = weight_of(number, f"reward {part.strip()!r}", "tagged:0.5")
    if not weights:
        raise RecipeError(f"a reward is wanted, one or more of: {', '.join(REWARDS)}")
    for name in strict:
        _known(name)
        weights.setdefault(name, 0.0)
    return [REWARDS[name].call for name in weights], list(weights.values())


def check(names: Sequence[str], rows: Sequence[Mapping[str, Any]], where: str = "the data set") -> None:
    """Refuse rows of which a reward can say nothing.

    Args:
        names: as `chosen` takes them.
        rows: dicts of columns; the first one that a reward finds something in is enough.
        where: what to call the rows.

    Raises:
        SourceError: names the reward and what it misses.
    """
    for part in names:
        name = part.partition(":")[0].strip()
        reward = _known(name)
        columns: Collection[str] = rows[0].keys() if rows else ()
        for column in reward.columns:
            if column not in columns:
                raise SourceError(f"{where} has no column {column!r}, which reward {name!r} needs")
        told = (reward.call([""], **{c: [row[c]] for c in reward.columns})[0] for row in rows)
        if all(value is None for value in told):
            raise SourceError(f"{where} has no row that reward {name!r} can judge: {reward.about}")


def _known(name: str) -> Reward:
    if name not in REWARDS:
        raise RecipeError(f"no reward {name!r}{nearest(name, REWARDS)}")
    return REWARDS[name]
