"""MMEvol and continuation: rounds, elimination, what is filled in, and how far a conversation goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveal.errors import RecipeError
from foveal.methods.mmevol import evolution
from foveal.methods.mmevol.evolution import FORMS, SKILLS, boxes_of, coordinates, invented, read
from foveal.models.wire import Reply
from methods.actor import Actor, Pictures, called, dropped, go, made, sees, turns

FULL = """Question: How many spoons lie left of the cup?
Answer: Two spoons do.
Objects: spoon, cup
Skills: Calculating, object Existence, juggling
Steps: find the cup; count the spoons"""


def chats(tmp_path: Path, pictures: Pictures, *exchanges: tuple[str, str], **tags: Any) -> Path:
    picture = sorted(pictures(1).iterdir())[0]
    said = [{"role": r, "content": c} for pair in exchanges for r, c in zip(("user", "assistant"), pair, strict=True)]
    path = tmp_path / "chats.jsonl"
    path.write_text(json.dumps({"messages": said, "images": [str(picture)], **tags}) + "\n")
    return path


def evolving(*versions: str) -> Any:
    """Return a function that gives a version after the other."""
    left = iter(versions)
    return lambda request: next(left)


@pytest.fixture
def cup(tmp_path: Path, pictures: Pictures) -> Path:
    return chats(tmp_path, pictures, ("What is there?", "A cup."))


def test_versions_evolve_from_the_last_one_kept(cup: Path, tmp_path: Path) -> None:
    words = [FULL.replace("spoons", w) for w in ("spoons", "forks", "knives")]
    scores = iter("4215")
    model = Actor(evolve=evolving(*words), improved=lambda r: next(scores))
    run = go("mmevol", cup, tmp_path / "out", model)
    rows = made(run)
    assert [turns(r)[0] for r in rows] == ["How many spoons lie left of the cup?"]
    assert rows[0].tags["skills"] == ["calculating", "existence"]
    assert (rows[0].tags["objects"], rows[0].tags["steps"]) == (["spoon", "cup"], ["find the cup", "count the spoons"])
    assert (rows[0].tags["round"], rows[0].tags["evolved_from"], rows[0].tags["improved"]) == (1, "What is there?", 4)
    asked = [r for r in model.asked if called(r) == "evolve"]
    assert ["What is there?" in str(r.messages) for r in asked] == [True, False, False]
    assert all("spoons" in str(r.messages) for r in asked[1:])
    assert all(sees(r) for r in model.asked)  # the judge too
    assert model.counts() == {"evolve": 3, "answer_good": 3, "improved": 3}


def test_the_judge_compares_with_the_round_before(cup: Path, tmp_path: Path) -> None:
    model = Actor(evolve=evolving(FULL, FULL.replace("spoons", "forks")))
    go("mmevol", cup, tmp_path / "out", model, rounds=2)
    second = [str(r.messages) for r in model.asked if called(r) == "improved"][1]
    assert "spoons" in second and "forks" in second and "What is there?" not in second


def test_what_a_reply_leaves_out_is_filled_in(cup: Path, tmp_path: Path) -> None:
    model = Actor(evolve="Where is the cup?", skill="OCR")
    (row,) = made(go("mmevol", cup, tmp_path / "out", model, rounds=1, eliminate=False))
    assert turns(row) == ["Where is the cup?", "A red cup stands on the table."]
    assert row.tags["skills"] == ["OCR"]
    assert model.calls() == ["evolve", "ask", "skill"]


@pytest.mark.parametrize(("said", "reason"), [
    ({"evolve": "Nice."}, "no question could be read"),
    ({"evolve": "Question: What is there?\nAnswer: A cup."}, "the same question again"),
    ({"evolve": Reply("Question: Wh", "length")}, "cut off at its token limit"),
    ({"evolve": "Question: Where is it?\nAnswer: At [0.1, 0.2, 0.3, 0.4]."}, "coordinates that were not given"),
    ({"evolve": FULL, "answer_good": "3"}, "the answer is not right"),
    ({"evolve": FULL, "improved": "3"}, "no improvement on the version before"),
    ({"evolve": "Where is it?", "ask": Reply("At", "length")}, "no answer"),
])  # fmt: skip
def test_versions_that_are_eliminated(said: dict[str, Any], reason: str, cup: Path, tmp_path: Path) -> None:
    run = go("mmevol", cup, tmp_path / "out", Actor(**said), rounds=1)
    assert dropped(run) == {f"round 1: {reason}": 1}


def test_every_direction_is_drawn_and_interaction_has_a_form(pictures: Pictures, tmp_path: Path) -> None:
    model = Actor(propose="What is there?", evolve=FULL + "\nForm: riddle")
    run = go("mmevol", pictures(60), tmp_path / "out", model, rounds=1, eliminate=False)
    rows = made(run)
    by = {d: [r for r in rows if r.tags["direction"] == d] for d in ("perception", "reasoning", "interaction")}
    assert all(len(found) > 10 for found in by.values())
    assert {r.tags["form"] for r in by["interaction"]} == {"multiple choice"}  # not one of the seventeen: the usual one
    assert {r.tags["form"] for r in by["reasoning"]} == {""}


def test_each_exchange_evolves_by_itself_and_the_last_version_can_be_asked_for(
    tmp_path: Path, pictures: Pictures
) -> None:
    source = chats(tmp_path, pictures, ("What is there?", "A cup."), ("And below?", "A mat."))
    words = [FULL.replace("spoons", w) for w in ("a", "b", "c", "d")]
    model = Actor(evolve=evolving(*words))
    rows = made(go("mmevol", source, tmp_path / "out", model, rounds=2, rows="last"))
    assert [(r.tags["exchange"], r.tags["round"]) for r in rows] == [(0, 2), (1, 2)]
    rows = made(go("mmevol", source, tmp_path / "first", Actor(evolve=evolving(*words)), rounds=1, turns="first"))
    assert [r.tags["exchange"] for r in rows] == [0]


def test_knobs_that_cannot_be(cup: Path, tmp_path: Path) -> None:
    for knobs in ({"rounds": 0}, {"directions": ()}, {"directions": ("upwards",)}):
        with pytest.raises(RecipeError, match=next(iter(knobs))):
            go("mmevol", cup, tmp_path / "out", **knobs)


# --- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "wanted"), [
    (FULL, ("How many spoons lie left of the cup?", "Two spoons do.")),
    ("**Question:** A?\n\n**Answer:** B\nC\n", ("A?", "B\nC")),
    ("Sure!\n1. What is it?", ("What is it?", "")),
    ("", ("", "")),
])  # fmt: skip
def test_a_reply_is_read(text: str, wanted: tuple[str, str]) -> None:
    found = read(text)
    assert (found.question, found.answer) == wanted


@given(st.text(max_size=300))
def test_any_reply_can_be_read(text: str) -> None:
    found = read(text)
    assert set(found.skills) <= set(SKILLS)
    assert found.form in ("", *FORMS)


def test_coordinates_are_known_by_box_corner_or_words() -> None:
    boxes = boxes_of([{"label": "cup", "box": [0.1, 0.2, 0.3, 0.4]}, {"label": "x"}, "y"])
    assert boxes == [("cup", [0.1, 0.2, 0.3, 0.4])] == boxes_of({"cup": [0.1, 0.2, 0.3, 0.4], "z": 3})
    for said, wanted in (("at [0.10, 0.2, 0.3, 0.4]", False), ("at (0.3, 0.4)", False), ("at [0.5, 0.5]", True),
                         ("in (1969)", False), ("at <10, 20>", False)):  # fmt: skip
        new = evolution.Evolved("Where?", said)
        assert invented(new, ("It is at [10, 20].", ""), boxes) is wanted, said
    assert coordinates("[1, 2] (3,4,5,6) 7, 8") == {(1, 2), (3, 4, 5, 6)}


# --- continuation --------------------------------------------------------------------------------------------------


def test_a_conversation_goes_on_until_something_fails(cup: Path, tmp_path: Path) -> None:
    questions = iter(("Which colour is it?", "Thank you!", "never"))
    model = Actor(
        hook=lambda r: next(questions), kind=lambda r: "caption" if "Thank" in str(r.messages) else "instruction"
    )
    (row,) = made(go("continuation", cup, tmp_path / "out", model, turns=3))
    assert turns(row) == ["What is there?", "A cup.", "Which colour is it?", "A red cup stands on the table."]
    assert (row.tags["added"], row.tags["ended"]) == (1, "question: asks for nothing")
    shown = next(r for r in model.asked if called(r) == "hook")
    assert [m.role for m in shown.messages] == ["user", "assistant", "user"]


@pytest.mark.parametrize(("said", "reason"), [
    ({"hook": "what is THERE"}, "question: asked before"),
    ({"hook": "###"}, "question: garbled or cut off"),
    ({"hook": "Why is it so?", "kind": "caption"}, "question: asks for nothing"),
    ({"hook": "Why is it so?", "kind": "instruction", "sensible": "1"}, "question: not sensible"),
    ({"hook": "Why is it so?", "kind": "instruction", "grounded": "1"}, "question: not grounded"),
    ({"hook": "Why is it so?", "kind": "instruction", "solvable": "1"}, "question: not solvable"),
    ({"hook": "Why is it so?", "kind": "instruction", "ask": Reply("It", "length")},
     "answer: cut off at its token limit"),
])  # fmt: skip
def test_conversations_that_cannot_go_on(said: dict[str, Any], reason: str, cup: Path, tmp_path: Path) -> None:
    assert dropped(go("continuation", cup, tmp_path / "out", Actor(**said))) == {reason: 1}


def test_a_bare_picture_begins_one_and_asking_outright_works(pictures: Pictures, tmp_path: Path) -> None:
    questions = iter(("Which colour is it?", "And how large is it?"))
    model = Actor(propose=lambda r: next(questions), kind="instruction")
    (row,) = made(go("continuation", pictures(1), tmp_path / "out", model, turns=2, proposer="prompt"))
    assert turns(row)[::2] == ["Which colour is it?", "And how large is it?"]
    assert "hook" not in model.counts()
