"""`oracle:<folder>`: a model that answers from the truth of Scrapbook scenes, to measure methods with.

`oracle:<folder>+<model>` judges from the truth and leaves all writing, proposals and answers, to the model;
`oracle:<folder>?<model>` judges and asks from the truth and leaves just the answers to the model.

It shows what a method's own logic does when its judge makes no mistakes. It answers about the pictures of its folder
and no others, by what a prompt was rendered with (`Prompt.values`) and the type of answer that is asked for.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from foveal.errors import ModelFailed
from foveal.models.wire import Backend, Reply, Request
from foveal.prompts import Prompt
from foveal.record import Image, digest
from foveal.scrapbook import Truth, load_truth, oracle, writer
from foveal.scrapbook.parts import Scene
from foveal.scrapbook.truth import description, natural

INSTRUCTION = ("instruction", "question", "query", "request")
ANSWER = ("answer", "response", "reply", "completion", "output", "prediction")
TEXT = ("caption", "text", "description", "claim", "statement", "sentence", "content", "passage")
FIRST = ("first", "a", "answer_a", "response_a", "answer_1", "response_1", "one", "chosen")
SECOND = ("second", "b", "answer_b", "response_b", "answer_2", "response_2", "two", "rejected")
"""Names that prompts give to what is judged."""

ABOUT_TEXT: dict[str, Callable[[str], int]] = {
    "sensible": oracle.sensible,
    "fluent": oracle.sensible,
    "language": oracle.sensible,
    "rich": oracle.rich,
    "detail": oracle.rich,
}
"""What a prompt's name says is judged without the picture."""
ABOUT_INSTRUCTION: dict[str, Callable[[Scene, str], int]] = {
    "clarity": oracle.clarity,
    "clear": oracle.clarity,
    "solvable": oracle.solvable,
    "answerable": oracle.solvable,
    "grounded": oracle.grounded,
}
"""What a prompt's name says of an instruction and the picture."""
YES = ("yes", "true", "correct", "right", "supported", "entailed", "good", "pass", "keep", "match", "same")
NO = (
    "no",
    "false",
    "incorrect",
    "wrong",
    "unsupported",
    "contradicted",
    "bad",
    "fail",
    "drop",
    "mismatch",
    "different",
)


