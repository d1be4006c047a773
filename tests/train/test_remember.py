"""A frozen tower sees a picture once, and once for all trainings that share what it said."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


class Tower(torch.nn.Module):
    """Counts the pictures it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(2.0), requires_grad=False)
        self.seen = 0

    def forward(self, pixel_values: Any, **_: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        self.seen += len(pixel_values)
        return BaseModelOutputWithPooling(last_hidden_state=self.scale * pixel_values.flatten(1)[:, None])


def remembered(known: dict[bytes, Any] | None = None, **how: Any) -> Tower:
    from foveal.train.models import remember

    tower = Tower()
    remember(tower, known=known, **how)
    return tower


def pictures(*values: float) -> Any:
    return torch.stack([torch.full((3, 2, 2), v) for v in values])


def test_each_picture_is_encoded_once_and_in_its_place() -> None:
    tower = remembered()
    first = tower(pixel_values=pictures(1, 2, 1), return_dict=True).last_hidden_state
    again = tower(pixel_values=pictures(2, 3, 1)).last_hidden_state
    assert tower.seen == 3
    assert first[:, 0, 0].tolist() == [2, 4, 2]
    assert again[:, 0, 0].tolist() == [4, 6, 2]


def test_trainings_that_share_what_was_said_pay_once_and_others_do_not() -> None:
    known: dict[bytes, Any] = {}
    one, same, other = remembered(known), remembered(known), remembered()
    for tower in (one, same, other):
        tower(pixel_values=pictures(5))
    assert (one.seen, same.seen, other.seen) == (1, 0, 1)


def test_what_is_shared_counts_for_the_limit() -> None:
    known: dict[bytes, Any] = {}
    remembered(known)(pixel_values=pictures(1))
    full = remembered(known, most=1)
    for _ in range(2):
        full(pixel_values=pictures(1, 9))
    assert full.seen == 2
    assert len(known) == 1


def test_weights_keep_their_names() -> None:
    assert list(remembered().state_dict()) == ["scale"]
