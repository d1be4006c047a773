"""Rewards by tables and by what must hold; they need no torch."""

from __future__ import annotations

import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveal.errors import RecipeError, SourceError
from foveal.scrapbook.folder import Truth, to_json
from foveal.scrapbook.parts import Scene, Text, Thing
from foveal.train import rewards
from foveal.train.rewards import REWARDS, box, check, chosen, final, letter, normal, overlap, verdict

THOUGHT = "<think>Two cats? No, three.</think>"


def one(reward, said, right):
    (value,) = reward([said], answer=[right])
    (message,) = reward([[{"role": "assistant", "content": said}]], answer=[right], prompts=["?"], trainer_state=None)
    assert value == message
    return value


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Three.", "Three."),
        (f"{THOUGHT}<answer> Three </answer>", "Three"),
        (f"{THOUGHT} Three", "Three"),
        ("<answer>two</answer> wait <answer>three</answer>", "three"),
        ("<answer>open", "<answer>open"),
        ("", ""),
    ],
)
def test_the_final_answer(said, expected):
    assert final(said) == expected
    assert final([{"role": "assistant", "content": [{"type": "text", "text": said}]}]) == expected


@pytest.mark.parametrize(
    ("said", "right", "value"),
    [
        ("Two.", "two", 1), ("2", "Two.", 1), ("The cat", "a cat!", 1), ("cat", "cats", 0), ("1,000", "1000", 1),
        ("3.0", "3", 1), ("3.5", "35", 0), ("-5", "5", 0), ("−5", "-5", 1), ("5 - 3", "53", 0), ("", "two", 0),
        ("Ｔｗｏ", "2", 1), (f"{THOUGHT}<answer>three</answer>", "3", 1), (f"{THOUGHT}<answer>two</answer>", "3", 0),
        ("two or three", "three", 0), ("the", "a", 0), ("红色。", "红色", 1), ("?", "!", 0), ("100", "1", 0),
        ("10.50", "10.5", 1), ("anything", " ", None),
    ],
)  # fmt: skip
def test_exact(said, right, value):
    assert one(rewards.exact, said, right) == value


@given(st.text(max_size=20))
def test_an_answer_is_exactly_itself_and_normal_is_stable(text):
    assert normal(normal(text)) == normal(text)
    if text.strip() and "<" not in text:
        assert one(rewards.exact, text, text) == 1


@given(st.text(max_size=12), st.text(min_size=1, max_size=12))
def test_verbatim_is_stricter_than_exact(said, right):
    strict, loose = one(rewards.verbatim, said, right), one(rewards.exact, said, right)
    assert strict is None or loose is None or strict <= loose


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("B", "B"), ("b", "B"), ("(B)", "B"), ("B.", "B"), ("**B**", "B"), ("B. A red cat", "B"), ("(B) A cat", "B"),
        ("The answer is B.", "B"), ("answer: (c)", "C"), ("Option D is right", "D"), ("A cat", ""), ("I think so", ""),
        ("A or B", ""), ("The answer is A, no, the answer is B", ""), ("", ""), ("cat", ""),
        ("A. The answer is B.", ""),
    ],
)  # fmt: skip
def test_the_letter_of_a_choice(said, expected):
    assert letter(said) == expected


