"""The trainable half of the embedded model in torch: InternVL's projector and a Llama decoder, named as there."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as f


@dataclass(frozen=True)
class Shape:
    """Sizes of the decoder."""

    vocabulary: int
    width: int = 256
    layers: int = 4
    heads: int = 4
    inner: int = 512
    patch: int = 1536
    theta: float = 10000.0
    eps: float = 1e-5

    def as_dict(self) -> dict[str, float]:
        """Return the sizes by name."""
        return asdict(self)


class Layer(nn.Module):
    """One Llama layer."""

    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.heads = s.heads
        self.input_layernorm = nn.RMSNorm(s.width, s.eps)
        self.post_attention_layernorm = nn.RMSNorm(s.width, s.eps)
        self.self_attn = nn.ModuleDict({f"{n}_proj": nn.Linear(s.width, s.width, bias=False) for n in "qkvo"})
        self.mlp = nn.ModuleDict({f"{n}_proj": nn.Linear(s.width, s.inner, bias=False) for n in ("gate", "up")})
        self.mlp["down_proj"] = nn.Linear(s.inner, s.width, bias=False)

    def forward(self, x: Tensor, turns: Turns, mask: Tensor, only: Tensor | None = None) -> Tensor:
        """Attend and think; with `only` (rows, m) give out those tokens alone: all the others are of no more use."""
        h = self.input_layernorm(x)
        if only is None:
            q, k, v = self._several(h, "qkv")
        else:
            k, v = self._several(h, "kv")
            q = self.self_attn["q_proj"](picked(h, only))
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        q = turned(q, turns if only is None else turns.picked(only))
        o = f.scaled_dot_product_attention(q, turned(k, turns), v, attn_mask=mask)
        x = x if only is None else picked(x, only)
        x = x + self.self_attn["o_proj"](o.transpose(1, 2).flatten(2))
        h = self.post_attention_layernorm(x)
        gate, up = f.linear(h, torch.cat([self.mlp[f"{n}_proj"].weight for n in ("gate", "up")])).chunk(2, -1)
        return x + self.mlp["down_proj"](f.silu(gate) * up)

    def _several(self, h: Tensor, names: str) -> tuple[Tensor, ...]:
        """Return several projections by one multiplication: small ones leave a core half idle."""
        return f.linear(h, torch.cat([self.self_attn[f"{n}_proj"].weight for n in names])).chunk(len(names), -1)


@dataclass
class Turns:
    """Cosines and sines of the tokens' rotations, (rows, n, head width)."""

    cos: Tensor
    sin: Tensor

    def picked(self, only: Tensor) -> Turns:
        """Return those of some tokens."""
        return Turns(picked(self.cos, only), picked(self.sin, only))


def picked(x: Tensor, only: Tensor) -> Tensor:
    """Return some tokens of each row: (rows, n, width) and (rows, m) to (rows, m, width)."""
    return x.gather(1, only[..., None].expand(-1, -1, x.shape[-1]))


def turned(x: Tensor, turns: Turns) -> Tensor:
    """Rotate queries or keys by their position."""
    half = x.shape[-1] // 2
    return x * turns.cos[:, None] + torch.cat((-x[..., half:], x[..., :half]), -1) * turns.sin[:, None]


