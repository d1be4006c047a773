"""Oasis: every way a text can end, the order of the questions, and what the knobs do."""

from __future__ import annotations

import ast
import inspect
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import foveal
from foveal.methods.oasis import method
from foveal.methods.oasis.method import DESCRIBE, P
from foveal.models.scripted import Scripted, words_of
from foveal.models.wire import Reply, Request
from foveal.record import Chat, Record
from foveal.runner.local import Run

Pictures = Callable[..., Path]
ASKED = "Name what is on the table."
MARKS = {
    "hook": "",
    "propose": "write one message",
    "kind": "Is it an instruction or a caption?",
    "extract": '"instructions"',
    "sensible": "how sensible",
    "grounded": "how well this instruction agrees",
    "clarity": "how clear this instruction",
    "solvable": "whether this instruction can be carried out",
    "answer_good": "Rate this answer",
    "caption_fluent": "how well this picture caption is written",
    "caption_rich": "how much this picture caption tells",
    "caption_true": "how true this caption",
}
"""A few words that tell each prompt."""


def prompt_of(request: Request) -> str:
    if request.open_turn:
        return "hook"
    words = words_of(request)
    return next((name for name, mark in MARKS.items() if mark and mark in words), "answer")


class Judge(Scripted):
    """Says what it is told to for each prompt: a text, or a function of the request."""

    def __init__(self, **said: Any) -> None:
        usual = {"hook": ASKED, "propose": ASKED, "kind": "instruction", "answer": "A cup."}
        self.said: Mapping[str, Any] = {**dict.fromkeys(MARKS, "5"), **usual, **said}
        super().__init__(self.say)

    def say(self, request: Request) -> str | Reply:
        said = self.said[prompt_of(request)]
        return said(request) if callable(said) else said

    def counts(self) -> Counter[str]:
        return Counter(prompt_of(r) for r in self.asked)


@pytest.fixture
def go(pictures: Pictures, tmp_path: Path) -> Callable[..., Run]:
    """Return a runner of Oasis on one picture (or `count`)."""

    def run(model: Scripted, count: int = 1, **knobs: Any) -> Run:
        return foveal.run("oasis", pictures(count), model=model, out=tmp_path / "out", **knobs)

    return run


def made(run: Run) -> list[Record]:
    return list(run.records())


def turns(record: Record) -> list[str]:
    assert isinstance(record.body, Chat)
    return [t.text for t in record.body.turns]


# --- the way through -----------------------------------------------------------------------------------------------


def test_a_row_and_its_lineage(go: Callable[..., Run]) -> None:
    model = Judge()
    (row,) = made(go(model))
    assert turns(row) == [ASKED, "A cup."]
    scores = dict.fromkeys(("sensible", "grounded", "clarity", "solvable"), 5.0)
    lineage = {"kind": "instruction", "proposer": "hook", "sample": 0, "finish": "stop", "read": "parsed"}
    assert row.tags == {"source": "p00000.png", **lineage, **scores}
    assert [prompt_of(r) for r in model.asked] == [
        "hook", "kind", "sensible", "grounded", "clarity", "solvable", "answer",
    ]  # fmt: skip


@pytest.mark.parametrize("said", ["What is on the table?", "桌子上有什么？"])
def test_one_question_is_not_sorted(go: Callable[..., Run], said: str) -> None:
    model = Judge(hook=said, kind="caption")
    (row,) = made(go(model))
    assert (turns(row)[0], row.tags["kind"]) == (said, "instruction")
    assert model.counts() == dict.fromkeys(["hook", "sensible", "grounded", "clarity", "solvable", "answer"], 1)


def test_who_sees_the_picture(go: Callable[..., Run]) -> None:
    vlm, llm = Judge(hook="A cup stands on a table.", kind="caption"), Judge(kind="caption")
    go(Scripted([]), models={"vlm": vlm, "llm": llm})
    asked = Judge(), Judge()
    go(Scripted([]), 2, models={"vlm": asked[0], "llm": asked[1]})
    requests = [r for m in (vlm, llm, *asked) for r in m.asked]
    shown = {prompt_of(r) for r in requests if any(not isinstance(p, str) for p in r.messages[0].parts)}
    unseen = {prompt_of(r) for r in requests} - shown
    assert shown == {"hook", "grounded", "clarity", "solvable", "answer", "caption_true"}
    assert unseen == {"kind", "sensible", "caption_fluent", "caption_rich"}
    assert {prompt_of(r) for m in (llm, asked[1]) for r in m.asked} == unseen