@pytest.mark.parametrize(
    ("said", "right", "value"),
    [("(B)", "B. red", 1), ("A", "B", 0), ("A B C D", "B", 0), ("red", "B", 0), ("B", "red", None)],
)
def test_choice(said, right, value):
    assert one(rewards.choice, said, right) == value


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Yes, there is.", "yes"), ("No.", "no"), ("There is no cat.", "no"), ("yes and no", ""), ("Yes / No", ""),
        ("Both yes and no", ""), ("Yes, with no dog.", "yes"), ("Yes, and no", ""), ("Maybe", ""), ("", ""),
        ("nobody, nor yesterday", ""), ("**Yes**", "yes"),
    ],
)  # fmt: skip
def test_verdict(said, expected):
    assert verdict(said) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("[0, 0, 2, 2]", (0, 0, 2, 2)), ('{"bbox_2d": [1.5, 2, 3, 4.25], "label": "cat"}', (1.5, 2, 3, 4.25)),
        ("(1,2),(3,4)", (1, 2, 3, 4)), ("(1, 2) (3, 4)", (1, 2, 3, 4)), ("[0,0,1,1] [0,0,2,2]", None),
        ("[0,0,1,1] is [0,0,1,1]", (0, 0, 1, 1)), ("[2, 2, 0, 0]", None), ("[0, 0, 0, 5]", None), ("[0, 1, 2]", None),
        ("0 0 1 1", None), ("[-1, -1, 1, 1]", (-1, -1, 1, 1)), ("", None),
    ],
)  # fmt: skip
def test_the_one_box(said, expected):
    assert box(said) == expected


@pytest.mark.parametrize(
    ("said", "value"),
    [("[0,0,2,2]", 1), ("[0,0,2,1]", 0.5), ("[1,1,3,3]", 1 / 7), ("[2,0,4,2]", 0), ("[9,9,10,10]", 0), ("no", 0)],
)
def test_iou(said, value):
    assert one(rewards.iou, f"{THOUGHT}<answer>{said}</answer>", "[0, 0, 2, 2]") == pytest.approx(value)
    assert one(rewards.iou, said, "somewhere") is None


SPAN = st.tuples(st.integers(0, 50), st.integers(1, 50)).map(lambda t: (float(t[0]), float(t[0] + t[1])))
BOXES = st.tuples(SPAN, SPAN).map(lambda t: (t[0][0], t[1][0], t[0][1], t[1][1]))


@given(BOXES, BOXES)
def test_overlap_is_a_share_and_takes_no_side(a, b):
    assert 0 <= overlap(a, b) <= 1
    assert overlap(a, b) == overlap(b, a)
    assert overlap(a, a) == 1
    cells = [{(x, y) for x in range(int(c[0]), int(c[2])) for y in range(int(c[1]), int(c[3]))} for c in (a, b)]
    assert overlap(a, b) == pytest.approx(len(cells[0] & cells[1]) / len(cells[0] | cells[1]))


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("<think>a</think><answer>b</answer>", 1), (" <think>a\nb</think>\n<answer>c</answer> \n", 1),
        ("<answer>b</answer>", 0), ("<think>a</think>b", 0), ("<think> </think><answer>b</answer>", 0),
        ("<think>a</think><answer></answer>", 0), ("<think>a</think><answer>b</answer>!", 0),
        ("<think>a<think>b</think><answer>c</answer>", 0), ("<answer>b</answer><think>a</think>", 0), ("", 0),
        ("<think>a</think><answer>b</answer><answer>c</answer>", 0),
    ],
)  # fmt: skip
def test_tagged(said, value):
    assert rewards.tagged([said]) == [value]


def test_brief():
    words = [" ".join(["x"] * n) for n in (0, 1, 64, 96, 128, 900)]
    assert rewards.brief(words) == [0, 0, 0, -0.5, -1, -1]


# --- against the truth of a scene -------------------------------------------------------------------------------------

SCENE = to_json(
    Truth(
        "images/1.png",
        "d" * 64,
        "train",
        Scene(
            1, "row", "blue",
            (
                Thing("cat", (0.05, 0.3, 0.35, 0.7), "orange", place="on the left"),
                Thing("dog", (0.65, 0.3, 0.95, 0.7), place="on the right"),
            ),
            (Text("OPEN", "sign", "at the top", (0.4, 0, 0.6, 0.1), "red"),),
        ),
    )
)  # fmt: skip


