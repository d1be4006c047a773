"""Who is behind a URL: found out once, in one quick pass."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from foveal.errors import ModelSetupError, nearest
from foveal.models.dialect import HOSTS, SERVERS
from foveal.models.endpoint import Endpoint
from foveal.models.reading import Fault
from foveal.models.spec import ModelSpec

OWNERS = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llamacpp", "library": "ollama"}
"""`owned_by` in a server's list of models -> the kind of server."""
TELLTALES = (
    ("vllm", "version"),
    ("llamacpp", "props"),
    ("sglang", "get_model_info"),
    ("ollama", "api/version"),
    ("tgi", "info"),
)
"""Paths under the root that only this kind of server has."""
AWAY = (502, 503, 504)
LISTS_LOOSELY = ("ollama", "gemini", "hosted", "openrouter", "transformers", "unknown", "tgi", "llamacpp")
"""Servers that answer to more names than they list."""


async def survey(endpoint: Endpoint, spec: ModelSpec) -> list[str]:
    """Find out what kind of server it is and return the names of its models ([] when it does not say).

    Raises:
        Fault: nobody answers.
        ModelSetupError: it refuses the key, or there is no such API at this address.
    """
    if spec.dialect not in ("", "auto", "none", *SERVERS):
        raise ModelSetupError(f"unknown dialect {spec.dialect!r}{nearest(spec.dialect, SERVERS)}")
    models = await _models(endpoint)
    if spec.dialect in ("", "auto", "none"):
        await _tell(endpoint, models)
    elif spec.dialect == "vllm":
        endpoint.dialect.version = _numbers(await _look(endpoint, "version"))
    names = [str(m["id"]) for m in models if isinstance(m, dict) and "id" in m]
    return [n.removeprefix("models/") for n in names] if endpoint.dialect.server == "gemini" else names


async def _models(endpoint: Endpoint) -> list[Any]:
    try:
        listed = await endpoint.get("models", timeout=15)
    except Fault as fault:
        if fault.status in (401, 402, 403):
            raise ModelSetupError(f"{endpoint.name} refuses the key ({fault.status}): {_key_hint(endpoint)}") from None
        if fault.status in (404, 405, 500, 501):
            return await _nothing_listed(endpoint)
        if fault.status in (400, 422):
            raise ModelSetupError(f"{endpoint.name} answers {fault.status}: {fault.detail}") from None
        if fault.cause in ("not JSON", "reply too large") or 300 <= fault.status < 400:
            raise ModelSetupError(f"{endpoint.name} is no OpenAI-compatible API ({fault.cause})") from None
        raise
    return list(listed.get("data") or []) if isinstance(listed, dict) else []


async def _nothing_listed(endpoint: Endpoint) -> list[Any]:
    """Tell a server without a list of models from an address without a server's API."""
    try:
        await endpoint.post("chat/completions", {"messages": []}, timeout=15)
    except Fault as fault:
        if fault.status in (404, 405):
            raise ModelSetupError(f"there is no OpenAI-compatible API at {endpoint.name}: is the url right?") from None
        if fault.status in (401, 402, 403):
            raise ModelSetupError(f"{endpoint.name} refuses the key ({fault.status}): {_key_hint(endpoint)}") from None
    return []


def _key_hint(endpoint: Endpoint) -> str:
    if not endpoint.key_env:
        return "name the environment variable that holds it with key_env"
    return f"is the environment variable {endpoint.key_env} set to a valid key?"


async def _tell(endpoint: Endpoint, models: list[Any]) -> None:
    """Set the dialect: by the host, by who owns the models, else by paths that only one kind has."""
    owners = {str(m.get("owned_by")) for m in models if isinstance(m, dict)}
    known = HOSTS.get(endpoint.host, ("", ""))[0] or next((OWNERS[o] for o in owners if o in OWNERS), "")
    if known:
        endpoint.dialect.server = known
        if known == "vllm":
            endpoint.dialect.version = _numbers(await _look(endpoint, "version"))
        return
    found = await asyncio.gather(*(_look(endpoint, path) for _, path in TELLTALES))
    for (server, _), answer in zip(TELLTALES, found, strict=True):
        if isinstance(answer, dict) and answer:
            endpoint.dialect.server = server
            endpoint.dialect.version = _numbers(answer)
            return


async def _look(endpoint: Endpoint, path: str) -> Any:
    try:
        return await endpoint.get(path, root=True)
    except Fault:
        return None


def _numbers(answer: Any) -> tuple[int, ...]:
    found = re.match(r"v?(\d+(?:\.\d+)*)", str(answer.get("version", ""))) if isinstance(answer, dict) else None
    return tuple(int(n) for n in found.group(1).split(".")) if found else ()


async def answers(endpoint: Endpoint) -> bool:
    """Whether anybody is there: any answer will do but a gateway's that nobody is."""
    try:
        await endpoint.get("models")
    except Fault as fault:
        return fault.status not in (0, *AWAY) or fault.cause in ("not JSON", "reply too large")
    return True