JUDGED = "hook kind sensible grounded clarity solvable"
ENDS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("garbled", {"hook": "??? ### !!!"}, {}, "hook"),
    ("garbled", {"hook": "<|im_end|><|im_end|>"}, {}, "hook"),
    ("garbled", {"hook": ""}, {}, "hook"),
    ("a caption, not an instruction", {"kind": "caption"}, {"captions": False}, "hook kind"),
    ("caption: not fluent enough", {"kind": "caption", "caption_fluent": "3"}, {}, "hook kind caption_fluent"),
    ("caption: not rich enough", {"kind": "caption", "caption_rich": "3"}, {}, "hook kind caption_fluent caption_rich"),
    ("caption: not true enough", {"kind": "caption", "caption_true": "3"}, {},
     "hook kind caption_fluent caption_rich caption_true"),
    ("no instruction could be taken out", {"hook": "A cup. Fine.", "extract": '{"instructions": [" "]}'}, {},
     "hook kind extract"),
    ("instruction: not sensible", {"sensible": "4"}, {}, "hook kind sensible"),
    ("instruction: not grounded in the picture", {"grounded": "4"}, {}, "hook kind sensible grounded"),
    ("instruction: unclear", {"clarity": "2"}, {}, "hook kind sensible grounded clarity"),
    ("instruction: not solvable from the picture", {"solvable": "2"}, {}, JUDGED),
    ("instruction: weak on clarity and solvability together", {"clarity": "3", "solvable": "3"}, {}, JUDGED),
    ("answer: cut off at its token limit", {"answer": Reply("A cu", "length")}, {}, f"{JUDGED} answer"),
    ("answer: rated low", {"answer_good": "3"}, {"answer": 4}, f"{JUDGED} answer answer_good"),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "said", "knobs", "calls"), ENDS, ids=[f"{e[0]}-{n}" for n, e in enumerate(ENDS)])
def test_every_reason_ends_a_record_as_early_as_it_can(
    go: Callable[..., Run], reason: str, said: dict[str, Any], knobs: dict[str, Any], calls: str
) -> None:
    model = Judge(**said)
    run = go(model, 3, **knobs)
    assert (dict(run.progress.dropped), run.rows) == ({reason: 3}, 0)
    assert model.counts() == dict.fromkeys(calls.split(), 3)


def test_every_reason_in_the_code_is_reached() -> None:
    calls = [n for n in ast.walk(ast.parse(inspect.getsource(method))) if isinstance(n, ast.Call)]
    ends = [n.args[-1] for n in calls if isinstance(n.func, ast.Name) and n.func.id in ("keep", "passes", "rated")]
    written = {end.value for end in ends if isinstance(end, ast.Constant)}
    assert len(written) == 10
    assert written <= {reason for reason, *_ in ENDS}


@pytest.mark.parametrize(
    ("said", "knobs", "rows"),
    [
        ({"sensible": "4"}, {"sensible": 4}, 1),
        ({"grounded": "4"}, {"grounded": 4}, 1),
        ({"clarity": "2"}, {"clarity": 2}, 1),
        ({"clarity": "3", "solvable": "4"}, {}, 1),
        ({"clarity": "3", "solvable": "3"}, {"both": 6}, 1),
        ({"clarity": "5", "solvable": "2"}, {}, 0),
        ({"sensible": Reply("5", probs={"5": 0.4, "4": 0.6})}, {}, 0),
        ({"sensible": Reply("4", probs={"5": 0.6, "4": 0.4})}, {}, 1),
        ({"kind": "caption", "caption_rich": "3"}, {"caption": 3}, 1),
        ({"answer_good": "4"}, {"answer": 4}, 1),
    ],
)
def test_thresholds(go: Callable[..., Run], said: dict[str, Any], knobs: dict[str, Any], rows: int) -> None:
    assert go(Judge(**said), **knobs).rows == rows


def test_scores_tell_how_they_were_read(go: Callable[..., Run]) -> None:
    sure = {name: Reply("5", probs={"5": 0.75, "4": 0.25}) for name in ("sensible", "grounded", "clarity", "solvable")}
    (row,) = made(go(Judge(**sure)))
    assert (row.tags["read"], row.tags["sensible"]) == ("logprobs", 4.75)


# --- captions ------------------------------------------------------------------------------------------------------


def test_a_caption_answers_a_request_for_a_description(go: Callable[..., Run]) -> None:
    rows = made(go(Judge(hook="<|x|>A cup stands on a table. ", kind="caption"), 12))
    assert {turns(r)[1] for r in rows} == {"A cup stands on a table."}
    requests = {turns(r)[0] for r in rows}
    assert requests <= set(DESCRIBE)
    assert len(requests) > 2
    assert rows[0].tags["caption_true"] == 5


# --- several -------------------------------------------------------------------------------------------------------


def texts(*each: str) -> Callable[[Request], str]:
    left = list(each)
    return lambda _: left.pop(0)


def test_one_text_of_two_ends_and_the_other_goes_on(go: Callable[..., Run], tmp_path: Path) -> None:
    run = go(Judge(hook=texts("??? ###", "How many cups are there?")), samples=2)
    (row,) = made(run)
    assert (turns(row)[0], row.tags["sample"]) == ("How many cups are there?", 1)
    assert (run.progress.kept, run.progress.dropped.total()) == (1, 0)
    with sqlite3.connect(tmp_path / "out" / "store.db") as db:
        assert db.execute("SELECT detail FROM units WHERE step='oasis'").fetchone() == (
            "some branches ended: 1 × garbled",
        )


