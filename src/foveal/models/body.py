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


def part(piece: str | Image, url: URL) -> list[bytes]:
    """Return one part of a message's content, in pieces."""
    if isinstance(piece, str):
        return [b'{"type":"text","text":', text(piece), b"}"]
    return [b'{"type":"image_url","image_url":{"url":"', url(piece), b'"}}']


def message(said: Message, url: URL, open_turn: bool = False) -> list[bytes]:
    """Return one message in pieces; an open turn ends in an empty text part, which templates need to be cut at."""
    head = b'{"role":"' + said.role.encode() + b'","content":'
    if not open_turn and all(isinstance(p, str) for p in said.parts):
        return [head, text("".join(p for p in said.parts if isinstance(p, str))), b"}"]
    pieces = [head]
    for at, given in enumerate(said.parts):
        pieces += [b"," if at else b"[", *part(given, url)]
    if open_turn and not (said.parts and isinstance(said.parts[-1], str)):
        pieces.append((b"," if said.parts else b"[") + b'{"type":"text","text":""}')
    return [*pieces, b"]}"]


def chat(model: str, request: Request, fields: Mapping[str, Any], url: URL) -> list[bytes]:
    """Return the body of a chat completion request, in pieces: pictures are large, and are not copied."""
    last = len(request.messages) - 1
    pieces = [b'{"model":' + text(model) + b',"messages":[']
    for at, said in enumerate(request.messages):
        pieces += [*([b","] if at else []), *message(said, url, request.open_turn and at == last)]
    return [*pieces, b"]," + values(fields) + b"}" if fields else b"]}"]
