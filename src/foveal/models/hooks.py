"""Leaving a user's turn open on each kind of server, and proving that it is open before anything is paid."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import orjson

from foveal.errors import ModelSetupError
from foveal.models import body, reading
from foveal.models.endpoint import Endpoint, Hook
from foveal.models.hooking import ADVICE, SENTINEL, Opening, cut, find_opening, prefix_of, split, stops_of
from foveal.models.reading import Fault
from foveal.models.spec import ModelSpec
from foveal.models.template import Messages, Render, template_file
from foveal.models.wire import Message, Reply, Request
from foveal.record import Image

HOSTED = ("openai", "gemini", "openrouter", "hosted", "none")
OPEN = {"add_generation_prompt": False, "continue_final_message": True}
BOUNDARY = 2
"""Tokens by which two renderings of the same words may differ where they are joined."""


async def open_hook(endpoint: Endpoint, spec: ModelSpec) -> Hook:
    """Find the way for this server and test it.

    Raises:
        ModelSetupError: there is none, or the server answers instead of continuing the user's turn.
    """
    server = endpoint.dialect.server
    if server in HOSTED or spec.dialect == "none":
        _refuse(endpoint, "hosted APIs always open the assistant's turn; let the model propose: --set proposer=prompt")
    given = template_file(Path(spec.chat_template)) if spec.chat_template else None
    try:
        if server == "sglang":
            return await _sglang(endpoint, given)
        if server == "llamacpp":
            return await _llamacpp(endpoint)
        return await _chat(endpoint, given, spec)
    except Fault as fault:
        _refuse(
            endpoint, f"the test of it failed ({fault.cause}{': ' + fault.detail if fault.detail else ''}); {ADVICE}"
        )


def _refuse(endpoint: Endpoint, why: str) -> NoReturn:
    raise ModelSetupError(f"{endpoint.name} cannot leave the user's turn open (hooking): {why}")


def probe_image() -> Image:
    """Return a small plain picture to test with."""
    import PIL.Image  # costs more than all else here, and is needed only for this

    out = io.BytesIO()
    PIL.Image.new("RGB", (112, 112), (120, 160, 90)).save(out, "PNG")
    return Image.of(out.getvalue(), "probe")


def _url(image: Image) -> bytes:
    return image.data_url(lambda data: ("image/png", data))


def _closed(tail: str) -> Request:
    return Request((Message("user", (probe_image(), tail)),), sampling={"temperature": 0.0, "max_tokens": 1})


def _opened() -> Request:
    return replace(_closed(""), messages=(Message("user", (probe_image(),)),), open_turn=True)


# --- the chat endpoint (vLLM, and whoever keeps to its flags) --------------------------------------------------------


@dataclass
class ChatHook:
    """The chat endpoint with the generation prompt off and the last message continued.

    Attributes:
        tail: the text behind the picture; empty, or what a server with plain-string templates needs.
        stops: strings at which the user has finished.
        stop_ids: the same as token ids, since special tokens do not show in the text.
        extra: further fields of every body.
    """

    tail: str = ""
    stops: tuple[str, ...] = ()
    stop_ids: tuple[int, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    async def ask(self, endpoint: Endpoint, request: Request, url: body.URL) -> Reply:
        """Let the model continue the user's turn."""
        stop = [*request.sampling.get("stop", ()), *self.stops]
        last = request.messages[-1]
        tailed = replace(last, parts=(*last.parts, self.tail)) if self.tail else last
        sampling = {**request.sampling, "stop": stop} if stop else request.sampling
        request = replace(request, messages=(*request.messages[:-1], tailed), sampling=sampling)
        extra = {**self.extra, **OPEN, **({"stop_token_ids": list(self.stop_ids)} if self.stop_ids else {})}
        reply = await endpoint.chat(request, url, extra)
        return replace(reply, text=cut(reply.text, self.stops))


async def _chat(endpoint: Endpoint, given: Render | None, spec: ModelSpec) -> ChatHook:
    opening = await _opening_there(endpoint) or (find_opening(given) if given else None)
    hook = ChatHook(extra=spec.extra)
    if opening:
        ids = await _ids_of(endpoint, opening.stops)
        hook = ChatHook(await _tail(endpoint, opening), opening.stops, ids, spec.extra)
    await _prove_open(endpoint, hook, trusted=spec.dialect == "vllm")
    return hook


