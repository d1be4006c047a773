"""A frozen tower sees a picture once a process; one that learns is never answered for."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.torch


class Tower(torch.nn.Module):
    """Counts the pictures it is shown."""

    def __init__(self, frozen: bool = True) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(2.0), requires_grad=not frozen)
        self.seen = 0

    def forward(self, pixel_values: Any, **_: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        self.seen += len(pixel_values)
        return BaseModelOutputWithPooling(last_hidden_state=self.scale * pixel_values.flatten(1)[:, None])


def remembered(of: str, frozen: bool = True) -> Tower:
    from foveal.train.remember import remember

    tower = Tower(frozen)
    remember(tower, of)
    return tower


def pictures(*values: float) -> Any:
    return torch.stack([torch.full((3, 2, 2), v) for v in values])


def test_each_picture_is_encoded_once_and_in_its_place() -> None:
    tower = remembered("one")
    first = tower(pixel_values=pictures(1, 2, 1), return_dict=True).last_hidden_state
    again = tower(pixel_values=pictures(2, 3, 1)).last_hidden_state
    assert tower.seen == 3
    assert first[:, 0, 0].tolist() == [2, 4, 2]
    assert again[:, 0, 0].tolist() == [4, 6, 2]


def test_a_second_training_in_the_process_pays_nothing_and_another_tower_does() -> None:
    one, same, other = remembered("shared"), remembered("shared"), remembered("another")
    for tower in (one, same, other):
        tower(pixel_values=pictures(5))
    assert (one.seen, same.seen, other.seen) == (1, 0, 1)


def test_a_tower_that_learns_is_run_every_time_and_gets_its_gradient() -> None:
    tower = remembered("learning", frozen=False)
    for _ in range(2):
        tower(pixel_values=pictures(7)).last_hidden_state.sum().backward()
    assert tower.seen == 2
    assert tower.scale.grad is not None


def test_weights_keep_their_names() -> None:
    assert list(remembered("names").state_dict()) == ["scale"]


def test_no_more_than_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from foveal.train import remember as module

    monkeypatch.setattr(module, "MOST", 2)
    tower = remembered("few")
    for value in (11, 12, 13, 11):
        tower(pixel_values=pictures(value))
    assert tower.seen == 4
    assert len(module._KNOWN) == 2
