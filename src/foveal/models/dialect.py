"""What each kind of server understands: names of sampling fields, guided decoding, and what it refuses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from foveal.models.wire import Request

LENIENT = ("vllm", "sglang", "openrouter", "unknown")
SAMPLING_BY_SERVER: dict[str, dict[str, str | None]] = {
    "llamacpp": {"repetition_penalty": "repeat_penalty", "min_tokens": None},
    "openai": {"max_tokens": "max_completion_tokens"},
}
"""Canonical sampling name -> the server's, None where it has none."""
BEYOND_OPENAI = ("top_k", "min_p", "min_tokens", "repetition_penalty")
SERVERS = (
    "vllm",
    "sglang",
    "llamacpp",
    "ollama",
    "tgi",
    "transformers",
    "openai",
    "gemini",
    "openrouter",
    "hosted",
    "unknown",
)
HOSTS = {
    "api.openai.com": ("openai", "OPENAI_API_KEY"),
    "generativelanguage.googleapis.com": ("gemini", "GEMINI_API_KEY"),
    "openrouter.ai": ("openrouter", "OPENROUTER_API_KEY"),
    "api.anthropic.com": ("hosted", "ANTHROPIC_API_KEY"),
    "api.mistral.ai": ("hosted", "MISTRAL_API_KEY"),
    "api.deepseek.com": ("hosted", "DEEPSEEK_API_KEY"),
    "api.groq.com": ("hosted", "GROQ_API_KEY"),
    "api.together.xyz": ("hosted", "TOGETHER_API_KEY"),
    "api.fireworks.ai": ("hosted", "FIREWORKS_API_KEY"),
    "dashscope.aliyuncs.com": ("hosted", "DASHSCOPE_API_KEY"),
}
"""Known hosts: the dialect they speak, and the environment variable their key is kept in by custom."""


@dataclass
class Dialect:
    """How to speak to one server; what it refuses is learnt.

    Attributes:
        server: one of SERVERS.
        version: as the server tells it, as far as it is numbers.
        refused: body fields that it does not take.
        renamed: canonical sampling name -> the name it wants, learnt from its refusals.
        proven: sets of body fields that it has taken; a refusal of one of these has another reason.
    """

    server: str = "unknown"
    version: tuple[int, ...] = ()
    refused: frozenset[str] = frozenset()
    renamed: dict[str, str] = field(default_factory=dict)
    proven: set[frozenset[str]] = field(default_factory=set)

    def fields(self, request: Request) -> dict[str, Any]:
        """Return the body's fields beside model and messages, all that the server is known or hoped to take."""
        out = self._sampling(request.sampling)
        guided = self._guided(request)
        if request.choices:
            out[self.renamed.get("max_tokens", self._name("max_tokens") or "max_tokens")] = min(
                int(request.sampling.get("max_tokens") or 1024), answer_length(request.choices, bool(guided))
            )
            out |= {"logprobs": True, "top_logprobs": 20}
        if request.seed and self.server not in ("gemini", "transformers"):
            out["seed"] = request.seed
        out |= guided
        return {k: v for k, v in out.items() if k not in self.refused}

    def _name(self, canonical: str) -> str | None:
        if self.server not in LENIENT and self.server != "llamacpp" and canonical in BEYOND_OPENAI:
            return None
        return SAMPLING_BY_SERVER.get(self.server, {}).get(canonical, canonical)

    def _sampling(self, sampling: Mapping[str, Any]) -> dict[str, Any]:
        named = ((self.renamed.get(k) or self._name(k), v) for k, v in sampling.items() if v is not None and v != [])
        return {name: value for name, value in named if name}

    def _guided(self, request: Request) -> dict[str, Any]:
        if request.choices:
            guided = guided_choice(self.server, self.version, request.choices)
        elif request.schema is not None:
            fitted = {"name": "answer", "schema": request.schema, "strict": is_strict(request.schema)}
            guided = {"response_format": {"type": "json_schema", "json_schema": fitted}}
        else:
            guided = {}
        return {k: v for k, v in guided.items() if k not in self.refused}


def guided_choice(server: str, version: tuple[int, ...], choices: tuple[str, ...]) -> dict[str, Any]:
    """Return the field that makes this server answer with one of the choices, none where there is no such field."""
    match server:
        case "vllm" if version and version < (0, 11):
            return {"guided_choice": list(choices)}
        case "vllm":
            return {"structured_outputs": {"choice": list(choices)}}
        case "sglang":
            return {"regex": "(" + "|".join(re.escape(c) for c in choices) + ")"}
        case "llamacpp":
            return {"grammar": "root ::= " + " | ".join(gbnf_string(c) for c in choices)}
    return {}


def gbnf_string(text: str) -> str:
    """Return the text as a literal of llama.cpp's grammar language."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def answer_length(choices: tuple[str, ...], guided: bool) -> int:
    """Return how many tokens to allow for one of the choices.

    Without guidance there is room for a few words around it, for the parser to read.
    """
    longest = max(len(c) for c in choices)
    if guided:
        return 1 if longest == 1 else longest + 2
    return 16 + longest


def is_strict(schema: Any) -> bool:
    """Whether a schema keeps to what hosted servers demand of strict ones: no further properties, all required."""
    if isinstance(schema, list):
        return all(is_strict(s) for s in schema)
    if not isinstance(schema, Mapping):
        return True
    if "properties" in schema:
        closed = schema.get("additionalProperties") is False
        if not closed or set(schema.get("required", ())) != set(schema["properties"]):
            return False
    return all(is_strict(v) for v in schema.values())


GROUPS = (
    ("structured_outputs", "guided_choice", "regex", "grammar", "response_format"),
    ("logprobs", "top_logprobs"),
    ("top_k", "min_p", "min_tokens", "repetition_penalty", "repeat_penalty"),
    ("seed", "frequency_penalty", "presence_penalty", "stop"),
)
"""Fields a server may refuse, those it refuses most first; a group is left out together."""
OPTIONAL = frozenset(f for group in GROUPS for f in group) | {"temperature", "top_p"}


def suspects(message: str, sent: frozenset[str]) -> frozenset[str]:
    """Return which of the optional fields sent a refusal is about: those it names, else the likeliest group."""
    named = {f for f in sent & OPTIONAL if re.search(rf"(?<![a-z_]){f}(?![a-z_])", message)}
    if "logprob" in message:
        named |= {"logprobs", "top_logprobs"} & sent
    if named:
        return frozenset(named)
    return next((frozenset(g) & sent for g in GROUPS if sent & frozenset(g)), frozenset())
