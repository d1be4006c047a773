"""Asking: what is read out of any reply, what is asked again, what a call is."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from foveal.errors import ModelFailed, RecipeError
from foveal.models.model import (
    BadShape,
    Model,
    Scale,
    expected,
    read_choice,
    read_json,
    read_number,
    request_key,
    shape_of,
)
from foveal.models.scripted import Scripted, words_of
from foveal.models.wire import Message, Reply, Request
from foveal.record import Chat, Image, Record, gather
from foveal.store import Meter, Recording, Store, recording

ONE, TWO = Image.of(b"one"), Image.of(b"two")


class Found(BaseModel):
    instructions: list[str]


NUMBERS = {
    "4": 4,
    " 4\n": 4,
    "4.": 4,
    "**4**": 4,
    "[[4]]": 4,
    "[[ 4.5 ]]": 4.5,
    "4/5": 4,
    "4 / 5": 4,
    "4 out of 5": 4,
    "4/5分": 4,
    "Rating: 4/5": 4,
    "Rating: [[3]]": 3,
    "**Rating:** 4": 4,
    "**Rating**: **4**": 4,
    "Score: 4.5": 4.5,
    "score is 2": 2,
    "The score is 2, since 3 of 4 words are wrong.": 2,
    "Score (1-5): 2": 2,
    "I would give this a 4 on a scale from 1 to 5": 4,
    "Between 1 and 5 I choose 2.": 2,
    "On a scale of 1–5: 3": 3,
    "4\n\nThe instruction mentions 2 dogs and 3 cats.": 4,
    "There are 12 birds and 3 cats, so all in all it deserves 5": 5,
    "评分：4分": 4,
    "我给4分，因为问题很清楚": 4,
    "这个指令的评分是5。": 5,
    "４": 4,
    "1": 1,
    "5": 5,
}
NO_NUMBERS = ["", " ", "four", "10", "0", "6/5", "Rating: 7/10", "4 or 5", "1, 2, 3", "4.5.6", "v4", "2nd", "[[9]]",
              "1 to 5", "9" * 400, "-", "nan", "inf", "1e5"]  # fmt: skip


@pytest.mark.parametrize(("text", "number"), NUMBERS.items())
def test_numbers(text: str, number: float) -> None:
    assert read_number(text, 1, 5) == number


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_no_numbers(text: str) -> None:
    with pytest.raises(BadShape):
        read_number(text, 1, 5)


@given(st.text(st.sampled_from("0123456789./- \n[]*scoreoutfi分：，"), max_size=40) | st.text())
def test_any_text_is_a_number_in_range_or_bad_shape(text: str) -> None:
    with suppress(BadShape):
        assert 1 <= read_number(text, 1, 5) <= 5


KIND = ("instruction", "caption")
CHOICES = [
    ("instruction", KIND, "instruction"),
    ("Instruction.", KIND, "instruction"),
    ("**caption**", KIND, "caption"),
    ("It is a caption", KIND, "caption"),
    ('"caption"', KIND, "caption"),
    ("Answer: caption\n", KIND, "caption"),
    ("这是caption。", KIND, "caption"),
    ("CAPTION", KIND, "caption"),
    ("a chart", ("art", "chart"), "chart"),
    ("bar chart", ("chart", "bar chart"), "bar chart"),
    ("not art", ("art", "not art"), "not art"),
    ("不是", ("是", "不是"), "不是"),
    ("STRASSE", ("straße", "weg"), "straße"),
]
NO_CHOICES = [
    ("This is an instruction, not a caption", KIND),
    ("", KIND),
    ("captions", KIND),
    ("reinstruction", KIND),
    ("a chart", ("art", "photo")),
    ("不是", ("是", "否")),
    ("yes and no", ("yes", "no")),
]


@pytest.mark.parametrize(("text", "choices", "picked"), CHOICES)
def test_choices(text: str, choices: tuple[str, ...], picked: str) -> None:
    assert read_choice(text, choices) == picked


@pytest.mark.parametrize(("text", "choices"), NO_CHOICES)
def test_no_choices(text: str, choices: tuple[str, ...]) -> None:
    with pytest.raises(BadShape):
        read_choice(text, choices)


@given(st.text() | st.text(st.sampled_from("artch yes\n.*"), max_size=30))
def test_any_text_is_a_choice_or_bad_shape(text: str) -> None:
    with suppress(BadShape):
        assert read_choice(text, ("art", "chart", "yes")) in ("art", "chart", "yes")


JSON = {
    '{"a": 1}': {"a": 1},
    "[]": [],
    "5": 5,
    '"x"': "x",
    '```json\n{"a": 1}\n```': {"a": 1},
    '```\n{"a": 1}```': {"a": 1},
    '```json\n{"a": 1,}\n```': {"a": 1},
    'Sure! Here it is: {"a": 1} I hope it helps.': {"a": 1},
    'As [1] says: {"a": [1, 2]}': {"a": [1, 2]},
    'Here [the answer]: {"a": 1}': {"a": 1},
    '{"a": [1, 2,],}': {"a": [1, 2]},
    '{"a": [1, 2], "b": 3, }': {"a": [1, 2], "b": 3},
    '{"a": "x\ny"}': {"a": "x\ny"},
    '{"a": "```x```"}': {"a": "```x```"},
    '{"a": ",]"}': {"a": ",]"},
    '{"a": {"b": {"c": [{}]}}}': {"a": {"b": {"c": [{}]}}},
    'The {braces} are words: {"a": 1}': {"a": 1},
    '{"a": "\\ud83d\\ude00"}': {"a": "😀"},
    " \n [1]\n": [1],
}
DEEP = 100_000
NO_JSON = ["", "no", "{", "{'a': 1}", '{"a": 1', "[" * DEEP, '{"a":' * DEEP, '{"a": "\\ud800"}', "```", "9" * 5000,
           "``` " * 9, "\ufffd"]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), JSON.items())
def test_json(text: str, value: object) -> None:
    assert read_json(text) == value


@pytest.mark.parametrize("text", NO_JSON, ids=lambda t: t[:12])
def test_no_json(text: str) -> None:
    with pytest.raises(BadShape):
        read_json(text)


@given(st.text() | st.text(st.sampled_from('{}[]",:\\`json1 \n'), max_size=60))
def test_any_text_is_json_or_bad_shape(text: str) -> None:
    with suppress(BadShape):
        read_json(text)


LEAVES = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5)
TREES = st.recursive(
    LEAVES, lambda t: st.lists(t, max_size=3) | st.dictionaries(st.text(max_size=3), t, max_size=3), max_leaves=8
)


@given(
    st.dictionaries(st.text(max_size=4), TREES, min_size=1, max_size=3),
    st.sampled_from(["{}", "So: {} Good.", "```json\n{}\n```"]),
)
def test_json_comes_back_whatever_stands_around_it(value: dict[str, Any], around: str) -> None:
    assert read_json(around.replace("{}", json.dumps(value))) == value


@pytest.mark.parametrize("unit", ["1", "1 ", "[", '{"a":', "```json   ", ",  ", "score is ", "1 to ", "caption ", "1."])
def test_a_reply_of_megabytes_takes_bounded_time(unit: str) -> None:
    text = unit * (3_000_000 // len(unit))
    began = time.process_time()
    for read in (lambda t: read_number(t, 1, 5), lambda t: read_choice(t, KIND), read_json):
        with suppress(BadShape):
            read(text)
    assert time.process_time() - began < 3  # what is not linear takes hours


# --- shapes --------------------------------------------------------------------------------------------------------


def test_expected_score() -> None:
    scale = Scale(1, 5)
    assert expected({"4": 0.5, "5": 0.5}, scale) == 4.5
    assert expected({"4": 0.4, "5": 0.2, "x": 0.4}, scale) == pytest.approx(4 + 1 / 3)
    assert expected({"4": 0.2, "x": 0.8}, scale) is None
    assert expected({}, scale) is None


@given(st.dictionaries(st.sampled_from(["1", "2", "3", "4", "5", "6", "no"]), st.floats(0, 1)))
def test_an_expected_score_is_on_its_scale(probs: dict[str, float]) -> None:
    score = expected(probs, Scale(1, 5))
    assert score is None or 1 - 1e-9 <= score <= 5 + 1e-9


def test_score_tells_how_it_was_read() -> None:
    shape = shape_of(Scale(1, 5))
    by_probs = shape.read(Reply("4", probs={"4": 0.75, "5": 0.25}))
    assert (by_probs, by_probs.read) == (4.25, "logprobs")
    for reply in (Reply("4"), Reply("4", probs={"4": 0.1}), Reply("4", probs={})):
        score = shape.read(reply)
        assert (score, score.read) == (4, "parsed")


def test_choice_tells_its_probability() -> None:
    shape = shape_of(Literal["yes", "no"])
    sure = shape.read(Reply("no", probs={"yes": 0.2, "no": 0.6}))
    assert (sure, sure.p) == ("no", pytest.approx(0.75))
    parsed = shape.read(Reply("Yes."))
    assert (parsed, parsed.p) == ("yes", None)


@pytest.mark.parametrize(
    ("out", "text", "value"),
    [
        (Found, '{"instructions": ["a"]}', Found(instructions=["a"])),
        (list[int], "[1, 2]", [1, 2]),
        (dict[str, float], '{"a": 1}', {"a": 1.0}),
        (int, "7", 7),
        (bool, "true", True),
        (int | None, "null", None),
        (tuple[int, str], '[1, "a"]', (1, "a")),
    ],
)
def test_types(out: Any, text: str, value: object) -> None:
    assert shape_of(out).read(Reply(text)) == value


@pytest.mark.parametrize(("out", "text"), [(Found, '{"instruction": []}'), (list[int], '["a"]'), (int, "x")])
def test_json_of_another_shape(out: Any, text: str) -> None:
    with pytest.raises(BadShape):
        shape_of(out).read(Reply(text))


@pytest.mark.parametrize("out", ["str", 5, object(), type("Mine", (), {}), Callable[[], int]])
def test_what_is_no_answer_type(out: Any) -> None:
    with pytest.raises(RecipeError, match="not an answer type"):
        shape_of(out)


@pytest.mark.parametrize("ends", [(5, 1), (1, 1), (-1, 1), (0, 1000)])
def test_scales_rise(ends: tuple[int, int]) -> None:
    with pytest.raises(RecipeError, match="rising"):
        Scale(*ends)


# --- asking --------------------------------------------------------------------------------------------------------


def ask(model: Scripted, *what: Any, **how: Any) -> Any:
    """Ask outside a run: answered, not remembered."""
    return asyncio.run(Model(model, "vlm").ask(*what, **how))


def in_turn(*answers: str | Reply) -> Scripted:
    left = list(answers)
    return Scripted(lambda _: left.pop(0))


def test_text_says_why_it_stopped() -> None:
    said = ask(in_turn(Reply("Yes", "length")), "Is it?")
    assert (said, said.finish) == ("Yes", "length")


def test_asking_again_is_warmer_each_time() -> None:
    model = in_turn("perhaps", "", "yes")
    assert ask(model, "Is it?", out=Literal["yes", "no"]) == "yes"
    assert [r.sampling["temperature"] for r in model.asked] == [0.0, 0.4, 0.8]


def test_what_is_warm_already_stays() -> None:
    model = in_turn("?", "?", "yes")
    ask(model, "Is it?", out=Literal["yes", "no"], temperature=0.7)
    assert [r.sampling["temperature"] for r in model.asked] == [0.7, 0.7, 0.8]


@pytest.mark.parametrize(
    ("reply", "cause"),
    [(Reply("hm"), "unusable reply"), (Reply(" \n"), "empty reply"), (Reply("I cannot", "refusal"), "refused")],
)
def test_the_third_failure_ends_the_record(reply: Reply, cause: str) -> None:
    model = in_turn(reply, reply, replace(reply, text=reply.text + "!") if reply.text.strip() else reply)
    with pytest.raises(ModelFailed) as error:
        ask(model, "Is it?", out=Literal["yes", "no"])
    assert (error.value.cause, error.value.raw) == (cause, model.script and error.value.raw)
    assert error.value.raw.strip() == (reply.text.strip() + "!" if reply.text.strip() else "")
    assert "vlm" in error.value.detail
    assert "3 tries" in error.value.detail


def test_an_open_turn_may_stay_empty() -> None:
    assert ask(in_turn(""), None, [ONE]) == ""


def test_probabilities_stand_in_for_words() -> None:
    assert ask(in_turn(Reply("", probs={"4": 1.0})), "Rate", out=Scale(1, 5)) == 4


def test_pictures_come_first_in_the_first_user_turn() -> None:
    model = in_turn("a")
    ask(model, "And now?", [ONE, TWO], after=Chat([("system", "s"), ("user", "q"), ("assistant", "a")]))
    assert model.asked[0].messages == (
        Message("system", ("s",)),
        Message("user", (ONE, TWO, "q")),
        Message("assistant", ("a",)),
        Message("user", ("And now?",)),
    )


def test_turns_that_place_pictures_are_obeyed() -> None:
    model = in_turn("a")
    ask(model, "Compare.", [ONE, TWO], after=Chat([("user", ("This", 1, "and", 0)), ("assistant", "a")]))
    assert model.asked[0].messages[0].parts == ("This", TWO, "and", ONE)
    assert model.asked[0].messages[-1].parts == ("Compare.",)


def test_no_prompt_leaves_the_turn_open() -> None:
    model = in_turn("What is it?")
    ask(model, None, [ONE])
    assert (model.asked[0].open_turn, model.asked[0].messages) == (True, (Message("user", (ONE,)),))


def test_unknown_sampling_is_named() -> None:
    with pytest.raises(RecipeError, match=r"temperatur.*did you mean 'temperature'"):
        ask(in_turn("a"), "q", temperatur=1)


def test_sampling_is_layered() -> None:
    backend = in_turn("a")
    asyncio.run(Model(backend, sampling={"top_p": 0.5, "temperature": 0.3}).ask("q", temperature=0.9))
    assert dict(backend.asked[0].sampling) == {"temperature": 0.9, "max_tokens": 1024, "top_p": 0.5}


# --- what a call is ------------------------------------------------------------------------------------------------

PLAIN = Request((Message("user", (ONE, "What?")),), sampling={"temperature": 0.0, "max_tokens": 8})


def key(request: Request, identity: str = "m@1") -> str:
    return request_key(identity, request)[0].hex()


def test_the_key_is_what_it_was() -> None:
    # Change this and every store of every user is paid for again.
    assert key(PLAIN) == "c23c974923d33145713d8bb0b31d6fac"


def test_the_key_does_not_tell_how_a_call_is_run() -> None:
    elsewhere = Image(ONE.digest, "s3://elsewhere/1.png", lambda: b"")
    assert key(replace(PLAIN, seed=7, priority=3)) == key(PLAIN)
    assert key(replace(PLAIN, messages=(Message("user", (elsewhere, "What?")),))) == key(PLAIN)
    assert key(replace(PLAIN, sampling={"max_tokens": 8, "temperature": 0.0})) == key(PLAIN)


CHANGES = {
    "words": {"messages": (Message("user", (ONE, "What ?")),)},
    "picture": {"messages": (Message("user", (TWO, "What?")),)},
    "order": {"messages": (Message("user", ("What?", ONE)),)},
    "role": {"messages": (Message("system", (ONE, "What?")),)},
    "open": {"open_turn": True},
    "sampling": {"sampling": {"temperature": 0.1, "max_tokens": 8}},
    "choices": {"choices": ("a", "b")},
    "schema": {"schema": {"type": "object"}},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_the_key_tells_what_a_call_is(change: dict[str, Any]) -> None:
    assert key(replace(PLAIN, **change)) != key(PLAIN)


def test_the_key_tells_who_answers() -> None:
    assert key(PLAIN, "m@2") != key(PLAIN)


def remembered(store: Store, record: str, work: Callable[[Model], Any], backend: Scripted) -> tuple[Any, Meter]:
    async def go() -> Any:
        token = recording.set(Recording(store, meter, record, "step", 0, store.recall(record)))
        try:
            return await work(Model(backend))
        finally:
            recording.reset(token)

    meter = Meter()
    return asyncio.run(go()), meter


def test_the_same_request_twice_in_a_record_is_two_samples(tmp_path: Path) -> None:
    counts = Counter[str]()

    def script(request: Request) -> str:
        counts[words_of(request)] += 1
        return f"{words_of(request)}{counts[words_of(request)]}"

    async def work(model: Model) -> Any:
        return await gather(*(model.ask(q, temperature=1) for q in "aabba"))

    store = Store(tmp_path)
    first, paid = remembered(store, "r", work, Scripted(script))
    again, free = remembered(store, "r", work, Scripted([]))
    other, _ = remembered(store, "s", work, Scripted(script))
    store.close()
    assert sorted(first) == ["a1", "a2", "a3", "b1", "b2"]
    assert again == first != other
    assert (paid.total.made, free.total.made, free.total.remembered) == (5, 0, 5)


def test_samples_of_one_request_get_different_seeds(tmp_path: Path) -> None:
    async def work(model: Model) -> Any:
        return await gather(model.ask("q", temperature=1), model.ask("q", temperature=1))

    store = Store(tmp_path)
    one, two = Scripted(lambda _: "a"), Scripted(lambda _: "a")
    remembered(store, "r", work, one)
    remembered(store, "s", work, two)
    store.close()
    assert len({r.seed for r in (*one.asked, *two.asked)}) == 4


def test_useless_replies_are_remembered_too(tmp_path: Path) -> None:
    async def work(model: Model) -> Any:
        return await model.ask("q", out=Literal["yes", "no"])

    store = Store(tmp_path)
    remembered(store, "r", work, in_turn("?", "yes"))
    said, meter = remembered(store, "r", work, Scripted([]))
    store.close()
    assert (said, meter.total.remembered) == ("yes", 2)


def test_a_score_from_probabilities_is_remembered_as_such(tmp_path: Path) -> None:
    async def work(model: Model) -> Any:
        score = await model.ask("q", out=Scale(1, 5))
        return score, score.read

    store = Store(tmp_path)
    first, _ = remembered(store, "r", work, in_turn(Reply("5", probs={"4": 0.25, "5": 0.75})))
    again, _ = remembered(store, "r", work, Scripted([]))
    store.close()
    assert first == again == (4.75, "logprobs")


def test_cost() -> None:
    assert Model(Scripted([]), price=(1.0, 4.0)).cost(1_000_000, 500_000) == 3.0
    assert Model(Scripted([])).cost(1, 1) is None


def test_a_record_is_not_shown_what_another_paid(tmp_path: Path) -> None:
    store = Store(tmp_path)
    remembered(store, "r", lambda m: m.ask("q"), in_turn("a"))
    said, meter = remembered(store, Record().id, lambda m: m.ask("q"), in_turn("b"))
    store.close()
    assert (said, meter.total.made) == ("b", 1)
