"""What the embedded model's training rests on: whitening that changes nothing, a last layer that skips nothing."""

import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch
sys.path.insert(0, str(Path(__file__).parents[2] / "small"))


@pytest.fixture
def net():
    import torch

    from net import Net, Shape

    torch.manual_seed(0)
    return Net(Shape(50, width=32, layers=3, heads=2, inner=48, patch=64))


def features(torch, rows):
    """Tokens whose directions differ a thousandfold in spread, far from the origin, as the tower's do."""
    mixed = torch.randn(rows, 64) * torch.logspace(0, -3, 64)
    return mixed @ torch.linalg.qr(torch.randn(64, 64))[0] + 3 * torch.randn(64)


def test_whitening_changes_nothing(net):
    import torch
    from torch.nn import functional as f

    x = features(torch, 4000)
    before = net.projector(x)
    net.projector.learn_spread(x)
    assert torch.allclose(net.projector(x), before, atol=1e-3)
    spread = net.projector.whitened(x).std(0)
    assert spread.max() < 20 * spread.min()
    w = net.projector.folded()
    normed = f.layer_norm(x, (64,), w["layer_norm.weight"], w["layer_norm.bias"])
    plain = f.linear(f.gelu(f.linear(normed, w["linear_1.weight"].float(), w["linear_1.bias"])), w["linear_2.weight"])
    assert torch.allclose(plain + w["linear_2.bias"], before, atol=2e-2)


def test_picked_tokens_are_those_of_the_whole(net):
    import torch

    ids = torch.randint(50, (2, 10))
    where = torch.zeros_like(ids, dtype=torch.bool)
    where[:, 1:4] = True
    image, positions = torch.randn(2, 3, 32), torch.arange(10).expand(2, 10)
    mask = torch.ones(10, 10, dtype=torch.bool).tril().expand(2, 1, 10, 10)
    everything = torch.arange(10).expand(2, 10)
    some = torch.tensor([[9, 4], [5, 6]])
    whole, _ = net(ids, image, positions, mask, where, everything)
    part, _ = net(ids, image, positions, mask, where, some)
    assert torch.allclose(part, whole.gather(1, some[..., None].expand(-1, -1, 32)), atol=1e-5)


def test_a_row_is_full_and_each_talk_sees_only_itself():
    import random

    from foveal.models.small.tokenizer import IMAGE_TOKENS, Tokenizer
    from foveal.scrapbook import Scene, Thing
    from pack import LONGEST, batch, row
    from train import NOUNS, mask

    tokenizer = Tokenizer(Path(__file__).parents[2] / "src/foveal/models/small/tokenizer.json")
    box = (0.1, 0.2, 0.4, 0.6)
    scene = Scene(7, "row", "blue", (Thing("cat", box, "black", "", "on the left"),
                                     Thing("dog", (0.6, 0.2, 0.9, 0.7), "", "", "on the right")))  # fmt: skip
    ids, *_ = row(scene, random.Random(1), NOUNS, tokenizer)
    assert 0.9 * LONGEST < len(ids) <= LONGEST
    b = batch([scene], 1, NOUNS, tokenizer)
    allowed, talk, sees = mask(b)[0, 0].numpy(), b.talk[0], b.sees[0]
    start = 1 + IMAGE_TOKENS
    for i in range(start, len(talk)):
        if talk[i] > 0:
            seen = set(allowed[i].nonzero()[0])
            pictures = set(range(start)) if sees[i] else set()
            assert seen == pictures | {j for j in range(start, i + 1) if talk[j] == talk[i]}
