"""What passes between a Model and whoever answers: Message, Request, Reply, and the Backend that carries them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from foveal.record import Image, Role

SAMPLING = {
    "temperature", "top_p", "top_k", "min_p", "max_tokens", "min_tokens", "stop", "repetition_penalty",
    "frequency_penalty", "presence_penalty",
}  # fmt: skip
"""The canonical sampling names; a backend translates or leaves out those its server does not know."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message; its parts are text and images in the order shown to the model."""

    role: Role
    parts: tuple[str | Image, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model, in nobody's dialect.

    Attributes:
        messages: the conversation so far.
        open_turn: True leaves the last (user) message open: the model continues the user's turn (a hooking prompt).
        sampling: canonical names (see SAMPLING); `stop` is a list of strings.
        choices: the answer must be one of these words (short, distinct); the backend reports their probabilities
            in `Reply.probs` where it can.
        schema: a JSON schema the answer must fit.
        seed: for servers that take one; not part of what the request is.
        priority: smaller is sent first when the endpoint is busy; not part of what the request is.
    """

    messages: tuple[Message, ...]
    open_turn: bool = False
    sampling: Mapping[str, Any] = field(default_factory=dict)
    choices: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    seed: int = 0
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back.

    Attributes:
        text: the model's words, "" when it said nothing.
        finish: "stop", "length", "refusal", or the server's own word.
        probs: probability of each of the request's choices (sums to at most 1), None where the server gives none.
        model: the model's name as the server tells it.
    """

    text: str
    finish: str = "stop"
    tokens_in: int = 0
    tokens_out: int = 0
    probs: Mapping[str, float] | None = None
    model: str = ""


@runtime_checkable
class Backend(Protocol):
    """Whoever answers: an HTTP endpoint (or several), an in-process network, a script."""

    @property
    def identity(self) -> str:
        """Name and revision of the model that answers: part of what a call is. Never a URL."""

    @property
    def slots(self) -> int:
        """How many requests it can use at once, as it finds at present."""

    async def open(self, hooking: bool) -> None:
        """Make ready and check, before anything is paid; `hooking` asks for the open user turn to be tested.

        Raises:
            ModelSetupError: it is not there, or cannot hook though it is asked to.
        """

    async def send(self, request: Request) -> Reply:
        """Answer one request.

        Raises:
            ModelFailed: this request cannot be answered (after the backend's own retries).
            Unreachable: nobody answers any more.
        """

    async def close(self) -> None:
        """Let go of connections and threads."""
