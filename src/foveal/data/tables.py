"""The columns of TRL and Hugging Face tables, and their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from foveal import picture
from foveal.data.arrow import Shape
from foveal.data.folder import Folder, Table, portable
from foveal.data.turns import blocks
from foveal.record import Image, Turn

PICTURE: Shape = {"bytes": "binary", "path": "string"}
MESSAGES: Shape = [{"role": "string", "content": [{"type": "string", "text": "string"}]}]
LINEAGE: dict[str, Shape] = dict.fromkeys(("id", "parent", "step", "tags"), "string")
PAIR: dict[str, Shape] = {"images": [PICTURE], "prompt": MESSAGES, "chosen": MESSAGES, "rejected": MESSAGES}

COLUMNS: Mapping[str, dict[str, Shape]] = {
    "sft": {"images": [PICTURE], "messages": MESSAGES, **LINEAGE},
    "completion": {"images": [PICTURE], "prompt": MESSAGES, "completion": MESSAGES, **LINEAGE},
    "dpo": {**PAIR, **LINEAGE},
    "contrast": {**PAIR, "rejected_images": [PICTURE], **LINEAGE},
    "kto": {"images": [PICTURE], "prompt": MESSAGES, "completion": MESSAGES, "label": "bool", **LINEAGE},
    "grpo": {"images": [PICTURE], "prompt": MESSAGES, "solution": "string", **LINEAGE},
    "items": {"images": [PICTURE], "question": "string", "answer": "string", "choices": ["string"], **LINEAGE},
    "pictures": {"images": [PICTURE], **LINEAGE},
}
"""Table name to columns. `contrast` holds pairs whose sides see different pictures: TRL's own trainer has one list of
pictures for both sides and would silently drop the other."""


def features(shape: Shape) -> Any:
    """Return a shape as the `datasets` library writes its features."""
    if shape is PICTURE:
        return {"_type": "Image"}
    if isinstance(shape, list):
        return {"feature": features(shape[0]), "_type": "List"}
    if isinstance(shape, Mapping):
        return {name: features(inner) for name, inner in shape.items()}
    return {"dtype": shape, "_type": "Value"}


def metadata(columns: Mapping[str, Shape]) -> dict[str, str]:
    """Return the parquet metadata by which `load_dataset` knows which columns are pictures."""
    return {"huggingface": orjson.dumps({"info": {"features": features(columns)}}).decode()}


class Tables:
    """The tables of one export; each comes to be with its first row."""

    def __init__(self, folder: Folder, kinds: Sequence[str]) -> None:
        self.held = {kind: Table(folder, kind, COLUMNS[kind], metadata(COLUMNS[kind])) for kind in kinds}

    def add(self, kind: str, row: Mapping[str, Any], images: Mapping[str, Sequence[Image]]) -> None:
        """Write a row with its pictures embedded.

        Raises:
            ImageError: a picture cannot be used.
        """
        cells = {column: [_cell(image) for image in listed] for column, listed in images.items()}
        size = sum(len(cell["bytes"]) for listed in cells.values() for cell in listed)
        self.held[kind].add({**row, **cells}, size)

    def close(self) -> None:
        """End every table."""
        for table in self.held.values():
            table.close()


def _cell(image: Image) -> dict[str, Any]:
    mime, data = portable(image.data())
    return {"bytes": data, "path": f"{image.digest}{picture.suffix(mime)}"}


def _said(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    return [{"role": t.role, "content": blocks(t.content)} for t in turns]


def _answer(text: str) -> list[dict[str, Any]]:
    return _said([Turn("assistant", text)])


def chat(
    kind: str, turns: Sequence[Turn], images: tuple[Image, ...]
) -> tuple[str, dict[str, Any], dict[str, tuple[Image, ...]]]:
    """Return a chat's table, columns and pictures."""
    if kind == "completion":
        return kind, {"prompt": _said(turns[:-1]), "completion": _said(turns[-1:])}, {"images": images}
    return kind, {"messages": _said(turns)}, {"images": images}


def labelled(
    prompt: Sequence[Turn], answer: str, label: bool, images: tuple[Image, ...]
) -> tuple[str, dict[str, Any], dict[str, tuple[Image, ...]]]:
    """Return a judged answer's table, columns and pictures."""
    return "kto", {"prompt": _said(prompt), "completion": _answer(answer), "label": label}, {"images": images}


def task(
    prompt: Sequence[Turn], solution: str, images: tuple[Image, ...]
) -> tuple[str, dict[str, Any], dict[str, tuple[Image, ...]]]:
    """Return the table, columns and pictures of a prompt whose answers are to be rewarded."""
    return "grpo", {"prompt": _said(prompt), "solution": solution}, {"images": images}


def pair(
    prompt: Sequence[Turn], chosen: str, rejected: str, images: tuple[Image, ...], others: tuple[Image, ...]
) -> tuple[str, dict[str, Any], dict[str, tuple[Image, ...]]]:
    """Return a pair's table, columns and pictures."""
    row = {"prompt": _said(prompt), "chosen": _answer(chosen), "rejected": _answer(rejected)}
    if others:
        return "contrast", row, {"images": images, "rejected_images": others}
    return "dpo", row, {"images": images}
