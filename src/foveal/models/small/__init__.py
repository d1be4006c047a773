"""The embedded model: a small real VLM, so that the first run needs no key, no GPU and no hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from foveal.errors import ModelSetupError
from foveal.models.local import LocalBackend
from foveal.models.small.tower import Tower
from foveal.models.small.vlm import ABOUT, SmallVLM
from foveal.models.wire import Request

__all__ = ["ABOUT", "Small", "SmallVLM"]


def weights_in(folder: Path) -> Path:
    """Return the folder of the embedded model's weights: the one named, or `small` inside it.

    Raises:
        ModelSetupError: neither holds them.
    """
    for place in (folder / "small", folder):
        if (place / "model.safetensors").is_file() and (place / "tokenizer.json").is_file():
            return place
    raise ModelSetupError(f"small:{folder} holds no weights of the embedded model (model.safetensors, tokenizer.json)")


class Small(LocalBackend):
    """The embedded model as a Backend; it can show its tokens to `foveal serve`.

    Args:
        folder: other weights than the packaged ones: what `foveal train` wrote, or its `small` folder.
        weak: the packaged early checkpoint, which stands for a model before alignment.

    Raises:
        ModelSetupError: there are none in that folder.
    """

    def __init__(self, folder: Path | None = None, weak: bool = False) -> None:
        try:
            self._small = SmallVLM(None if folder is None else weights_in(folder), weak=weak)
        except KeyError as error:  # weights, but of another model: without the note of their shape
            raise ModelSetupError(f"{folder} holds weights of another model than the embedded one") from error
        super().__init__(lambda: self._small)

    def see_with(self, tower: Tower) -> None:
        """Use a vision tower that several of these share, so that a picture is encoded once for all of them."""
        self._small.see_with(tower)

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
