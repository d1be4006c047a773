"""MM-INF's pipelines: what each asks, whom, in which order, and every way a record ends."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from foveal.methods.thinking.method import parted
from foveal.models.wire import Reply
from foveal.steps.describe import DESCRIBE
from methods.actor import Actor, Pictures, called, dropped, go, made, sees, turns

SEEN = "A red cup stands on the table."


def conversation(tmp_path: Path, pictures: Pictures, *said: str) -> Path:
    """Write one conversation of questions and answers about a picture; returns its file."""
    picture = sorted(pictures(1).iterdir())[0]
    roles = ["user", "assistant"] * len(said)
    row = {"messages": [{"role": r, "content": s} for r, s in zip(roles, said, strict=False)], "images": [str(picture)]}
    (tmp_path / "chats.jsonl").write_text(json.dumps(row) + "\n")
    return tmp_path / "chats.jsonl"


# --- caption -------------------------------------------------------------------------------------------------------


def test_a_caption_answers_one_of_the_requests(pictures: Pictures, tmp_path: Path) -> None:
    model = Actor()
    (row,) = made(go("caption", pictures(1), tmp_path / "out", model, rich=3))
    request, said = turns(row)
    assert (request in DESCRIBE, said) == (True, SEEN)
    assert row.tags["caption_true"] == row.tags["caption_rich"] == 5
    assert model.calls() == ["ask", "caption_rich", "caption_true"]
    assert [sees(r) for r in model.asked] == [True, False, True]


@pytest.mark.parametrize(("said", "reason"), [
    ({"ask": Reply("A red", "length")}, "caption: cut off at its token limit"),
    ({"ask": "### ???"}, "caption: garbled"),
    ({"caption_true": "3"}, "caption: not true enough"),
])  # fmt: skip
def test_captions_that_are_dropped(said: dict[str, Any], reason: str, pictures: Pictures, tmp_path: Path) -> None:
    assert dropped(go("caption", pictures(2), tmp_path / "out", Actor(**said))) == {reason: 2}


# --- caption-conversation ------------------------------------------------------------------------------------------

ASKED = "1. What is on the table?\n2. What is on the table?\nNice.\n3. Where is the dog?\n- How many cups are there?"


def test_bad_questions_and_answers_are_left_out_and_told(pictures: Pictures, tmp_path: Path) -> None:
    def fits(request: Any) -> str:
        return "1" if "dog" in str(request.messages) else "5"

    def answer(request: Any) -> str:
        return "Two." if "How many" in str(request.messages[-1]) else SEEN

    def good(request: Any) -> str:
        return "2" if "Two." in str(request.messages) else "5"

    model = Actor(questions=ASKED, grounded=fits, ask=answer, answer_good=good)
    (row,) = made(go("caption-conversation", pictures(1), tmp_path / "out", model))
    assert turns(row) == ["What is on the table?", SEEN]
    assert row.tags["left_out"] == [
        {"question": "Where is the dog?", "reason": "question: not grounded"},
        {"question": "How many cups are there?", "reason": "answer: rated low"},
    ]
    assert model.counts()["solvable"] == 2  # the dog went no further
    assert {called(r) for r in model.asked if not sees(r)} == {"questions", "sensible"}


def test_a_conversation_needs_its_least_exchanges(pictures: Pictures, tmp_path: Path) -> None:
    model = Actor(questions=ASKED, solvable="1")
    assert dropped(go("caption-conversation", pictures(1), tmp_path / "a", model)) == {"question: not solvable": 1}
    model = Actor(questions="A cup.")
    assert dropped(go("caption-conversation", pictures(1), tmp_path / "b", model)) == {"no question could be read": 1}
    model = Actor(questions=ASKED)
    (row,) = made(go("caption-conversation", pictures(1), tmp_path / "c", model, least=3))
    assert len(turns(row)) == 6


# --- faithful-caption ----------------------------------------------------------------------------------------------

STORY = "A cup stands on the table. A dog sleeps below it. The wall is white.\n\nA man waves."


def wrong(*words: str) -> Any:
    return lambda request: "1" if any(f"{w}." in str(request.messages).split("Caption:")[1] for w in words) else "5"


def test_parts_that_are_not_true_are_taken_out(pictures: Pictures, tmp_path: Path) -> None:
    model = Actor(ask=STORY, caption_true=wrong("below it", "waves"))
    (row,) = made(go("faithful-caption", pictures(1), tmp_path / "out", model))
    assert turns(row)[1] == "A cup stands on the table. The wall is white."
    assert row.tags["removed"] == ["A dog sleeps below it.", "A man waves."]
    assert row.tags["true_share"] == 0.5
    assert model.counts() == {"ask": 1, "caption_true": 4}


def test_parts_can_be_written_again(pictures: Pictures, tmp_path: Path) -> None:
    def again(request: Any) -> str:
        return "A cat sleeps below it." if "dog" in str(request.messages[-1]).split("The part:")[1] else "A man waves."

    model = Actor(ask=STORY, caption_true=wrong("A dog sleeps below it", "waves"), rewrite=again)
    (row,) = made(go("faithful-caption", pictures(1), tmp_path / "out", model, mend="rewrite"))
    assert turns(row)[1] == "A cup stands on the table. A cat sleeps below it. The wall is white."
    assert (row.tags["rewritten"], row.tags["removed"]) == (["A dog sleeps below it."], ["A man waves."])


def test_too_little_truth_drops_the_whole(pictures: Pictures, tmp_path: Path) -> None:
    model = Actor(ask=STORY, caption_true=wrong("below it", "waves", "white"))
    reason = {"caption: too much of it is not true": 1}
    assert dropped(go("faithful-caption", pictures(1), tmp_path / "a", model)) == reason
    run = go("faithful-caption", pictures(1), tmp_path / "b", model, unit="paragraph")
    assert dropped(run) == reason
    model = Actor(ask=STORY, caption_true="1")
    run = go("faithful-caption", pictures(1), tmp_path / "c", model, share=0)
    assert dropped(run) == {"caption: nothing true is left": 1}


def test_a_conversations_last_answer_is_the_description(pictures: Pictures, tmp_path: Path) -> None:
    chats = conversation(tmp_path, pictures, "What do you see?", STORY)
    model = Actor(caption_true=wrong("waves"))
    (row,) = made(go("faithful-caption", chats, tmp_path / "out", model))
    assert turns(row)[0] == "What do you see?"
    assert turns(row)[1].endswith("The wall is white.")
    assert "ask" not in model.counts()


# --- detailed-instruction ------------------------------------------------------------------------------------------


def test_a_broad_instruction_is_answered_by_the_description(pictures: Pictures, tmp_path: Path) -> None:
    model = Actor(instruct="Describe the whole arrangement.")
    (row,) = made(go("detailed-instruction", pictures(1), tmp_path / "out", model))
    assert turns(row) == ["Describe the whole arrangement.", SEEN]
    assert model.calls() == ["ask", "caption_true", "instruct", "sensible", "answer_good"]
    (row,) = made(go("detailed-instruction", pictures(1), tmp_path / "b", model, answer="model"))
    assert row.tags["answered_by"] == "model"


@pytest.mark.parametrize(("said", "reason"), [
    ({"caption_true": "2"}, "caption: not true enough"),
    ({"instruct": "A cup."}, "instruction: asks for nothing"),
    ({"instruct": "!"}, "instruction: garbled or cut off"),
    ({"instruct": "What stands on the table?"}, "instruction: tells what it asks for"),
    ({"instruct": "Describe it all.", "sensible": "1"}, "instruction: not sensible"),
    ({"instruct": "Describe it all.", "answer_good": "3"}, "answer: rated low"),
])  # fmt: skip
def test_instructions_that_are_dropped(said: dict[str, Any], reason: str, pictures: Pictures, tmp_path: Path) -> None:
    assert dropped(go("detailed-instruction", pictures(1), tmp_path / "out", Actor(**said))) == {reason: 1}


# --- thinking ------------------------------------------------------------------------------------------------------

THOUGHT = "There is one cup on the table and no other dish stands anywhere near it, so it is one."


def test_the_thought_is_kept_apart_from_the_answer(pictures: Pictures, tmp_path: Path) -> None:
    model = Actor(propose="How many cups are there?", reason=f"<think>{THOUGHT}</think>\nAnswer: One.")
    (row,) = made(go("thinking", pictures(1), tmp_path / "out", model))
    assert turns(row) == ["How many cups are there?", "One."]
    assert (row.tags["thinking"], row.tags["verified"]) == (THOUGHT, "picture")
    assert model.calls() == ["propose", "describe", "reason", "answer_good"]
    (row,) = made(go("thinking", pictures(1), tmp_path / "b", model, show="think"))
    assert turns(row)[1] == f"<think>\n{THOUGHT}\n</think>\n\nOne."


def test_words_of_the_second_hand_are_rewritten(pictures: Pictures, tmp_path: Path) -> None:
    told = f"The description mentions a cup. {THOUGHT}\nAnswer: One."
    model = Actor(propose="How many?", reason=told, rewrite=f"I see a cup. {THOUGHT}")
    (row,) = made(go("thinking", pictures(1), tmp_path / "a", model))
    assert row.tags["thinking"].startswith("I see a cup.")
    model = Actor(propose="How many?", reason=told, rewrite=f"The caption says so. {THOUGHT}")
    reason = {"thought: still speaks of a description": 1}
    assert dropped(go("thinking", pictures(1), tmp_path / "b", model)) == reason


def test_answers_are_held_against_the_reference(pictures: Pictures, tmp_path: Path) -> None:
    chats = conversation(tmp_path, pictures, "How many cups are there?", "One")
    for n, (answer, verdict, how) in enumerate((("One.", "no", "words"), ("A single one.", "yes", "reference"))):
        model = Actor(reason=f"{THOUGHT}\n**Answer:** {answer}", agrees=verdict)
        (row,) = made(go("thinking", chats, tmp_path / f"out{n}", model))
        assert (row.tags["verified"], row.tags["reference"]) == (how, "One")
    model = Actor(reason=f"{THOUGHT}\nAnswer: Two.", agrees="no")
    assert dropped(go("thinking", chats, tmp_path / "out", model)) == {"answer: not the reference": 1}


@pytest.mark.parametrize(("said", "reason"), [
    ({"reason": Reply(THOUGHT, "length")}, "thought: cut off at its token limit"),
    ({"reason": THOUGHT}, "thought: comes to no answer"),
    ({"reason": "One, I think.\nAnswer: One."}, "thought: too short"),
    ({"reason": f"{THOUGHT}\nAnswer: One.", "answer_good": "2"}, "answer: rated low"),
])  # fmt: skip
def test_thoughts_that_are_dropped(said: dict[str, Any], reason: str, pictures: Pictures, tmp_path: Path) -> None:
    model = Actor(propose="How many cups?", **said)
    assert dropped(go("thinking", pictures(1), tmp_path / "out", model)) == {reason: 1}


@pytest.mark.parametrize(("text", "thought", "answer"), [
    ("<think>\nSo.\n</think>\n\nTwo.", "So.", "Two."),
    ("So.</think>Final answer: Two.", "So.", "Two."),
    ("So.\nHence.\n\n## Final answer: Two\nor so", "So.\nHence.", "Two\nor so"),
    ("So.\nAnswer: Two.", "So.", "Two."),
    ("Two.", "Two.", ""),
    ("", "", ""),
])  # fmt: skip
def test_a_thought_and_its_answer_are_parted(text: str, thought: str, answer: str) -> None:
    assert parted(text) == (thought, answer)


# --- evolve-prompt, match-score ------------------------------------------------------------------------------------


def match(before: str, after: str) -> Any:
    return lambda request: after if "wholly" in str(request.messages) else before


def test_an_instruction_that_gains_is_kept_with_what_it_was(pictures: Pictures, tmp_path: Path) -> None:
    chats = conversation(tmp_path, pictures, "What?", "A thing.")
    model = Actor(match=match("2", "4"), improve="What is wholly red?")
    (row,) = made(go("evolve-prompt", chats, tmp_path / "out", model))
    assert turns(row) == ["What is wholly red?", SEEN]
    assert (row.tags["before"], row.tags["after"], row.tags["evolved"]) == (2, 4, True)
    assert row.tags["was"] == {"question": "What?", "answer": "A thing."}
    assert model.calls() == ["match", "criticise", "improve", "ask", "solvable", "match"]


def test_what_matches_already_is_left_alone(pictures: Pictures, tmp_path: Path) -> None:
    chats = conversation(tmp_path, pictures, "What?", "A thing.")
    model = Actor()
    (row,) = made(go("evolve-prompt", chats, tmp_path / "out", model))
    assert (turns(row), row.tags["evolved"], model.calls()) == (["What?", "A thing."], False, ["match"])


@pytest.mark.parametrize(("said", "reason"), [
    ({"match": match("3", "3")}, "no better than before"),
    ({"match": "3", "improve": "A cup."}, "new instruction: asks for nothing"),
    ({"match": "3", "improve": "what?"}, "new instruction: the same as before"),
    ({"match": "3", "solvable": "1"}, "new instruction: not solvable"),
])  # fmt: skip
def test_evolutions_that_are_dropped(said: dict[str, Any], reason: str, pictures: Pictures, tmp_path: Path) -> None:
    chats = conversation(tmp_path, pictures, "What?", "A thing.")
    model = Actor(**{"improve": "What is wholly red?", **said})
    assert dropped(go("evolve-prompt", chats, tmp_path / "out", model)) == {reason: 1}


def test_the_worst_answer_is_a_conversations_match(pictures: Pictures, tmp_path: Path) -> None:
    chats = conversation(tmp_path, pictures, "What?", "A thing.", "Which?", "A cup.")
    model = Actor(match=lambda r: "4" if "Which?" in str(r.messages) else "5")
    (row,) = made(go("match-score", chats, tmp_path / "a", model, over="fit"))
    assert (row.tags["fit"], row.tags["fit_each"]) == (4, [5, 4])
    run = go("match-score", chats, tmp_path / "b", model, at_least=4.5)
    assert dropped(run) == {"does not match the picture": 1}


def test_bare_pictures_are_described_first(pictures: Pictures, tmp_path: Path) -> None:
    (row,) = made(go("match-score", pictures(1), tmp_path / "out"))
    assert turns(row)[1] == SEEN
    assert re.search("see|picture|image|scene", turns(row)[0])
