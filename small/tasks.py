"""What the embedded model is taught: user turns, answers and foveal's own Oasis prompts, the truth known."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from foveal.methods.oasis.method import DESCRIBE, P
from foveal.scrapbook.colours import COLOURS
from foveal.scrapbook.panels import PHRASES, WORDS
from foveal.scrapbook.scene import Scene
from foveal.scrapbook.truth import (
    KINDS,
    NUMBERS,
    OPPOSITE,
    Fact,
    a,
    absent,
    at,
    capital,
    caption,
    counts,
    description,
    existence,
    extras,
    fact,
    fact_of,
    is_,
    listed,
    natural,
    placed,
    places,
    plural,
)  # fmt: skip
from foveal.steps.propose import DIFFICULTIES, PERSONAS, TASKS


@dataclass(frozen=True, slots=True)
class Said:
    """One turn and how much it weighs in the loss."""

    role: str
    text: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation; with `image` it begins with the picture."""

    turns: tuple[Said, ...]
    image: bool = True


@dataclass(frozen=True, slots=True)
class Text:
    """A text to be judged, with the truth about it (each score from 1 to 5)."""

    text: str
    kind: str = "instruction"
    sensible: int = 5
    clarity: int = 5
    grounded: int = 5
    solvable: int = 5


VAGUE = (
    "What about this?", "Tell me more.", "And the thing?", "Do it.", "Is it good?", "What is it like?", "Go on.",
    "Why?", "Say something.", "What do you think?", "How so?", "Explain that one.", "Which one?", "Is it the same?",
    "Can you help?",
)  # fmt: skip
UNANSWERABLE = (
    "What is the name of the {x}?", "How old is the {x}?", "Who owns the {x}?", "How much does the {x} cost?",
    "Where was the {x} made?", "What will the {x} do next?", "When was the picture with the {x} taken?",
    "Who drew the {x}?",
    "How heavy is the {x}?", "What happened before the {x} came here?", "Which city is the {x} from?",
)  # fmt: skip
CHATTER = (
    "Hello.", "How are you?", "What is two plus two?", "Write a poem about the sea.", "Who are you?",
    "What is the capital of France?",
    "Translate this into German.", "Write a program that sorts numbers.", "Tell me a joke.",
    "What is the weather today?",
    "Summarize the book.", "Give me a recipe.",
)  # fmt: skip
UNKNOWN = "The picture does not tell."
ONLY = "I can only say simple things about the picture."


def question_list(facts: Sequence[str], rng: random.Random) -> str:
    """Return several questions as one text, numbered or in a row."""
    if rng.random() < 0.5:
        return "\n".join(f"{i}. {q}" for i, q in enumerate(facts, 1))
    return " ".join(facts)


