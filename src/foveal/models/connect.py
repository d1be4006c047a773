"""From a user's words to whoever answers: `connect`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pydantic

from foveal.errors import MissingExtra, ModelSetupError
from foveal.models.openai import OpenAIBackend
from foveal.models.scripted import Scripted
from foveal.models.spec import ModelSpec, Price
from foveal.models.wire import Backend

__all__ = ["ModelSpec", "Price", "connect", "spec_of"]


def connect(spec: ModelSpec | str | Mapping[str, object]) -> Backend:
    """Return the backend a spec, or a shorthand, names. Nothing is opened yet.

    Args:
        spec: a ModelSpec, or "small" (comes with foveal), "small:weak" (an early checkpoint of it, for experiments that
            want a model before alignment), "small:<folder>" (trained further by `foveal train`), "hf:<path or hub id>",
            "http(s)://...", "scripted:<file>", "oracle:<folder of scenes>".

    Raises:
        ModelSetupError: it names nobody.
        MissingExtra: what it names is not installed.
    """
    spec = spec_of(spec)
    if spec.urls:
        return OpenAIBackend(spec, _encoder(spec.max_pixels))
    kind, _, rest = spec.model.partition(":")
    match kind:
        case "small":
            return _small(rest)
        case "hf" if rest:
            return _hf(spec, rest)
        case "scripted" if rest:
            return Scripted.load(Path(rest))
        case "oracle" if rest:
            return _oracle(rest)
    raise ModelSetupError(
        f"model {spec.model!r} needs a url; without one: small, hf:<path or hub id>, scripted:<file>, oracle:<scenes>"
    )


def spec_of(said: ModelSpec | str | Mapping[str, object]) -> ModelSpec:
    """Return what a user said about a model as a checked spec.

    Raises:
        ModelSetupError: a field that does not exist, or a value that does not fit, in one sentence without the value.
    """
    if isinstance(said, ModelSpec):
        return said
    if isinstance(said, str):
        return ModelSpec(url=said) if said.startswith(("http://", "https://")) else ModelSpec(model=said)
    try:
        return ModelSpec.model_validate(said)
    except pydantic.ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise ModelSetupError(f"model settings: {wrong}") from None


def _encoder(max_pixels: int | None) -> Callable[[bytes], tuple[str, bytes]]:
    from foveal.picture import encode

    return encode if max_pixels is None else partial(encode, max_pixels=max_pixels)


def _oracle(folder: str) -> Backend:
    from foveal.models.oracle import Oracle

    cut = re.match(r"(?P<scenes>.+?)(?P<mark>[+?])(?P<writer>(?:small|hf|scripted|https?)\b.*)", folder)
    if not cut or Path(folder).exists():
        return Oracle(Path(folder))
    return Oracle(Path(cut["scenes"]), connect(cut["writer"]), asks=cut["mark"] == "?")


def _small(folder: str) -> Backend:
    try:
        from foveal.models.small import Small
    except ImportError as error:
        raise MissingExtra("the embedded model", "small") from error
    backend: Backend = Small(weak=True) if folder == "weak" else Small(Path(folder) if folder else None)
    return backend


def _hf(spec: ModelSpec, path: str) -> Backend:
    try:
        from foveal.models.hf import HFBackend
    except ImportError as error:
        raise MissingExtra("a model in this process", "hf") from error
    backend: Backend = HFBackend(path, spec)
    return backend
