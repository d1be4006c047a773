"""The run card of a training: card.json for programs, README.md for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from foveal.errors import SetupError

NAME = "card.json"


def read(out: Path) -> dict[str, Any]:
    """Return a folder's card, empty when it has none.

    Raises:
        SetupError: it cannot be read.
    """
    try:
        found: dict[str, Any] = orjson.loads((out / NAME).read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SetupError(f"{out / NAME} cannot be read: {error}") from error
    return found


def page(card: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> str:
    """Return the card as Markdown with the front matter that model hubs read."""
    data, model = card["data"], card["model"]
    rows = {
        "data": f"{data['path']} ({data['rows']} rows, digest {data['digest']})",
        "left out": ", ".join(f"{n} {why}" for why, n in data["left_out"].items()),
        "policies": ", ".join(data["policies"]),
        "loss": card["loss"],
        "reference": card["reference"],
        "steps": card["steps"],
        "seconds": card["seconds"],
        "seed": card["seed"],
        "versions": ", ".join(f"{name} {version}" for name, version in card["versions"].items()),
    }
    table = "\n".join(f"| {name} | {_cell(value)} |" for name, value in rows.items() if value not in ("", None))
    notes = "".join(f"\n- {w}" for w in card["warnings"])
    curve = "\n".join(f"| {line['step']} | {line['loss']:.4f} |" for line in _thinned(history))
    return (
        f"---\nbase_model: {model['named']}\nlibrary_name: transformers\npipeline_tag: image-text-to-text\n"
        f"tags: [foveal, {card['verb']}]\n---\n\n# {card['verb']} of {model['identity']}\n\n"
        f"    {card['command']}\n\n| | |\n|---|---|\n{table}\n"
        + (f"\nNotes:\n{notes}\n" if notes else "")
        + (f"\n| step | loss |\n|---|---|\n{curve}\n" if curve else "")
    )


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _thinned(history: Sequence[Mapping[str, Any]], most: int = 20) -> list[Mapping[str, Any]]:
    lines = [line for line in history if "loss" in line]
    step = -(-len(lines) // most) or 1
    return lines[::step]
