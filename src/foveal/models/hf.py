"""A model in this process, through transformers: any image-text-to-text model with a processor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import torch
import transformers

from foveal.errors import ModelFailed, ModelSetupError, RecordFailed
from foveal.models import reading
from foveal.models.dialect import answer_length
from foveal.models.hooking import Opening, cut, find_opening, hf_messages, prefix_of, rendered
from foveal.models.spec import ModelSpec
from foveal.models.template import Messages, template_file
from foveal.models.wire import Reply, Request
from foveal.picture import decode
from foveal.record import Image

BATCH = 8
TOPS = 20


@dataclass(slots=True)
class Asked:
    """A request that waits for its batch."""

    request: Request
    reply: asyncio.Future[Reply]

    @property
    def settings(self) -> bytes:
        """What requests of one batch must share."""
        what = [dict(self.request.sampling), self.request.choices, self.request.open_turn]
        return orjson.dumps(what, option=orjson.OPT_SORT_KEYS)


class HFBackend:
    """A transformers model. Requests that ask alike are answered together, in one thread beside the event loop.

    Args:
        path: a folder, or a name that transformers finds in its cache or on its hub.
        spec: revision, chat template, trust in code that comes with the model.
    """

    def __init__(self, path: str, spec: ModelSpec) -> None:
        self._path, self._spec = path, spec
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hf")
        self._waiting: list[Asked] = []
        self._worker: asyncio.Task[None] | None = None
        self._opening: Opening | None = None
        self._processor: Any = None
        self._model: Any = None
        self._given = template_file(Path(spec.chat_template)) if spec.chat_template else None

    @property
    def identity(self) -> str:
        """The model's path or name, and its revision."""
        return self._path + (f"@{self._spec.revision}" if self._spec.revision else "")

    @property
    def slots(self) -> int:
        """One batch being answered and one waiting."""
        return 2 * BATCH

    # --- opening and closing ---

    async def open(self, hooking: bool) -> None:
        """Load the model; find where its template leaves the user's turn open.

        Raises:
            ModelSetupError: there is no such model, or its template cannot hook.
        """
        await self._in_thread(self._load)
        try:
            self._opening = find_opening(self._render)
        except ModelSetupError:
            if hooking:
                raise

    def _load(self) -> None:
        if self._model is not None:
            return
        given: dict[str, Any] = {"trust_remote_code": self._spec.trust_remote_code}
        if self._spec.revision:
            given["revision"] = self._spec.revision
        try:
            self._processor = transformers.AutoProcessor.from_pretrained(self._path, **given)
            model = transformers.AutoModelForImageTextToText.from_pretrained(self._path, dtype="auto", **given)
        except (OSError, ValueError, KeyError, ImportError) as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ModelSetupError(f"transformers cannot load {self._path!r}: {first[:300]}") from error
        self._tokenizer.padding_side = "left"
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = model.to(device).eval()

    async def close(self) -> None:
        """Let the thread end."""
        if self._worker is not None:
            self._worker.cancel()
        self._thread.shutdown(wait=True, cancel_futures=True)

    @property
    def _tokenizer(self) -> Any:
        return self._processor.tokenizer

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # --- sending ---

    async def send(self, request: Request) -> Reply:
        """Answer one request, together with others that ask alike.

        Raises:
            ModelFailed: the model cannot take it.
        """
        asked = Asked(request, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await asked.reply

    async def _work(self) -> None:
        while self._waiting:
            batch = self._next()
            try:
                replies = await self._in_thread(lambda asked=batch: self._answer([a.request for a in asked]))  # type: ignore[misc]
            except Exception as error:  # whatever a model raises ends these requests, not the run
                _settle(batch, [_failed(error)] * len(batch))
            else:
                _settle(batch, replies)

    def _next(self) -> list[Asked]:
        """Take the most urgent request and those that ask like it."""
        self._waiting = [a for a in self._waiting if not a.reply.done()]
        self._waiting.sort(key=lambda a: a.request.priority)
        settings = self._waiting[0].settings if self._waiting else b""
        batch = [a for a in self._waiting if a.settings == settings][:BATCH]
        self._waiting = [a for a in self._waiting if a not in batch]
        return batch

    # --- in the thread ---

    def _answer(self, requests: Sequence[Request]) -> list[Reply]:
        if not requests:
            return []
        one = requests[0]
        inputs = self._inputs([self._prompt(r, True) for r in requests], [_pictures(r) for r in requests])
        torch.manual_seed(one.seed)
        with torch.inference_mode():
            out = self._model.generate(
                **inputs, **self._settings(one), output_logits=bool(one.choices), return_dict_in_generate=True
            )
        start = inputs["input_ids"].shape[1]
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        return [self._reply(r, out, i, start, int(n)) for i, (r, n) in enumerate(zip(requests, lengths, strict=True))]

    def _inputs(self, prompts: Sequence[str], pictures: Sequence[Sequence[Image]]) -> Any:
        shown = [[decode(p.data()) for p in some] for some in pictures]
        bos = self._tokenizer.bos_token
        given: dict[str, Any] = {"text": list(prompts), "padding": True, "return_tensors": "pt"}
        if bos and all(p.startswith(bos) for p in prompts):
            given["add_special_tokens"] = False  # the template has begun the text already
        if any(shown):
            given["images"] = shown
        return self._processor(**given).to(self._model.device)

    def _reply(self, request: Request, out: Any, row: int, start: int, tokens_in: int) -> Reply:
        ids = out.sequences[row, start:].tolist()
        ends = self._ends()
        length = next((i for i, t in enumerate(ids) if t in ends), len(ids))
        text = self._tokenizer.decode(ids[:length], skip_special_tokens=True)
        stops = (*(request.sampling.get("stop") or ()), *(self._stops() if request.open_turn else ()))
        shorter = cut(text, stops)
        finish = "stop" if length < len(ids) or shorter != text else "length"
        probs = reading.choice_probs(self._steps(out.logits, row, ids), request.choices) if request.choices else None
        return Reply(reading.plain(shorter), finish, tokens_in, min(length + 1, len(ids)), probs, self.identity)

    def _steps(self, logits: Sequence[Any], row: int, ids: Sequence[int]) -> list[tuple[str, dict[str, float]]]:
        """Return each token taken with its alternatives' probabilities, before guidance and temperature."""
        steps = []
        for logit, taken in zip(logits, ids, strict=False):
            p, tops = torch.softmax(logit[row].float(), -1).topk(TOPS)
            named = zip(self._tokenizer.batch_decode(tops.unsqueeze(-1)), p.tolist(), strict=True)
            alternatives: dict[str, float] = {}
            for token, share in named:
                alternatives[token] = alternatives.get(token, 0.0) + share
            steps.append((self._tokenizer.decode([taken]), alternatives))
        return steps

    # --- prompts and settings ---

    def _render(self, messages: Messages, generation: bool) -> str:
        if self._given is not None:
            return self._given(messages, generation)
        shown: str = self._processor.apply_chat_template(
            list(messages), add_generation_prompt=generation, tokenize=False
        )
        return shown

    def _prompt(self, request: Request, generation: bool) -> str:
        try:
            if request.open_turn:
                return prefix_of(self._render, request.messages)
            return rendered(self._render, hf_messages(request.messages), generation)
        except ModelSetupError as error:
            raise ModelFailed("prompt cannot be rendered", str(error)) from error

    def _stops(self) -> tuple[str, ...]:
        return self._opening.stops if self._opening else ()

    def _ends(self) -> set[int]:
        """Return the tokens that end an answer: the model's own, and what ends a user's turn if it is one token."""
        own = self._model.generation_config.eos_token_id
        ends = set(own if isinstance(own, list) else [own]) | {self._tokenizer.eos_token_id}
        vocabulary = self._tokenizer.get_added_vocab()
        return {e for e in ends if e is not None} | {vocabulary[s] for s in self._stops() if s in vocabulary}

    def _settings(self, request: Request) -> dict[str, Any]:
        """Return generate()'s arguments; those of the model's own generation config are overridden on purpose."""
        said = request.sampling
        warm = float(said.get("temperature") or 0.0)
        limit = int(said.get("max_tokens") or 1024)
        settings: dict[str, Any] = {
            "do_sample": warm > 0,
            "max_new_tokens": limit,
            "eos_token_id": sorted(self._ends()),
        }
        settings |= {
            "repetition_penalty": float(said.get("repetition_penalty") or 1.0),
            "pad_token_id": self._tokenizer.pad_token_id,
        }
        if said.get("min_tokens"):
            settings["min_new_tokens"] = int(said["min_tokens"])
        if warm > 0:
            settings |= {
                "temperature": warm,
                "top_p": float(said.get("top_p") or 1.0),
                "top_k": int(said.get("top_k") or 0),
            }
            settings |= {"min_p": float(said["min_p"])} if said.get("min_p") else {}
        else:
            settings |= {"temperature": 1.0, "top_p": 1.0, "top_k": 50}  # their defaults: unused, and not warned of
        if stop := [*(said.get("stop") or ()), *(self._stops() if request.open_turn else ())]:
            settings |= {"stop_strings": stop, "tokenizer": self._tokenizer}
        if request.choices:
            settings |= {"max_new_tokens": min(limit, answer_length(request.choices, True) + 1)}
            settings["prefix_allowed_tokens_fn"] = self._only(request.choices)
        return settings

    def _only(self, choices: Sequence[str]) -> Callable[[int, Any], list[int]]:
        """Return what tells generate() which tokens may follow so that one of the choices comes out."""
        ways = [self._tokenizer.encode(c, add_special_tokens=False) for c in choices]
        ends = sorted(self._ends())
        begun: dict[int, int] = {}

        def allowed(row: int, ids: Any) -> list[int]:
            start = begun.setdefault(row, len(ids))
            said = ids[start:].tolist()
            following = {w[len(said)] for w in ways if len(w) > len(said) and w[: len(said)] == said}
            return sorted(following) + (ends if said in ways or not following else [])

        return allowed

    # --- showing tokens (for `serve`) ---

    def prompt_ids(self, request: Request, generation: bool) -> list[int]:
        """Return the prompt's tokens as the template gives them, pictures as one placeholder each."""
        return self.encode(self._prompt(request, generation))

    def encode(self, text: str) -> list[int]:
        """Return a text's tokens."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens, special ones included."""
        text: str = self._tokenizer.decode(list(ids))
        return text


def _settle(batch: Sequence[Asked], results: Sequence[Reply | Exception]) -> None:
    for asked, result in zip(batch, results, strict=True):
        if asked.reply.done():
            continue
        if isinstance(result, Exception):
            asked.reply.set_exception(result)
        else:
            asked.reply.set_result(result)


def _failed(error: Exception) -> RecordFailed:
    if isinstance(error, RecordFailed):
        return error
    return ModelFailed("the model raised", f"{type(error).__name__}: {error}")


def _pictures(request: Request) -> list[Image]:
    return [p for m in request.messages for p in m.parts if isinstance(p, Image)]
