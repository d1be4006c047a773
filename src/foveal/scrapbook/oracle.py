"""The oracle: answers, captions and instructions judged from the truth about a scene; `reply` answers questions.

By rules, and without mistakes on what `truth` words. It exists to measure methods with: a method whose judge is the
oracle shows its own mistakes and nobody else's.
"""

from __future__ import annotations

import re
from itertools import pairwise

from foveal.scrapbook import claims as said
from foveal.scrapbook.parts import Scene
from foveal.scrapbook.replies import HUES, SIDES, UNKNOWN, nouns_in, plain, reply
from foveal.scrapbook.truth import NUMBERS, Fact, counts

__all__ = [
    "UNKNOWN", "asks", "clarity", "good", "grounded", "recalled", "reply", "requests", "rich", "sensible", "sentences",
    "solvable", "true",
]  # fmt: skip

REQUESTS = (
    "describe|list|name|count|tell|write|give|read|find|explain|identify|point|compare|walk|look|say|show|summarize|"
    "summarise|caption|state|mention|report|enumerate|specify|please|can you|could you|i would like|i cannot see"
)
"""How a request begins that is not a question."""


def sentences(text: str) -> list[str]:
    """Return a text's sentences with their marks; a number at the head of a line is not one of them."""
    lines = [re.sub(r"^\s*(?:\d+[.)]|[-*])\s+", "", line) for line in text.splitlines()]
    parts = [p for line in lines for p in re.split(r"(?<=[.?!])\s+(?=[A-Z\"'(])", line.strip())]
    return [p.strip() for p in parts if p.strip()]


def asks(sentence: str) -> bool:
    """Whether a sentence asks for something: a question, or a request."""
    return "?" in sentence or bool(re.match(rf"(?:{REQUESTS})\b", sentence.strip().lower()))


def requests(text: str) -> list[str]:
    """Return the instructions in a text, word for word."""
    return [s for s in sentences(text) if asks(s)]


def sensible(text: str) -> int:
    """Return from 1 to 5 how sound the language of a text is; rules for the ways in which texts come out damaged."""
    words = text.split()
    odd = sum(bool(re.search(r"[#@*~^<>|\\{}%]", w)) and not re.fullmatch(r'["(]?\d*%?["?.,)]*', w) for w in words)
    broken = sum(bool(re.fullmatch(r"[a-z]*[bcdfghjklmnpqrstvwxz]{5,}[a-z]*", w.lower().strip(".,?!"))) for w in words)
    twice = sum(x.lower() == y.lower() for x, y in pairwise(words))
    if not words or odd + broken > len(words) / 4 or not _ordered(text):
        return 1
    if odd or broken or re.search(r"\b(?:the|a|an) (?:the|a|an|of)\b", text.lower()):
        return 2
    if text.strip()[-1] not in '.?!"':
        return 2 if len(words) > 2 else 1
    return 4 if twice else 5


def _ordered(text: str) -> bool:
    """Whether marks and capitals stand where they may: a shuffled sentence shows by them."""
    return not re.search(r"[?!] [a-z]|[a-z][?!][a-z]", text) and not re.match(r"[a-z]", text.strip())


def clarity(scene: Scene, instruction: str) -> int:
    """Return from 1 to 5 how definite an instruction's answer is."""
    if (language := sensible(instruction)) < 4:
        return max(1, language - 1)
    if found := reply(scene, instruction):
        return found.definite
    about = any(c.noun for c in said.claims(_stated(instruction)))
    return 5 if about or re.search(r"\b(?:background|picture|image)\b", instruction.lower()) else 1


def grounded(scene: Scene, instruction: str) -> int:
    """Return from 1 to 5 how much of what an instruction takes for granted is there."""
    wrong, right = _presumed(scene, instruction)
    return 5 if not wrong else 1 if not right else 3


def _presumed(scene: Scene, instruction: str) -> tuple[int, int]:
    """Return how much of what an instruction takes for granted is not there, and how many things are."""
    found = reply(scene, instruction)
    if found and found.topic == "absent" and re.search(r"chart|table|sign|caption|tag|text", found.answer):
        return 1, 0
    stated = said.judged(_stated(instruction), scene)
    open_kinds = ("place", "colour", "relation", "count") if _is_yes_no(instruction) else ("count",)
    told = [j for j in stated if j.claim.kind not in open_kinds and j.claim.noun != said.TOTAL]
    return sum(j.true is False for j in told), sum(j.true is True and j.claim.kind == "object" for j in told)


def _stated(instruction: str) -> str:
    """Return a question as if it stated what it takes for granted: "does" is no deer, and "?" no full stop."""
    bare = re.sub(rf"^((?:is|are) the .+) (?:{HUES})\?$", r"\1?", instruction.strip(), flags=re.IGNORECASE)
    return re.sub(r"\b(?:does|do|did)\b", "", re.sub(r"[?]+", ".", bare), flags=re.IGNORECASE)


def _is_yes_no(instruction: str) -> bool:
    return bool(re.match(r"(?:is|are|does|do|can you see|could you see)\b", plain(instruction)))


def _asks_for_being(instruction: str) -> bool:
    return bool(
        re.match(r"(?:(?:is|are) (?:there|an?|any|some)|does the|can you see|do you see)\b", plain(instruction))
    )