async def _prove_open(endpoint: Endpoint, hook: ChatHook, trusted: bool) -> None:
    """See that the open prompt is the closed one without its end: by its tokens, else by their number and the role.

    Raises:
        ModelSetupError: it is not, or that cannot be shown.
    """
    opened = await _raw_chat(endpoint, replace(_opened(), messages=_closed(hook.tail).messages), {**hook.extra, **OPEN})
    closed = await _raw_chat(endpoint, _closed(hook.tail), hook.extra)
    ids, closed_ids = opened.get("prompt_token_ids"), closed.get("prompt_token_ids")
    if ids and closed_ids:
        return _prove_by_tokens(endpoint, ids, closed_ids)
    fewer = _prompt_tokens(closed) - _prompt_tokens(opened)
    if _prompt_tokens(closed) == 0:
        _refuse(endpoint, f"it does not tell how long a prompt is, so it cannot be tested; {ADVICE}")
    if fewer <= 0:
        _refuse(endpoint, f"it answers instead of continuing (continue_final_message makes no difference); {ADVICE}")
    if not trusted and _role(opened) != "user":
        _refuse(
            endpoint,
            "it may answer as the assistant instead of continuing the user's words; if you know it to be vLLM, "
            f"say --dialect vllm, else {ADVICE}",
        )
    return None


def _prove_by_tokens(endpoint: Endpoint, opened: Sequence[int], closed: Sequence[int]) -> None:
    same = next(
        (i for i, (a, b) in enumerate(zip(opened, closed, strict=False)) if a != b), min(len(opened), len(closed))
    )
    if len(opened) >= len(closed):
        _refuse(endpoint, f"it answers instead of continuing (continue_final_message makes no difference); {ADVICE}")
    if same < len(opened) - BOUNDARY:
        _refuse(
            endpoint,
            f"with continue_final_message it shows the model another prompt, not the user's open turn; {ADVICE}",
        )


async def _raw_chat(endpoint: Endpoint, request: Request, extra: Mapping[str, Any]) -> dict[str, Any]:
    fields = {"temperature": 0.0, "max_tokens": 1, "return_token_ids": True, **extra}
    try:
        raw = await endpoint.exchange(
            endpoint.route("chat/completions"), body.chat(endpoint.model, request, fields, _url)
        )
    except Fault as fault:
        if fault.status not in (400, 422):
            raise
        del fields["return_token_ids"]
        raw = await endpoint.exchange(
            endpoint.route("chat/completions"), body.chat(endpoint.model, request, fields, _url)
        )
    data = reading.load(raw)
    if not isinstance(data, dict):
        raise Fault("broken", "not JSON")
    return data


def _prompt_tokens(data: Mapping[str, Any]) -> int:
    return int((data.get("usage") or {}).get("prompt_tokens") or 0)


def _role(data: Mapping[str, Any]) -> str:
    try:
        return str(data["choices"][0]["message"]["role"])
    except (KeyError, IndexError, TypeError):
        return ""


async def _render_there(endpoint: Endpoint, text: str, image: bool, flags: Mapping[str, bool]) -> str:
    """Return the prompt as the server itself renders it (vLLM's /tokenize and /detokenize)."""
    parts = [{"type": "text", "text": text}]
    if image:
        parts.insert(0, {"type": "image_url", "image_url": {"url": _url(probe_image()).decode()}})  # type: ignore[dict-item]
    said = {"model": endpoint.model, "messages": [{"role": "user", "content": parts}], **flags}
    tokens = (await endpoint.post("tokenize", said, root=True))["tokens"]
    shown = await endpoint.post("detokenize", {"model": endpoint.model, "tokens": tokens}, root=True)
    return str(shown["prompt"])


async def _opening_there(endpoint: Endpoint) -> Opening | None:
    """Apply the sentinel rule to the server's own rendering, None where it shows none."""
    closed, answering = {"add_generation_prompt": False}, {"add_generation_prompt": True}
    try:
        prefix, end = split(await _render_there(endpoint, SENTINEL, True, closed))
        bare, bare_end = split(await _render_there(endpoint, SENTINEL, False, closed))
        header = split(await _render_there(endpoint, SENTINEL, True, answering))[1]
    except (Fault, KeyError, TypeError):
        return None
    if len(end) > len(bare_end):
        _refuse(endpoint, f"its chat template puts the picture behind the user's words; {ADVICE}")
    picture = prefix[len(bare) :] if prefix.startswith(bare) else prefix
    return Opening(prefix, picture, end, header, stops_of(bare, end, header, ""))


async def _tail(endpoint: Endpoint, opening: Opening) -> str:
    """Return the text that makes the open prompt equal the prefix: none, or the placeholder and its newline themselves.

    A server that flattens parts to a string joins picture and words by a newline, which it leaves out without words.
    """
    for tail in ("", opening.picture):
        try:
            shown = await _render_there(endpoint, tail, True, OPEN)
        except (Fault, KeyError, TypeError):
            return ""
        if shown == opening.prefix:
            return tail
    return ""


