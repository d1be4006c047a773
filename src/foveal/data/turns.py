"""Turns as the field writes them: text with placeholders, or blocks; and what text may not say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from foveal.errors import RecordFailed
from foveal.record import Content, Image, Pair, Record, Role, Turn, placed

MARK = "<image>"

# Text that some trainer's tokenizer or template reads as a command: the formats' own placeholders, and chat and
# vision tokens of the model families in use. Each entry names one; `forbidden` finds the first.
_COMMANDS = re.compile(
    r"</?(?:image|video|audio|bbox|ref-object|img|s|box|ref|quad|point)>"
    r"|<\|[^<>|\n]{1,64}\|>|<｜[^<>｜\n]{1,64}｜>"
    r"|<(?:start|end)_of_(?:turn|image)>|<image_soft_token>|<image_placeholder>|<fake_token_around_image>"
    r"|</?IMG_CONTEXT>|\[/?INST\]|\[IMG(?:_BREAK|_END)?\]|<(?:bos|eos|pad|unk|mask)>"
    r"|<(?:im|vid)_(?:start|end|patch)>|<<SYS>>|<</SYS>>",
    re.IGNORECASE,
)


def forbidden(text: str) -> str:
    """Return the first placeholder or special token in a text, "" when there is none."""
    found = _COMMANDS.search(text)
    return found.group() if found else ""


def pieces(content: Content) -> tuple[str | int, ...]:
    """Return a turn's content as pieces: neighbouring texts joined, empty ones left out."""
    out: list[str | int] = []
    for piece in (content,) if isinstance(content, str) else content:
        if isinstance(piece, int):
            out.append(piece)
        elif out and isinstance(out[-1], str):
            out[-1] += piece
        elif piece:
            out.append(piece)
    return tuple(out)


def plain(turns: Sequence[Turn], images: int) -> tuple[Turn, ...]:
    """Return turns in their simplest form: positions that say only what `record.placed` would are left out."""
    out = [Turn(t.role, _simple(pieces(t.content))) for t in turns]
    bare = tuple(Turn(t.role, t.text) for t in out)
    same = [(t.role, pieces(t.content)) for t in placed(bare, images)] == [(t.role, pieces(t.content)) for t in out]
    return bare if same else tuple(out)


def _simple(found: tuple[str | int, ...]) -> Content:
    if not found:
        return ""
    return found[0] if len(found) == 1 and isinstance(found[0], str) else found


def ordered(
    record: Record, turns: Sequence[Turn], shown: Sequence[int] | None = None
) -> tuple[tuple[Turn, ...], tuple[Image, ...]]:
    """Return the turns with every image placed and numbered as it appears, and those images.

    Args:
        record: has the images.
        turns: the conversation.
        shown: the images it is about when no turn names one; by default all.

    Raises:
        RecordFailed: a turn names an image that the record does not have.
    """
    images: list[Image] = []
    out = []
    if shown is not None and not any(t.positions for t in turns):
        record = replace(record, images=tuple(picked(record, i) for i in shown))
    for turn in placed(turns, len(record.images)):
        content: list[str | int] = []
        for piece in pieces(turn.content):
            if isinstance(piece, int):
                images.append(picked(record, piece))
                piece = len(images) - 1
            content.append(piece)
        out.append(Turn(turn.role, _simple(tuple(content))))
    return tuple(out), tuple(images)


def picked(record: Record, index: int) -> Image:
    """Return one of a record's images.

    Raises:
        RecordFailed: there is no such image.
    """
    if not 0 <= index < len(record.images):
        raise RecordFailed("names a picture it does not have", f"{index} of {len(record.images)}")
    return record.images[index]


# --- text with placeholders ----------------------------------------------------------------------------------------


def marked(content: Content, newline: bool = False) -> str:
    """Return content as text with a placeholder for each image; `newline` ends the leading ones, as LLaVA does."""
    found = pieces(content)
    lead = next((i for i, p in enumerate(found) if isinstance(p, str)), len(found))
    texts = [MARK if isinstance(p, int) else p for p in found]
    if newline and 0 < lead < len(found):
        texts[lead] = "\n" + texts[lead]
    return "".join(texts)


