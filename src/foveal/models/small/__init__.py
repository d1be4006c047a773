"""The embedded model: a small real VLM, so that the first run needs no key, no GPU and no hub."""

from __future__ import annotations

from collections.abc import Sequence

from foveal.models.local import LocalBackend
from foveal.models.small.vlm import ABOUT, SmallVLM
from foveal.models.wire import Request

__all__ = ["ABOUT", "Small", "SmallVLM"]


class Small(LocalBackend):
    """The embedded model as a Backend; it can show its tokens to `foveal serve`."""

    def __init__(self, weak: bool = False) -> None:
        self._small = SmallVLM(weak=weak)
        super().__init__(lambda: self._small)

    @property
    def identity(self) -> str:
        """Name and digest of the weights."""
        return self._small.identity

    def prompt_ids(self, request: Request, generation: bool) -> list[int]:
        """Return the prompt's tokens; `generation` opens the assistant's turn."""
        tokenizer = self._small.tokenizer
        if generation or request.open_turn:
            return tokenizer.prompt(request.messages, request.open_turn and not generation)
        return tokenizer.prompt(request.messages, False)[:-1]

    def encode(self, text: str) -> list[int]:
        """Return a text's tokens."""
        return self._small.tokenizer.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens, special ones included."""
        return self._small.tokenizer.decode(ids, special=True)
