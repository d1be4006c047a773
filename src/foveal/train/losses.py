"""Preference losses for vision-language models, as pure functions of log-probabilities.

Every function takes tensors and returns one loss a row, (B,), of which a trainer takes the mean. None reads a model, a
text or a clock. `answers` makes the tensors; `loss_table` has the names that `--loss` takes and what each needs.

Notation: a *log-ratio* h(y), (B,), is the sum over the answer's tokens of log pi(y_t) - log ref(y_t); w and l are the
chosen and the rejected answer, I the picture; beta is the inverse temperature, one for all rows or one a row, (B,).

What is not here: IPO, KTO, hinge and the rest of TRL's own are TRL's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

Beta: TypeAlias = "float | Tensor"


def _minus_log_sigmoid(x: Tensor) -> Tensor:
    from torch.nn.functional import logsigmoid

    return -logsigmoid(x)


# --- one answer before another ---------------------------------------------------------------------------------------


def dpo(chosen: Tensor, rejected: Tensor, *, beta: Beta = 0.1) -> Tensor:
    """Direct preference optimisation: -log sigma(beta (h_w - h_l)).

    Args:
        chosen: (B,) log-ratios.
        rejected: (B,) log-ratios.
        beta: strength of the pull to the reference; a (B,) tensor for one a row.

    Source: Rafailov et al., 2305.18290, eq. 7.
    """
    return _minus_log_sigmoid(beta * (chosen - rejected))


def info_nce(chosen: Tensor, rejected: Tensor, group: Tensor | None = None, *, beta: Beta = 0.1) -> Tensor:
    """DPO with k rejected answers: -log [e^(beta h_w) / (e^(beta h_w) + sum_i e^(beta h_l,i))]; `dpo` when k = 1.

    Groups may differ in size; a chosen answer without rejected ones costs nothing.

    Args:
        chosen: (B,) log-ratios.
        rejected: (N,) log-ratios.
        group: (N,) for each rejected answer the index of its chosen one; None when they go in pairs.
        beta: the inverse temperature; one for all.

    Source: SeVa, 2404.10501, its reading of DPO as contrastive learning, for k negatives (top-1 of Plackett-Luce); the
    released code has k = 1.
    """
    import torch

    owner = torch.arange(len(rejected), device=rejected.device) if group is None else group
    own = owner == torch.arange(len(chosen), device=rejected.device)[:, None]  # (B, N)
    gaps = (beta * (rejected - chosen[owner])).expand(own.shape).masked_fill(~own, -torch.inf)
    return torch.cat((gaps.new_zeros(len(chosen), 1), gaps), dim=1).logsumexp(dim=1)


def image_dpo(clean: Tensor, corrupted: Tensor, *, beta: Beta = 0.1) -> Tensor:
    """Prefer the right picture for the same words: -log sigma(beta (h(I, y_w) - h(I', y_w))).

    Args:
        clean: (B,) log-ratios of the chosen words about the picture.
        corrupted: (B,) log-ratios of the same words about the rejected picture, both under the same two models.
        beta: as in `dpo`.

    Source: mDPO, 2406.11839, conditional preference optimisation; Image-DPO, 2501.00569, its objective.
    """
    return _minus_log_sigmoid(beta * (clean - corrupted))


def anchor(chosen: Tensor, *, beta: Beta = 0.1, delta: float = 0.0) -> Tensor:
    """Keep the chosen answer likely: -log sigma(beta h_w - delta).

    Args:
        chosen: (B,) log-ratios.
        beta: as in `dpo`.
        delta: the reward that the chosen answer should have at least; the paper and its code use 0.

    Source: mDPO, 2406.11839, anchored preference optimisation.
    """
    return _minus_log_sigmoid(beta * chosen - delta)


def ddpo(
    chosen: Tensor,
    rejected: Tensor,
    chosen_weight: Tensor,
    rejected_weight: Tensor,
    *,
    beta: Beta = 0.5,
    average: bool = True,
) -> Tensor:
    """Dense DPO: `dpo` on log-ratios whose changed tokens count more, averaged by the sum of the weights.

    Args:
        chosen: (B,) sum over tokens of weight times log-ratio.
        rejected: (B,) likewise.
        chosen_weight: (B,) sum of the tokens' weights.
        rejected_weight: (B,) likewise.
        beta: as in `dpo`, but for averages: it wants to be larger.
        average: divide by the sums of weights, as the paper does; False is the released RLAIF-V code's default.

    Source: RLHF-V, 2312.00849, dense direct preference optimisation.
    """
    if average:
        chosen, rejected = chosen / chosen_weight, rejected / rejected_weight
    return _minus_log_sigmoid(beta * (chosen - rejected))


def mmdpo(
    chosen: Tensor, rejected: Tensor, margin: Tensor, *, beta: float = 0.1, w: float = 0.5, k: float = 0.5
) -> Tensor:
    """DPO that trusts clear pairs more: `dpo` with beta(delta) = beta (1 + w (1 - e^(-k delta))) a row.

    Args:
        chosen: (B,) log-ratios.
        rejected: (B,) log-ratios.
        margin: (B,) delta, a reward model's score of the chosen minus that of the rejected answer, >= 0.
        beta: strength at margin 0.
        w: how much stronger at most, as a share.
        k: how fast it grows with the margin.

    Source: MM-RLHF, 2502.10391, dynamic reward scaling. Its released trainer does something else (docs/losses.md).
    """
    return dpo(chosen, rejected, beta=beta * (1 + w * (1 - (-k * margin).exp())))


def simpo(chosen: Tensor, rejected: Tensor, *, beta: Beta = 2.0, gamma: float = 1.0) -> Tensor:
    """Preference without a reference: -log sigma(beta (m_w - m_l) - gamma), m the mean log-probability a token.

    Args:
        chosen: (B,) mean log-probability a token.
        rejected: (B,) likewise.
        beta: 2 to 2.5 in the paper.
        gamma: the margin asked for, 0.5 to 1.6.

    Source: SimPO, 2405.14734, eq. 6.
    """
    return _minus_log_sigmoid(beta * (chosen - rejected) - gamma)


def odds(chosen: Tensor, rejected: Tensor) -> Tensor:
    """The odds-ratio term of ORPO: -log sigma(log odds_w - log odds_l), odds = p / (1 - p) of p = e^(mean log-prob).

    Args:
        chosen: (B,) mean log-probability a token.
        rejected: (B,) likewise.

    Source: ORPO, 2403.07691, eq. 7. The whole of ORPO is the mix `orpo`: nll + 0.1 odds.
    """
    return _minus_log_sigmoid(_log_odds(chosen) - _log_odds(rejected))


def _log_odds(mean: Tensor) -> Tensor:
    certain = mean.clamp(max=-1e-7)  # an answer of probability one has infinite odds
    return certain - (-certain.expm1()).log()


def bco(chosen: Tensor, rejected: Tensor, shift: Tensor | None = None, *, beta: Beta = 0.1) -> Tensor:
    """Quality of each answer by itself: -log sigma(r_w - shift) - log sigma(-(r_l - shift)), r = beta h.

    Args:
        chosen: (B,) log-ratios.
        rejected: (B,) log-ratios.
        shift: () running mean of the rewards of both sides (`RunningMean`); None is 0, which is TRL's `bco_pair`.
        beta: as in `dpo`.

    Source: BCO, 2404.04656; the quality loss of mixed preference optimisation, 2411.10442.
    """
    moved = 0.0 if shift is None else shift
    return _minus_log_sigmoid(beta * chosen - moved) + _minus_log_sigmoid(moved - beta * rejected)


def chip(
    chosen: Tensor,
    rejected: Tensor,
    corrupted: Tensor,
    chosen_divergence: Tensor,
    rejected_divergence: Tensor,
    *,
    beta: Beta = 0.1,
    token: float = 0.1,
) -> Tensor:
    """Response, picture and token preferences in one: -log sigma(beta (h_w - h_l + h_w - h'_w - token (D_l - sg D_w))).

    h' is about the corrupted picture, D the sum over tokens of KL(reference || policy), sg stops the gradient.

    Args:
        chosen: (B,) log-ratios, changed tokens weighed (`diff.token_weights`).
        rejected: (B,) likewise.
        corrupted: (B,) log-ratios of the chosen words about the rejected picture, weighed like `chosen`.
        chosen_divergence: (B,) D of the chosen answer.
        rejected_divergence: (B,) D of the rejected answer.
        beta: as in `dpo`.
        token: what the divergence counts for.

    Source: CHiP, 2501.16629, as its released code computes it (one sigmoid around the sum of the levels).
    """
    response, picture = chosen - rejected, chosen - corrupted
    return _minus_log_sigmoid(beta * (response + picture - token * (rejected_divergence - chosen_divergence.detach())))


def vdpo(
    chosen: tuple[Tensor, Tensor, Tensor],
    rejected: tuple[Tensor, Tensor, Tensor],
    *,
    gamma: float,
    beta: Beta = 0.1,
) -> Tensor:
    """DPO with vision-guided gamma log pi(y|I) - (gamma - 1) log pi(y|no picture) in the place of log pi(y|I).

    The part without the picture has no gradient; gamma = 1 is `dpo`. On a row with rejected pictures and equal words
    this is the paper's image contrast, on one with equal pictures its response contrast.

    Args:
        chosen: (B,) log-probability under the policy, under it without the picture, and under the reference.
        rejected: likewise.
        gamma: how much the picture is stressed; tuned in the paper, so there is no default.
        beta: as in `dpo`.

    Source: V-DPO, 2411.02712, as its released code computes it from log-probabilities.
    """

    def guided(policy: Tensor, blind: Tensor, reference: Tensor) -> Tensor:
        return gamma * policy - (gamma - 1) * blind.detach() - reference

    return dpo(guided(*chosen), guided(*rejected), beta=beta)


# --- language modelling ----------------------------------------------------------------------------------------------


def sft(logps: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy pooled over the batch: the mean of the result is the mean over all tokens, as TRL's `sft`.

    Args:
        logps: (B, T) log-probabilities.
        mask: (B, T).

    Returns:
        (B,) each row's share of it.
    """
    lost = -logps.masked_fill(mask == 0, 0.0).sum(-1)
    return lost * len(logps) / mask.sum().clamp(min=1)


def nll(mean: Tensor) -> Tensor:
    """Cross-entropy a token, averaged within each answer: -m, so that long answers count no more than short ones.

    Args:
        mean: (B,) mean log-probability a token.

    Source: the generation loss of mixed preference optimisation, 2411.10442; the first term of ORPO, 2403.07691.
    """
    return -mean


def attacked(logps: Tensor, mask: Tensor) -> Tensor:
    """Say the right words about the attacked picture: -sum_t sg(p_t) log p_t, sg stops the gradient.

    Each token counts for as much as the policy believes it, so that words it is far from are not learnt by heart. The
    value is not what is descended: while a token's p grows from 0 to 1/e, -p log p rises.

    Args:
        logps: (B, T) log-probabilities of the chosen words about the rejected picture, log p_t.
        mask: (B, T).

    Returns:
        (B,) summed over each row's tokens.

    Source: AdPO, 2504.01735 in its ICLR 2026 version, adversarial image optimisation: dynamic fine-tuning in the place
    of cross-entropy. Its preferred image optimisation is `dpo` whose rejected answer is about the rejected picture.
    """
    return -(logps.detach().exp() * logps).masked_fill(mask == 0, 0.0).sum(-1)


# --- what some losses need of logits ---------------------------------------------------------------------------------


def token_divergence(policy: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    """Return (N,): the sum over the answer's tokens of KL(reference || policy).

    Args:
        policy: (N, T, V) logits, with gradient.
        reference: (N, T, V) logits.
        mask: (N, T).

    Source: TDPO, 2404.11999, sequential KL; CHiP, 2501.16629.
    """
    ours, theirs = policy.log_softmax(-1), reference.log_softmax(-1)
    return (theirs.exp() * (theirs - ours)).sum(-1).masked_fill(mask == 0, 0.0).sum(-1)


def noisy_choice(clean: Tensor, noisy: Tensor) -> Tensor:
    """Return (N, T): at each place, the clean picture's log-probability of the token that the noisy picture suggests.

    Call it for the policy and for the reference with the *policy's* `noisy`: a log-ratio is one of the same tokens.

    Args:
        clean: (N, T, V) logits of a model along the chosen answer, about the picture.
        noisy: (N, T, V) logits of the policy along the same answer, about the noisy picture.

    Source: POVID, 2402.11411, second stage, after its released code, in which each model suggests its own tokens.
    """
    suggested = noisy.argmax(-1, keepdim=True)
    return clean.log_softmax(-1).gather(-1, suggested).squeeze(-1)
