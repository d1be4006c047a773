"""Writes small run folders straight through the Store: exact numbers to test against, no models."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from foveal.record import Body, Chat, Image, Record, body_to_json, digest
from foveal.store import Call, Outcome, Store

_RECORD = "INSERT OR REPLACE INTO records VALUES (?,?,?,?,?,?,?,?,?)"
STEPS = [
    {"name": "oasis", "step": "oasis", "kind": "row", "knobs": {"clarity": 3}},
    {"name": "dedup", "step": "dedup", "kind": "table", "knobs": {"at": 0.8}},
]


@dataclass
class Builder:
    """One run being written."""

    store: Store
    steps: Sequence[dict[str, Any]]
    seq: int = 0
    meter: dict[str, Any] = field(default_factory=dict)

    def source(self, data: bytes = b"", where: str = "") -> Record:
        record = Record((Image.of(data or f"picture {self.seq}".encode(), where or f"pictures/{self.seq:04}.jpg"),))
        self.store.write(self.store.source_rows(record, self.seq))
        self.seq += 1
        return record

    def end(self, step: str, record: Record, status: str, reason: str = "", detail: str = "", raw: str = "") -> None:
        self.store.write([self.store.unit_row(step, record.id, Outcome(status, reason, detail, raw), "f")])  # type: ignore[arg-type]

    def make(self, step: str, parent: Record, bodies: Sequence[Body], reason: str = "", **tags: Any) -> list[Record]:
        children = [Record(parent.images, b, {**parent.tags, **tags}, parent.id, step) for b in bodies]
        self.store.write([(_RECORD, self._row(n, child)) for n, child in enumerate(children)])
        self.end(step, parent, "kept", reason)
        return children

    def _row(self, n: int, child: Record) -> tuple[Any, ...]:
        body, tags = orjson.dumps(body_to_json(child.body)).decode(), orjson.dumps(dict(child.tags)).decode()
        images = orjson.dumps([i.digest for i in child.images]).decode()
        return child.id, child.step, child.parent, 0, n, body, tags, images, self.store.run

    def call(
        self,
        record: Record,
        prompt: str,
        words: str,
        said: str,
        *,
        step: str = "oasis",
        role: str = "vlm",
        picture: bool = True,
        choices: Sequence[str] = (),
        probs: dict[str, float] | None = None,
        finish: str = "stop",
        tokens: tuple[int, int] = (100, 20),
        cost: float | None = None,
        seconds: float = 0.5,
        at: float | None = None,
        open_turn: bool = False,
        take: int = 0,
    ) -> None:
        parts: list[Any] = [{"image": record.images[0].digest}] if picture and record.images else []
        request: dict[str, Any] = {
            "model": "m",
            "messages": [["user", *parts, words]],
            "open": open_turn,
            "sampling": {"temperature": 0},
        }
        if choices:
            request["choices"] = list(choices)
        reply: dict[str, Any] = {"text": said, "finish": finish}
        if probs is not None:
            reply["probs"] = probs
        key = bytes.fromhex(digest(prompt, words))
        what = orjson.dumps(request).decode(), orjson.dumps(reply).decode()
        when = time.time() if at is None else at
        call = Call(record.id, key, take, step, role, "m", prompt, *what, *tokens, cost, seconds, when)
        self.store.remember(call)


class Run:
    """`with Run(folder) as run:` writes one run; its state is "done" unless told."""

    def __init__(
        self, folder: Path, steps: Sequence[dict[str, Any]] = STEPS, state: str = "done", **meter: Any
    ) -> None:
        self.folder, self.steps, self.state, self.meter = folder, steps, state, meter

    def __enter__(self) -> Builder:
        self.store = Store(self.folder)
        recipe = {"name": "oasis", "source": "pictures", "models": {"vlm": "m", "llm": "m"}, "steps": self.steps}
        self.store.begin(orjson.dumps(recipe).decode())
        return Builder(self.store, self.steps)

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and self.state != "running":
            self.store.finish(self.state, "", self.meter, 12.5)
        self.store.flush()
        self.store.close()


def chat(question: str, answer: str) -> Chat:
    return Chat((("user", question), ("assistant", answer)))
