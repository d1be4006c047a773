"""Any model of this process behind the vLLM dialect of the OpenAI API, on loopback."""

from __future__ import annotations

import asyncio
import base64
import binascii
import math
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import orjson
from aiohttp import web

from foveal.errors import FovealError, ModelFailed
from foveal.models.wire import SAMPLING, Backend, Message, Reply, Request
from foveal.record import Image

BODY_LIMIT = 256 * 2**20
VERSION = "0.11.0"
"""The version of vLLM whose dialect this is."""
DATA_URL = re.compile(r"data:image/[a-z0-9.+-]+;base64,", re.IGNORECASE)


@runtime_checkable
class Tokenizes(Protocol):
    """A backend that can show how a prompt looks to its model."""

    def prompt_ids(self, request: Request, generation: bool) -> list[int]:
        """Return the prompt's tokens; `generation` opens the assistant's turn."""

    def encode(self, text: str) -> list[int]:
        """Return a text's tokens."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens, special ones included."""


class BadRequest(ValueError):
    """A request that cannot be read."""


def serve(backend: Backend, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve a backend until interrupted.

    Args:
        backend: who answers.
        host: there is no key and no limit here, so keep to an address of this machine.
    """
    web.run_app(
        app(backend), host=host, port=port, print=lambda *_: print(f"{backend.identity} at http://{host}:{port}/v1")
    )


def app(backend: Backend) -> web.Application:
    """Return the web application that serves a backend; it opens and closes the backend with itself."""
    routes = Routes(backend)
    application = web.Application(client_max_size=BODY_LIMIT, middlewares=[_as_errors])

    async def life(_: web.Application) -> Any:
        await backend.open(hooking=False)
        yield
        await backend.close()

    application.cleanup_ctx.append(life)
    for path in ("/health", "/ping"):
        application.router.add_get(path, routes.health)
    application.router.add_get("/version", routes.version)
    application.router.add_get("/v1/models", routes.models)
    for path, handler in (("/tokenize", routes.tokenize), ("/detokenize", routes.detokenize)):
        application.router.add_post(path, handler)
    application.router.add_post("/v1/chat/completions", routes.chat)
    return application


class Routes:
    """The routes of one backend."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._count = 0

    async def health(self, _: web.Request) -> web.Response:
        """Answer that all is well."""
        return web.Response()

    async def version(self, _: web.Request) -> web.Response:
        """Tell whose dialect this is."""
        return _json({"version": VERSION})

    async def models(self, _: web.Request) -> web.Response:
        """List the one model there is."""
        one = {"id": self._backend.identity, "object": "model", "created": 0, "owned_by": "vllm"}
        return _json({"object": "list", "data": [one]})

    async def tokenize(self, http: web.Request) -> web.Response:
        """Show how a text, or a chat's prompt, looks to the model."""
        asked, tokenizer = await _body(http), self._tokenizer()
        if "messages" in asked:
            tokens = tokenizer.prompt_ids(read_request(asked), bool(asked.get("add_generation_prompt", True)))
        else:
            tokens = tokenizer.encode(_typed(asked, "prompt", str))
        return _json({"tokens": tokens, "count": len(tokens)})

    async def detokenize(self, http: web.Request) -> web.Response:
        """Show the text of tokens."""
        asked = await _body(http)
        return _json({"prompt": self._tokenizer().decode([int(t) for t in _typed(asked, "tokens", list)])})

    def _tokenizer(self) -> Tokenizes:
        if not isinstance(self._backend, Tokenizes):
            raise web.HTTPNotFound(reason="this model does not show its tokens")
        return self._backend

    async def chat(self, http: web.Request) -> web.Response:
        """Answer a chat."""
        asked = await _body(http)
        request = read_request(asked)
        if asked.get("model") not in (None, "", self._backend.identity):
            return _error(404, f"the model {asked['model']!r} does not exist", "NotFoundError")
        reply = await self._backend.send(request)
        self._count += 1
        return _json(self._completion(asked, request, reply))

    def _completion(self, asked: Mapping[str, Any], request: Request, reply: Reply) -> dict[str, Any]:
        role = "user" if request.open_turn else "assistant"
        choice = {
            "index": 0,
            "message": {"role": role, "content": reply.text},
            "logprobs": logprobs(reply) if asked.get("logprobs") else None,
            "finish_reason": reply.finish,
        }
        total = reply.tokens_in + reply.tokens_out
        usage = {"prompt_tokens": reply.tokens_in, "completion_tokens": reply.tokens_out, "total_tokens": total}
        out: dict[str, Any] = {
            "id": f"chatcmpl-{self._count}",
            "object": "chat.completion",
            "created": int(time.time()),
        }
        out |= {"model": self._backend.identity, "choices": [choice], "usage": usage}
        if asked.get("return_token_ids") and isinstance(self._backend, Tokenizes):
            out["prompt_token_ids"] = self._backend.prompt_ids(request, not request.open_turn)
        return out


def logprobs(reply: Reply) -> dict[str, Any] | None:
    """Return the probabilities of the choices as the alternatives of one token."""
    if not reply.probs:
        return None
    tops = [_logprob(word, p) for word, p in sorted(reply.probs.items(), key=lambda kv: -kv[1])]
    said = next((t for t in tops if t["token"] == reply.text), tops[0])
    return {"content": [{**said, "top_logprobs": tops[:20]}]}


def _logprob(word: str, p: float) -> dict[str, Any]:
    return {"token": word, "logprob": math.log(p) if p > 0 else -9999.0, "bytes": list(word.encode())}


# --- reading requests ----------------------------------------------------------------------------------------------


def read_request(asked: Mapping[str, Any]) -> Request:
    """Read the body of a chat request.

    Raises:
        BadRequest: it is none, or asks for what is not offered here.
    """
    if asked.get("stream") or asked.get("n", 1) != 1:
        raise BadRequest("neither streaming nor n > 1 is offered here")
    messages = tuple(_message(m) for m in _typed(asked, "messages", list))
    if not messages:
        raise BadRequest("messages is empty")
    choices, schema = _guided(asked)
    return Request(
        messages, _open_turn(asked, messages), _sampling(asked), choices, schema, int(asked.get("seed") or 0)
    )


def _open_turn(asked: Mapping[str, Any], messages: Sequence[Message]) -> bool:
    if not asked.get("continue_final_message"):
        return False
    if asked.get("add_generation_prompt", True):
        raise BadRequest("cannot set both add_generation_prompt and continue_final_message")
    if messages[-1].role != "user":
        raise BadRequest("only a user's turn can be continued here")
    return True


def _guided(asked: Mapping[str, Any]) -> tuple[tuple[str, ...], Mapping[str, Any] | None]:
    outputs = asked.get("structured_outputs") or {}
    choices = outputs.get("choice") or asked.get("guided_choice") or ()
    fitted = (asked.get("response_format") or {}).get("json_schema") or {}
    schema = outputs.get("json") or asked.get("guided_json") or fitted.get("schema")
    return tuple(str(c) for c in choices), schema


def _sampling(asked: Mapping[str, Any]) -> dict[str, Any]:
    sampling = {k: asked[k] for k in SAMPLING if asked.get(k) is not None}
    if "max_completion_tokens" in asked:
        sampling["max_tokens"] = asked["max_completion_tokens"]
    if isinstance(stop := sampling.get("stop"), str):
        sampling["stop"] = [stop]
    return sampling


def _message(said: Any) -> Message:
    if not isinstance(said, Mapping) or said.get("role") not in ("system", "user", "assistant"):
        raise BadRequest("a message needs a role: system, user or assistant")
    content = said.get("content") or ""
    parts = (content,) if isinstance(content, str) else tuple(_part(p) for p in content)
    return Message(said["role"], parts)


def _part(part: Any) -> str | Image:
    match part:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "image_url", "image_url": {"url": str(url)}}:
            return _image(url)
    raise BadRequest("a part is {type: text, text} or {type: image_url, image_url: {url}}")