def hooked(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Talk:
    """Return what a user says on seeing the picture, and what follows: a question, a caption, or several questions."""
    kind = rng.random()
    if kind < 0.30:
        return Talk((Said("user", caption(scene, rng)),))
    if kind < 0.42:
        facts = [curious(scene, rng, nouns) for _ in range(rng.choice((2, 2, 3)))]
        return Talk((Said("user", question_list([f.question for f in facts], rng)),))
    turns: list[Said] = []
    for i in range(rng.choice((1, 1, 2))):
        made = curious(scene, rng, nouns)
        turns += [Said("user", made.question, 1.0 if i == 0 else 0.3), Said("assistant", made.answer)]
    return Talk(tuple(turns))


def curious(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Fact:
    """Return a question as the model's own user asks it: hardly ever about what is not there."""
    made = natural(scene, rng, nouns)
    while made.topic == "exists" and made.answer.startswith("No,") and rng.random() < 0.8:
        made = natural(scene, rng, nouns)
    return made


def asked(question: str, answer: str, image: bool = True) -> Talk:
    """Return one question and its answer; only the answer is learned."""
    return Talk((Said("user", question, 0.0), Said("assistant", answer)), image)


def fallback(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Talk:
    """Return a request beyond what the picture tells, and a short honest answer."""
    kind = rng.random()
    if kind < 0.4:
        return asked(rng.choice(UNANSWERABLE).format(x=rng.choice(scene.things).noun), UNKNOWN)
    if kind < 0.75:
        made = about_absent(scene, rng, nouns)
        return asked(made[0], f"There {is_(made[1])} no {made[1]} in the picture.")
    return asked(rng.choice(CHATTER + VAGUE), ONLY, image=rng.random() < 0.6)


def about_absent(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> tuple[str, str]:
    """Return a question that takes for granted something that is not there, and that something."""
    noun = absent(scene, rng, nouns)
    ask = rng.choice((
        "What color {is} the {x}?", "Where {is} the {x}?", "What is to the left of the {x}?", "What is below the {x}?",
        "Tell me where the {x} {is}.", "Is the {x} on the left?", "How many {xs} can you see?",
        "What is the {x} doing?",
        "Describe the {x}.", "What is to the right of the {x}?",
    ))  # fmt: skip
    return ask.format(x=noun, xs=plural(noun), **{"is": is_(noun)}), noun


def half_wrong(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> str:
    """Return a question of which one detail is wrong: a second object that is not there, or the wrong place."""
    there, other = rng.choice(scene.things).noun, absent(scene, rng, nouns)
    if rng.random() < 0.5:
        pair = rng.sample([there, other], 2)
        return rng.choice(
            (
                "Which is bigger, the {0} or the {1}?",
                "Is the {0} to the left of the {1}?",
                "Where are the {0} and the {1}?",
            )
        ).format(*pair)
    i = rng.randrange(len(scene.things))
    wrong = OPPOSITE.get(places(scene)[i], "at the top")
    noun = scene.things[i].noun
    if any(scene.things[k].noun == noun for k in at(scene, wrong)):
        return f"Is the {there} to the left of the {other}?"
    return rng.choice(("What color {is} the {x} {p}?", "Describe the {x} {p}.", "How big {is} the {x} {p}?")).format(
        x=noun, p=wrong, **{"is": is_(noun)}
    )


def damaged(text: str, rng: random.Random) -> tuple[str, int]:
    """Return the text damaged in one way, and how sensible it still is."""
    words = text.split()
    kind = rng.randrange(6)
    if kind == 0 and len(words) > 3:
        while words == text.split():
            rng.shuffle(words)
        return " ".join(words), 1
    if kind == 1:
        at = rng.randrange(len(words))
        return " ".join([*words[: at + 1], *words[at:]]), 4
    if kind == 2:
        return "".join(c if rng.random() > 0.2 else rng.choice("abcdefghijklmnopqrstuvwxyz#@*%") for c in text), 1
    if kind == 3:
        return " ".join(words[: max(1, len(words) // 2)]), 1
    if kind == 4 and len(words) > 4:
        gone = set(rng.sample(range(len(words)), 2))
        return " ".join(w for i, w in enumerate(words) if i not in gone), 2
    at = rng.randrange(len(words))
    return " ".join([*words[:at], rng.choice(("###", "the the of", "@@ ~", "and and", "%$")), *words[at:]]), 2


def to_judge(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Text:
    """Return an instruction good or bad in one known way, much as the model's own user turns come out."""
    kind = rng.random()
    if kind < 0.42:
        made = fact(scene, rng, nouns) if rng.random() < 0.6 else natural(scene, rng, nouns)
        if made.topic == "exists" and made.answer.startswith("No"):
            return Text(made.question, grounded=1)
        return Text(made.question, clarity=made.definite)
    if kind < 0.62:
        return Text(about_absent(scene, rng, nouns)[0], grounded=1, solvable=1)
    if kind < 0.70:
        return Text(existence(scene, rng, nouns, there=False).question, grounded=1)
    if kind < 0.78:
        return Text(half_wrong(scene, rng, nouns), grounded=3, solvable=2)
    if kind < 0.86:
        return Text(rng.choice(UNANSWERABLE).format(x=rng.choice(scene.things).noun), solvable=1)
    if kind < 0.92:
        return Text(rng.choice(VAGUE), clarity=1, solvable=2)
    text, sensible = damaged(natural(scene, rng, nouns).question, rng)
    return Text(
        text,
        sensible=sensible,
        clarity=max(1, sensible - 1),
        solvable=max(1, sensible - 1),
        grounded=4 if sensible > 1 else 3,
    )


def caption_to_judge(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> tuple[str, int]:
    """Return a caption and how true it is: right, with one thing wrong, or of another picture."""
    kind = rng.random()
    if kind < 0.45:
        return caption(scene, rng), 5
    nouns_there = list(counts(scene))
    if kind < 0.7 and len(nouns_there) > 1:
        text = caption(scene, rng)
        return _swapped(text, rng.choice(nouns_there), absent(scene, rng, nouns)), 3
    if kind < 0.78 and len(nouns_there) == len(scene.things) > 1:
        first, last = scene.things[0].noun, scene.things[-1].noun
        text = capital(placed(scene, rng)) + "."
        mark = "\x00"
        return text.replace(f" {first} ", f" {mark} ").replace(f" {last} ", f" {first} ").replace(
            f" {mark} ", f" {last} "
        ), 2
    text = caption(scene, rng)
    for noun in nouns_there:
        text = _swapped(text, noun, absent(scene, rng, nouns))
    return text, 1


def _swapped(text: str, noun: str, other: str) -> str:
    """Return the text with one noun put in the place of another, articles and plural included."""
    forms = [(a(noun), a(other)), (capital(a(noun)), capital(a(other))), (noun, other)]
    if plural(noun) != noun:
        forms.insert(0, (plural(noun), plural(other)))
    for old, new in forms:
        text = re.sub(rf"\b{old}\b", new, text)
    return text


def richness(scene: Scene, text: str) -> int:
    """Return how much a caption tells, by counting names, places, colours and background."""
    words = text.replace(",", "").replace(".", "").split()
    n = sum(w in {"left", "right", "top", "bottom", "middle"} for w in words)
    n += (
        sum(text.count(" " + noun) for noun in counts(scene))
        + sum(text.count(" " + plural(noun)) for noun in counts(scene) if plural(noun) != noun) // 2
    )
    n += sum(
        w
        in {
            "red",
            "blue",
            "green",
            "yellow",
            "white",
            "black",
            "brown",
            "gray",
            "orange",
            "pink",
            "purple",
            "background",
        }
        for w in words
    )
    return 1 if n == 0 else 2 if n == 1 else 3 if n <= 3 else 4 if n <= 5 else 5


def judged(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Talk:
    """Return one of foveal's judging prompts that show the picture, with the true score."""
    which = rng.choices(
        ("grounded", "solvable", "clarity", "caption_true", "answer_good"), (0.36, 0.12, 0.1, 0.2, 0.22)
    )[0]
    if which == "caption_true":
        text, score = caption_to_judge(scene, rng, nouns)
        return asked(P.caption_true(caption=text), str(score))
    if which == "answer_good":
        return rated_answer(scene, rng, nouns)
    text_ = to_judge(scene, rng, nouns)
    return asked(P[which](instruction=text_.text), str(getattr(text_, which)))


def rated_answer(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Talk:
    """Return the prompt that rates an answer, with a right answer, a wrong one, or one to another question."""
    made = fact(scene, rng, nouns)
    answer, score = made.answer, 5
    if rng.random() < 0.55:
        answer, score = fact(scene, rng, nouns).answer if rng.random() < 0.3 else wrong(made, scene, rng, nouns), 1
        if made.topic in {"describe", "list"} and len(counts(scene)) > 1 and rng.random() < 0.4:
            gone = rng.choice(list(counts(scene)))
            answer, score = _swapped(made.answer, gone, absent(scene, rng, nouns)), 3
        if answer == made.answer:
            score = 5
    return asked(P.answer_good(instruction=made.question, answer=answer), str(score))


SWAPS = {
    "left": "right", "right": "left", "top": "bottom", "bottom": "top", "middle": "left", "above": "below",
    "below": "above",
}  # fmt: skip


def wrong(made: Fact, scene: Scene, rng: random.Random, nouns: Sequence[str]) -> str:
    """Return a like answer that is not true."""
    answer = made.answer
    if answer.startswith(("Yes, ", "No, ")):
        return _denied(answer, made.topic)
    if made.topic == "ocr":
        return f'It says "{rng.choice(WORDS + PHRASES)}".'
    for noun in counts(scene):
        answer = _swapped(answer, noun, absent(scene, rng, nouns))
    if made.topic in {"describe", "list", "what", "size"}:
        return answer
    return " ".join(_another(word, rng) for word in answer.split(" "))


def _denied(answer: str, topic: str) -> str:
    """Return a yes or no turned round; of "exists" the rest of the sentence too."""
    if answer.startswith("Yes, "):
        rest = re.sub(r"\b(is|are) (an?|some|a pair of) ", r"\1 no ", answer[5:]) if topic == "exists" else answer[5:]
        return "No, " + rest
    rest = re.sub(r" no ([a-z ]+)\.", lambda m: f" {a(m[1])}.", answer[4:]) if topic == "exists" else answer[4:]
    return "Yes, " + rest


def _another(word: str, rng: random.Random) -> str:
    """Return a word of the same kind that means something else, its full stop kept; other words as they are."""
    bare = word.strip('.,%"')
    if bare.lower() in SWAPS:
        other = SWAPS[bare.lower()]
    elif bare.lower() in COLOURS:
        other = rng.choice([c for c in COLOURS if c != bare.lower()])
    elif bare.lower() in NUMBERS[1:6]:
        other = rng.choice([n for n in NUMBERS[1:6] if n != bare.lower()])
    elif bare.isdigit():
        other = str(int(bare) + rng.choice((-9, -5, 4, 7, 12)))
    else:
        return word
    return word.replace(bare, capital(other) if bare[0].isupper() else other)


def text_only(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Talk:
    """Return one of foveal's prompts that do not show the picture."""
    which = rng.choices(
        ("kind", "sensible", "extract", "caption_fluent", "caption_rich"), (0.18, 0.26, 0.36, 0.1, 0.1)
    )[0]
    if which == "kind":
        return asked(*kind_example(scene, rng, nouns), image=False)
    if which == "extract":
        return extraction(scene, rng, nouns)
    if which == "sensible":
        text = to_judge(scene, rng, nouns)
        if rng.random() < 0.4:
            damaged_text, score = damaged(natural(scene, rng, nouns).question, rng)
            text = Text(damaged_text, sensible=score)
        return asked(P.sensible(instruction=text.text), str(text.sensible), image=False)
    words, score = caption(scene, rng), 5
    if which == "caption_fluent":
        if rng.random() < 0.5:
            words, score = damaged(words, rng)
        return asked(P.caption_fluent(caption=words), str(score), image=False)
    return asked(P.caption_rich(caption=words), str(richness(scene, words)), image=False)


def kind_example(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> tuple[str, str]:
    """Return the prompt that sorts a text, and the true kind."""
    if rng.random() < 0.5:
        return P.kind(text=caption(scene, rng)), "caption"
    facts = [natural(scene, rng, nouns).question for _ in range(rng.choice((1, 1, 2, 3)))]
    text = question_list(facts, rng) if len(facts) > 1 else facts[0]
    if rng.random() < 0.15:
        text = f"{caption(scene, rng)} {facts[0]}"
    return P.kind(text=text), "instruction"


def extraction(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Talk:
    """Return the prompt that takes instructions out of a text, and what is to be taken out."""
    facts = [natural(scene, rng, nouns) for _ in range(rng.choice((1, 2, 2, 3)))]
    questions = [f.question for f in facts]
    if rng.random() < 0.4:  # what cannot be guessed must be copied
        questions = [strange(q, rng, nouns) for q in questions]
    many = rng.random() < 0.5
    form = rng.random()
    if form < 0.12:
        text, questions = caption(scene, rng), []
    elif form < 0.3:
        text, questions = f"{questions[0]} {facts[0].answer}", questions[:1]
    elif form < 0.45:
        text, questions = f"{caption(scene, rng)} {questions[0]}", questions[:1]
    else:
        text = question_list(questions, rng)
    found = questions if many else questions[:1]
    return asked(P.extract(text=text, many=many), json.dumps({"instructions": found}), image=False)


def strange(question: str, rng: random.Random, nouns: Sequence[str]) -> str:
    """Return the question with some words exchanged for others that nobody would expect there."""
    odd = (*nouns, *COLOURS, *NUMBERS, *SWAPS, "where", "very", "with", "not", "sees", "says")
    words = question[:-1].split(" ")
    for _ in range(rng.choice((1, 2, 3))):
        words[rng.randrange(len(words))] = rng.choice(odd)
    return capital(" ".join(words)) + question[-1]


ASKED_FOR = {
    "counting": {"count", "size"},
    "where": {"where", "relation", "side", "what"},
    "seen": {"what", "color", "exists", "list"},
}


def proposed(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Talk:
    """Return the prompt that asks for a user message outright, and such a message."""
    task = rng.choice(TASKS)
    topics = next((t for word, t in ASKED_FOR.items() if word in task), None)
    made = natural(scene, rng, nouns)
    while topics is not None and (made.topic not in topics or made.answer.startswith("No,")):
        made = natural(scene, rng, nouns)
    prompt = P.propose(persona=rng.choice(PERSONAS), task=task, difficulty=rng.choice(DIFFICULTIES), language="English")
    return asked(prompt, made.question)


TAUGHT = {
    "what": 5.0, "where": 1.5, "relation": 2.0, "side": 2.0, "count": 2.5, "color": 1.5, "size": 0.7, "list": 1.5,
    "background": 0.4, "ocr": 8.0, "chart": 2.0, "table": 1.0,
}  # fmt: skip
"""How often each kind of question is taught where a scene has it. Few scenes have words to read."""


def taught(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Talk:
    """Return a question and its answer, of any kind but existence and description."""
    while True:
        topic = rng.choices(list(TAUGHT), list(TAUGHT.values()))[0]
        if (made := fact_of(topic, scene, rng, nouns)) is not None:
            return asked(made.question, made.answer)


def named(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Talk:
    """Return the question what is at some place, and its answer: short, and what all others stand on."""
    made = fact_of("what", scene, rng, nouns)
    return taught(scene, rng, nouns) if made is None else asked(made.question, made.answer)


def described(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Talk:
    """Return a request for a description or caption, in one sentence or several, and what fulfils it."""
    if rng.random() < 0.3:
        return asked(rng.choice(DESCRIBE), description(scene, rng, detail=rng.random() < 0.5))
    made = fact_of("describe", scene, rng, nouns)
    assert made
    return asked(made.question, made.answer)


def seen_or_not(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> Talk:
    """Return a question whether something is there; what is not there is often what one might expect."""
    kind = rng.choices(KINDS, (0.6, 0.15, 0.25))[0]
    made = existence(scene, rng, nouns, rng.random() < 0.5, kind)
    return asked(made.question, made.answer)


def lesson(scene: Scene, rng: random.Random, nouns: Sequence[str]) -> list[Talk]:
    """Return one scene's conversations: each is learned as if alone after the picture."""
    talks = [hooked(scene, rng, nouns)]
    talks += [maker(scene, rng, nouns) for maker, share in SOMETIMES.items() if rng.random() < share]
    others = [maker(scene, rng, nouns) for maker in (*[seen_or_not] * 3, *[named] * 3, *[taught] * 3, *[judged] * 3)]
    rng.shuffle(others)
    more = [maker(scene, rng, nouns) for maker in rng.choices((seen_or_not, taught, judged), k=4)]
    return talks + others + more


SOMETIMES = {described: 0.45, text_only: 0.6, proposed: 0.06, fallback: 0.15}


__all__ = ["Said", "Talk", "Text", "asked", "caption_to_judge", "extras", "hooked", "lesson", "listed", "to_judge"]