def solvable(scene: Scene, instruction: str) -> int:
    """Return from 1 to 5 whether the picture suffices to carry an instruction out."""
    if (language := sensible(instruction)) < 4:
        return max(1, language - 1)
    if (there := grounded(scene, instruction)) < 5 and not _asks_for_being(instruction):
        return 1 if there == 1 else 2
    found = reply(scene, instruction)
    return 5 if found and found.topic != "absent" else 1 if there == 1 or clarity(scene, instruction) > 1 else 2


def true(scene: Scene, text: str) -> int:
    """Return from 1 to 5 how true a text is: 5 nothing wrong, 3 one thing, 2 several, 1 it is about something else."""
    checked = [j for j in said.judged(text, scene) if j.true is not None]
    wrong = {j.claim.noun for j in checked if not j.true}
    named = [j for j in checked if j.claim.kind == "object"]
    if named and not any(j.true for j in named):
        return 1
    if not wrong:
        return 5
    return 3 if len(wrong) == 1 and len(checked) > 1 else 2


def rich(text: str) -> int:
    """Return from 1 to 5 how much a text tells, by its claims."""
    n = len(said.claims(text))
    return 1 if n == 0 else 2 if n == 1 else 3 if n <= 3 else 4 if n <= 5 else 5


def recalled(scene: Scene, text: str) -> float:
    """Return the share of the scene's nouns that a text names."""
    named = {noun for c in said.claims(text) if c.kind == "object" for noun in said.covers(c.noun)}
    there = set(counts(scene))
    return len(there & named) / len(there) if there else 1.0


def good(scene: Scene, question: str, answer: str) -> float:
    """Return from 0 to 1 how right an answer is: 1 wholly, 0 wrong or off the point."""
    fact = reply(scene, question)
    if not answer.strip():
        return 0.0
    if fact is None or fact.topic == "absent":
        refuses = re.search(
            r"\b(?:not tell|cannot|can't|no way to|not (?:visible|shown|known)|unknown)\b", answer.lower()
        )
        denies = fact is not None and re.search(r"\b(?:no|not|n't)\b", answer.lower())
        return 1.0 if refuses or denies else 0.0
    if fact.topic in ("list", "describe"):
        return _described(scene, answer)
    return float(_matches(scene, fact, answer))


def _described(scene: Scene, answer: str) -> float:
    """Return how good a description is: its truth, and how much of what is there it names."""
    truth = (true(scene, answer) - 1) / 4
    return truth * (0.5 + 0.5 * recalled(scene, answer))


def _matches(scene: Scene, fact: Fact, answer: str) -> bool:
    given, wanted = answer.lower().strip(), fact.answer.lower()
    if wanted.startswith(("yes", "no,")):
        verdict = re.match(r"\W*(yes|no)\b", given)
        rest = [j for j in said.judged(re.sub(r"^\W*(?:yes|no)\b\W*", "", answer), scene) if j.true is False]
        return verdict is not None and verdict[1] == wanted[: len(verdict[1])] and not rest
    if fact.topic == "count" or wanted.rstrip(".") in NUMBERS:
        # "A cat." says how many cats there are, and nothing about dogs.
        return not _of_another(given, fact.question) and _number(given) == _number(wanted)
    if fact.topic in ("ocr", "chart", "table"):
        return _core(wanted) in _squeezed(given)
    if fact.topic in ("what", "relation", "size"):
        denied = any(c.kind == "absent" for c in said.claims(answer))
        return not denied and set(nouns_in(answer.rstrip("."))) == set(nouns_in(fact.answer.rstrip(".")))
    if fact.topic == "where":
        return _sides(given) == _sides(wanted)
    hues = set(re.findall(rf"\b(?:{HUES})\b", given.replace("grey", "gray")))
    return hues == set(re.findall(rf"\b(?:{HUES})\b", wanted)) and _kind_of_ground(given) == _kind_of_ground(wanted)


def _of_another(given: str, question: str) -> bool:
    """Tell whether an answer in the singular names something else than what was to be counted."""
    found = re.match(r"an? (?:\w+ )*?(\w+)\W*$", given)
    if not found or found[1] in question.lower():
        return False
    named = set(nouns_in(given.rstrip(".")))
    return not named or not named <= set(nouns_in(question))


def _number(text: str) -> int | None:
    found = re.search(r"\b(?:(\d+)|(" + "|".join(NUMBERS) + r"|none|zero|a|an))\b", text)
    if not found:
        return None
    words = {**{w: n for n, w in enumerate(NUMBERS)}, "none": 0, "zero": 0, "a": 1, "an": 1}
    return int(found[1]) if found[1] else words[found[2]]


def _core(text: str) -> str:
    """Return what has to be in an answer: the quoted words, or the label and value."""
    quoted = re.search(r'"(.+)"', text)
    return _squeezed(quoted[1] if quoted else text.removeprefix("it is a ").removesuffix(".").split(", with")[0])


def _squeezed(text: str) -> str:
    return re.sub(r"[^a-z0-9$%.:]+", "", text.lower()).strip(".")


def _sides(text: str) -> set[str]:
    bare = re.sub(r"\b(?:center|centre)\b", "middle", text).replace("upper", "top").replace("lower", "bottom")
    return set(bare.replace(".", "").replace("-", " ").split()) & set(re.split(r"[| ]", SIDES))


def _kind_of_ground(text: str) -> set[str]:
    return {k for k in ("photo", "gradient") if k in text}
