"""One record with its whole history: pictures, every call in order, what became of it at each step, its children."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from foveal.errors import StoreError
from foveal.record import Chat, Item, Pair, body_from_json
from foveal.view.folder import Folder
from foveal.view.numbers import clip, duration, money, plural, visible
from foveal.view.pairs import Shown, Side, shown

STYLES = {"kept": "green", "dropped": "yellow", "failed": "red", "pending": "dim"}


@dataclass(frozen=True)
class Asked:
    """One call as it is shown."""

    step: str
    role: str
    model: str
    prompt: str
    messages: tuple[tuple[str, tuple[str | dict[str, str], ...]], ...]
    open_turn: bool
    sampling: dict[str, Any]
    choices: tuple[str, ...]
    text: str
    finish: str
    probs: dict[str, float] | None
    tokens_in: int
    tokens_out: int
    seconds: float
    cost: float | None
    take: int

    @property
    def label(self) -> str:
        """What to call it: its prompt file's name, "hook", or its first words."""
        return self.prompt or ("hook" if self.open_turn else clip(self.words, 60) or "call")

    @property
    def words(self) -> str:
        """The text of the last message."""
        return "".join(p for p in self.messages[-1][1] if isinstance(p, str)) if self.messages else ""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        messages = [{"role": role, "parts": list(parts)} for role, parts in self.messages]
        how = {"open_turn": self.open_turn, "sampling": self.sampling, "choices": list(self.choices)}
        reply = {"text": self.text, "finish": self.finish, "probs": self.probs}
        spent = {"tokens_in": self.tokens_in, "tokens_out": self.tokens_out, "seconds": self.seconds, "cost": self.cost}
        head = {"step": self.step, "role": self.role, "model": self.model, "prompt": self.prompt, "take": self.take}
        return {**head, "request": {"messages": messages, **how}, "reply": reply, **spent}


@dataclass(frozen=True)
class End:
    """What became of a record at a step."""

    step: str
    status: str
    reason: str
    detail: str
    raw: str

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {k: getattr(self, k) for k in ("step", "status", "reason", "detail", "raw")}


@dataclass(frozen=True)
class Node:
    """A record, its calls, its ends and its children."""

    id: str
    step: str
    images: tuple[tuple[str, str], ...]
    body: Any
    tags: dict[str, Any]
    calls: tuple[Asked, ...]
    ends: tuple[End, ...]
    children: tuple[Node, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        images = [{"digest": d, "source": s} for d, s in self.images]
        what = {"id": self.id, "step": self.step, "images": images, "body": self.body, "tags": self.tags}
        return {
            **what,
            "calls": [c.to_json() for c in self.calls],
            "steps": [e.to_json() for e in self.ends],
            "children": [c.to_json() for c in self.children],
        }

    def all_calls(self) -> Iterator[Asked]:
        """Yield its calls and its descendants', in order."""
        yield from self.calls
        for child in self.children:
            yield from child.all_calls()

    @property
    def pair(self) -> Shown | None:
        """Its pair as it is shown, None when it is none."""
        return shown(self.body, self.images, self.tags)

    def turns(self) -> list[tuple[str, str]]:
        """Return the body's words as (role, text); a pair's sides are roles of their own."""
        return body_turns(self.body)


@dataclass(frozen=True)
class History:
    """A source record with all that came of it; `found` is the record that was asked for."""

    found: str
    status: str
    reason: str
    record: Node

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"found": self.found, "status": self.status, "reason": self.reason, "record": self.record.to_json()}

    def __rich__(self) -> RenderableType:
        """Return it as rich shows it."""
        end = Text(f"record {self.record.id}: ").append(self.status, STYLES.get(self.status, "dim"))
        if self.reason:
            end.append(f", {visible(self.reason)}")
        return Group(end, *_node_lines(self.record, self.found))


def history_of(folder: Path, prefix: str, run: int | None = None) -> History:
    """Return one record with its whole history, from the source record it came from.

    Args:
        folder: the run folder.
        prefix: the beginning of the id of the record, or of any record made from it.
        run: which run; the last one when None.

    Raises:
        StoreError: no record, or more than one, has an id that begins so.
    """
    with Folder(folder, run) as opened:
        found = find(opened, prefix)
        root = _root(opened, found)
        _ = opened.fates
        status, reason = next(
            opened.query("SELECT status, reason FROM fate WHERE id=?", (root,)), ("of an earlier run", "")
        )
        return History(found, status, reason, read_node(opened, root))