class Oracle:
    """Answers any role of a method from the truth; see `foveal.scrapbook.oracle` for what it can read."""

    def __init__(self, folder: Path, writer: Backend | None = None, asks: bool = False) -> None:
        """Read the truth.

        Args:
            folder: scenes with their truth.
            writer: who answers what asks for free text; the oracle itself by default.
            asks: the oracle still writes what a method's own prompts ask for, such as questions; answers are the
                writer's.

        Raises:
            SourceError: there is no truth in the folder.
        """
        self.folder, self.writer, self.asks = folder, writer, asks
        self.truths: Mapping[str, Truth] = load_truth(folder)
        self.nouns = sorted({noun for t in self.truths.values() for noun in _nouns(t)})

    @property
    def identity(self) -> str:
        """The truth's digest, and who writes."""
        truth = f"oracle:{digest(*sorted(self.truths))[:12]}"
        return f"{truth}{'?' if self.asks else '+'}{self.writer.identity}" if self.writer else truth

    @property
    def slots(self) -> int:
        """As many as the writer can use."""
        return self.writer.slots if self.writer else 64

    async def open(self, hooking: bool) -> None:
        """Make the writer ready, where there is one."""
        if self.writer:
            await self.writer.open(hooking)

    async def close(self) -> None:
        """Let go of the writer."""
        if self.writer:
            await self.writer.close()

    async def send(self, request: Request) -> Reply:
        """Answer from the truth.

        Raises:
            ModelFailed: a picture that the folder does not hold, or something that cannot be told from the truth.
        """
        if self.writer and not self._own(request):
            return await self.writer.send(request)
        text, probs = self._said(request), None
        if request.choices and text in request.choices:
            probs = {choice: float(choice == text) for choice in request.choices}
        words = sum(len(p.split()) for m in request.messages for p in m.parts if isinstance(p, str))
        return Reply(text, tokens_in=words, tokens_out=len(text.split()), probs=probs)

    def _own(self, request: Request) -> bool:
        """Tell whether the oracle answers by itself though there is a writer: it judges, and asks where it is to."""
        if request.choices or request.schema:
            return True
        prompt = _prompt(request)
        if not self.asks or not (request.open_turn or isinstance(prompt, Prompt)):
            return False
        values = prompt.values if isinstance(prompt, Prompt) else {}
        what = str(getattr(prompt, "name", "")).rpartition("/")[2]
        return _proposes(request, values) or bool(self._written(request, what, values))

    def _said(self, request: Request) -> str:
        prompt = _prompt(request)
        values = prompt.values if isinstance(prompt, Prompt) else {}
        if _proposes(request, values):
            return self._question(request)
        what = str(getattr(prompt, "name", "")).rpartition("/")[2]
        if request.schema:
            return _filled(request.schema, values)
        if what == "skill":
            return self._skill(str(values.get("question", "")), request)
        if not request.choices and (written := self._written(request, what, values)):
            return written
        if request.choices:
            return _chosen(request.choices, self._judged(request, str(getattr(prompt, "name", "")), values))
        return self._answered(request, _first(values, INSTRUCTION) or prompt)

    # --- the picture ---

    def _scene(self, request: Request) -> Scene:
        shown = _pictures(request)
        if not shown:
            raise ModelFailed("the oracle is shown no picture", "it answers about pictures only")
        known = [self.truths[i.digest].scene for i in shown if i.digest in self.truths]
        if not known:
            raise ModelFailed("a picture the oracle does not know", f"{shown[-1].source} is not one of {self.folder}")
        return known[-1]

    # --- asking and answering ---

    def _question(self, request: Request) -> str:
        return natural(self._scene(request), random.Random(request.seed), self.nouns).question

    def _answered(self, request: Request, question: str) -> str:
        fact = oracle.reply(self._scene(request), question)
        return fact.answer if fact else oracle.UNKNOWN

    # --- writing ---

    def _written(self, request: Request, what: str, values: Mapping[str, Any]) -> str:
        """Return the text that a method's writing prompt asks for, "" where the prompt is a question to be answered."""
        rng, n = random.Random(request.seed), int(values.get("n", 0))
        if n and not _pictures(request):
            return writer.questions_about(_first(values, TEXT), n)
        if n:
            return writer.questions(self._scene(request), rng, self.nouns, n)
        match what:
            case "evolve":
                return writer.evolved(self._scene(request), rng, self.nouns, values, answered=not self.asks)
            case "instruct":
                return writer.BROAD
            case "improve":
                return writer.questions(self._scene(request), rng, self.nouns, 1)
            case "describe" if "question" in values and not self.asks:
                return description(self._scene(request), rng, detail=True)  # what matters, not the answer itself
            case "labels":
                return "\n".join(dict.fromkeys(t.noun for t in self._scene(request).things))
            case "rewrite" if "part" in values:
                return writer.part(self._scene(request), rng)
            case "comply":
                return writer.complied(_first(values, ANSWER), values.get("constraints", ()))
            case "enrich" | "merge":
                return _first(values, ANSWER)
            case "facts":
                return "\n".join(oracle.sentences(_first(values, ANSWER)))
        return ""

    def _skill(self, question: str, request: Request) -> str:
        """Return the skill a question needs, by its topic; the usual one where no picture tells."""
        shown = _pictures(request)
        fact = oracle.reply(self._scene(request), question) if shown else None
        return writer.SKILLS.get(fact.topic, writer.USUAL_SKILL) if fact else writer.USUAL_SKILL

    # --- judging ---

    def _judged(self, request: Request, name: str, values: Mapping[str, Any]) -> float | str:
        """Return how good what is judged is, from 0 to 1; or a word, where a choice between words is asked for."""
        instruction, answer, text = (_first(values, names) for names in (INSTRUCTION, ANSWER, TEXT))
        first, second = _first(values, FIRST), _first(values, SECOND)
        what = name.rpartition("/")[2]
        if "natural" in request.choices:
            scene = self._scene(request)
            return "chart" if scene.chart or scene.table else "natural"
        if gold := str(values.get("gold", "")):
            return 1.0 if _squeezed(gold) == _squeezed(answer) else 0.0
        if what == "compare":
            return 1.0 if _squeezed(first) == _squeezed(second) else 0.5
        if {"instruction", "caption"} <= set(request.choices):
            return "instruction" if oracle.requests(text or instruction) else "caption"
        if about := next((f for word, f in ABOUT_TEXT.items() if word in what), None):
            return (about(text or instruction or answer) - 1) / 4
        if first and second:
            return self._better(request, instruction, first, second)
        if instruction and answer:
            return oracle.good(self._scene(request), instruction, answer)
        if instruction:
            return self._of_instruction(request, what, instruction)
        if text or answer:
            return (oracle.true(self._scene(request), text or answer) - 1) / 4
        raise ModelFailed(
            "the oracle cannot tell what is judged",
            f"{name or 'a prompt without a file'} names none of {', '.join((*INSTRUCTION, *ANSWER, *TEXT))}",
        )

    def _of_instruction(self, request: Request, what: str, instruction: str) -> float | str:
        scene = self._scene(request)
        judge = next((f for word, f in ABOUT_INSTRUCTION.items() if word in what), None)
        if judge is None and not all(c.isdigit() for c in request.choices):
            return self._answered(request, instruction)  # the question is the prompt, and its answer a choice
        return ((judge or oracle.grounded)(scene, instruction) - 1) / 4

    def _better(self, request: Request, instruction: str, first: str, second: str) -> str:
        scene = self._scene(request)
        asked = instruction or "Describe the picture."
        gap = oracle.good(scene, asked, first) - oracle.good(scene, asked, second)
        return "tie" if abs(gap) < 0.02 else "first" if gap > 0 else "second"