class Projector(nn.Module):
    """InternVL's multi-modal projector, trained in whitened coordinates.

    The tower's features differ a thousandfold in spread from one direction to the next, and what tells a donkey from a
    horse lies in the narrow ones. `folded` gives the weights in the usual coordinates.
    """

    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(s.patch).requires_grad_(False)
        self.linear_1 = nn.Linear(s.patch, s.width)
        self.linear_2 = nn.Linear(s.width, s.width)
        self.register_buffer("centre", torch.zeros(s.patch))
        self.register_buffer("whiten", torch.eye(s.patch))

    def forward(self, x: Tensor, drop: float = 0.0) -> Tensor:
        """Turn four patches into one image token; `drop` blanks a share of what is known of them."""
        with torch.no_grad():
            x = self.whitened(x)
        return self.linear_2(f.gelu(self.linear_1(f.dropout(x, drop, training=drop > 0))))

    def whitened(self, x: Tensor) -> Tensor:
        """Return normed features in whitened coordinates."""
        return (self.layer_norm(x) - self.centre) @ self.whiten

    @torch.no_grad()
    def learn_spread(self, x: Tensor, floor: float = 0.1) -> None:
        """Whiten by the covariance of tokens (n, patch); what the projector computes stays as it is."""
        x = self.layer_norm(x)
        self.centre.copy_(x.mean(0))
        spread, axes = torch.linalg.eigh(torch.cov((x - self.centre).T))
        strength = (spread.clamp(min=0) + floor * spread.mean()).rsqrt()
        self.whiten.copy_((axes * strength) @ axes.T)
        self.linear_1.bias += self.linear_1.weight @ self.centre
        self.linear_1.weight.copy_(self.linear_1.weight @ ((axes / strength) @ axes.T))

    @torch.no_grad()
    def folded(self) -> dict[str, Tensor]:
        """Return the weights without whitening; the first bias is to stay in full precision."""
        weight = (self.linear_1.weight @ self.whiten).to(torch.bfloat16)
        bias = self.linear_1.bias - weight.float() @ self.centre  # of the rounded weight: the centre is large
        state = {k: v for k, v in self.state_dict().items() if k not in ("centre", "whiten")}
        return state | {"linear_1.weight": weight, "linear_1.bias": bias}


class Net(nn.Module):
    """Projector, embeddings (tied with the head), layers."""

    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.shape = s
        self.projector = Projector(s)
        self.embed_tokens = nn.Embedding(s.vocabulary, s.width)
        self.layers = nn.ModuleList(Layer(s) for _ in range(s.layers))
        self.norm = nn.RMSNorm(s.width, s.eps)
        nn.init.normal_(self.embed_tokens.weight, std=0.02)
        for name, p in self.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                nn.init.normal_(p, std=0.02 / (2 * s.layers) ** 0.5)
            elif name.startswith("layers") and p.dim() == 2:
                nn.init.normal_(p, std=0.04)
        self.tie(1.0)
        frequency = s.theta ** (-torch.arange(0, s.width // s.heads, 2) / (s.width // s.heads))
        self.register_buffer("frequency", frequency, persistent=False)

    def tie(self, scale: float) -> None:
        """Let half of the first layer's heads begin by looking for their like: a noun finds its image token."""
        half = self.shape.width // 2
        with torch.no_grad():
            attention = self.layers[0].self_attn
            attention["q_proj"].weight[:half] *= scale
            attention["k_proj"].weight[:half] = attention["q_proj"].weight[:half]

    def forward(
        self, ids: Tensor, image: Tensor, positions: Tensor, mask: Tensor, where: Tensor, only: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the last hidden states of the tokens `only` (rows, m) names, and the middle ones of all.

        `image` (projected) replaces the tokens `where` marks.
        """
        x = self.embed_tokens(ids)
        x = x.masked_scatter(where[..., None], image.to(x.dtype))
        angle = positions[..., None].float() * self.frequency
        angle = torch.cat((angle, angle), -1)
        turns = Turns(angle.cos(), angle.sin())
        middle = x
        for i, layer in enumerate(self.layers[:-1]):
            x = layer(x, turns, mask)
            if i == 1:
                middle = x
        last = mask.gather(2, only[:, None, :, None].expand(-1, -1, -1, mask.shape[-1]))
        return self.norm(self.layers[-1](x, turns, last, only)), middle

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits of hidden states."""
        return hidden @ self.embed_tokens.weight.T


def shuffled(patches: Tensor) -> Tensor:
    """Put 2 x 2 patches into one, as InternVL's pixel shuffle at 0.5 does: (n, 256, 384) to (n, 64, 1536)."""
    n, side = patches.shape[0], 16
    x = patches.view(n, side, side // 2, 768).permute(0, 2, 1, 3).reshape(n, side // 2, side // 2, 1536)
    return x.permute(0, 2, 1, 3).reshape(n, 64, 1536)
