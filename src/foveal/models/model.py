"""Model: one verb, `ask`. Answers are remembered, read as the type asked for, asked again where they cannot be."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import time
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal, TypeVar, overload

import orjson
import pydantic

from foveal.errors import ModelFailed, RecipeError, nearest
from foveal.models.wire import SAMPLING, Backend, Message, Reply, Request
from foveal.record import Chat, Content, Image, Turn, placed
from foveal.store import Call, Recording, recording

T = TypeVar("T")


class Text(str):
    """A model's words, and why it stopped ("stop", "length", ...)."""

    __slots__ = ("finish",)
    finish: str


class Choice(str):
    """One of the words offered; `p` is its probability where the server told it, else None."""

    __slots__ = ("p",)
    p: float | None


class Score(float):
    """A score; `read` tells how it was got: "logprobs" (the expected value) or "parsed"."""

    __slots__ = ("read",)
    read: str


@dataclass(frozen=True)
class Scale:
    """Ask for a whole number from `low` to `high`: a Score, the expected value where probabilities are given."""

    low: int
    high: int

    def __post_init__(self) -> None:
        """Check the ends.

        Raises:
            RecipeError: they are not two rising numbers from 0 to 999.
        """
        if not 0 <= self.low < self.high <= 999:
            raise RecipeError(f"Scale({self.low}, {self.high}): two rising whole numbers from 0 to 999 are needed")


class BadShape(ValueError):
    """The text does not hold what was asked for."""


# --- reading -------------------------------------------------------------------------------------------------------


_NUMBER = r"(?<![\d.])(\d{1,6}(?:\.\d{1,17})?)(?!\.?\d)"
# Chinese, Japanese and Korean put no space between their words and a number or a Latin word.
_LETTER = r"[^\W぀-ヿ㐀-鿿가-힯]"
_MARKS = r"[\s*_`\"'.]{0,9}"


def read_number(text: str, low: int, high: int) -> float:
    """Read one number of a scale out of free text.

    Raises:
        BadShape: there is none, or several that contradict each other.
    """
    scale = rf"(?<!\d){low}[^\S\n]{{0,9}}(?:to|and|-|–|~|到|至)[^\S\n]{{0,9}}{high}(?!\d)"
    text = re.sub(scale, " ", _ends(text), flags=re.IGNORECASE)
    for pattern in (
        rf"\[\[\s{{0,9}}{_NUMBER}\s{{0,9}}\]\]",
        rf"\A{_MARKS}{_NUMBER}{_MARKS}(?:\n|\Z)",
        rf"{_NUMBER}\s{{0,9}}(?:/|out of)\s{{0,9}}{high}(?!\d)",
        rf"(?:score|rating)\W{{1,9}}(?:is\W{{1,9}})?{_NUMBER}",
    ):
        if found := re.findall(pattern, text, re.IGNORECASE):
            return _within(float(found[-1]), low, high)
    numbers = [float(n) for n in re.findall(rf"(?<!{_LETTER}){_NUMBER}(?!{_LETTER})", text)]
    fitting = [n for n in numbers if low <= n <= high]
    if not fitting or (len(set(fitting)) > 1 and len(text) < 24):
        raise BadShape(f"no single number from {low} to {high}")
    return fitting[-1]


def _ends(text: str, most: int = 4000) -> str:
    """Return a text, or the beginning and end of one that is far too long: a verdict stands at either."""
    return text if len(text) <= 2 * most else f"{text[:most]}\n{text[-most:]}"


def _within(number: float, low: int, high: int) -> float:
    if not low <= number <= high:
        raise BadShape(f"{number:g} is outside {low} to {high}")
    return number


def read_choice(text: str, choices: Sequence[str]) -> str:
    """Read one of the choices, as a whole word, out of free text.

    Raises:
        BadShape: none is named, or several.
    """
    plain = _ends(text).strip().strip("\"'`*.:").casefold()
    found = [c for c in choices if re.search(_whole(c.casefold()), plain)]
    exact = [c for c in choices if c.casefold() == plain]
    longest = [c for c in found if not any(c != d and c.casefold() in d.casefold() for d in found)]
    if len(picked := exact or longest) != 1:
        raise BadShape(f"names {len(picked)} of the choices {', '.join(choices)}")
    return picked[0]