@pytest.mark.parametrize(
    ("said", "precision", "recall"),
    [
        ("There is a cat and a dog.", 1, 1),
        ("There is a cat.", 1, 0.5),
        ("There is a cat and a horse.", 0.5, 0.5),
        ("A horse.", 0, 0),
        ("What a fine picture.", 0, 0),
        ("", 0, 0),
        ("<think>A horse?</think><answer>There is a dog.</answer>", 1, 0.5),
    ],
)  # fmt: skip
def test_claims_and_recall(said, precision, recall):
    tags = [json.dumps({"scene": SCENE, "answer": "x"})]
    assert rewards.claims([said], tags=tags) == [precision]
    assert rewards.recall([said], tags=tags) == [recall]


def test_without_a_scene_nothing_is_judged():
    for tags in ("", "{}", '{"scene": null}', '{"scene": "lost"}', '{"scene": {"things": [1]}}', "[]", "{"):
        assert rewards.claims(["A cat."], tags=[tags]) == rewards.recall(["A cat."], tags=[tags]) == [None]


# --- by name ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(REWARDS))
def test_rewards_take_a_batch_and_any_other_columns(name):
    columns = {"answer": ["Yes. [0,0,1,1]", "B"], "tags": ["{}", json.dumps({"scene": SCENE})]}
    values = REWARDS[name].call(["B", "[0,0,1,1] yes"], **columns, prompts=["", ""], completion_ids=[[1], [2]])
    assert len(values) == 2 and all(v is None or -1 <= v <= 1 for v in values)
    assert any(v is not None for v in values)
    assert REWARDS[name].call.__name__ == name and REWARDS[name].call.__doc__
    assert REWARDS[name].call([], **{c: [] for c in columns}) == []


def test_functions_and_weights_for_trl():
    functions, weights = chosen(("exact", "tagged:0.5"), ("verbatim", "exact"))
    assert [f.__name__ for f in functions] == ["exact", "tagged", "verbatim"]
    assert weights == [1, 0.5, 0]  # what is only watched is not learnt from


@pytest.mark.parametrize(
    ("names", "strict", "sentence"),
    [
        ((), (), "a reward is wanted, one or more of: exact"),
        (("exat",), (), "no reward 'exat'; did you mean 'exact'?"),
        (("exact",), ("verbtim",), "no reward 'verbtim'; did you mean 'verbatim'?"),
        (("exact:x",), (), "'exact:x': the weight after the colon is a number above 0"),
        (("exact:0",), (), "a number above 0"),
        (("exact", "exact:2"), (), "reward 'exact' is named twice"),
    ],
)
def test_what_does_not_bind(names, strict, sentence):
    with pytest.raises(RecipeError, match=re.escape(sentence)):
        chosen(names, strict)


@pytest.mark.parametrize(
    ("name", "row", "sentence"),
    [
        ("exact", {"prompt": "?"}, "rows.jsonl has no column 'answer', which reward 'exact' needs"),
        ("exact:0.5", {"answer": " "}, "rows.jsonl has no row that reward 'exact' can judge"),
        ("choice", {"answer": "red"}, "no row that reward 'choice' can judge"),
        ("iou", {"answer": "left"}, "no row that reward 'iou' can judge"),
        ("claims", {"tags": "{}"}, "no row that reward 'claims' can judge: .*tag `scene`"),
    ],
)
def test_rows_that_a_reward_cannot_judge_are_refused(name, row, sentence):
    with pytest.raises(SourceError, match=sentence):
        check([name], [row], "rows.jsonl")


def test_one_row_that_can_be_judged_is_enough():
    check(["exact:0.5", "tagged"], [{"answer": ""}, {"answer": "two"}])


def test_nan_never_comes_back():
    odd = ["", "nan", "[nan, 0, 1, 1]", "<answer></answer>", "\ud800", "0" * 400]
    for name, reward in REWARDS.items():
        values = reward.call(odd, answer=["[0,0,1,1] yes"] * 6, tags=[json.dumps({"scene": SCENE})] * 6)
        assert all(v is None or math.isfinite(v) for v in values), name
