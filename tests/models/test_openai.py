"""Any OpenAI-compatible server, with everything that can go wrong on the way."""

from __future__ import annotations

import asyncio
import base64
import email.utils
import time
from typing import Any

import pytest
from aiohttp import web

from foveal.errors import FovealError, ModelFailed, ModelSetupError, Unreachable
from foveal.models import openai
from foveal.models.connect import ModelSpec
from foveal.models.wire import Backend, Message, Request
from tests.models.servers import PIXEL, Server, answer, ask, backend, encode, error, run, said


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "BACKOFF", 0.002)
    for name in ("OPENAI_API_KEY", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)


def exchange(chat: Any, request: Request | None = None, owned_by: str = "test", **spec: Any) -> tuple[Any, Server]:
    """Return what `send` returned or raised against a server that answers by `chat`, and the server."""

    async def work() -> Any:
        async with server, backend(server, **spec) as model:
            try:
                return await model.send(request or ask())
            except FovealError as failed:
                return failed

    server = Server(chat, owned_by=owned_by)
    return run(work()), server


def test_is_a_backend() -> None:
    assert isinstance(openai.OpenAIBackend(ModelSpec(url="http://localhost:1"), encode), Backend)


def test_a_picture_is_spliced_in_as_it_is() -> None:
    reply, server = exchange(lambda body, n: said("a cat"), ask('What "is" this?\n\ud800', image=True))
    content = server.seen[0]["messages"][0]["content"]
    assert (reply.text, reply.tokens_in, reply.tokens_out, reply.finish) == ("a cat", 7, 3, "stop")
    assert content[0]["image_url"]["url"] == "data:image/png;base64," + base64.b64encode(PIXEL.data()).decode()
    assert content[1]["text"] == 'What "is" this?\n?'
    assert server.seen[0]["model"] == "m" and server.seen[0]["temperature"] == 0.0


def test_a_large_body_goes_in_one_piece() -> None:
    reply, server = exchange(lambda body, n: said("long"), ask("x" * 3_000_000))
    assert reply.text == "long" and len(server.raw[0]) > 3_000_000


