"""A backend behind the vLLM dialect, asked through the HTTP path."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from foveal.errors import ModelFailed
from foveal.models.hooking import hf_messages, prefix_of
from foveal.models.openai import OpenAIBackend
from foveal.models.scripted import Scripted
from foveal.models.serve import app
from foveal.models.template import jinja
from foveal.models.wire import Reply, Request
from tests.models.servers import ask, backend, run
from tests.models.test_hooks import HOOK, TEMPLATE, WORDS, tokens


class Shown(Scripted):
    """A script that shows its prompt's tokens."""

    render = staticmethod(jinja(TEMPLATE))

    def prompt_ids(self, request: Request, generation: bool) -> list[int]:
        if request.open_turn:
            return tokens(prefix_of(self.render, request.messages))
        return tokens(self.render(hf_messages(request.messages), generation))

    def encode(self, text: str) -> list[int]:
        return tokens(text)

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(WORDS[i] for i in ids)


def script(request: Request) -> str | Reply:
    if request.open_turn:
        return "Where is the cat?"
    if request.choices:
        return Reply("no", probs={"yes": 0.25, "no": 0.7}, tokens_in=9, tokens_out=1)
    if request.schema:
        return '{"a": "b"}'
    return " ".join(p if isinstance(p, str) else p.data().decode("latin1") for p in request.messages[-1].parts)


@asynccontextmanager
async def serving(model: Scripted) -> AsyncIterator[str]:
    runner = web.AppRunner(app(model))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def through(
    request: Request, hooking: bool = False, model: Scripted | None = None
) -> tuple[Reply, Scripted, OpenAIBackend]:
    model = model or Shown(script, identity="tiny")

    async def work() -> tuple[Reply, Scripted, OpenAIBackend]:
        async with serving(model) as url, backend(url, hooking=hooking) as client:
            return await client.send(request), model, client

    return run(work())


def test_words_and_pictures_arrive() -> None:
    reply, model, client = through(ask("What?", image=True))
    assert reply.text == "\x89PNG not really What?"
    assert client.identity == "tiny" and client.endpoints[0].dialect.server == "vllm"
    assert model.asked[-1].sampling == {"temperature": 0.0, "max_tokens": 64}


def test_choices_come_back_with_probabilities() -> None:
    reply, model, _ = through(ask(choices=("yes", "no"), seed=5))
    assert reply.text == "no" and reply.probs == {"yes": pytest.approx(0.25), "no": pytest.approx(0.7)}
    assert model.asked[-1].choices == ("yes", "no") and model.asked[-1].seed == 5


def test_schemas_arrive() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    reply, model, _ = through(ask(schema=schema))
    assert reply.text == '{"a": "b"}' and model.asked[-1].schema == schema


def test_open_turns_are_tested_and_pass() -> None:
    reply, model, _ = through(HOOK, hooking=True)
    assert reply.text == "Where is the cat?"
    assert model.asked[-1].open_turn and "<|im_end|>" in model.asked[-1].sampling["stop"]


def test_what_a_model_cannot_answer_is_a_bad_request() -> None:
    with pytest.raises(ModelFailed, match="bad request 400"):
        through(ask("x"), model=Scripted([("nothing", "matches")]))


BAD: list[tuple[Any, str]] = [
    ("{", "not JSON"),
    ([], "not a JSON object"),
    ({}, "messages is missing"),
    ({"messages": []}, "empty"),
    ({"messages": [{"role": "user", "content": "x"}], "stream": True}, "streaming"),
    ({"messages": [{"role": "user", "content": "x"}], "n": 2}, "n > 1"),
    ({"messages": [{"role": "judge", "content": "x"}]}, "role"),
    ({"messages": [{"role": "user", "content": "x"}], "continue_final_message": True}, "cannot set both"),
    ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "a part is"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}]},
        "nothing is fetched",
    ),
    (
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,?"}}]}
            ]
        },
        "base64",
    ),
]


@pytest.mark.parametrize(("body", "message"), BAD)
def test_bad_requests_are_error_objects(body: Any, message: str) -> None:
    async def work() -> None:
        async with serving(Scripted(script)) as url, aiohttp.ClientSession() as http:
            given = {"data": body} if isinstance(body, str) else {"json": body}
            async with http.post(url + "/v1/chat/completions", **given) as answer:
                assert answer.status == 400
                assert message in (await answer.json())["error"]["message"]

    run(work())


def test_further_routes() -> None:
    async def work() -> None:
        async with serving(Shown(script, identity="tiny")) as url, aiohttp.ClientSession() as http:
            for path, status in (("/health", 200), ("/version", 200), ("/nowhere", 404)):
                async with http.get(url + path) as answer:
                    assert answer.status == status
            async with http.post(url + "/tokenize", json={"prompt": "<|a|>b"}) as answer:
                ids = (await answer.json())["tokens"]
                assert len(ids) == 2
            async with http.post(url + "/detokenize", json={"tokens": ids}) as answer:
                assert (await answer.json())["prompt"] == "<|a|>b"

    run(work())
