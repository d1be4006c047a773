"""The embedded model as an engine: requests in, replies out, in batches."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from foveal.models.small.decoder import Array, Decoder, Memory, softmax
from foveal.models.small.tokenizer import END, IMAGE, IMAGE_TOKENS, USER, Tokenizer, render
from foveal.models.small.tower import Tower
from foveal.models.wire import Message, Reply, Request
from foveal.record import Image

ABOUT = (
    "The embedded model is small: it knows about 130 kinds of objects in simple pictures and is often wrong about real "
    "photographs; point --model at a real one for real data."
)
REMEMBERED = 64
LONGEST = 512
"""Tokens of prompt and answer together that it was made for."""


@dataclass(slots=True)
class Turn:
    """One request while it is being answered."""

    request: Request
    rng: np.random.Generator
    tokens_in: int
    room: int
    ids: list[int] = field(default_factory=list)
    finish: str = ""
    probs: dict[str, float] | None = None
    text: str | None = None

    def option(self, name: str, default: float) -> float:
        """Return a sampling option."""
        value = self.request.sampling.get(name)
        return default if value is None else float(value)


class SmallVLM:
    """The embedded model. Not thread-safe: one thread calls it, as `LocalBackend` does."""

    def __init__(
        self, weights: Path | None = None, threads: int = 0, tower: Tower | None = None, weak: bool = False
    ) -> None:
        """Read the weights.

        Args:
            weights: a folder with `model.safetensors` and `tokenizer.json`; None for those that come with foveal.
            threads: of the tower; 0 leaves the number to onnxruntime.
            tower: stands in for the tower.
            weak: read `weak.safetensors`, an early checkpoint of the same training, instead.
        """
        folder = weights or Path(str(resources.files("foveal.models.small")))
        file = folder / ("weak.safetensors" if weak else "model.safetensors")
        self.tokenizer = Tokenizer(folder / "tokenizer.json")
        self.decoder = Decoder(file)
        digest = hashlib.sha256(file.read_bytes() + (folder / "tokenizer.json").read_bytes())
        self.identity = f"foveal-small{'-weak' if weak else ''}@{digest.hexdigest()[:12]}"
        self._threads = threads
        self._tower = tower
        self._prefixes: OrderedDict[str, Memory] = OrderedDict()

    @property
    def tower(self) -> Tower:
        """The vision tower, fetched and opened when the first picture comes."""
        if self._tower is None:
            self._tower = Tower(self._threads)
        return self._tower

    def see_with(self, tower: Tower) -> None:
        """Use this vision tower instead of one of its own."""
        self._tower = tower

    def render(self, messages: Sequence[Message], open_turn: bool = False) -> str:
        """Return the chat template's text for messages; `open_turn` leaves the last turn open."""
        return render(messages, open_turn)

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """Answer requests together. A request's answer does not depend on the others in the batch.

        Raises:
            ImageError: a picture of one of them cannot be read.
        """
        images = {i.digest: i for r in requests for m in r.messages for i in m.parts if isinstance(i, Image)}
        features = self._features(list(images.values()))
        turns, memories, logits = [], [], []
        for request in requests:
            turn, memory, first = self._begin(request, features)
            turns.append(turn)
            memories.append(memory)
            logits.append(first)
        self._continue(turns, memories, np.concatenate(logits)) if turns else None
        return [self._reply(turn) for turn in turns]

    def _features(self, images: Sequence[Image]) -> dict[str, Array]:
        if not images:
            return {}
        states = self.tower.features(images)
        tokens = self.decoder.project(np.stack(states))
        return {image.digest: t for image, t in zip(images, tokens, strict=True)}

    def _begin(self, request: Request, features: Mapping[str, Array]) -> tuple[Turn, Memory, Array]:
        """Read a request's prompt; what all requests about one picture share is read once and remembered."""
        shown = [p.digest for m in request.messages for p in m.parts if isinstance(p, Image)]
        ids = self.tokenizer.prompt(request.messages, request.open_turn)
        ids = self._shortened(ids)
        embedded = self.decoder.table[ids].copy()
        at = np.flatnonzero(np.array(ids) == self.tokenizer.ids[IMAGE])
        if len(at):
            embedded[at] = np.concatenate([features[d] for d in shown])[: len(at)]
        known = self._prefix(ids, shown, embedded)
        turn = Turn(request, self._rng(request, ids, shown), len(ids), self._room(request, len(ids)))
        memory = self.decoder.joined([known], len(ids)) if known else self.decoder.empty(1, len(ids))
        rest = embedded[int(memory.length[0]) :]
        if not len(rest):  # an open turn right after the picture: its last token is read again for its logits
            memory.length = memory.length - 1
            rest = embedded[-1:]
        return turn, memory, self.decoder.read(rest[None], memory)

    def _prefix(self, ids: list[int], shown: list[str], embedded: Array) -> Memory | None:
        """Return the memory of "<|user|> and the picture", which most requests about a picture begin with."""
        n = 1 + IMAGE_TOKENS
        if not shown or ids[0] != self.tokenizer.ids[USER] or ids[1:n].count(self.tokenizer.ids[IMAGE]) != IMAGE_TOKENS:
            return None
        if shown[0] not in self._prefixes:
            memory = self.decoder.empty(1, n)
            self.decoder.read(embedded[None, :n], memory)
            self._prefixes[shown[0]] = memory
        self._prefixes.move_to_end(shown[0])
        while len(self._prefixes) > REMEMBERED:
            self._prefixes.popitem(last=False)
        return self._prefixes[shown[0]]

    def _shortened(self, ids: list[int]) -> list[int]:
        """Cut the middle out of a prompt far beyond what the model was made for; it would not understand it anyway."""
        if len(ids) <= LONGEST:
            return ids
        return ids[: LONGEST // 2] + ids[len(ids) - LONGEST // 2 :]

    def _room(self, request: Request, used: int) -> int:
        wanted = request.sampling.get("max_tokens")
        return max(1, min(LONGEST if wanted is None else int(wanted), LONGEST + 128 - used))

    def _rng(self, request: Request, ids: list[int], shown: list[str]) -> np.random.Generator:
        """Return the generator of a request: its seed and content decide, not its place in a batch."""
        told = f"{request.seed} {ids} {shown} {sorted(request.sampling.items())!r}"
        return np.random.default_rng(int.from_bytes(hashlib.sha256(told.encode()).digest()[:8], "big"))

    def _continue(self, turns: list[Turn], memories: list[Memory], logits: Array) -> None:
        """Write all turns to their end, one token each at a time."""
        for turn, row in zip(turns, logits, strict=True):
            if turn.request.choices:
                self._choose(turn, row)
        live = [i for i, turn in enumerate(turns) if not turn.finish]
        if not live:
            return
        memory = self.decoder.joined([memories[i] for i in live], max(turns[i].room for i in live))
        logits = logits[live]
        while live:
            for i, row in zip(live, logits, strict=True):
                self._write(turns[i], row)
            keep = [k for k, i in enumerate(live) if not turns[i].finish]
            if len(keep) < len(live):
                memory, live = memory.rows(keep), [live[k] for k in keep]
            if live:
                last = np.array([turns[i].ids[-1] for i in live])
                logits = self.decoder.read(self.decoder.table[last][:, None], memory)

    def _choose(self, turn: Turn, logits: Array) -> None:
        """Answer with one of the request's choices, by the probability of each one's first token."""
        probs = softmax(
            logits / max(turn.option("temperature", 1.0), 1e-3) if turn.option("temperature", 0) > 0 else logits
        )
        heads = [self.tokenizer.encode(choice)[0] for choice in turn.request.choices]
        shared = {h: heads.count(h) for h in heads}  # choices that begin alike share what their beginning gets
        given = {c: float(probs[h]) / shared[h] for c, h in zip(turn.request.choices, heads, strict=True)}
        turn.probs, turn.finish = given, "stop"
        turn.text = max(given, key=lambda c: given[c])
        if turn.option("temperature", 0) > 0:
            weights = np.array(list(given.values()), dtype=np.float64) + 1e-12
            turn.text = str(turn.rng.choice(list(given), p=weights / weights.sum()))

    def _write(self, turn: Turn, logits: Array) -> None:
        """Add one token to a turn, or end it."""
        token = self._sample(turn, logits)
        if token == self.tokenizer.ids[END]:
            turn.finish = "stop"
            return
        turn.ids.append(token)
        stops = turn.request.sampling.get("stop") or ()
        if stops:
            text = self.tokenizer.decode(turn.ids)
            cut = min((text.find(s) for s in stops if s and s in text), default=-1)
            if cut >= 0:
                turn.text, turn.finish = text[:cut], "stop"
        if not turn.finish and len(turn.ids) >= turn.room:
            turn.finish = "length"

    def _sample(self, turn: Turn, logits: Array) -> int:
        x = logits.astype(np.float64)
        for name, i in self.tokenizer.ids.items():
            if name != END or len(turn.ids) < turn.option("min_tokens", 0):
                x[i] = -np.inf
        penalise(x, turn)
        temperature = turn.option("temperature", 0)
        if temperature <= 0:
            return int(x.argmax())
        x = x / temperature
        top_k = int(turn.option("top_k", 0))
        if 0 < top_k < len(x):
            x[x < np.partition(x, -top_k)[-top_k]] = -np.inf
        p = np.exp(x - x.max())
        p /= p.sum()
        p[p < turn.option("min_p", 0) * p.max()] = 0
        order = np.argsort(-p, kind="stable")
        before = np.cumsum(p[order]) - p[order]
        p[order[before > turn.option("top_p", 1.0)]] = 0
        return int(turn.rng.choice(len(p), p=p / p.sum()))

    def _reply(self, turn: Turn) -> Reply:
        text = self.tokenizer.decode(turn.ids) if turn.text is None else turn.text
        return Reply(text.strip(), turn.finish, turn.tokens_in, max(1, len(turn.ids)), turn.probs, self.identity)


def penalise(logits: np.ndarray[Any, np.dtype[np.float64]], turn: Turn) -> None:
    """Make what was written already less likely, in place, as the usual three penalties do."""
    repetition, frequency, presence = (
        turn.option(name, default)
        for name, default in (("repetition_penalty", 1.0), ("frequency_penalty", 0.0), ("presence_penalty", 0.0))
    )
    if (repetition, frequency, presence) == (1.0, 0.0, 0.0) or not turn.ids:
        return
    used, n = np.unique(turn.ids, return_counts=True)
    logits[used] = np.where(logits[used] > 0, logits[used] / repetition, logits[used] * repetition)
    logits[used] -= frequency * n + presence
