"""The trainable half of the embedded model in torch: InternVL's projector and a Llama decoder, named as transformers names them."""

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
    layers: int = 5
    heads: int = 4
    inner: int = 704
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

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        """Attend and think."""
        b, n, d = x.shape
        h = self.input_layernorm(x)
        q, k, v = (self.self_attn[f"{p}_proj"](h).view(b, n, self.heads, -1).transpose(1, 2) for p in "qkv")
        o = f.scaled_dot_product_attention(turned(q, cos, sin), turned(k, cos, sin), v, attn_mask=mask)
        x = x + self.self_attn["o_proj"](o.transpose(1, 2).reshape(b, n, d))
        h = self.post_attention_layernorm(x)
        return x + self.mlp["down_proj"](f.silu(self.mlp["gate_proj"](h)) * self.mlp["up_proj"](h))


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate queries or keys by their position."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


class Projector(nn.Module):
    """InternVL's multi-modal projector."""

    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(s.patch)
        self.linear_1 = nn.Linear(s.patch, s.width)
        self.linear_2 = nn.Linear(s.width, s.width)

    def forward(self, x: Tensor) -> Tensor:
        """Turn four patches into one image token."""
        return self.linear_2(f.gelu(self.linear_1(self.layer_norm(x))))


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
        """Let half of the first layer's heads begin by looking for what is like themselves: a noun finds its image token."""
        half = self.shape.width // 2
        with torch.no_grad():
            attention = self.layers[0].self_attn
            attention["q_proj"].weight[:half] *= scale
            attention["k_proj"].weight[:half] = attention["q_proj"].weight[:half]

    def forward(
        self, ids: Tensor, image: Tensor, positions: Tensor, mask: Tensor, where: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the last hidden states and those of the middle; `image` (projected) replaces the tokens that `where` marks."""
        x = self.embed_tokens(ids)
        x = x.masked_scatter(where[..., None], image.to(x.dtype))
        angle = positions[..., None].float() * self.frequency
        angle = torch.cat((angle, angle), -1)[:, None]
        cos, sin = angle.cos(), angle.sin()
        middle = x
        for i, layer in enumerate(self.layers):
            x = layer(x, cos, sin, mask)
            if i == 1:
                middle = x
        return self.norm(x), middle

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits of hidden states."""
        return hidden @ self.embed_tokens.weight.T


def shuffled(patches: Tensor) -> Tensor:
    """Put 2 x 2 patches into one, as InternVL's pixel shuffle at 0.5 does: (n, 144, 384) to (n, 36, 1536)."""
    n, side = patches.shape[0], 12
    x = patches.view(n, side, side // 2, 768).permute(0, 2, 1, 3).reshape(n, side // 2, side // 2, 1536)
    return x.permute(0, 2, 1, 3).reshape(n, 36, 1536)
