"""Chat templates rendered here: a model's own Jinja file, in a sandbox, with the helpers that such templates expect."""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from foveal.errors import ModelSetupError

Messages: TypeAlias = Sequence[Mapping[str, Any]]
"""Messages as templates take them: {"role", "content"}; content is a string or a list of {"type": "image" | "text"}."""
Render: TypeAlias = Callable[[Messages, bool], str]
"""Gives the prompt's text of messages; True adds what opens the assistant's turn."""


class _Generation(jinja2.ext.Extension):
    """The `generation` block some templates mark assistant words with; here it only shows what is in it."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja wants it

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        """Return the block's content."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise(message: str) -> str:
    raise jinja2.TemplateError(message)


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, sort_keys: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, sort_keys=sort_keys)


def _strftime_now(form: str) -> str:
    return datetime.datetime.now().strftime(form)


@functools.cache
def _environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    extensions = [_Generation, "jinja2.ext.loopcontrols"]
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    env.filters["tojson"] = _tojson
    env.globals.update(raise_exception=_raise, strftime_now=_strftime_now)
    return env


def jinja(source: str, **variables: str) -> Render:
    """Return a renderer of a chat template.

    Args:
        source: the template.
        **variables: what the template may name beside the messages, such as eos_token. The token that begins every
            text is left out on purpose: whoever tokenises the prompt adds it.

    Raises:
        ModelSetupError: it is no Jinja template.
    """
    try:
        template = _environment().from_string(source)
    except jinja2.TemplateError as error:
        raise ModelSetupError(f"the chat template is not valid Jinja: {error}") from None

    def render(messages: Messages, generation: bool) -> str:
        known = {"bos_token": "", "eos_token": "", **variables}
        return template.render(messages=messages, add_generation_prompt=generation, **known)

    return render


def template_file(path: Path) -> Render:
    """Return a renderer of a file: Jinja, or the JSON file that a model keeps its template in.

    Raises:
        ModelSetupError: there is no such file, or no template in it.
    """
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelSetupError(f"the chat template {path} cannot be read: {error}") from None
    if path.suffix != ".json":
        return jinja(source)
    try:
        kept = json.loads(source)
        source, eos = kept["chat_template"], kept.get("eos_token") or ""
    except (ValueError, KeyError, TypeError):
        raise ModelSetupError(f"{path} holds no chat_template") from None
    if not isinstance(source, str):
        raise ModelSetupError(f"{path} holds several chat templates: put the right one into a .jinja file")
    return jinja(source, eos_token=eos if isinstance(eos, str) else str(eos.get("content", "")))