def find(folder: Folder, prefix: str) -> str:
    """Return the one record id that begins so.

    Raises:
        StoreError: there is none, or more than one.
    """
    wanted = prefix.strip().lower()
    if not wanted or set(wanted) - set("0123456789abcdef"):
        raise StoreError(f"{prefix!r} is not a record id: it is the first few of 32 hexadecimal characters")
    sql = "SELECT id FROM records WHERE id>=? AND id<? ORDER BY id LIMIT 6"
    ids = [row[0] for row in folder.query(sql, (wanted, wanted + "g"))]
    if wanted in ids or len(ids) == 1:
        return wanted if wanted in ids else str(ids[0])
    if ids:
        several = ", ".join(i[: len(wanted) + 6] for i in ids[:5])
        many = len(ids) if len(ids) < 6 else "more than 5"
        raise StoreError(f"{many} records begin with {wanted!r}: {several}; give more characters")
    raise StoreError(f"no record in {folder.path} begins with {wanted!r}")


def _root(folder: Folder, record: str) -> str:
    parent = folder.one("SELECT parent FROM records WHERE id=? AND step<>''", (record,))
    return _root(folder, parent) if parent else record


# --- reading -------------------------------------------------------------------------------------------------------


def read_node(folder: Folder, record: str) -> Node:
    """Return a record with its calls, ends and descendants."""
    sql = "SELECT id, step, images, body, tags FROM records WHERE id=?"
    row = next(folder.query(sql, (record,)), (record, "", "[]", "null", "{}"))
    labels = [s.label for s in folder.steps]
    ends = tuple(_ends(folder, record, labels))
    through = {e.step for e in ends if e.status == "kept"}
    children = folder.query("SELECT id, step FROM records WHERE parent=? AND step<>'' ORDER BY step, n", (record,))
    nodes = tuple(read_node(folder, child) for child, step in list(children) if step in through)
    images = tuple((d, folder.image_source(d)) for d in orjson.loads(row[2]))
    body, tags = orjson.loads(row[3]), orjson.loads(row[4])
    return Node(row[0], row[1], images, body, tags, tuple(_calls(folder, record)), ends, nodes)


def _ends(folder: Folder, record: str, labels: list[str]) -> Iterator[End]:
    sql = "SELECT step, status, reason, detail, raw FROM units WHERE step=? AND record=? AND +run=?"
    for label in labels:
        yield from (End(*row) for row in folder.query(sql, (label, record, folder.run)))


def _calls(folder: Folder, record: str) -> Iterator[Asked]:
    columns = "step, role, model, prompt, request, reply, tokens_in, tokens_out, seconds, cost, take"
    sql = f"SELECT {columns} FROM {folder.calls} WHERE record=? ORDER BY at, rowid"  # noqa: S608
    yield from (asked(*row) for row in folder.query(sql, (record,)))


def asked(
    step: str, role: str, model: str, prompt: str, request: str, reply: str,
    tokens_in: int, tokens_out: int, seconds: float, cost: float | None, take: int,
) -> Asked:  # fmt: skip
    """Return a stored call as it is shown; what cannot be read is shown as it is."""
    what, said = _loads(request), _loads(reply)
    messages = tuple((str(m[0]), tuple(m[1:])) for m in what.get("messages") or ())
    sampling, choices = what.get("sampling") or {}, tuple(what.get("choices") or ())
    text, finish, probs = str(said.get("text", reply)), str(said.get("finish", "")), said.get("probs")
    return Asked(
        step, role, model, prompt, messages, bool(what.get("open")), sampling, choices,
        text, finish, probs, tokens_in, tokens_out, seconds, cost, take,
    )  # fmt: skip


def _loads(text: str) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def body_turns(body: Any) -> list[tuple[str, str]]:
    """Return a stored body's words as (role, text)."""
    try:
        read = body_from_json(body)
    except (ValueError, KeyError, TypeError):
        return [("body", str(body))]
    match read:
        case Chat(turns=turns):
            return [(t.role, t.text) for t in turns]
        case Pair(prompt=prompt):
            return [*((t.role, t.text) for t in prompt), ("chosen", read.chosen), ("rejected", read.rejected)]
        case Item():
            choices = [("choices", " | ".join(read.choices))] if read.choices else []
            return [("question", read.question), *choices, ("answer", read.answer)]
    return []