async def _ids_of(endpoint: Endpoint, stops: Sequence[str]) -> tuple[int, ...]:
    """Return the ids of those stop strings that are one token."""
    ids: list[int] = []
    for stop in stops:
        said = {"model": endpoint.model, "prompt": stop, "add_special_tokens": False}
        try:
            tokens = (await endpoint.post("tokenize", said, root=True))["tokens"]
        except (Fault, KeyError, TypeError):
            return ()
        if len(tokens) == 1 and len(stop) > 3:
            ids.append(int(tokens[0]))
    return tuple(dict.fromkeys(ids))


# --- raw prompts (SGLang, llama.cpp) -------------------------------------------------------------------------------


@dataclass
class SGLangHook:
    """SGLang's native route: the raw prefix as text, pictures beside it.

    Attributes:
        render: the model's chat template.
        stops: strings at which the user has finished.
    """

    render: Render
    stops: tuple[str, ...]

    async def ask(self, endpoint: Endpoint, request: Request, url: body.URL) -> Reply:
        """Let the model continue the user's turn."""
        raw = await self.post(endpoint, prefix_of(self.render, request.messages), pictures(request), request, url)
        return self.read(raw)

    async def post(
        self, endpoint: Endpoint, prompt: str, images: Sequence[Image], request: Request, url: body.URL
    ) -> bytes:
        """Send a raw prompt with its pictures."""
        shown = b",".join(b'"' + url(image) + b'"' for image in images)
        params = body.values({"sampling_params": sglang_sampling(request, self.stops)})
        image_data = b',"image_data":[' + shown + b"]" if images else b""
        return await endpoint.exchange(
            endpoint.route("generate", root=True), b'{"text":' + body.text(prompt) + image_data + b"," + params + b"}"
        )

    def read(self, raw: bytes) -> Reply:
        """Read a native reply.

        Raises:
            Fault: it is none.
        """
        data = reading.load(raw)
        try:
            text, meta = data["text"], data["meta_info"]
            finish = (meta.get("finish_reason") or {}).get("type", "stop")
            tokens = int(meta.get("prompt_tokens") or 0), int(meta.get("completion_tokens") or 0)
        except (KeyError, TypeError, AttributeError):
            raise Fault("broken", "empty reply", raw=raw[: reading.RAW_KEPT].decode("utf-8", "replace")) from None
        return Reply(cut(reading.plain(text), self.stops), str(finish), *tokens)


SGLANG_NAMES = {"max_tokens": "max_new_tokens", "min_tokens": "min_new_tokens"}
LLAMACPP_NAMES = {"max_tokens": "n_predict", "repetition_penalty": "repeat_penalty"}


def sglang_sampling(request: Request, stops: Sequence[str]) -> dict[str, Any]:
    """Return a request's sampling in SGLang's native names."""
    named = {SGLANG_NAMES.get(k, k): v for k, v in request.sampling.items() if v is not None and k != "stop"}
    named["stop"] = [*(request.sampling.get("stop") or ()), *stops]
    if request.seed:
        named["sampling_seed"] = request.seed
    return named


async def _sglang(endpoint: Endpoint, given: Render | None) -> SGLangHook:
    if given is None:
        _refuse(endpoint, "SGLang does not show its chat template: give the model's with --chat-template FILE")
    opening = find_opening(given)
    hook = SGLangHook(given, opening.stops)
    one = _closed("")
    raw = hook.read(await hook.post(endpoint, opening.prefix + SENTINEL + opening.header, pictures(one), one, _url))
    _same_length(endpoint, raw.tokens_in, await _raw_chat(endpoint, _closed(SENTINEL), {}))
    return hook


