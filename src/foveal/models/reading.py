"""What a server sent back, read as a Reply or as the Fault it is."""

from __future__ import annotations

import email.utils
import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import orjson

from foveal.models.wire import Reply, Request

Kind: TypeAlias = Literal["busy", "dead", "broken", "wrong", "barred"]
"""Too many requests; nobody there; may pass; asking again is no use; the key is not accepted or its money is spent."""
RAW_KEPT = 20_000


class Fault(Exception):
    """One exchange that went wrong.

    Attributes:
        cause: a short phrase, the same for all of its kind.
        detail: the server's own words, trimmed.
        wait: seconds the server asks to wait, None when it does not say.
        raw: what came back, trimmed.
    """

    def __init__(
        self, kind: Kind, cause: str, detail: str = "", wait: float | None = None, raw: str = "", status: int = 0
    ) -> None:
        super().__init__(cause)
        self.kind, self.cause, self.detail, self.wait, self.raw, self.status = kind, cause, detail, wait, raw, status


def load(raw: bytes) -> Any:
    """Return the JSON value; bytes that are not UTF-8 and lone surrogates become replacement characters.

    Raises:
        Fault: it is not JSON.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        pass
    words = raw.decode("utf-8", "replace")
    try:
        return json.loads(words, strict=False)
    except (ValueError, RecursionError):
        raise Fault("broken", "not JSON", raw=words[:RAW_KEPT]) from None


def plain(words: str) -> str:
    """Return the words without lone surrogates, which can be written nowhere."""
    return words.encode("utf-8", "replace").decode() if not words.isascii() else words


# --- refusals ------------------------------------------------------------------------------------------------------


def check(status: int, headers: Mapping[str, str], raw: bytes) -> None:
    """Do nothing for a good status.

    Raises:
        Fault: any other status, with the server's own words.
    """
    if status == 200:
        return
    detail = complaint(raw)
    wait = retry_after(headers)
    shown = raw[:RAW_KEPT].decode("utf-8", "replace")
    if status in (401, 402) or "insufficient_quota" in detail:
        raise Fault("barred", f"refused with {status}", detail, raw=shown, status=status)
    if status == 429 or (status in (503, 529) and wait is not None):
        raise Fault("busy", "rate limited" if status == 429 else f"server error {status}", detail, wait, shown, status)
    if status >= 500 or status in (408, 425):
        raise Fault("broken", f"server error {status}", detail, wait, shown, status)
    raise Fault("wrong", f"bad request {status}", detail, raw=shown, status=status)


def complaint(raw: bytes) -> str:
    """Return the server's own words about what is wrong, in at most 300 characters."""
    try:
        said = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return " ".join(raw[:300].decode("utf-8", "replace").split())
    for key in ("error", "message", "detail"):
        if isinstance(said, dict) and said.get(key):
            inner = said[key]
            code = inner.get("code") if isinstance(inner, dict) else None
            words = inner.get("message", inner) if isinstance(inner, dict) else inner
            words = words if isinstance(words, str) else orjson.dumps(words).decode()
            return " ".join(f"{words} ({code})".split() if isinstance(code, str) else words.split())[:300]
    return " ".join(raw[:300].decode("utf-8", "replace").split())


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds a server asks to wait: a number of seconds, or a date."""
    if (ms := headers.get("retry-after-ms", "")).replace(".", "", 1).isdigit():
        return float(ms) / 1000
    said = headers.get("Retry-After", "").strip()
    try:
        seconds = float(said)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(said).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


# --- replies -------------------------------------------------------------------------------------------------------


def reply(raw: bytes, request: Request) -> Reply:
    """Read a chat completion.

    Raises:
        Fault: it holds no reply.
    """
    data = load(raw)
    if isinstance(data, dict) and data.get("error"):
        code = data["error"].get("code") if isinstance(data["error"], dict) else None
        check(code if isinstance(code, int) and 400 <= code < 600 else 500, {}, raw)
    try:
        choice = data["choices"][0]
        message = choice["message"]
        words, finish = _words(message, request.open_turn), choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise Fault("broken", "empty reply", raw=raw[:RAW_KEPT].decode("utf-8", "replace")) from None
    if finish == "content_filter" or message.get("refusal"):
        words, finish = words or message.get("refusal") or "", "refusal"
    elif words is None:
        raise Fault("broken", "empty reply", _why_empty(message, finish), raw=raw[:RAW_KEPT].decode("utf-8", "replace"))
    usage = data.get("usage") or {}
    return Reply(
        plain(words),
        finish if isinstance(finish, str) else "stop",
        int(usage.get("prompt_tokens") or 0),
        int(usage.get("completion_tokens") or 0),
        _probs(choice.get("logprobs"), request.choices) if request.choices else None,
        str(data.get("model") or ""),
    )


def _words(message: Mapping[str, Any], open_turn: bool) -> str | None:
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(p.get("text") or "" for p in content if isinstance(p, dict))
    if content is None and open_turn:
        # A reasoning parser takes the words of a user's turn, which close no thought, for a thought.
        content = message.get("reasoning_content") or message.get("reasoning")
    return content if isinstance(content, str) else None


def _why_empty(message: Mapping[str, Any], finish: Any) -> str:
    if message.get("reasoning_content") or message.get("reasoning"):
        return f"only reasoning, no answer (finish {finish}): allow more max_tokens or turn thinking off"
    return f"no content (finish {finish})"


# --- probabilities -------------------------------------------------------------------------------------------------


def _probs(logprobs: Any, choices: Sequence[str]) -> dict[str, float] | None:
    try:
        steps = [(s["token"], _step(s)) for s in logprobs["content"]]
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return choice_probs(steps, choices)


def _step(step: Mapping[str, Any]) -> dict[str, float]:
    tops = {t["token"]: math.exp(min(0.0, t["logprob"])) for t in step.get("top_logprobs") or ()}
    return {step["token"]: math.exp(min(0.0, step["logprob"])), **tops}


Steps: TypeAlias = Sequence[tuple[str, Mapping[str, float]]]
AROUND = "\"'`*.,:;!()[] \n\t▁Ġġ"
"""What may stand around a word without being part of it, markers of word starts in raw tokens included."""


def choice_probs(steps: Steps, choices: Sequence[str]) -> dict[str, float] | None:
    """Return the probability of each choice from the first tokens' alternatives, None when there are none.

    A token that begins one choice only counts for it, whatever its spaces and case; where a token begins several ("1"
    of "1" and "10") and was the one taken, the next token's alternatives decide.

    Args:
        steps: for each token of the answer, the token taken and the probability of each alternative.
    """
    start = next((i for i, (token, _) in enumerate(steps) if token.strip(AROUND)), None)
    if start is None:
        return None
    probs = dict.fromkeys(choices, 0.0)
    _spread(steps[start:], "", 1.0, {c.strip().casefold(): c for c in choices}, probs)
    return probs if any(probs.values()) else None


def _spread(steps: Steps, said: str, mass: float, choices: Mapping[str, str], probs: dict[str, float]) -> None:
    taken, alternatives = steps[0]
    for token, p in alternatives.items():
        word = (said + token.casefold()).lstrip(AROUND)
        fitting = _begun(word, choices) or _begun(word.rstrip(AROUND), choices)
        if len(fitting) == 1 and word.rstrip(AROUND) != said:
            probs[choices[fitting[0]]] += mass * p
        elif len(fitting) > 1 and token == taken and len(steps) > 1:
            _spread(steps[1:], word, mass * p, choices, probs)
        elif not fitting and said in choices:
            probs[choices[said]] += mass * p  # it ended there, or went on with other words


def _begun(word: str, choices: Mapping[str, str]) -> list[str]:
    return [c for c in choices if c.startswith(word)] if word else []
