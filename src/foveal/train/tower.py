"""The same tower as a `transformers.Dinov2Model`, for training and export: weights copied out of the ONNX file."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from transformers import Dinov2Config, Dinov2Model


def config() -> Dinov2Config:
    """Return the configuration of DINOv2 ViT-S/14 with its 37 x 37 grid of positions."""
    return Dinov2Config(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, patch_size=14, image_size=518)


def load_tower(path: Path) -> Dinov2Model:
    """Return the tower with the weights of the ONNX file."""
    graph = onnx.load(str(path)).graph
    weights = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in graph.initializer}
    state = {name.removeprefix("backbone."): w for name, w in weights.items() if name.startswith("backbone.")}
    for node in graph.node:  # matrices lost their names in the export: the nodes that use them kept theirs
        matrix = next((weights[i] for i in node.input if i in weights), None)
        if node.op_type == "MatMul" and matrix is not None and node.name.startswith("/backbone/"):
            parts = node.name.removeprefix("/backbone/").removesuffix("/MatMul").split("/")
            state[".".join(parts) + ".weight"] = matrix.T.contiguous()
    state = {_renamed(name): w for name, w in state.items()}
    model = Dinov2Model(config())
    wanted = model.state_dict()
    if "embeddings.position_embeddings" not in state:
        grid = next(w for n, w in weights.items() if tuple(w.shape) == (1, 1369, 384))
        state["embeddings.position_embeddings"] = torch.cat([_class_position(weights), grid], 1)
    missing = [n for n in wanted if n not in state and n != "embeddings.mask_token"]
    if missing:
        raise SystemExit(f"the ONNX file lacks {missing[:3]}")
    model.load_state_dict({n: state.get(n, wanted[n]).reshape(wanted[n].shape) for n in wanted})
    return model.eval()


RENAMED = {
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
}
"""transformers 5.23's names for what the export still calls by the older ones."""


def _renamed(name: str) -> str:
    for old, new in RENAMED.items():
        name = name.replace(old, new)
    return name


def _class_position(weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the class token's position (the export keeps it apart from the grid's)."""
    return next(w for n, w in weights.items() if tuple(w.shape) == (1, 1, 384) and not n.startswith("backbone."))
