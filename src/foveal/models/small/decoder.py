"""The decoder in numpy: InternVL's projector and a Llama, a few million parameters, read from safetensors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Ids = NDArray[np.int64]


@dataclass(slots=True)
class Memory:
    """Keys and values of what was read so far, one array a layer: (rows, heads, capacity, head width).

    Attributes:
        length: how much of each row is filled.
    """

    keys: list[Array]
    values: list[Array]
    length: Ids

    def rows(self, keep: Sequence[int]) -> Memory:
        """Return the memory of some rows only."""
        at = list(keep)
        return Memory([k[at] for k in self.keys], [v[at] for v in self.values], self.length[at])


class Decoder:
    """Reads embeddings, remembers keys and values, gives logits."""

    def __init__(self, path: Path) -> None:
        self.weights, shape = read_safetensors(path)
        self.width, self.layers, self.heads = int(shape["width"]), int(shape["layers"]), int(shape["heads"])
        self.theta, self.eps = float(shape["theta"]), float(shape["eps"])
        self.table = self.weights["embed_tokens.weight"]
        # numpy multiplies by a transposed view as fast as by a copy, and the names stay those of the file
        self._linear = {name: w.T for name, w in self.weights.items() if name.endswith("_proj.weight")}

    def project(self, patches: Array) -> Array:
        """Turn hidden states of 16 x 16 patches into 8 x 8 image tokens: (n, 256, 384) to (n, 64, width)."""
        n = len(patches)
        pairs = patches.reshape(n, 16, 8, 768).transpose(0, 2, 1, 3)
        squares = pairs.reshape(n, 8, 8, 1536).transpose(0, 2, 1, 3)
        x: Array = squares.reshape(n, 64, 1536)
        w = self.weights
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        x = x * w["projector.layer_norm.weight"] + w["projector.layer_norm.bias"]
        x = gelu(x @ w["projector.linear_1.weight"].T + w["projector.linear_1.bias"])
        return x @ w["projector.linear_2.weight"].T + w["projector.linear_2.bias"]

    def empty(self, rows: int, capacity: int) -> Memory:
        """Return a memory with nothing in it."""
        shape = (rows, self.heads, capacity, self.width // self.heads)
        keys, values = ([np.zeros(shape, np.float32) for _ in range(self.layers)] for _ in range(2))
        return Memory(keys, values, np.zeros(rows, np.int64))

    def joined(self, memories: Sequence[Memory], room: int) -> Memory:
        """Return the memories of single rows as one, with room for more tokens in each."""
        length = np.array([int(m.length[0]) for m in memories])
        out = self.empty(len(memories), int(length.max()) + room)
        for row, memory in enumerate(memories):
            for layer in range(self.layers):
                out.keys[layer][row, :, : length[row]] = memory.keys[layer][0, :, : length[row]]
                out.values[layer][row, :, : length[row]] = memory.values[layer][0, :, : length[row]]
        out.length = length
        return out

    def read(self, x: Array, memory: Memory) -> Array:
        """Read embeddings (rows, n, width) after what is remembered; return the logits after the last one.

        Rows may have read different amounts before; each attends to its own past only.
        """
        rows, n, _ = x.shape
        positions = memory.length[:, None] + np.arange(n)
        cos, sin = self._angles(positions)
        reach = int(positions.max()) + 1
        hidden = np.arange(reach) > positions[:, None, :, None]  # (rows, 1, n, reach)
        filled = (np.arange(rows)[:, None], slice(None), positions)
        x = x.copy()
        for layer in range(self.layers):
            h = self._norm(x, f"layers.{layer}.input_layernorm")
            q, k, v = (self._heads(h, f"layers.{layer}.self_attn.{p}_proj.weight") for p in "qkv")
            memory.keys[layer][filled] = turned(k, cos, sin).transpose(0, 2, 1, 3)
            memory.values[layer][filled] = v.transpose(0, 2, 1, 3)
            keys, values = memory.keys[layer][:, :, :reach], memory.values[layer][:, :, :reach]
            scores = turned(q, cos, sin) @ keys.transpose(0, 1, 3, 2) / np.float32(np.sqrt(q.shape[-1]))
            mixed = softmax(np.where(hidden, np.float32(-1e9), scores)) @ values
            flat = mixed.transpose(0, 2, 1, 3).reshape(rows, n, self.width)
            x += flat @ self._linear[f"layers.{layer}.self_attn.o_proj.weight"]
            x += self._think(self._norm(x, f"layers.{layer}.post_attention_layernorm"), layer)
        memory.length = memory.length + n
        return self._norm(x[:, -1], "norm") @ self.table.T

    def _think(self, h: Array, layer: int) -> Array:
        gate, up, down = (self._linear[f"layers.{layer}.mlp.{p}_proj.weight"] for p in ("gate", "up", "down"))
        g = h @ gate
        inner: Array = g / (1 + np.exp(-g)) * (h @ up)
        return inner @ down

    def _heads(self, h: Array, name: str) -> Array:
        rows, n, _ = h.shape
        return (h @ self._linear[name]).reshape(rows, n, self.heads, -1).transpose(0, 2, 1, 3)

    def _norm(self, x: Array, name: str) -> Array:
        size: Array = np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(self.eps))
        return x / size * self.weights[f"{name}.weight"]

    def _angles(self, positions: Ids) -> tuple[Array, Array]:
        size = self.width // self.heads
        frequency = self.theta ** (-np.arange(0, size, 2, dtype=np.float64) / size)
        angle = positions[..., None] * frequency
        angle = np.concatenate((angle, angle), -1)[:, None].astype(np.float32)
        return np.cos(angle), np.sin(angle)


def turned(x: Array, cos: Array, sin: Array) -> Array:
    """Rotate queries or keys by their position (Llama's halves)."""
    half = x.shape[-1] // 2
    return x * cos + np.concatenate((-x[..., half:], x[..., :half]), -1) * sin


def softmax(x: Array) -> Array:
    """Return the softmax over the last axis."""
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True), dtype=np.float32)


def gelu(x: Array) -> Array:
    """Return GELU, with the error function to 1e-7 (Abramowitz and Stegun 7.1.26, refined): numpy has none."""
    z = np.abs(x) / np.float32(np.sqrt(2))
    t = 1 / (1 + 0.3275911 * z)
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.sign(x) * (1 - poly * np.exp(-z * z))
    return np.asarray(0.5 * x * (1 + erf), dtype=np.float32)


def read_safetensors(path: Path) -> tuple[dict[str, Array], dict[str, float]]:
    """Return the file's tensors as float32 (bf16 widened) and the shape noted in its metadata."""
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    metadata = header.pop("__metadata__")
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        data = raw[8 + size + begin : 8 + size + end]
        if entry["dtype"] == "BF16":
            wide = np.frombuffer(data, np.uint16).astype(np.uint32) << 16
            flat = wide.view(np.float32)
        else:
            flat = np.frombuffer(data, np.float32)
        tensors[name] = flat.reshape(entry["shape"])
    return tensors, json.loads(metadata["shape"])
