"""The same request, in each server's words."""

from __future__ import annotations

from typing import Any

import pytest

from foveal.models.dialect import Dialect, answer_length, guided_choice, is_strict, suspects
from tests.models.servers import ask

ALL = {
    "temperature": 0.7,
    "top_p": 0.9,
    "top_k": 20,
    "min_p": 0.1,
    "max_tokens": 50,
    "min_tokens": 2,
    "stop": ["x"],
    "repetition_penalty": 1.1,
}
EVERYWHERE = {"temperature": 0.7, "top_p": 0.9, "stop": ["x"]}
EXTRA = {"top_k": 20, "min_p": 0.1, "min_tokens": 2, "repetition_penalty": 1.1}


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("vllm", {**EVERYWHERE, **EXTRA, "max_tokens": 50, "seed": 3}),
        ("sglang", {**EVERYWHERE, **EXTRA, "max_tokens": 50, "seed": 3}),
        ("llamacpp", {**EVERYWHERE, "top_k": 20, "min_p": 0.1, "repeat_penalty": 1.1, "max_tokens": 50, "seed": 3}),
        ("openai", {**EVERYWHERE, "max_completion_tokens": 50, "seed": 3}),
        ("gemini", {**EVERYWHERE, "max_tokens": 50}),
        ("ollama", {**EVERYWHERE, "max_tokens": 50, "seed": 3}),
        ("unknown", {**EVERYWHERE, **EXTRA, "max_tokens": 50, "seed": 3}),
    ],
)
def test_sampling(server: str, expected: dict[str, Any]) -> None:
    assert Dialect(server).fields(ask(sampling=ALL, seed=3)) == expected


@pytest.mark.parametrize(
    ("server", "version", "field"),
    [
        ("vllm", (0, 11, 0), {"structured_outputs": {"choice": ["a", "b.c"]}}),
        ("vllm", (), {"structured_outputs": {"choice": ["a", "b.c"]}}),
        ("vllm", (0, 9, 2), {"guided_choice": ["a", "b.c"]}),
        ("sglang", (), {"regex": r"(a|b\.c)"}),
        ("llamacpp", (), {"grammar": 'root ::= "a" | "b.c"'}),
        ("openai", (), {}),
    ],
)
def test_guided_choice(server: str, version: tuple[int, ...], field: dict[str, Any]) -> None:
    assert guided_choice(server, version, ("a", "b.c")) == field


def test_choices_ask_for_probabilities_and_few_tokens() -> None:
    fields = Dialect("vllm").fields(ask(choices=("1", "2", "3")))
    assert (fields["logprobs"], fields["top_logprobs"], fields["max_tokens"]) == (True, 20, 1)
    assert (
        Dialect("openai").fields(ask(choices=("1", "2"), sampling={"max_tokens": 1024}))["max_completion_tokens"] == 17
    )
    assert answer_length(("instruction", "caption"), True) == 13


def test_a_schema_goes_as_response_format() -> None:
    open_, closed = {"type": "object", "properties": {"a": {"type": "string"}}}, None
    closed = {**open_, "required": ["a"], "additionalProperties": False}
    for schema, strict in ((open_, False), (closed, True)):
        sent = Dialect("unknown").fields(ask(schema=schema))["response_format"]["json_schema"]
        assert (sent["schema"], sent["strict"]) == (schema, strict)
    assert not is_strict(
        {"type": "object", "properties": {"a": open_}, "required": ["a"], "additionalProperties": False}
    )


@pytest.mark.parametrize(
    ("message", "sent", "blamed"),
    [
        ("Unrecognized request argument supplied: top_k", {"top_k", "min_p", "seed"}, {"top_k"}),
        ("'logprobs' is not supported", {"logprobs", "top_logprobs"}, {"logprobs", "top_logprobs"}),
        ("top_logprobs must be at most 5", {"logprobs", "top_logprobs"}, {"logprobs", "top_logprobs"}),
        ("nope", {"regex", "seed"}, {"regex"}),
        ("nope", {"seed"}, {"seed"}),
        ("nope", {"temperature"}, set()),
        ("temperature must be 1", {"temperature"}, {"temperature"}),
        ("the stopping point", {"temperature"}, set()),
    ],
)
def test_suspects(message: str, sent: set[str], blamed: set[str]) -> None:
    assert suspects(message, frozenset(sent)) == blamed