def _proposes(request: Request, values: Mapping[str, Any]) -> bool:
    return request.open_turn or bool({"persona", "task"} & set(values))


def _nouns(truth: Truth) -> set[str]:
    return {t.noun for t in truth.scene.things}.union(*truth.absent.values())


def _pictures(request: Request) -> list[Image]:
    return [p for m in request.messages for p in m.parts if isinstance(p, Image)]


def _prompt(request: Request) -> str:
    """Return the last words said: the prompt as it was rendered, where it was."""
    parts = [p for p in request.messages[-1].parts if isinstance(p, str)]
    return next((p for p in reversed(parts) if isinstance(p, Prompt)), "".join(parts))


def _squeezed(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _first(values: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return next((str(values[name]) for name in names if values.get(name)), "")


def _chosen(choices: tuple[str, ...], verdict: float | str) -> str:
    """Return the choice that says it: a number of a scale, yes or no, one of two, or the words themselves.

    Raises:
        ModelFailed: none does.
    """
    if all(c.isdigit() for c in choices):
        if isinstance(verdict, float):
            low, high = int(choices[0]), int(choices[-1])
            return str(low + round(verdict * (high - low)))
    elif isinstance(verdict, float):
        words = YES if verdict > 0.6 else NO
        if found := next((c for c in choices if c.lower() in words), None):
            return found
    elif found := _named(choices, verdict):
        return found
    raise ModelFailed("the oracle knows none of the choices", f"{verdict} among {', '.join(choices)}")


SIDES = {
    "first": ("first", "a", "1", "one", "answer a", "response a"),
    "second": ("second", "b", "2", "two", "answer b", "response b"),
    "tie": ("tie", "c", "equal", "both", "neither", "same"),
}


def _named(choices: tuple[str, ...], verdict: str) -> str | None:
    """Return the choice that a word or a sentence names."""
    meant = SIDES.get(verdict, ())
    said = verdict.lower()
    for choice in choices:
        word = choice.lower()
        if word in meant or word == said or re.match(rf"{re.escape(word)}\b", said):
            return choice
    inside = [c for c in choices if re.search(rf"\b{re.escape(c.lower())}\b", said)]
    return inside[0] if len(inside) == 1 else None


def _filled(schema: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """Return a form with one list of texts filled with the instructions in a text.

    Raises:
        ModelFailed: it is another form.
    """
    fields = schema.get("properties", {})
    text = _first(values, (*TEXT, *INSTRUCTION, *ANSWER))
    if len(fields) == 1 and text:
        name, field = next(iter(fields.items()))
        if field.get("type") == "array" and field.get("items", {}).get("type") == "string":
            found = oracle.requests(text)
            return json.dumps({name: found if values.get("many", True) else found[:1]})
    raise ModelFailed("the oracle cannot fill this form", f"fields {', '.join(fields) or 'none'}")
