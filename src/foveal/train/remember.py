"""What a frozen vision tower says of a picture never changes: pictures are encoded once a process, not once a step."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from foveal.record import digest

MOST = 1500
"""Pictures that are remembered: 221 kB each for the embedded model."""
_KNOWN: OrderedDict[str, Tensor] = OrderedDict()
"""Shared by all trainings of a process: several on the same pictures pay for them once."""


def remember(tower: Any, of: str) -> None:
    """Let a frozen tower remember the last hidden states of pictures it has seen, by their pixels. On the CPU only.

    Args:
        tower: in evaluation; its `forward` is replaced on this instance, its weights and their names are not.
        of: whose weights these are, so that two towers do not take each other's answers.
    """
    run = tower.forward

    def forward(pixel_values: Tensor, **options: Any) -> Any:
        learning = torch.is_grad_enabled() and next(tower.parameters()).requires_grad
        if pixel_values.device.type != "cpu" or options.get("output_hidden_states") or learning:
            return run(pixel_values, **options)
        keys = [digest(of, row.numpy().tobytes()) for row in pixel_values.detach().float().contiguous()]
        found = {key: _KNOWN[key] for key in keys if key in _KNOWN}
        fresh = {key: at for at, key in enumerate(keys) if key not in found}
        if fresh:
            tower.eval()  # frozen weights without dropout: otherwise an answer would not be worth remembering
            with torch.no_grad():
                made = run(pixel_values[list(fresh.values())]).last_hidden_state
            found.update(zip(fresh, made.clone(), strict=True))
        for key in keys:
            _KNOWN[key] = found[key]
            _KNOWN.move_to_end(key)
        while len(_KNOWN) > MOST:
            _KNOWN.popitem(last=False)
        return BaseModelOutputWithPooling(last_hidden_state=torch.stack([found[key] for key in keys]))

    tower.forward = forward
