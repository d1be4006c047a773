"""Rules about texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveal.steps.text import (
    asking,
    circling,
    declines,
    garbled,
    labelled,
    listed,
    one_sentence,
    paragraphs,
    plain,
    sentences,
    taken_from,
    told,
    words_shared,
)

FINE = ["What is this?", "Count 3 birds", "这是什么？", "Что здесь изображено?", "Is it red, or (perhaps) blue?",
        "هل هذا قط؟", "a b", "5 + 3"]  # fmt: skip
GARBLED = ["", " ", "?", "x", "??? !!! ###", "]]]]]] a", "What is \ufffd this", "\\\\\\\\ // --", "🙂🙂🙂",
           "the cat the cat " * 20, "la " * 30]  # fmt: skip


@pytest.mark.parametrize("text", FINE)
def test_texts(text: str) -> None:
    assert not garbled(text)


@pytest.mark.parametrize("text", GARBLED)
def test_no_texts(text: str) -> None:
    assert garbled(text)


def test_a_list_is_not_going_round_in_circles() -> None:
    list_ = "the first is red and the second is blue and the third is green and so on it goes"
    assert not circling(list_.split())
    assert circling(("what is the colour of it " * 6).split())
    assert circling(["a", "truck", "truck", "Truck", "truck", "on", "a", "road"])
    assert not circling(["a", "very,", "very,", "very", "big", "dog"])


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<|im_start|>What?<|im_end|>", "What?"),
        ("<image>\nWhat?", "What?"),
        ("What?</s>", "What?"),
        ("<start_of_turn|>a", "a"),
        ("a < b and b > c", "a < b and b > c"),
        ("<b>bold</b>", "<b>bold</b>"),
        ("<|vision_start|><|image_pad|>Is <box>(1,2)</box> it?", "Is (1,2) it?"),
        ("", ""),
    ],
)
def test_special_tokens_go(text: str, left: str) -> None:
    assert plain(text) == left


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("One.", 1),
        ("No mark", 1),
        ("", 1),
        ("One. Two?", 2),
        ("Really?! Yes...", 2),
        ("3.5 metres", 1),
        ("一。二。", 2),
    ],
)
def test_sentences(text: str, count: int) -> None:
    assert sentences(text) == count


def test_one_sentence() -> None:
    assert one_sentence("What is it?")
    assert not one_sentence("What is it? Say.")
    assert not one_sentence("Is it\nred?")


@given(st.text(st.sampled_from("<|>/abimage_s \n") | st.characters()))
def test_any_text_can_be_judged(text: str) -> None:
    left = plain(text)
    assert len(left) <= len(text)
    assert left == left.strip()
    garbled(text)
    assert sentences(text) >= 1


@pytest.mark.parametrize(
    ("part", "copied"),
    [
        ("Is there a cat in the picture?", True),
        ("is there  a cat\nin the picture?", True),
        ("What is on the left?", True),
        ("Is there a cat here?", False),
        ("Is is is is", False),
        ("", False),
    ],
)
def test_what_was_copied_out_of_a_text(part: str, copied: bool) -> None:
    assert taken_from(part, "1. Is there a cat in the picture?\n2. What is on the left?") == copied


# --- lists, labels, sentences --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "wanted"), [
    ("1. What is it?\n2) Who made it?\n- Describe it.\nNice.", ["What is it?", "Who made it?", "Describe it."]),
    ("Questions:\n* What is it?\n* What is it?", ["What is it?"]),
    ('["What is it?", "Who made it?"]', ["What is it?", "Who made it?"]),
    ('```json\n{"instructions": ["What is it?"]}\n```', ["What is it?"]),
    ('I can be seen in the middle?"]}', []),
    ("Is [7] left of (8)?", ["Is [7] left of (8)?"]),
    ("[1, 2]", []),
    ("它是什么\n\n请描述图片。", ["它是什么", "请描述图片。"]),
    ("Question 1: What is it?", ["What is it?"]),
    ("", []),
])  # fmt: skip
def test_what_is_asked_is_read_line_by_line(text: str, wanted: list[str]) -> None:
    assert asking(text) == wanted


@pytest.mark.parametrize(("text", "wanted"), [
    ("It is red. Mr. Smith, e.g. here, likes it! Why?", ["It is red.", "Mr. Smith, e.g. here, likes it!", "Why?"]),
    ("One\nTwo. Three", ["One", "Two.", "Three"]),
    ("红色的。蓝色的。", ["红色的。", "蓝色的。"]),
    ("", []),
])  # fmt: skip
def test_sentences_are_told_apart(text: str, wanted: list[str]) -> None:
    assert told(text) == wanted


def test_paragraphs_labels_and_shared_words() -> None:
    assert paragraphs("One\ntwo.\n\nThree.") == ["One\ntwo.", "Three."]
    assert paragraphs("One.\nTwo.\n") == ["One.", "Two."]
    assert labelled("**A:** x\ny\n- B : z\nA: again", "A", "B") == {"A": "x\ny", "B": "z"}
    assert labelled("nothing", "A") == {} == labelled("A:\nB:", "A", "B")
    assert words_shared("Describe the orange teapot", "An orange cup.") == 0.5
    assert words_shared("Describe it", "An orange cup.") == 0


@given(st.text(max_size=200))
def test_no_word_is_made_up(text: str) -> None:
    for line in listed(text):
        assert line in text


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that.",
        "I’m sorry, I cannot help with this request.",
        "Sorry, I am unable to view images.",
        "I am very sorry, but as an AI I have no eyes.",
        "As an AI language model, I cannot see pictures.",
        "As a large language model, I do not have feelings.",
        "I cannot identify people in photos.",
        "I can't view the image directly, but it may be a dog.",
        "Unfortunately, I can't see the picture you mention.",
        "I'm unable to provide that.",
        "I do not have access to the image.",
        "I can only say simple things about the picture.",
        "  **I apologize, but I can't do that.**",
        "抱歉，我无法回答这个问题。",
        "作为一个人工智能助手，我看不到图片。",
        "我无法查看图片。",
        "Lo siento, no puedo ayudar con eso.",
        "Es tut mir leid, das kann ich nicht.",
        "申し訳ありませんが、お答えできません。",
    ],
)
def test_answers_that_decline(text: str) -> None:
    assert declines(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "There is no dog in the picture.",
        "I can't see a dog in the picture.",
        "I cannot see the picture of the queen, only its frame.",
        "I can only see two dogs.",
        "I don't think so: the cup is red.",
        "As an art director would say, the light is soft.",
        "Being an assistant's desk, it is tidy.",
        "It cannot help but look sad. I am sorry for it.",
        "Dear Ann,\nI am sorry that I cannot come.",
        "Sorry sight that it is, the house still stands.",
        "我无法想象更美的风景。",
    ],
)
def test_answers_that_do_not_decline(text: str) -> None:
    assert not declines(text)