def _image(url: str) -> Image:
    if not (head := DATA_URL.match(url)):
        raise BadRequest("pictures are taken as base64 data URLs only; nothing is fetched")
    try:
        return Image.of(base64.b64decode(url[head.end() :], validate=True))
    except binascii.Error:
        raise BadRequest("a picture's data URL is not base64") from None


async def _body(http: web.Request) -> dict[str, Any]:
    try:
        asked = orjson.loads(await http.read())
    except orjson.JSONDecodeError:
        raise BadRequest("the body is not JSON") from None
    if not isinstance(asked, dict):
        raise BadRequest("the body is not a JSON object")
    return asked


def _typed(asked: Mapping[str, Any], name: str, kind: type[Any]) -> Any:
    if not isinstance(value := asked.get(name), kind):
        raise BadRequest(f"{name} is missing, or not a {kind.__name__}")
    return value


# --- answers -------------------------------------------------------------------------------------------------------


@web.middleware
async def _as_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer with an error object of the API instead of a page."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _error(error.status, error.reason, "NotFoundError" if error.status == 404 else "BadRequestError")
    except (BadRequest, ModelFailed) as error:
        return _error(400, str(error), "BadRequestError")
    except FovealError as error:
        return _error(503, str(error), "ServiceUnavailableError")
    except asyncio.CancelledError:
        raise
    except Exception as error:  # the server stays up, whatever a model does
        return _error(500, f"{type(error).__name__}: {error}", "InternalServerError")


def _error(status: int, message: str, kind: str) -> web.Response:
    return _json({"error": {"message": message, "type": kind, "param": None, "code": status}}, status)


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")
