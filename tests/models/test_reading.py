"""Replies, refusals and probabilities, as servers word them."""

from __future__ import annotations

import email.utils
import math
import time

import orjson
import pytest

from foveal.models import reading
from tests.models.servers import ask, said


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "3"}, 3.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"Retry-After": "-4"}, 0.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert reading.retry_after(headers) == seconds


def test_retry_after_a_date() -> None:
    assert reading.retry_after({"Retry-After": email.utils.formatdate(time.time() + 20)}) == pytest.approx(20, abs=1.5)
    assert reading.retry_after({"Retry-After": email.utils.formatdate(0)}) == 0.0


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b'{"error":{"message":"too long","code":"context_length_exceeded"}}', "too long (context_length_exceeded)"),
        (b'{"error":{"message":"bad","code":400}}', "bad"),
        (b'{"error":"plain"}', "plain"),
        (b'{"object":"error","message":"vllm before 0.10"}', "vllm before 0.10"),
        (b'{"detail":[{"loc":["body","top_k"],"msg":"extra"}]}', '[{"loc":["body","top_k"],"msg":"extra"}]'),
        (b"<html>\n  nginx</html>", "<html> nginx</html>"),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_complaints(raw: bytes, words: str) -> None:
    assert reading.complaint(raw) == words


def step(token: str, **alternatives: float) -> dict[str, object]:
    tops = [{"token": t, "logprob": math.log(p)} for t, p in alternatives.items()]
    return {"token": token, "logprob": math.log(alternatives.get(token, 0.5)), "top_logprobs": tops}


def probs(choices: tuple[str, ...], *steps: dict[str, object]) -> dict[str, float] | None:
    raw = orjson.dumps(said("x", logprobs={"content": list(steps)}))
    found = reading.reply(raw, ask(choices=choices)).probs
    return None if found is None else {k: round(p, 3) for k, p in found.items()}


def test_digits() -> None:
    assert probs(("1", "2", "3"), step("3", **{"3": 0.6, "2": 0.3, " 2": 0.05, "three": 0.05})) == {
        "1": 0,
        "2": 0.35,
        "3": 0.6,
    }


def test_variants_and_beginnings_are_summed() -> None:
    found = probs(
        ("instruction", "caption"),
        step("inst", **{"inst": 0.5, "Instruction": 0.2, " cap": 0.1, "\u0120caption": 0.1, "x": 0.1}),
    )
    assert found == {"instruction": 0.7, "caption": 0.2}


def test_a_beginning_of_several_is_decided_by_the_next_token() -> None:
    first = step("1", **{"1": 0.8, "2": 0.2})
    second = step("0", **{"0": 0.75, "<|im_end|>": 0.25})
    assert probs(("1", "2", "10"), first, second) == {"1": 0.2, "2": 0.2, "10": 0.6}
    assert probs(("1", "2", "10"), first) == {"1": 0, "2": 0.2, "10": 0}


def test_blanks_and_quotes_before_the_word_are_passed_over() -> None:
    assert probs(("yes", "no"), step(" ", **{" ": 1.0}), step('"', **{'"': 1.0}), step("yes", yes=0.9, no=0.1)) == {
        "yes": 0.9,
        "no": 0.1,
    }


def test_punctuation_behind_the_word_is_not_part_of_it() -> None:
    assert probs(("yes", "no"), step("yes.", **{"yes.": 0.9, "no,": 0.1})) == {"yes": 0.9, "no": 0.1}


@pytest.mark.parametrize(
    "logprobs", [None, {}, {"content": None}, {"content": []}, {"tokens": ["1"], "token_logprobs": [0]}, "x"]
)
def test_no_probabilities(logprobs: object) -> None:
    assert reading.reply(orjson.dumps(said("1", logprobs=logprobs)), ask(choices=("1", "2"))).probs is None


def test_words_around_the_answer_give_no_probabilities_of_it() -> None:
    assert probs(("1", "2"), step("Score", Score=0.9, The=0.1)) is None


def test_minus_infinity_is_nothing() -> None:
    one = {"token": "1", "logprob": 0.0, "top_logprobs": [{"token": "2", "logprob": -9999.0}]}
    assert probs(("1", "2"), one) == {"1": 1.0, "2": 0.0}


def test_an_open_turn_taken_for_a_thought_is_read() -> None:
    raw = orjson.dumps(said(None, message={"reasoning_content": "What is it?"}))
    assert reading.reply(raw, ask("", open_turn=True)).text == "What is it?"
    with pytest.raises(reading.Fault, match="empty reply"):
        reading.reply(raw, ask("What?"))