@dataclass
class LlamaCppHook:
    """llama.cpp's native route: the raw prefix with one media marker a picture; the server renders its own template.

    Attributes:
        marker: stands for a picture in a prompt; drawn anew at each start of the server.
        stops: strings at which the user has finished.
    """

    marker: str
    stops: tuple[str, ...]
    _prefixes: dict[str, str] = field(default_factory=dict)

    async def ask(self, endpoint: Endpoint, request: Request, url: body.URL) -> Reply:
        """Let the model continue the user's turn."""
        messages = llamacpp_messages(request.messages, self.marker)
        key = orjson.dumps(messages).decode()
        if (prefix := self._prefixes.get(key)) is None:
            prefix = split(await self.render(endpoint, messages, SENTINEL, False))[0]
            if prefix.endswith(self.marker):
                prefix += "\n"  # the server aborts, with everyone's requests, on a prompt that ends in a picture
            if len(self._prefixes) < 256:
                self._prefixes[key] = prefix
        return self.read(await self.post(endpoint, prefix, pictures(request), request, url))

    async def render(self, endpoint: Endpoint, messages: Messages, tail: str, generation: bool) -> str:
        """Return the prompt as the server renders it, `tail` behind the last message."""
        last = messages[-1]
        said = [*messages[:-1], {"role": last["role"], "content": last["content"] + tail}]
        value = {"messages": said, "add_generation_prompt": generation}
        return str((await endpoint.post("apply-template", value, root=True))["prompt"])

    async def post(
        self, endpoint: Endpoint, prompt: str, images: Sequence[Image], request: Request, url: body.URL
    ) -> bytes:
        """Send a raw prompt with its pictures."""
        data = b",".join(b'"' + url(image).partition(b",")[2] + b'"' for image in images)
        prompted = b'{"prompt_string":' + body.text(prompt) + b',"multimodal_data":[' + data + b"]}"
        fields = body.values(llamacpp_sampling(request, self.stops))
        return await endpoint.exchange(
            endpoint.route("completion", root=True),
            b'{"prompt":' + (prompted if images else body.text(prompt)) + b"," + fields + b"}",
        )

    def read(self, raw: bytes) -> Reply:
        """Read a native reply.

        Raises:
            Fault: it is none.
        """
        data = reading.load(raw)
        try:
            text = reading.plain(data["content"])
            finish = "length" if data.get("stop_type") == "limit" else "stop"
            tokens = int(data.get("tokens_evaluated") or 0), int(data.get("tokens_predicted") or 0)
        except (KeyError, TypeError, AttributeError):
            raise Fault("broken", "empty reply", raw=raw[: reading.RAW_KEPT].decode("utf-8", "replace")) from None
        return Reply(cut(text, self.stops), finish, *tokens, model=str(data.get("model") or ""))


def llamacpp_sampling(request: Request, stops: Sequence[str]) -> dict[str, Any]:
    """Return a request's sampling in llama.cpp's native names."""
    left_out = ("stop", "min_tokens")
    named = {LLAMACPP_NAMES.get(k, k): v for k, v in request.sampling.items() if v is not None and k not in left_out}
    named["stop"] = [*(request.sampling.get("stop") or ()), *stops]
    if request.seed:
        named["seed"] = request.seed
    return named


def llamacpp_messages(said: Sequence[Message], marker: str) -> list[dict[str, str]]:
    """Return messages as plain strings with the server's media marker for each picture."""
    return [{"role": m.role, "content": "".join(p if isinstance(p, str) else marker for p in m.parts)} for m in said]


async def _llamacpp(endpoint: Endpoint) -> LlamaCppHook:
    props = await endpoint.get("props", root=True)
    if not (props.get("modalities") or {}).get("vision", True):
        _refuse(endpoint, "it was started without a vision part: start it with --mmproj FILE")
    hook = LlamaCppHook(str(props.get("media_marker") or "<__media__>"), ())
    user = [{"role": "user", "content": hook.marker}]
    prefix, end = split(await hook.render(endpoint, user, SENTINEL, False))
    bare = split(await hook.render(endpoint, [{"role": "user", "content": ""}], SENTINEL, False))[0]
    header = split(await hook.render(endpoint, user, SENTINEL, True))[1]
    if hook.marker not in prefix:
        _refuse(endpoint, f"its chat template does not put the picture before the user's words; {ADVICE}")
    hook.stops = stops_of(bare, end, header, "")
    one = _closed("")
    raw = hook.read(await hook.post(endpoint, prefix + SENTINEL + header, pictures(one), one, _url))
    _same_length(endpoint, raw.tokens_in, await _raw_chat(endpoint, _closed(SENTINEL), {}))
    return hook


def _same_length(endpoint: Endpoint, raw: int, chat: Mapping[str, Any]) -> None:
    """See that the raw prompt, closed, is as long as the server's own rendering of the same words.

    Raises:
        ModelSetupError: it is not, so the template is not the server's or the picture was not seen.
    """
    expected = _prompt_tokens(chat)
    if raw and expected and abs(raw - expected) > BOUNDARY:
        _refuse(
            endpoint, f"a raw prompt has {raw} tokens where its own has {expected}: is this the model's chat template?"
        )


def pictures(request: Request) -> list[Image]:
    """Return the request's pictures in the order shown."""
    return [p for m in request.messages for p in m.parts if isinstance(p, Image)]
