"""Rows of other people's data: which format a row is in, and the body and pictures it means (docs/formats.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

from foveal.data.turns import MARK, plain, role, unblocked, unmarked
from foveal.errors import RecordFailed
from foveal.record import Body, Chat, Pair, Role, Turn

Row: TypeAlias = Mapping[str, Any]

IMAGE_KEYS = ("images", "image", "rejected_images", "file_name", "image_path", "picture")
"""Columns that name pictures, in order."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One picture as a row gives it: a path, a data URI, bytes, or a {bytes, path} struct.

    Attributes:
        column: the row's column.
        index: its place in the column's list, None when the column holds one picture.
    """

    column: str
    index: int | None
    value: Any


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a row means.

    Attributes:
        body: a conversation, a pair, or None for pictures alone.
        used: the columns it was read from; the others are tags.
    """

    body: Body
    used: frozenset[str]


def cells(row: Row, columns: Sequence[str] = ()) -> Iterator[Cell]:
    """Yield the pictures of a row: from `columns`, else from the columns that usually name pictures.

    In OpenAI's form the pictures stand inside the messages.
    """
    for column in columns or [k for k in IMAGE_KEYS if k in row][:1] + ["rejected_images"] * ("images" in row):
        value = row.get(column)
        if isinstance(value, list | tuple):
            yield from (Cell(column, i, v) for i, v in enumerate(value))
        elif value is not None and value != "":
            yield Cell(column, None, value)
    yield from (Cell("messages", i, url) for i, url in enumerate(_inline(row)))


def _inline(row: Row) -> Iterator[str]:
    given = row.get("input")
    messages = row.get("messages") or (given.get("messages") if isinstance(given, Mapping) else None) or ()
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, Mapping) else None
        for block in content if isinstance(content, list) else ():
            if isinstance(block, Mapping) and block.get("type") == "image_url":
                url = block.get("image_url")
                yield str(url.get("url") if isinstance(url, Mapping) else url)


def detect(row: Row) -> str | None:
    """Return the format that a row's keys name, None when there is none."""
    keys = set(row)
    if "conversations" in keys:
        return "sharegpt" if keys & {"images", "chosen", "rejected", "system", "tools"} else "llava"
    if "preferred_output" in keys:
        return "openai"
    if "messages" in keys:
        if keys & {"rejected_response", "rejected_messages"}:
            return "ms-swift"
        kinds = {type(m.get("content")) for m in row["messages"] or () if isinstance(m, Mapping)}
        return ("openai" if any(True for _ in _inline(row)) else "trl") if list in kinds else "ms-swift"
    if {"chosen", "rejected"} <= keys or "prompt" in keys:
        return "trl"
    return "pictures" if any(k in keys for k in IMAGE_KEYS) else None


def parse(row: Row, shape: str, images: int, rejected: int = 0) -> Parsed:
    """Return what a row means in a format.

    Args:
        row: the row.
        shape: one of SHAPES.
        images: how many pictures the row's prompt has.
        rejected: how many pictures its rejected side has of its own; they come after the prompt's.

    Raises:
        RecordFailed: the row does not have that format.
    """
    try:
        found = SHAPES[shape](row, images, rejected)
        return Parsed(_simplest(found.body, images), found.used)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        keys = ", ".join(map(str, row))
        raise RecordFailed("row of another form", f"not {shape}: it has {keys} ({error!r})") from error


def _simplest(body: Body, images: int) -> Body:
    """Return a body without positions that go without saying; a pair with other pictures on one side keeps them."""
    match body:
        case Chat():
            return Chat(plain(body.turns, images))
        case Pair(rejected_images=None):
            return Pair(plain(body.prompt, images), body.chosen, body.rejected)
    return body


def _pictures(row: Row, images: int, rejected: int) -> Parsed:
    return Parsed(None, frozenset())


def _conversation(row: Row, images: int, newline: bool) -> list[Turn]:
    turns: list[tuple[Role, str]] = [(role(t["from"]), _text(t["value"])) for t in row["conversations"]]
    if row.get("system"):
        turns.insert(0, ("system", _text(row["system"])))
    return unmarked(turns, images, newline)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} where text belongs")
    return value


def _llava(row: Row, images: int, rejected: int) -> Parsed:
    return Parsed(Chat(_conversation(row, images, newline=True)), frozenset({"conversations", "system"}))