def _whole(word: str) -> str:
    # "这是caption。" names a caption; "不是" does not name "是".
    border = _LETTER if word.isascii() else r"\w"
    return rf"(?<!{border}){re.escape(word)}(?!{border})"


_DECODER = json.JSONDecoder(strict=False)
_STARTS = 64
"""How many brackets of a text are tried as the beginning of its value: the work is bounded for any text."""


def read_json(text: str) -> Any:
    """Read the JSON value in a text: bare, fenced, or with words around it; trailing commas are forgiven.

    Where the words hold several, the longest is meant. Half a surrogate pair is no character, hence no JSON.

    Raises:
        BadShape: there is none.
    """
    with suppress(orjson.JSONDecodeError):
        return orjson.loads(text)
    fenced = re.findall(r"```(?:json)?(.*?)```", text, re.DOTALL)[:8]
    mended = _without_trailing_commas(text)
    for body in (text, mended, *fenced, *map(_without_trailing_commas, fenced)):
        with suppress(ValueError, RecursionError):
            return _sound(json.loads(body, strict=False))
    found = [*_values(text), *_values(mended)]
    with suppress(ValueError, RecursionError):
        return _sound(max(found, key=lambda f: f[0])[1])
    raise BadShape("no JSON")


def _without_trailing_commas(text: str) -> str:
    return re.sub(r",(\s*[}\]])", r"\1", text)


def _values(text: str) -> Iterator[tuple[int, Any]]:
    """Yield the length and value of each array or object in a text, those inside another left out."""
    after = 0
    for start in islice((m.start() for m in re.finditer(r"[\[{]", text)), _STARTS):
        if start >= after:
            with suppress(ValueError, RecursionError):
                value, after = _DECODER.raw_decode(text, start)
                yield after - start, value


def _sound(value: Any) -> Any:
    json.dumps(value, ensure_ascii=False).encode()
    return value


def expected(probs: Mapping[str, float], scale: Scale) -> float | None:
    """Return the expected score under the probabilities, None when they cover less than half."""
    marks = {n: probs.get(str(n), 0.0) for n in range(scale.low, scale.high + 1)}
    mass = sum(marks.values())
    return sum(n * p for n, p in marks.items()) / mass if mass >= 0.5 else None


@dataclass(frozen=True)
class Shape:
    """An answer type: what is asked of the server, and how its reply is read."""

    kind: str
    choices: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    scale: Scale | None = None
    adapter: pydantic.TypeAdapter[Any] | None = field(default=None, compare=False)

    def read(self, reply: Reply) -> Any:
        """Read a reply.

        Raises:
            BadShape: it does not hold what was asked for.
        """
        match self.kind:
            case "text":
                said = Text(reply.text)
                said.finish = reply.finish
                return said
            case "choice":
                return self._choice(reply)
            case "scale":
                return self._score(reply)
        assert self.adapter is not None
        try:
            return self.adapter.validate_python(read_json(reply.text))
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            raise BadShape(f"{'.'.join(map(str, first['loc'])) or 'value'}: {first['msg']}") from error

    def _choice(self, reply: Reply) -> Choice:
        probs = reply.probs
        if probs and sum(probs.values()) >= 0.5:
            best = max(self.choices, key=lambda c: probs.get(c, 0.0))
            choice = Choice(best)
            choice.p = probs.get(best, 0.0) / sum(probs.values())
            return choice
        choice = Choice(read_choice(reply.text, self.choices))
        choice.p = None
        return choice

    def _score(self, reply: Reply) -> Score:
        assert self.scale is not None
        by_probs = expected(reply.probs, self.scale) if reply.probs else None
        score = Score(read_number(reply.text, self.scale.low, self.scale.high) if by_probs is None else by_probs)
        score.read = "parsed" if by_probs is None else "logprobs"
        return score


