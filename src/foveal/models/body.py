"""A chat request as bytes; pictures are spliced in as they are, never passed through a JSON encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from foveal.models.wire import Message, Request
from foveal.record import Image

URL = Callable[[Image], bytes]
"""Gives a picture as a data URL (ASCII bytes)."""


def text(value: str) -> bytes:
    """Return a JSON string; lone surrogates, which no server takes, become question marks."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return orjson.dumps(value.encode("utf-8", "replace").decode())


def values(fields: Mapping[str, Any]) -> bytes:
    """Return the members of a JSON object without its braces."""
    return orjson.dumps(fields)[1:-1]


def part(piece: str | Image, url: URL) -> bytes:
    """Return one part of a message's content."""
    if isinstance(piece, str):
        return b'{"type":"text","text":' + text(piece) + b"}"
    return b'{"type":"image_url","image_url":{"url":"' + url(piece) + b'"}}'


def message(said: Message, url: URL, open_turn: bool = False) -> bytes:
    """Return one message; an open turn ends in an empty text part, which templates need to be cut at."""
    head = b'{"role":"' + said.role.encode() + b'","content":'
    if not open_turn and all(isinstance(p, str) for p in said.parts):
        return head + text("".join(p for p in said.parts if isinstance(p, str))) + b"}"
    parts = [part(p, url) for p in said.parts]
    if open_turn and not (said.parts and isinstance(said.parts[-1], str)):
        parts.append(b'{"type":"text","text":""}')
    return head + b"[" + b",".join(parts) + b"]}"


def chat(model: str, request: Request, fields: Mapping[str, Any], url: URL) -> bytes:
    """Return the body of a chat completion request."""
    last = len(request.messages) - 1
    said = [message(m, url, request.open_turn and i == last) for i, m in enumerate(request.messages)]
    tail = b"]," + values(fields) + b"}" if fields else b"]}"
    return b'{"model":' + text(model) + b',"messages":[' + b",".join(said) + tail
