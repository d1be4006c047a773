"""What losses are computed from: answers as a policy and its reference see them, side by side."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Answers:
    """N answers, as the policy and the reference see them.

    Attributes:
        logps: (N, T) log-probability of each token under the policy, with gradient; anything off the mask.
        mask: (N, T) 1 on the tokens of the answer, 0 on prompt and padding.
        reference: the same under the reference, (N, T); or (N,) when only the sums over each answer were kept, which
            does for every loss but those that weigh tokens; None where no loss asks for it.
        weights: (N, T) what each token counts for (`diff`), for the losses that weigh tokens.
        blind: (N, T) under the policy or the reference without the picture, no gradient (`vdpo`).
        divergence: (N,) sum over the answer's tokens of KL(reference || policy) (`token_divergence`, for `chip`).
    """

    logps: Tensor
    mask: Tensor
    reference: Tensor | None = None
    weights: Tensor | None = None
    blind: Tensor | None = None
    divergence: Tensor | None = None

    def summed(self, logps: Tensor) -> Tensor:
        """Return (N,): the sum over the answer's tokens. Sums, (N,), pass through."""
        return logps if logps.ndim == 1 else logps.masked_fill(self.mask == 0, 0.0).sum(-1)

    @property
    def total(self) -> Tensor:
        """(N,) log-probability of each answer."""
        return self.summed(self.logps)

    @property
    def length(self) -> Tensor:
        """(N,) number of tokens, at least one."""
        return self.mask.sum(-1).clamp(min=1)

    @property
    def mean(self) -> Tensor:
        """(N,) log-probability a token."""
        return self.total / self.length

    @property
    def reference_total(self) -> Tensor:
        """(N,) log-probability of each answer under the reference."""
        assert self.reference is not None, "this loss needs Answers.reference"
        return self.summed(self.reference)

    @property
    def ratio(self) -> Tensor:
        """(N,) log-ratio h of policy and reference."""
        return self.total - self.reference_total

    @property
    def dense_ratio(self) -> Tensor:
        """(N,) log-ratio with each token's weight: sum of w_t (log pi(y_t) - log ref(y_t))."""
        assert self.weights is not None, "this loss needs Answers.weights"
        assert self.reference is not None, "this loss needs Answers.reference"
        assert self.reference.ndim == 2, "weights on tokens need the reference's tokens, not their sums"
        return self.summed((self.logps - self.reference) * self.weights)

    @property
    def weight(self) -> Tensor:
        """(N,) sum of the tokens' weights."""
        assert self.weights is not None, "this loss needs Answers.weights"
        return self.summed(self.weights)

    def split(self, at: int) -> tuple[Answers, Answers]:
        """Return the first `at` answers and the rest: chosen and rejected, as TRL stacks them."""
        fields = ("logps", "mask", "reference", "weights", "blind", "divergence")
        have = {name: value for name in fields if (value := getattr(self, name)) is not None}
        first = {name: value[:at] for name, value in have.items()}
        return replace(self, **first), replace(self, **{name: value[at:] for name, value in have.items()})


@dataclass(frozen=True, slots=True)
class Preferences:
    """A batch of B rows: what losses are computed from. A loss that misses a part is a mistake of the trainer.

    Attributes:
        chosen: (B) the better answers.
        rejected: (N) the worse ones; N = B unless several belong to one chosen answer, then `group` says to which.
        contrast: (B) the *chosen words* about the row's rejected pictures (`image_dpo`).
        noisy: (B) the chosen answer's places filled with what the noisy picture suggests there (`noisy_choice`).
        auxiliary: (M) answers of other rows, for a language-modelling term.
        group: (N,) for each rejected answer the index of its row among the chosen; None when they go in pairs.
        margin: (B,) how much better the chosen answer was judged to be, >= 0.
        shift: () running mean reward (`RunningMean`); None counts as 0.
    """

    chosen: Answers
    rejected: Answers
    contrast: Answers | None = None
    noisy: Answers | None = None
    auxiliary: Answers | None = None
    group: Tensor | None = None
    margin: Tensor | None = None
    shift: Tensor | None = None


class RunningMean:
    """Mean of all rewards so far, for `bco`. `state()` goes into a checkpoint, `RunningMean(*state)` takes it up."""

    def __init__(self, mean: float = 0.0, count: int = 0) -> None:
        self.mean, self.count = mean, count

    def update(self, *rewards: Tensor) -> float:
        """Take rewards in, any shapes, and return the mean of all so far."""
        new = sum(r.numel() for r in rewards)
        total = sum(float(r.detach().sum()) for r in rewards)
        self.count += new
        self.mean += (total - new * self.mean) / max(self.count, 1)
        return self.mean

    def state(self) -> tuple[float, int]:
        """Return what a new one is made of."""
        return self.mean, self.count