def unmarked(turns: Sequence[tuple[Role, str]], images: int, newline: bool = False) -> list[Turn]:
    """Undo `marked` for a conversation: the n-th placeholder is the n-th image; missing ones come first.

    Raises:
        RecordFailed: there are more placeholders than pictures.
    """
    marks = sum(text.count(MARK) for _, text in turns)
    if marks > images:
        raise RecordFailed("more placeholders than pictures", f"{marks} {MARK}, {images} pictures")
    at = spare = images - marks
    out: list[Turn] = []
    for role, text in turns:
        content: list[str | int] = []
        for number, piece in enumerate(text.split(MARK)):
            if number:
                content.append(at)
                at += 1
            if newline and number and not any(isinstance(c, str) for c in content):
                piece = piece.removeprefix("\n")
            if piece:
                content.append(piece)
        out.append(Turn(role, _simple(tuple(content))))
    return _lead(out, spare)


def _lead(turns: list[Turn], count: int) -> list[Turn]:
    """Put images 0 to count-1 first in the first user turn (in the first turn when there is none)."""
    if not count:
        return turns
    first = next((i for i, t in enumerate(turns) if t.role == "user"), 0)
    turns[first] = Turn(turns[first].role, (*range(count), *pieces(turns[first].content)))
    return turns


# --- blocks --------------------------------------------------------------------------------------------------------


def blocks(content: Content) -> list[dict[str, Any]]:
    """Return content as TRL's blocks: {"type": "image"} and {"type": "text", "text": ...}."""
    return [
        {"type": "image", "text": None} if isinstance(piece, int) else {"type": "text", "text": piece}
        for piece in pieces(content)
    ] or [{"type": "text", "text": ""}]


def unblocked(messages: Sequence[Mapping[str, Any]], images: int) -> list[Turn]:
    """Undo `blocks` for messages whose content is a string or a list of blocks; a string may hold placeholders.

    Raises:
        RecordFailed: a role or block that foveal does not know, or more image blocks than pictures.
    """
    if all(isinstance(m.get("content"), str | None) for m in messages):
        return unmarked([(role(m.get("role")), m.get("content") or "") for m in messages], images)
    at, out = 0, []
    for message in messages:
        content: list[str | int] = []
        given = message.get("content")
        for block in [{"type": "text", "text": given}] if isinstance(given, str) else given or []:
            if block.get("type") in ("image", "image_url"):
                content.append(at)
                at += 1
            elif block.get("type") == "text":
                content.append(block.get("text") or "")
            else:
                raise RecordFailed("block of an unknown type", repr(block.get("type")))
        out.append(Turn(role(message.get("role")), _simple(pieces(tuple(content)))))
    if at > images:
        raise RecordFailed("more placeholders than pictures", f"{at} image blocks, {images} pictures")
    if 0 < at < images:
        raise RecordFailed("fewer placeholders than pictures", f"{at} image blocks, {images} pictures")
    return _lead(out, images - at)


ROLES: Mapping[str, Role] = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "model": "assistant",
    "bot": "assistant", "chatgpt": "assistant", "system": "system", "developer": "system",
}  # fmt: skip


def role(name: object) -> Role:
    """Return the role that a data set's word means.

    Raises:
        RecordFailed: a role that foveal does not know, such as a tool's.
    """
    found = ROLES.get(str(name))
    if found is None:
        raise RecordFailed("turn of an unknown role", repr(name))
    return found


def shown(record: Record, pair: Pair) -> tuple[int, ...]:
    """Return the images a pair's prompt is about when its turns name none: those that are not one side's own."""
    own = {*(pair.chosen_images or ()), *(pair.rejected_images or ())}
    return tuple(i for i in range(len(record.images)) if i not in own) or pair.chosen_images or ()


def spoken(pair: Pair) -> tuple[str, ...]:
    """Return every text of a pair."""
    return (*(t.text for t in pair.prompt), pair.chosen, pair.rejected)