def _sharegpt(row: Row, images: int, rejected: int) -> Parsed:
    turns = _conversation(row, images, newline=False)
    used = frozenset({"conversations", "system"})
    if "rejected" not in row:
        return Parsed(Chat(turns), used)
    return Parsed(
        Pair(turns, _text(row["chosen"]["value"]), _text(row["rejected"]["value"])), used | {"chosen", "rejected"}
    )


def _swift(row: Row, images: int, rejected: int) -> Parsed:
    turns = unblocked(row["messages"], images)
    used = frozenset({"messages", "rejected_response", "rejected_messages"})
    if "rejected_response" not in row and "rejected_messages" not in row and not rejected:
        return Parsed(Chat(turns), used)
    if not turns or turns[-1].role != "assistant":
        raise RecordFailed("pair without a chosen answer", "messages do not end with the assistant")
    chosen = turns[-1].text
    other = tuple(range(images, images + rejected)) or None
    return Parsed(Pair(turns[:-1], chosen, _swift_rejected(row, chosen), rejected_images=other), used)


def _swift_rejected(row: Row, chosen: str) -> str:
    """Return the rejected answer: a text, the last of a list of messages, or the chosen one about other pictures."""
    given = row.get("rejected_response") or row.get("rejected_messages") or chosen
    if isinstance(given, str):
        return given
    return _text(given[-1]["content"])


def _trl(row: Row, images: int, rejected: int) -> Parsed:
    if "messages" in row:
        return Parsed(Chat(unblocked(row["messages"], images)), frozenset({"messages"}))
    if "chosen" in row:
        return _trl_pair(row, images, rejected)
    prompt = _messages(row["prompt"], "user")
    if "completion" in row:
        prompt += _messages(row["completion"], "assistant")
    return Parsed(Chat(unblocked(prompt, images)), frozenset({"prompt", "completion"}))


def _trl_pair(row: Row, images: int, rejected: int) -> Parsed:
    chosen, other = (_messages(row[side], "assistant") for side in ("chosen", "rejected"))
    prompt = _messages(row["prompt"], "user") if row.get("prompt") else []
    if not prompt:  # the prompt stands at the head of both sides
        prompt, chosen, other = chosen[:-1], chosen[-1:], other[-1:]
    if len(chosen) != 1 or len(other) != 1:
        raise RecordFailed("pair of more than one turn", f"{len(chosen)} and {len(other)} messages")
    turns = unblocked(prompt, images)
    extra = tuple(range(images, images + rejected)) or None
    best, worst = (unblocked(answer, 0)[0].text for answer in (chosen, other))
    return Parsed(Pair(turns, best, worst, rejected_images=extra), frozenset({"prompt", "chosen", "rejected"}))


def _messages(value: Any, speaker: str) -> list[Mapping[str, Any]]:
    return [{"role": speaker, "content": value}] if isinstance(value, str) else list(value)


def _openai(row: Row, images: int, rejected: int) -> Parsed:
    if "preferred_output" not in row:
        return Parsed(Chat(unblocked(row["messages"], images)), frozenset({"messages"}))
    turns = unblocked(row["input"]["messages"], images)
    best, worst = (_text(row[side][-1]["content"]) for side in ("preferred_output", "non_preferred_output"))
    return Parsed(Pair(turns, best, worst), frozenset({"input", "preferred_output", "non_preferred_output"}))


SHAPES: Mapping[str, Callable[[Row, int, int], Parsed]] = {
    "pictures": _pictures,
    "llava": _llava,
    "sharegpt": _sharegpt,
    "ms-swift": _swift,
    "trl": _trl,
    "openai": _openai,
}

FORMS = (
    "llava or sharegpt (conversations), ms-swift (messages), trl (messages, prompt + completion, "
    f"or chosen + rejected), pictures ({', '.join(IMAGE_KEYS[:2])}); {MARK} marks a picture in text"
)
"""One clause for errors: what is readable."""


def tags(row: Row, used: frozenset[str] | set[str]) -> dict[str, Any]:
    """Return a row's other columns as tags: JSON values only; a `tags` column that foveal wrote is unfolded."""
    out: dict[str, Any] = {}
    for key, value in row.items():
        if key == "tags" and isinstance(value, str) and value.startswith("{"):
            try:
                out.update(orjson.loads(value))
            except orjson.JSONDecodeError:
                out[key] = value
        elif key not in used and value is not None and _jsonable(value):
            out[key] = value
        elif key not in used and hasattr(value, "isoformat"):
            out[key] = value.isoformat()
    return out


def _jsonable(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(k, str) and _jsonable(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return all(map(_jsonable, value))
    return value is None or isinstance(value, str | int | float | bool)
