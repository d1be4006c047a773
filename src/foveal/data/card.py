"""The card of a data set: what it holds and how it was made, as README.md with YAML front matter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

import yaml

KNOWN = ("license", "recipe", "funnel", "models", "prompts", "description", "language")
_CONFIGS = {
    "sft": "conversations (`messages`)",
    "dpo": "preference pairs (`prompt`, `chosen`, `rejected`)",
    "contrast": "preference pairs whose sides see different pictures (`rejected_images`)",
    "items": "benchmark questions (`question`, `answer`, `choices`)",
    "pictures": "pictures alone",
}


def write_card(file: IO[bytes], title: str, card: Mapping[str, Any], rows: Mapping[str, int]) -> None:
    """Write a data set's README.md.

    Args:
        file: open for writing.
        title: the data set's name.
        card: license, recipe, funnel, models, prompts, description, language; other keys are listed under their name.
        rows: table name to number of rows.
    """
    head = yaml.safe_dump(front_matter(title, card, rows), sort_keys=False, allow_unicode=True)
    parts = [f"---\n{head}---\n\n# {_line(title)}\n", _line(str(card.get("description", ""))), _contents(rows)]
    listed = ("recipe", "funnel", "models", "prompts", *(k for k in card if k not in KNOWN))
    parts += [f"## {_line(key.capitalize())}\n\n{_block(card[key])}" for key in listed if card.get(key)]
    parts.append("Every row names its record (`id`), the record it was made from (`parent`), the step that made it and "
                 "its tags as JSON.")  # fmt: skip
    file.write(("\n".join(part for part in parts if part) + "\n").encode())


def front_matter(title: str, card: Mapping[str, Any], rows: Mapping[str, int]) -> dict[str, Any]:
    """Return what the Hub reads of a card."""
    total = sum(rows.values())
    return {
        "pretty_name": title,
        "license": str(card.get("license", "unknown")),
        **({"language": card["language"]} if card.get("language") else {}),
        "task_categories": ["image-text-to-text", "visual-question-answering"],
        "tags": ["foveal", "synthetic"],
        "size_categories": [_size(total)],
        "configs": [
            {"config_name": kind, "data_files": [{"split": "train", "path": f"{kind}/*.parquet"}]}
            for kind in rows
            if rows[kind]
        ],
    }


def _size(rows: int) -> str:
    bounds = [("n<1K", 10**3), ("1K<n<10K", 10**4), ("10K<n<100K", 10**5), ("100K<n<1M", 10**6), ("1M<n<10M", 10**7)]
    return next((name for name, bound in bounds if rows < bound), "n>10M")


def _contents(rows: Mapping[str, int]) -> str:
    lines = [f"| {kind} | {number} | {_CONFIGS[kind]} |" for kind, number in rows.items() if number]
    return "\n".join(["| configuration | rows | what |", "|---|---|---|", *lines, ""])


def _block(value: Any) -> str:
    """Return a value as a fenced block; the fence is longer than any in it, so that text cannot leave it."""
    text = value if isinstance(value, str) else yaml.safe_dump(_simple(value), sort_keys=False, allow_unicode=True)
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}yaml\n{text.rstrip()}\n{fence}\n"


def _simple(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _simple(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_simple(v) for v in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _line(text: str) -> str:
    """Return text on one line, without what Markdown or HTML would act on at its beginning."""
    return " ".join(text.split()).replace("<", "&lt;")