def shape_of(out: Any) -> Shape:
    """Return the shape of an answer type: str, Literal[...], Scale, or any type that pydantic can validate.

    Raises:
        RecipeError: it is none of these.
    """
    try:
        return _shape(out)
    except TypeError:  # not hashable
        return _shape.__wrapped__(out)


@functools.lru_cache(maxsize=256)
def _shape(out: Any) -> Shape:
    if out is str:
        return Shape("text")
    if isinstance(out, Scale):
        return Shape("scale", tuple(str(n) for n in range(out.low, out.high + 1)), scale=out)
    if typing.get_origin(out) is Literal:
        return Shape("choice", tuple(str(a) for a in typing.get_args(out)))
    if isinstance(out, type | types.GenericAlias) or typing.get_origin(out) is not None:
        with suppress(pydantic.errors.PydanticUserError):
            adapter = pydantic.TypeAdapter[Any](out)
            return Shape("json", schema=adapter.json_schema(), adapter=adapter)
    raise RecipeError(f"out={out!r} is not an answer type: use str, Literal[...], Scale(low, high) or a pydantic type")


# --- asking --------------------------------------------------------------------------------------------------------


def request_key(identity: str, request: Request) -> tuple[bytes, str]:
    """Return a request's digest and JSON: model, words, pictures, sampling, answer type; never how it is run."""
    said = [[m.role, *(p if isinstance(p, str) else {"image": p.digest} for p in m.parts)] for m in request.messages]
    what = {"model": identity, "messages": said, "open": request.open_turn, "sampling": dict(request.sampling)}
    if request.choices:
        what["choices"] = request.choices
    if request.schema:
        what["schema"] = request.schema
    raw = orjson.dumps(what, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(raw, digest_size=16).digest(), raw.decode()


def _seed(digest: bytes, record: str, take: int) -> int:
    """Return 31 bits for servers that take a seed: the same call always gets the same."""
    return int.from_bytes(hashlib.blake2b(digest + f"{record}/{take}".encode(), digest_size=4).digest(), "big") >> 1


def _reply_json(reply: Reply) -> str:
    what: dict[str, Any] = {"text": reply.text, "finish": reply.finish}
    if reply.probs is not None:
        what["probs"] = {k: round(p, 6) for k, p in reply.probs.items()}
    return orjson.dumps(what).decode()


def _reply_from(text: str) -> Reply:
    what = orjson.loads(text)
    return Reply(what["text"], what["finish"], probs=what.get("probs"))


@dataclass
class Model:
    """Whoever plays a role.

    Attributes:
        backend: who answers.
        role: the name it goes by in a method's signature.
        sampling: defaults under what the method asks for.
        price: (USD per million prompt tokens, per million completion tokens), None when not known.
        tries: how often a reply of the wrong shape is asked for again, the first time included.
    """

    backend: Backend
    role: str = "model"
    sampling: Mapping[str, Any] = field(default_factory=dict)
    price: tuple[float, float] | None = None
    tries: int = 3

    @overload
    async def ask(
        self,
        prompt: Content | None,
        images: Sequence[Image] = (),
        out: type[str] = str,
        *,
        after: Chat | None = None,
        **sampling: Any,
    ) -> Text: ...
    @overload
    async def ask(
        self,
        prompt: Content | None,
        images: Sequence[Image] = (),
        *,
        out: Scale,
        after: Chat | None = None,
        **sampling: Any,
    ) -> Score: ...
    @overload
    async def ask(
        self,
        prompt: Content | None,
        images: Sequence[Image] = (),
        *,
        out: type[T],
        after: Chat | None = None,
        **sampling: Any,
    ) -> T: ...
    @overload
    async def ask(
        self,
        prompt: Content | None,
        images: Sequence[Image] = (),
        *,
        out: Any,
        after: Chat | None = None,
        **sampling: Any,
    ) -> Any: ...
    async def ask(
        self,
        prompt: Content | None,
        images: Sequence[Image] = (),
        out: Any = str,
        *,
        after: Chat | None = None,
        **sampling: Any,
    ) -> Any:
        """Ask, and read the answer as `out`.

        Args:
            prompt: the user's words, or words and image positions in order; None leaves the user's turn open for the
                model to continue (a hooking prompt).
            images: shown first in the first user turn (or where the turns of `after` place them).
            out: str, Literal[...] (one of these words), Scale(low, high) (a number), or a pydantic type (JSON).
            after: a conversation that this question follows.
            **sampling: temperature (default 0), top_p, top_k, min_p, max_tokens (default 1024), min_tokens, stop,
                repetition_penalty, frequency_penalty, presence_penalty.

        Raises:
            ModelFailed: no reply, or none that holds what was asked for.
        """
        shape = shape_of(out)
        request = self._request(prompt, images, after, shape, sampling)
        name = getattr(prompt, "name", "") or ("hook" if prompt is None else "")
        for attempt in range(self.tries):
            reply = await self._answer(self._warmer(request, attempt), name)
            try:
                if reply.finish == "refusal":
                    raise BadShape("the model refused")
                if not reply.text.strip() and not reply.probs and not request.open_turn:
                    raise BadShape("the reply is empty")
                return shape.read(reply)
            except BadShape as error:
                problem = str(error)
        cause = {"the model refused": "refused", "the reply is empty": "empty reply"}.get(problem, "unusable reply")
        raise ModelFailed(cause, f"{self.role} {name or 'call'}, {self.tries} tries: {problem}", raw=reply.text)

    def _request(
        self,
        prompt: Content | None,
        images: Sequence[Image],
        after: Chat | None,
        shape: Shape,
        sampling: Mapping[str, Any],
    ) -> Request:
        for given in sampling:
            if given not in SAMPLING:
                raise RecipeError(f"ask() knows no sampling {given!r}{nearest(given, SAMPLING)}")
        turns = list(after.turns) if after else []
        turns.append(Turn("user", prompt or ""))
        messages = tuple(_message(t, images) for t in placed(turns, len(images)))
        settings = {"temperature": 0.0, "max_tokens": 1024, **self.sampling, **sampling}
        return Request(messages, prompt is None, settings, shape.choices, shape.schema)

    @staticmethod
    def _warmer(request: Request, attempt: int) -> Request:
        # The same greedy request would bring the same unusable reply.
        if attempt == 0:
            return request
        warm = max(float(request.sampling.get("temperature") or 0.0), 0.4 * attempt)
        return replace(request, sampling={**request.sampling, "temperature": warm})

    async def _answer(self, request: Request, name: str) -> Reply:
        now = recording.get()
        if now is None:
            return await self.backend.send(request)
        digest, asked = request_key(self.backend.identity, request)
        take = now.takes[digest]
        now.takes[digest] += 1
        if (known := now.remembered.get((digest, take))) is not None:
            now.meter.recalled(now.step, self.role)
            return _reply_from(known)
        began = time.time()
        reply = await self._pay(now, request, _seed(digest, now.record, take))
        cost = self.cost(reply.tokens_in, reply.tokens_out)
        now.meter.paid(now.step, self.role, reply.tokens_in, reply.tokens_out, cost)
        key = (now.record, digest, take, now.step, self.role, self.backend.identity, name)
        spent = (reply.tokens_in, reply.tokens_out, cost, time.time() - began, began)
        now.store.remember(Call(*key, asked, _reply_json(reply), *spent))
        return reply

    async def _pay(self, now: Recording, request: Request, seed: int) -> Reply:
        now.meter.admit()
        how = (request.messages, request.open_turn, request.sampling, request.choices, request.schema)
        try:
            return await self.backend.send(Request(*how, seed, now.priority))
        finally:
            now.meter.in_flight -= 1

    def cost(self, tokens_in: int, tokens_out: int) -> float | None:
        """Return the price of a call in USD, None when no price is known."""
        return None if self.price is None else (tokens_in * self.price[0] + tokens_out * self.price[1]) / 1e6


def _message(turn: Turn, images: Sequence[Image]) -> Message:
    parts = turn.content if isinstance(turn.content, tuple) else (turn.content,)
    return Message(turn.role, tuple(images[p] if isinstance(p, int) else p for p in parts if p != ""))