FAULTS: dict[str, tuple[Any, str]] = {
    "500": (lambda: error(500, "boom"), "server error 500"),
    "502 with HTML": (
        lambda: answer(body=b"<html>bad gateway</html>", status=502, kind="text/html"),
        "server error 502",
    ),
    "HTML with 200": (lambda: answer(body=b"<html>log in</html>", kind="text/html"), "not JSON"),
    "half a JSON": (lambda: answer(body=b'{"choices":[{"message":{"content":"he'), "not JSON"),
    "no bytes": (lambda: answer(body=b""), "not JSON"),
    "no choices": (lambda: {"choices": []}, "empty reply"),
    "null choices": (lambda: {"choices": None}, "empty reply"),
    "a list": (lambda: [1, 2], "empty reply"),
    "null content": (lambda: said(None), "empty reply"),
    "only reasoning": (lambda: said(None, message={"reasoning_content": "hm"}, finish_reason="length"), "empty reply"),
    "reset": (lambda: "reset", "connection lost"),
    "error with 200": (lambda: {"error": {"message": "upstream", "code": 502}}, "server error 502"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_that_may_pass_are_tried_again_then_fail_the_record(name: str) -> None:
    made, cause = FAULTS[name]
    failed, server = exchange(lambda body, n: made(), attempts=3)
    assert isinstance(failed, ModelFailed) and failed.cause == cause
    assert len(server.seen) == 3
    healed, server = exchange(lambda body, n: made() if n == 1 else said("fine"), attempts=3)
    assert healed.text == "fine" and len(server.seen) == 2


def test_the_raw_text_is_kept() -> None:
    failed, _ = exchange(lambda body, n: answer(body=b"<html>log in</html>"), attempts=1)
    assert failed.raw == "<html>log in</html>"


@pytest.mark.parametrize("status", [400, 403, 404, 413, 422])
def test_what_cannot_pass_is_not_tried_again(status: int) -> None:
    failed, server = exchange(
        lambda body, n: error(status, "the context has 9000 tokens, " + "x" * 999), request=bare()
    )
    assert isinstance(failed, ModelFailed) and failed.cause == f"bad request {status}"
    assert "9000 tokens" in str(failed) and len(str(failed)) < 400
    assert len(server.seen) == 1


def bare() -> Request:
    return Request((Message("user", ("hi",)),))


@pytest.mark.parametrize(("status", "message"), [(401, "no such key"), (402, "pay"), (429, "insufficient_quota")])
def test_a_key_that_is_no_longer_accepted_stops_the_run(status: int, message: str) -> None:
    stopped, server = exchange(lambda body, n: error(status, message))
    assert isinstance(stopped, Unreachable) and len(server.seen) == 1


def test_a_hanging_server_is_timed_out() -> None:
    async def hang() -> dict[str, Any]:
        await asyncio.sleep(30)
        return said("never")

    failed, server = exchange(lambda body, n: hang(), timeout=0.1, attempts=2)
    assert isinstance(failed, ModelFailed) and failed.cause == "timed out" and len(server.seen) == 2


def test_ten_megabytes_are_not_read() -> None:
    failed, server = exchange(lambda body, n: said("x" * 10_000_000))
    assert isinstance(failed, ModelFailed) and failed.cause == "reply too large"
    assert len(server.seen) == 1 and len(failed.raw) <= 20_000


def test_ten_megabytes_in_chunks_are_not_read() -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse()
        await stream.prepare(request)
        for _ in range(160):
            await stream.write(b"x" * 2**16)
        return stream

    async def work() -> None:
        server = Server()
        server._chat = drip  # type: ignore[method-assign]
        async with server, backend(server) as model:
            with pytest.raises(ModelFailed, match="reply too large"):
                await model.send(ask())

    run(work())


def test_bytes_that_are_no_utf8_become_replacement_characters() -> None:
    raw = b'{"choices":[{"message":{"content":"caf\xe9 \\ud83d!"},"finish_reason":"stop"}]}'
    reply, _ = exchange(lambda body, n: answer(body=raw))
    assert reply.text == "caf\ufffd ?!"
    reply.text.encode()


def test_a_refusal_is_told_as_one() -> None:
    reply, _ = exchange(lambda body, n: said(None, message={"refusal": "I cannot help."}))
    assert (reply.text, reply.finish) == ("I cannot help.", "refusal")
    reply, _ = exchange(lambda body, n: said("", finish_reason="content_filter"))
    assert (reply.text, reply.finish) == ("", "refusal")


def test_content_in_parts_is_joined() -> None:
    parts = [{"type": "text", "text": "a "}, {"type": "text", "text": "cat"}]
    reply, _ = exchange(lambda body, n: said(parts))  # type: ignore[arg-type]
    assert reply.text == "a cat"


# --- too many requests ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", ["0.15", "date"])
def test_429_waits_as_long_as_the_server_says(after: str) -> None:
    seconds = 0.15 if after != "date" else 1.0
    when = email.utils.formatdate(time.time() + 2, usegmt=True) if after == "date" else after
    began = time.monotonic()
    reply, server = exchange(lambda body, n: error(429, "slow down", **{"Retry-After": when}) if n == 1 else said("ok"))
    assert reply.text == "ok" and len(server.seen) == 2
    assert time.monotonic() - began >= 0.9 * seconds


def test_429_does_not_use_up_attempts_but_patience() -> None:
    reply, server = exchange(
        lambda body, n: error(429, "", **{"Retry-After": "0.01"}) if n < 12 else said("ok"), attempts=2
    )
    assert reply.text == "ok" and len(server.seen) == 12
    failed, _ = exchange(lambda body, n: error(429, "", **{"Retry-After": "0.1"}), patience=0.3)
    assert isinstance(failed, ModelFailed) and failed.cause == "rate limited"


def storm(share: int, requests: int, **spec: Any) -> tuple[float, int, int]:
    """Return seconds taken, the limit at the end and requests sent, one in `share` of them refused."""

    async def slow(n: int) -> Any:
        if n % share == 0:
            return error(429, "", **{"Retry-After": "0.3"})
        await asyncio.sleep(0.02)
        return said("ok")

    async def work() -> tuple[float, int, int]:
        async with Server(lambda body, n: slow(n)) as server, backend(server, **spec) as model:
            began = time.monotonic()
            await asyncio.gather(*(model.send(ask(str(i), priority=i)) for i in range(requests)))
            return time.monotonic() - began, model.slots, len(server.seen)

    return run(work())


def test_a_few_429s_do_not_make_it_collapse() -> None:
    seconds, slots, sent = storm(share=30, requests=900)
    assert slots >= 16
    assert 900 < sent < 960
    assert seconds < 6  # 16 at a time, the start, would take 1.1 s on an idle machine; a collapse takes 20


# --- several endpoints ---------------------------------------------------------------------------------------------


def test_requests_are_spread_over_endpoints() -> None:
    async def slow() -> Any:
        await asyncio.sleep(0.01)
        return said("ok")

    async def work() -> list[int]:
        async with Server(lambda b, n: slow()) as a, Server(lambda b, n: slow()) as b, backend(a, b) as model:
            await asyncio.gather(*(model.send(ask()) for _ in range(100)))
            return [len(a.seen), len(b.seen)]

    counts = run(work())
    assert sum(counts) == 100 and min(counts) > 30


def test_a_dead_endpoint_is_routed_around_and_found_again() -> None:
    async def work() -> None:
        async with Server() as a:
            b = await Server().__aenter__()
            async with backend(a, b, attempts=2) as model:
                await b.__aexit__()
                replies = await asyncio.gather(*(model.send(ask()) for _ in range(40)))
                assert len(replies) == 40 and [e.alive for e in model.endpoints] == [True, False]
                async with Server(port=b.port) as again:
                    while not model.endpoints[1].alive:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                    await asyncio.gather(*(model.send(ask()) for _ in range(40)))
                    assert again.seen

    run(work())


def test_when_all_are_gone_it_waits_then_stops_the_run() -> None:
    async def work() -> None:
        server = await Server().__aenter__()
        async with backend(server, patience=0.3) as model:
            await server.__aexit__()
            began = time.monotonic()
            results = await asyncio.gather(*(model.send(ask()) for _ in range(5)), return_exceptions=True)
            assert all(isinstance(r, Unreachable) for r in results)
            assert time.monotonic() - began >= 0.3
            with pytest.raises(Unreachable, match="no server has answered"):
                await model.send(ask())

    run(work())


def test_a_server_that_comes_back_is_used_again() -> None:
    async def work() -> None:
        server = await Server().__aenter__()
        async with backend(server) as model:
            await server.__aexit__()
            sent = asyncio.create_task(model.send(ask()))
            await asyncio.sleep(0.05)
            async with Server(lambda b, n: said("back"), port=server.port):
                assert (await sent).text == "back"

    run(work())


def test_cancelled_requests_give_their_places_back() -> None:
    async def slow() -> Any:
        await asyncio.sleep(5)

    async def work() -> None:
        async with (
            Server(lambda b, n: slow() if n <= 2 else said("ok")) as server,
            backend(server, concurrency=2) as model,
        ):
            tasks = [asyncio.create_task(model.send(ask())) for _ in range(6)]
            await asyncio.sleep(0.05)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert model.endpoints[0].limiter.busy == 0
            assert (await model.send(ask())).text == "ok"

    run(work())


def test_concurrency_is_pinned() -> None:
    async def slow() -> Any:
        await asyncio.sleep(0.01)
        return said("ok")

    async def work() -> None:
        async with Server(lambda b, n: slow()) as server, backend(server, concurrency=3) as model:
            await asyncio.gather(*(model.send(ask()) for _ in range(30)))
            assert server.most == 3 and model.slots == 3

    run(work())


# --- what a server does not take -----------------------------------------------------------------------------------


def picky(field: str, message: str = "") -> Any:
    return lambda body, n: (
        error(400, message or f"Unrecognized request argument supplied: {field}") if field in body else said("1")
    )


@pytest.mark.parametrize("field", ["top_k", "seed", "logprobs", "min_p"])
def test_a_field_the_server_refuses_is_left_out_from_then_on(field: str) -> None:
    request = ask(sampling={"temperature": 1.0, "top_k": 5, "min_p": 0.1}, seed=4, choices=("1", "2"))

    async def work() -> None:
        async with Server(picky(field)) as server, backend(server) as model:
            for _ in range(3):
                assert (await model.send(request)).text == "1"
            assert len(server.seen) == 4
            assert field not in server.seen[-1] and server.seen[-1]["temperature"] == 1.0

    run(work())


def test_guidance_a_server_refuses_without_naming_it_is_left_out() -> None:
    request = ask(schema={"type": "object", "properties": {"a": {"type": "string"}}})
    reply, server = exchange(picky("response_format", "invalid request"), request)
    assert reply.text == "1" and "response_format" not in server.seen[-1]


def test_a_real_bad_request_teaches_nothing() -> None:
    async def work() -> None:
        chat = lambda body, n: error(400, "too long") if "long" in str(body["messages"]) else said("fine")  # noqa: E731
        async with Server(chat) as server, backend(server) as model:
            with pytest.raises(ModelFailed, match="bad request 400: too long"):
                await model.send(ask("long", seed=3))
            await model.send(ask("short", seed=3))
            assert server.seen[-1]["seed"] == 3

    run(work())


def test_max_tokens_takes_its_new_name_where_demanded() -> None:
    chat = picky("max_tokens", "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
    reply, server = exchange(chat)
    assert reply.text == "1" and server.seen[-1]["max_completion_tokens"] == 64


# --- opening -------------------------------------------------------------------------------------------------------


def opened(server: Server, **spec: Any) -> Any:
    async def work() -> Any:
        async with server, backend(server, **spec) as model:
            return model.identity, model.endpoints[0].dialect

    return run(work())


def test_the_only_model_is_taken() -> None:
    assert opened(Server(models=("Qwen/Qwen2.5-VL-7B-Instruct",)))[0] == "Qwen/Qwen2.5-VL-7B-Instruct"


def test_several_models_must_be_told_apart() -> None:
    with pytest.raises(ModelSetupError, match=r"serves 2 models; name one of a, b"):
        opened(Server(models=("a", "b")))
    with pytest.raises(ModelSetupError, match=r"does not serve 'quen-vl'; did you mean 'qwen-vl'"):
        opened(Server(models=("qwen-vl", "llava"), owned_by="vllm"), model="quen-vl")


def test_identity_is_name_and_revision_and_never_a_url() -> None:
    assert opened(Server(), model="m", revision="r2")[0] == "m@r2"
    assert opened(Server(), extra={"chat_template_kwargs": {"enable_thinking": False}})[0].startswith("m+")


@pytest.mark.parametrize(
    ("owned_by", "paths", "server", "version"),
    [
        ("vllm", {"version": {"version": "0.11.2"}}, "vllm", (0, 11, 2)),
        ("me", {"version": {"version": "0.9.1rc1"}}, "vllm", (0, 9, 1)),
        ("llamacpp", {}, "llamacpp", ()),
        ("me", {"props": {"media_marker": "<m>"}}, "llamacpp", ()),
        ("sglang", {}, "sglang", ()),
        ("me", {"get_model_info": {"model_path": "x"}}, "sglang", ()),
        ("library", {}, "ollama", ()),
        ("me", {"info": {"version": "3.0.0", "model_id": "x"}}, "tgi", (3, 0, 0)),
        ("me", {}, "unknown", ()),
    ],
)
def test_servers_are_told_apart(owned_by: str, paths: dict[str, Any], server: str, version: tuple[int, ...]) -> None:
    routes = {path: (lambda _, v=value: v) for path, value in paths.items()}
    dialect = opened(Server(owned_by=owned_by, paths=routes))[1]
    assert (dialect.server, dialect.version) == (server, version)


def test_a_server_that_is_down_is_one_sentence() -> None:
    with pytest.raises(
        ModelSetupError, match=r"no server answers at http://127.0.0.1:9/v1 \(connection refused\): start it, or"
    ):
        run(opened_url("http://127.0.0.1:9"))


async def opened_url(url: str) -> None:
    async with backend(url):
        pass


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (lambda: error(401, "no"), "refuses the key"),
        (lambda: error(403, "no"), "refuses the key"),
        (lambda: answer(body=b"<html>", kind="text/html"), "is no OpenAI-compatible API"),
        (lambda: answer(status=302, body=b"", Location="/login"), "is no OpenAI-compatible API"),
    ],
)
def test_a_wrong_address_or_key_is_a_setup_error(listed: Any, message: str) -> None:
    with pytest.raises(ModelSetupError, match=message):
        opened(Server(list_models=listed))


def test_a_server_whose_list_is_broken_is_used_all_the_same() -> None:
    assert opened(Server(list_models=lambda: error(500, "no cache folder")), model="m")[0] == "m"
    with pytest.raises(ModelSetupError, match="lists no models; name one"):
        opened(Server(list_models=lambda: error(500, "no cache folder")))


def test_no_api_at_the_address() -> None:
    chat = lambda body, n: error(404, "nothing here")  # noqa: E731
    with pytest.raises(ModelSetupError, match="there is no OpenAI-compatible API"):
        opened(Server(chat, list_models=lambda: error(404, "nothing here")))


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "http://", "http://[bad"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ModelSetupError, match="must look like"):
        openai.OpenAIBackend(ModelSpec(url=url), encode)


# --- secrets -------------------------------------------------------------------------------------------------------


def test_secrets_reach_the_server_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret-1")

    async def work() -> list[str]:
        chat = lambda body, n: error(400, "key sk-secret-1 pw-secret-2 q-secret-3 is not allowed this")  # noqa: E731
        async with Server(chat) as server:
            url = server.url.replace("http://", "http://user:pw-secret-2@") + "?api=q-secret-3"
            async with backend(url, key_env="MY_KEY") as model:
                with pytest.raises(ModelFailed) as failed:
                    await model.send(ask())
                shown = [str(failed.value), failed.value.raw, repr(model), repr(model.endpoints), model.identity]
            assert "Authorization" in server.headers[-1]
            return [*shown, repr(ModelSpec(url=url)), ModelSpec(url=url).describe()]

    shown = " ".join([*run(work()), caplog.text])
    assert "secret" not in shown and "***" in shown


def test_secrets_in_a_url_of_a_server_that_is_down_are_not_shown() -> None:
    with pytest.raises(ModelSetupError) as error_:
        run(opened_url("http://user:pw-secret@127.0.0.1:9/v1?key=q-secret"))
    assert "secret" not in str(error_.value)
