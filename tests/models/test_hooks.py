"""Open turns on each kind of server, in the shapes they answer in; and servers that silently answer instead."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foveal.errors import ModelFailed, ModelSetupError
from foveal.models.template import jinja
from foveal.models.wire import Message, Request
from tests.models.servers import PIXEL, Server, answer, backend, error, run, said
from tests.models.test_hooking import QWEN, chatml

TEMPLATE = chatml(QWEN)
HOOK = Request(
    (Message("user", (PIXEL,)),), open_turn=True, sampling={"temperature": 1.0, "max_tokens": 30, "stop": ["\n\n"]}
)


def tokens(text: str) -> list[int]:
    """Return one token a special token or a character."""
    out: list[int] = []
    while text:
        end = text.find("|>") + 2 if text.startswith("<|") else 1
        out.append(hash_of(text[:end]))
        text = text[end:]
    return out


WORDS: dict[int, str] = {}


def hash_of(piece: str) -> int:
    key = ord(piece) if len(piece) == 1 else 100_000 + sum(map(ord, piece)) * 31 + len(piece)
    WORDS[key] = piece
    return key


class Rendering:
    """A server that renders its template as its kind does.

    Args:
        honest: whether continue_final_message does what it says on a user's turn.
        prefills: takes the last message for the assistant's, as llama.cpp's chat endpoint does.
    """

    def __init__(self, honest: bool = True, prefills: bool = False, flat: bool = False) -> None:
        self.honest, self.prefills, self.flat = honest, prefills, flat
        self.render = jinja(TEMPLATE)

    def messages(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        out = []
        for message in body["messages"]:
            parts = message["content"]
            parts = [{"type": "text", "text": parts}] if isinstance(parts, str) else parts
            shown = [{"type": "image"} if p["type"] == "image_url" else p for p in parts]
            if self.flat:  # parts become one string; a placeholder in the words stands for the picture
                text = "".join(p.get("text", "") for p in shown)
                has_image = any(p["type"] == "image" for p in shown) and QWEN not in text
                shown = [{"type": "text", "text": (QWEN + ("\n" if text else "") if has_image else "") + text}]
            out.append({"role": message["role"], "content": shown})
        return out

    def prompt(self, body: dict[str, Any]) -> str:
        messages = self.messages(body)
        if body.get("continue_final_message") and self.prefills:
            last = "".join(QWEN if p["type"] == "image" else p["text"] for p in messages[-1]["content"])
            return self.render(messages[:-1], True) + last
        if body.get("continue_final_message") and self.honest:
            messages[-1]["content"].append({"type": "text", "text": "CUT"})
            return self.render(messages, False).partition("CUT")[0]
        return self.render(messages, body.get("add_generation_prompt", True) or not self.honest)

    def chat(self, body: dict[str, Any], n: int) -> dict[str, Any]:
        ids = tokens(self.prompt(body))
        opened = body.get("continue_final_message") and self.honest and not self.prefills
        reply = said("Where is it?", role="user" if opened else "assistant", tokens=len(ids))
        if body.get("return_token_ids") and self.shows_ids:
            reply["prompt_token_ids"] = ids
        return reply

    shows_ids = False

    def paths(self) -> dict[str, Callable[[Any], Any]]:
        def tokenize(body: dict[str, Any]) -> dict[str, Any]:
            return {"tokens": tokens(body["prompt"] if "prompt" in body else self.prompt(body))}

        return {"tokenize": tokenize, "detokenize": lambda body: {"prompt": "".join(WORDS[t] for t in body["tokens"])}}


def hooked(server: Server, **spec: Any) -> Any:
    async def work() -> Any:
        async with server, backend(server, hooking=True, **spec) as model:
            return await model.send(HOOK)

    return run(work())


def refused(server: Server, **spec: Any) -> str:
    with pytest.raises(ModelSetupError) as error_:
        hooked(server, **spec)
    return str(error_.value)


# --- vLLM ----------------------------------------------------------------------------------------------------------


def test_vllm_with_its_tokenizer() -> None:
    rendering = Rendering()
    server = Server(
        rendering.chat, owned_by="vllm", paths={**rendering.paths(), "version": lambda _: {"version": "0.33.0"}}
    )
    assert hooked(server).text == "Where is it?"
    body = server.seen[-1]
    assert (body["add_generation_prompt"], body["continue_final_message"]) == (False, True)
    assert body["messages"][0]["content"][-1] == {"type": "text", "text": ""}
    assert body["messages"][0]["content"][0]["type"] == "image_url"
    assert body["stop"][0] == "\n\n" and "<|im_end|>" in body["stop"] and "<|im_start|>" in body["stop"]
    assert hash_of("<|im_end|>") in body["stop_token_ids"]


def test_vllm_without_it() -> None:
    server = Server(Rendering().chat, owned_by="vllm")
    assert hooked(server).text == "Where is it?"
    assert "stop_token_ids" not in server.seen[-1]


def test_vllm_with_a_template_of_plain_strings_gets_the_placeholder_and_its_newline() -> None:
    rendering = Rendering(flat=True)
    server = Server(rendering.chat, owned_by="vllm", paths=rendering.paths())
    hooked(server)
    assert server.seen[-1]["messages"][0]["content"][-1] == {"type": "text", "text": QWEN + "\n"}


def test_words_behind_the_users_are_cut_off() -> None:
    rendering = Rendering()

    def chat(body: dict[str, Any], n: int) -> dict[str, Any]:
        made = rendering.chat(body, n)
        made["choices"][0]["message"]["content"] = "Where is it?<|im_start|>assistant\nThere."
        return made

    assert hooked(Server(chat, owned_by="vllm", paths=rendering.paths())).text == "Where is it?"


def test_a_server_that_ignores_the_flag_is_refused() -> None:
    message = refused(Server(Rendering(honest=False).chat))
    assert "answers instead of continuing" in message and "proposer=prompt" in message


def test_a_server_that_ignores_the_flag_is_refused_by_its_tokens_too() -> None:
    rendering = Rendering(honest=False)
    rendering.shows_ids = True
    assert "answers instead of continuing" in refused(Server(rendering.chat), dialect="vllm")


def test_a_server_that_takes_the_user_for_the_assistant_is_refused() -> None:
    rendering = Rendering(prefills=True)
    assert "may answer as the assistant" in refused(Server(rendering.chat))
    rendering.shows_ids = True
    assert "another prompt" in refused(Server(rendering.chat), dialect="vllm")


def test_a_server_that_refuses_the_flag_says_so() -> None:
    def chat(body: dict[str, Any], n: int) -> Any:
        return error(400, "continue needs an assistant message") if "continue_final_message" in body else said("x")

    assert "continue needs an assistant message" in refused(Server(chat))


def test_a_server_that_counts_nothing_is_refused() -> None:
    def chat(body: dict[str, Any], n: int) -> Any:
        made = said("x")
        del made["usage"]
        return made

    assert "cannot be tested" in refused(Server(chat))


def test_hosted_apis_are_refused_without_a_request() -> None:
    server = Server()
    assert "hosted APIs always open the assistant's turn" in refused(server, dialect="openai")
    assert "--set proposer=prompt" in refused(server, dialect="none")
    assert not server.seen


def test_an_open_turn_without_the_test_fails_its_record() -> None:
    async def work() -> None:
        async with Server() as server, backend(server) as model:
            with pytest.raises(ModelFailed, match="cannot hook"):
                await model.send(HOOK)

    run(work())


# --- SGLang --------------------------------------------------------------------------------------------------------


def sglang(extra_tokens: int = 0, **paths: Any) -> tuple[Server, list[dict[str, Any]]]:
    rendering, native = Rendering(honest=False), []

    def generate(body: dict[str, Any]) -> dict[str, Any]:
        native.append(body)
        meta = {"prompt_tokens": len(tokens(body["text"])) + extra_tokens, "completion_tokens": 4}
        meta["finish_reason"] = {"type": "stop", "matched": "<|im_end|>"}
        return {"text": "Where is it?", "meta_info": meta}

    return Server(rendering.chat, owned_by="sglang", paths={"generate": generate, **paths}), native


def test_sglang_by_its_native_route(tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text(TEMPLATE)
    server, native = sglang()
    reply = hooked(server, chat_template=str(tmp_path / "t.jinja"))
    assert (reply.text, reply.finish, reply.tokens_out) == ("Where is it?", "stop", 4)
    sent = native[-1]
    assert sent["text"] == f"<|im_start|>user\n{QWEN}"
    assert sent["image_data"] == ["data:image/png;base64," + base64.b64encode(PIXEL.data()).decode()]
    params = sent["sampling_params"]
    assert (params["max_new_tokens"], params["temperature"]) == (30, 1.0)
    assert params["stop"][0] == "\n\n" and "<|im_end|>" in params["stop"]


def test_sglang_needs_the_template() -> None:
    assert "--chat-template FILE" in refused(sglang()[0])


def test_sglang_with_another_models_template(tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text(TEMPLATE)
    assert "is this the model's chat template?" in refused(
        sglang(extra_tokens=40)[0], chat_template=str(tmp_path / "t.jinja")
    )


# --- llama.cpp -----------------------------------------------------------------------------------------------------

MARKER = "<__media_7f3__>"


def llamacpp(vision: bool = True) -> tuple[Server, list[dict[str, Any]]]:
    render, native = jinja(chatml("")), []
    picture = [0] * 9

    def completion(body: dict[str, Any]) -> Any:
        native.append(body)
        prompt = body["prompt"]
        text = prompt["prompt_string"]
        if text.count(MARKER) != len(prompt["multimodal_data"]):
            return error(400, "markers and pictures differ")
        ids = tokens(text.replace(MARKER, "")) + picture * text.count(MARKER)
        return {
            "content": "Where is it?",
            "stop_type": "word",
            "tokens_evaluated": len(ids),
            "tokens_predicted": 4,
            "model": "m",
        }

    def apply(body: dict[str, Any]) -> dict[str, Any]:
        return {"prompt": render(body["messages"], body.get("add_generation_prompt", True))}

    def chat(body: dict[str, Any], n: int) -> dict[str, Any]:
        words = "".join(p.get("text", "") for p in body["messages"][0]["content"])
        return said("x", tokens=len(tokens(render([{"role": "user", "content": words}], True))) + len(picture))

    props = {"media_marker": MARKER, "modalities": {"vision": vision}, "chat_template": "..."}
    paths = {"completion": completion, "apply-template": apply, "props": lambda _: props}
    return Server(chat, owned_by="llamacpp", paths=paths), native


def test_llamacpp_by_its_native_route() -> None:
    server, native = llamacpp()
    reply = hooked(server)
    assert (reply.text, reply.finish, reply.tokens_out, reply.model) == ("Where is it?", "stop", 4, "m")
    sent = native[-1]
    assert sent["prompt"]["prompt_string"] == f"<|im_start|>user\n{MARKER}\n"
    assert sent["prompt"]["multimodal_data"] == [base64.b64encode(PIXEL.data()).decode()]
    assert (sent["n_predict"], sent["temperature"]) == (30, 1.0) and "<|im_end|>" in sent["stop"]


def test_llamacpp_without_a_vision_part() -> None:
    assert "--mmproj" in refused(llamacpp(vision=False)[0])


def test_a_proxy_page_is_no_reply() -> None:
    server, _ = llamacpp()
    server.paths["apply-template"] = lambda _: answer(body=b"<html>", kind="text/html")
    assert "the test of it failed (not JSON)" in refused(server)
