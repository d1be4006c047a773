"""What flows: Record, Image, Chat, Pair, Item, and the one way to end early, `keep`."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias, TypeVar, overload

import orjson
import pybase64

from foveal.errors import Dropped, ImageError

T = TypeVar("T")
Role: TypeAlias = Literal["system", "user", "assistant"]
Content: TypeAlias = str | tuple[str | int, ...]
"""A turn's content: plain text, or text pieces and image positions (indices into the record's images) in order."""


def digest(*parts: bytes | str) -> str:
    """Return a 128-bit hex digest of the parts, each with its length so that borders cannot shift."""
    h = hashlib.blake2b(digest_size=16)
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        h.update(len(raw).to_bytes(8, "big"))
        h.update(raw)
    return h.hexdigest()


MEMORY = "memory"
"""The source of a picture that was made here and lies nowhere yet."""


class Image:
    """A picture, identified by its bytes; where the bytes lie is not part of what it is.

    Attributes:
        digest: 32 hex characters of the file's bytes.
        source: where the bytes came from, in a form that `foveal.data` can open again.
    """

    __slots__ = ("_data", "_read", "_url", "digest", "source")

    def __init__(self, digest: str, source: str, read: Callable[[], bytes]) -> None:
        self.digest, self.source, self._read = digest, source, read
        self._data: bytes | None = None
        self._url: bytes | None = None

    @classmethod
    def of(cls, data: bytes, source: str = MEMORY) -> Image:
        """Make an Image of bytes already in memory."""
        image = cls(digest(data), source, lambda: data)
        image._data = data
        return image

    def data(self) -> bytes:
        """Return the file's bytes, read once while the record is being worked on.

        Raises:
            ImageError: the file is gone or has changed since the run began.
        """
        if self._data is None:
            try:
                data = self._read()
            except OSError as error:
                raise ImageError("picture unreadable", f"{self.source}: {error}") from error
            if digest(data) != self.digest:
                raise ImageError("picture changed during the run", self.source)
            self._data = data
        return self._data

    def data_url(self, encode: Callable[[bytes], tuple[str, bytes]]) -> bytes:
        """Return the picture as a data URL (ASCII bytes), encoded once however many calls show it.

        Args:
            encode: turns file bytes into (mime type, bytes that every server can decode).
        """
        if self._url is None:
            mime, data = encode(self.data())
            self._url = b"data:%b;base64,%b" % (mime.encode(), pybase64.b64encode(data))
        return self._url

    @property
    def encoded(self) -> bool:
        """Whether `data_url` has been made already."""
        return self._url is not None

    def __repr__(self) -> str:
        return f"Image({self.digest[:8]}, {self.source})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Image) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation."""

    role: Role
    content: Content

    @property
    def text(self) -> str:
        """The words of the turn, image positions left out."""
        return self.content if isinstance(self.content, str) else "".join(p for p in self.content if isinstance(p, str))

    @property
    def positions(self) -> tuple[int, ...]:
        """The image positions the turn names, in order."""
        return () if isinstance(self.content, str) else tuple(p for p in self.content if isinstance(p, int))


def _turns(given: Sequence[Turn | tuple[Role, Content]]) -> tuple[Turn, ...]:
    return tuple(t if isinstance(t, Turn) else Turn(*t) for t in given)


def placed(turns: Sequence[Turn], images: int) -> tuple[Turn, ...]:
    """Return the turns with every image placed: where no turn names one, all come first in the first user turn."""
    if any(t.positions for t in turns) or images == 0:
        return tuple(turns)
    out, done = [], False
    for turn in turns:
        if turn.role == "user" and not done:
            content = turn.content if isinstance(turn.content, tuple) else (turn.content,)
            turn, done = Turn("user", (*range(images), *content)), True
        out.append(turn)
    return tuple(out)


@dataclass(frozen=True)
class Chat:
    """Instruction data: a conversation. Turns may be given as ("user", text) tuples."""

    turns: tuple[Turn, ...]

    def __init__(self, turns: Sequence[Turn | tuple[Role, Content]]) -> None:
        object.__setattr__(self, "turns", _turns(turns))

    @property
    def question(self) -> str:
        """The words of the first user turn."""
        return next((t.text for t in self.turns if t.role == "user"), "")

    @property
    def answer(self) -> str:
        """The words of the last assistant turn."""
        return next((t.text for t in reversed(self.turns) if t.role == "assistant"), "")


@dataclass(frozen=True)
class Pair:
    """Preference data: to one prompt, a chosen and a rejected answer.

    Attributes:
        prompt: the conversation up to the answer (a plain question is one user turn).
        rejected_images: indices of the images the rejected side is about, when they differ from the prompt's.
        chosen_images: likewise for the chosen side.
    """

    prompt: tuple[Turn, ...]
    chosen: str
    rejected: str
    rejected_images: tuple[int, ...] | None = None
    chosen_images: tuple[int, ...] | None = None

    def __init__(
        self,
        prompt: str | Sequence[Turn | tuple[Role, Content]],
        chosen: str,
        rejected: str,
        rejected_images: Sequence[int] | None = None,
        chosen_images: Sequence[int] | None = None,
    ) -> None:
        turns = (Turn("user", prompt),) if isinstance(prompt, str) else _turns(prompt)
        object.__setattr__(self, "prompt", turns)
        object.__setattr__(self, "chosen", chosen)
        object.__setattr__(self, "rejected", rejected)
        object.__setattr__(self, "rejected_images", None if rejected_images is None else tuple(rejected_images))
        object.__setattr__(self, "chosen_images", None if chosen_images is None else tuple(chosen_images))

    @property
    def question(self) -> str:
        """The words of the last user turn of the prompt."""
        return next((t.text for t in reversed(self.prompt) if t.role == "user"), "")