def test_the_same_text_twice_is_taken_out(go: Callable[..., Run]) -> None:
    run = go(Judge(answer=texts("A cup.", "A red cup.")), samples=2)
    assert run.rows == 1


TWO = '{"instructions": ["What is red?", "", "Count the cups"]}'
LONG = "What is red? It is the cup.\nCount the cups"


@pytest.mark.parametrize(
    ("extract", "rows"),
    [
        ("one", [["What is red?", "A."]]),
        ("several", [["What is red?", "A."], ["Count the cups", "A."]]),
        ("conversation", [["What is red?", "A.", "Count the cups", "A."]]),
    ],
)
def test_extraction(go: Callable[..., Run], extract: str, rows: list[list[str]]) -> None:
    model = Judge(hook=LONG, extract=TWO, answer="A.")
    assert [turns(r) for r in made(go(model, extract=extract))] == rows
    (asked,) = [words_of(r) for r in model.asked if prompt_of(r) == "extract"]
    assert f"Text:\n{LONG}\n" in asked
    assert ("every instruction" in asked) == (extract != "one")


def test_a_conversation_is_answered_turn_by_turn(go: Callable[..., Run]) -> None:
    model = Judge(hook=LONG, extract=TWO, answer=texts("The cup.", "Two."))
    (row,) = made(go(model, extract="conversation"))
    assert turns(row) == ["What is red?", "The cup.", "Count the cups", "Two."]
    second = [r for r in model.asked if prompt_of(r) == "answer"][1]
    assert [m.role for m in second.messages] == ["user", "assistant", "user"]
    assert not isinstance(second.messages[0].parts[0], str)
    assert all(isinstance(p, str) for m in second.messages[1:] for p in m.parts)


def test_a_conversation_with_one_bad_turn_is_dropped(go: Callable[..., Run]) -> None:
    model = Judge(hook=LONG, extract=TWO, clarity=lambda r: "1" if "Count" in words_of(r) else "5")
    assert dict(go(model, extract="conversation").progress.dropped) == {"instruction: unclear": 1}


def test_one_of_several_is_dropped(go: Callable[..., Run]) -> None:
    model = Judge(hook=LONG, extract=TWO, clarity=lambda r: "1" if "Count" in words_of(r) else "5")
    assert [turns(r)[0] for r in made(go(model, extract="several"))] == ["What is red?"]


@pytest.mark.parametrize(
    ("text", "extracted"),
    [
        ("What is red?", False),
        ("What is red? And what is blue?", True),
        ("Is it\nred?", True),
        ("Count the cups", False),
    ],
)
def test_a_single_sentence_needs_no_extraction(go: Callable[..., Run], text: str, extracted: bool) -> None:
    model = Judge(hook=text, extract='{"instructions": ["What is red?"]}')
    go(model)
    assert (model.counts()["extract"] == 1) == extracted


# --- the proposer --------------------------------------------------------------------------------------------------


def test_asking_outright(go: Callable[..., Run]) -> None:
    model = Judge()
    rows = made(go(model, 4, proposer="prompt", languages=["Thai"]))
    assert {r.tags["proposer"] for r in rows} == {"prompt"}
    asked = [r for r in model.asked if prompt_of(r) == "propose"]
    assert len({words_of(r) for r in asked}) > 1
    assert all("Write it in Thai." in words_of(r) and not r.open_turn for r in asked)


def test_sampling_reaches_the_server(go: Callable[..., Run]) -> None:
    model = Judge()
    go(model, temperature=0.7, top_p=0.9, top_k=5, min_tokens=9, max_tokens=99, answer_tokens=77)
    by = {prompt_of(r): dict(r.sampling) for r in model.asked}
    assert by["hook"] == {"temperature": 0.7, "top_p": 0.9, "top_k": 5, "min_tokens": 9, "max_tokens": 99}
    assert by["answer"] == {"temperature": 0.0, "max_tokens": 77}


# --- prompts -------------------------------------------------------------------------------------------------------


def test_a_rendered_prompt_is_what_it_was() -> None:
    # The words of a prompt are part of every call's key: changing them asks every call again.
    assert P.clarity(instruction="Is {{ it }} <red>?\nSay.") == (
        "Rate how clear this instruction about the picture is. Is it plain what is asked, and is there a definite "
        "answer?\n\n5: one exact meaning and a definite answer\n4: clear, with a little room for choice\n"
        "3: understandable, but several answers would do\n2: vague\n1: nobody could tell what is wanted\n\n"
        "Instruction:\nIs {{ it }} <red>?\nSay.\n\nAnswer with one number from 1 to 5."
    )


def test_the_proposal_without_a_persona_has_no_hole() -> None:
    said = P.propose(persona="", task="a question", difficulty="hard", language="English")
    assert said.startswith("Look at the picture")
    assert P.propose(persona="a cook", task="a", difficulty="b", language="c").startswith("You are a cook. Look")
