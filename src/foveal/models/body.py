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


def part(piece: str | Image, url: URL) -> tuple[bytes, ...]:
    """Return one part of a message's content, in pieces: a picture is large, and need not be copied."""
    if isinstance(piece, str):
        return b'{"type":"text","text":', text(piece), b"}"
    return b'{"type":"image_url","image_url":{"url":"', url(piece), b'"}}'


def message(said: Message, url: URL, open_turn: bool = False) -> list[bytes]:
    """Return one message in pieces; an open turn ends in an empty text part, which templates need to be cut at."""
    pieces = [b'{"role":"' + said.role.encode() + b'","content":']
    if not open_turn and all(isinstance(p, str) for p in said.parts):
        return [*pieces, text("".join(p for p in said.parts if isinstance(p, str))), b"}"]
    parts = [*said.parts]
    if open_turn and not (parts and isinstance(parts[-1], str)):
        parts.append("")
    for i, shown in enumerate(parts):
        pieces.append(b"," if i else b"[")
        pieces.extend(part(shown, url))
    pieces.append(b"]}" if parts else b"[]}")
    return pieces


def chat(model: str, request: Request, fields: Mapping[str, Any], url: URL) -> list[bytes]:
    """Return the body of a chat completion request, in pieces."""
    last = len(request.messages) - 1
    pieces = [b'{"model":' + text(model) + b',"messages":[']
    for i, said in enumerate(request.messages):
        if i:
            pieces.append(b",")
        pieces.extend(message(said, url, request.open_turn and i == last))
    pieces.append(b"]," + values(fields) + b"}" if fields else b"]}")
    return pieces