@dataclass(frozen=True, slots=True)
class Item:
    """A benchmark question, with its reference answer and options where there are any."""

    question: str
    answer: str = ""
    choices: tuple[str, ...] = ()


Body: TypeAlias = Chat | Pair | Item | None


@dataclass(frozen=True)
class Scope:
    """What a record is being worked on under: the step's name and the run's seed."""

    step: str = ""
    seed: int = 0


scope: ContextVar[Scope] = ContextVar("scope", default=Scope())  # noqa: B039 - frozen


@dataclass(frozen=True)
class Record:
    """One unit of data on its way through the steps.

    Attributes:
        images: the pictures it is about.
        body: Chat, Pair, Item, or None for a bare image.
        tags: what is known of it: scores, kinds, where it came from (JSON values).
        parent: id of the record it was made from, "" for a source record.
        step: name of the step that made it, "" for a source record.
    """

    images: tuple[Image, ...] = ()
    body: Body = None
    tags: Mapping[str, Any] = field(default_factory=dict)
    parent: str = ""
    step: str = ""

    @cached_property
    def id(self) -> str:
        """A digest of what the record is: picture bytes, body, parent, step; never a path or a row number."""
        return digest(*(i.digest for i in self.images), orjson.dumps(body_to_json(self.body)), self.parent, self.step)

    def make(self, body: Body, images: Sequence[Image] | None = None, **tags: Any) -> Record:
        """Return a child: the same images (or those given), a new body, this record's tags and the new ones."""
        kept = self.images if images is None else tuple(images)
        return Record(kept, body, {**self.tags, **tags}, parent=self.id, step=scope.get().step)

    def rng(self, *label: str | int) -> random.Random:
        """Return the only randomness a method may use: seeded by the run's seed, this record's id and the label."""
        return random.Random(digest(str(scope.get().seed), self.id, *map(str, label)))


def keep(condition: object, reason: str) -> None:
    """End this record here unless `condition` holds; it is counted as dropped under `reason`."""
    if not condition:
        raise Dropped(reason)


@overload
async def gather(*aws: Awaitable[T]) -> tuple[T, ...]: ...
@overload
async def gather(**named: Awaitable[T]) -> dict[str, T]: ...
async def gather(*aws: Awaitable[Any], **named: Awaitable[Any]) -> Any:
    """Await several at once; the first failure cancels the others and is raised as itself.

    Positional awaitables give a tuple, named ones a dict.
    """

    async def one(aw: Awaitable[T]) -> T:
        return await aw

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(a)) for a in (*aws, *named.values())]
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None
    results = [t.result() for t in tasks]
    return dict(zip(named, results, strict=True)) if named else tuple(results)


notes: ContextVar[list[str] | None] = ContextVar("notes", default=None)
"""Reasons why branches of the present record ended, when others went on; set by the runner, shown in the report."""


async def once(record: Awaitable[T]) -> AsyncIterator[T]:
    """Make a branch of a single awaitable."""
    yield await record


async def branches(several: Iterable[AsyncIterator[Record]]) -> AsyncIterator[Record]:
    """Yield what each branch yields; a branch that `keep` ends does not end the others.

    Raises:
        Dropped: every branch was dropped and none yielded; the first one's reason.
    """
    made, ends = 0, []
    for branch in several:
        try:
            async for child in branch:
                made += 1
                yield child
        except Dropped as end:
            ends.append(end)
    if ends and not made:
        raise ends[0]
    if (noted := notes.get()) is not None:
        noted.extend(end.reason for end in ends)


# --- as JSON -------------------------------------------------------------------------------------------------------


def _content_to_json(content: Content) -> Any:
    return content if isinstance(content, str) else list(content)


def turns_to_json(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """Return turns as JSON values: [{"role", "content"}], content a string or a list of strings and image indices."""
    return [{"role": t.role, "content": _content_to_json(t.content)} for t in turns]


def turns_from_json(data: Sequence[Mapping[str, Any]]) -> tuple[Turn, ...]:
    """Undo `turns_to_json`."""
    return tuple(Turn(t["role"], t["content"] if isinstance(t["content"], str) else tuple(t["content"])) for t in data)


def body_to_json(body: Body) -> Any:
    """Return a body as JSON values with its kind named, None for a bare image."""
    match body:
        case None:
            return None
        case Chat(turns=turns):
            return {"kind": "chat", "turns": turns_to_json(turns)}
        case Pair():
            sides = {"chosen": body.chosen, "rejected": body.rejected}
            images = {"rejected_images": body.rejected_images, "chosen_images": body.chosen_images}
            return {"kind": "pair", "prompt": turns_to_json(body.prompt), **sides, **images}
        case Item():
            return {"kind": "item", "question": body.question, "answer": body.answer, "choices": body.choices}


def body_from_json(data: Any) -> Body:
    """Undo `body_to_json`."""
    if data is None:
        return None
    match data["kind"]:
        case "chat":
            return Chat(turns_from_json(data["turns"]))
        case "pair":
            images = data.get("rejected_images"), data.get("chosen_images")
            return Pair(turns_from_json(data["prompt"]), data["chosen"], data["rejected"], *images)
        case "item":
            return Item(data["question"], data.get("answer", ""), tuple(data.get("choices", ())))
    raise ValueError(f"not a body: {data!r}")