# --- as text -------------------------------------------------------------------------------------------------------


def _node_lines(node: Node, found: str) -> Iterator[RenderableType]:
    for digest, source in node.images if not node.step else ():
        yield Text(f"picture {digest[:12]}  {source or '(source not known)'}", style="dim")
    pair = node.pair
    for role, text in node.turns() if pair is None else pair.turns:
        yield _said(role, text)
    for side in () if pair is None else pair.sides:
        yield _side(side, apart=pair is not None and pair.apart)
    if node.tags:
        yield Text("  ".join(f"{k}={_short(v)}" for k, v in node.tags.items()), style="dim")
    for number, call in enumerate(node.calls, 1):
        yield call_text(call, number)
    for end in node.ends:
        yield end_text(end)
    for child in node.children:
        mark = "  ← asked for" if child.id == found else ""
        yield Text(f"\nrow {child.id[:12]} made by {child.step}{mark}", style="bold")
        yield Padding(Group(*_node_lines(child, found)), (0, 0, 0, 2), expand=False)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else clip(str(value), 60)


def _said(role: str, text: str) -> Text:
    return Text(f"{role}: ", style="bold").append(visible(text), "not bold")


SIDES = {"chosen": "green", "rejected": "red"}


def _side(side: Side, apart: bool) -> Text:
    """Return one side of a pair: the words that the other lacks stand out; which picture it saw, if another."""
    line = Text(f"{side.name}: ", style=f"bold {SIDES[side.name]}")
    for text, marked in side.pieces:
        line.append(visible(text), f"not bold {SIDES[side.name]} underline" if marked else "not bold default")
    how = f", {side.about}" if side.about else ""
    for digest, source in side.images if apart else ():
        line.append(f"\n  about picture {digest[:12]}{how}  {source or '(source not known)'}", "dim not bold default")
    return line


def end_text(end: End) -> Text:
    """Return what became of a record at a step as a line."""
    line = Text(f"\n{end.step}: ").append(end.status, STYLES.get(end.status, "dim"))
    for part in (end.reason, end.detail):
        if part:
            line.append(f", {clip(part, 300)}")
    return line.append(f"\n  the model said: {clip(end.raw, 300)}", "dim") if end.raw else line


def call_text(call: Asked, number: int, most: int = 4000) -> RenderableType:
    """Return a call as rich shows it: what was asked, what came back, what it cost."""
    spent = f"{call.tokens_in}+{call.tokens_out} tokens, {duration(call.seconds)}"
    cost = "" if call.cost is None else f", {money(call.cost)}"
    again = f", asking {call.take + 1} of the same" if call.take else ""
    about = f"  {call.role} ({call.model}), {spent}{cost}{again}"
    head = Text(f"\n{number}. ").append(call.label, "bold").append(about, "dim")
    lines = [_message(role, parts, most) for role, parts in call.messages]
    return Group(head, *(Padding(line, (0, 0, 0, 3), expand=False) for line in (*lines, _reply(call, most))))


def _message(role: str, parts: tuple[str | dict[str, str], ...], most: int) -> Text:
    line = Text(f"{role}: ", style="dim")
    for part in parts:
        if isinstance(part, str):
            cut = f"… ({plural(len(part), 'character')})" if len(part) > most else ""
            line.append(visible(part[:most]) + cut, "none")
        else:
            line.append(f"[picture {part.get('image', '')[:12]}] ", "cyan")
    return line


def _reply(call: Asked, most: int) -> Text:
    line = Text("user (turn left open): " if call.open_turn else "answer: ", style="bold green")
    line.append(visible(call.text[:most]) or "(nothing)", "not bold default" if call.text else "dim")
    if call.finish not in ("", "stop"):
        line.append(f"  [ended by {call.finish}]", "yellow not bold")
    if call.probs:
        best = sorted(call.probs.items(), key=lambda kv: -kv[1])[:6]
        shown = ", ".join(f"{k} {p:.2f}" for k, p in best if p >= 0.005)
        line.append(f"  p: {shown}", "dim not bold")
    return line
