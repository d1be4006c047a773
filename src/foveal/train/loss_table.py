"""The losses by name: what each needs, how it is computed, how several are mixed.

    mix = parse("mdpo+sft:0.2", {"beta": 0.2, "anchor.delta": 0.5})
    mix.check(dataset.column_names)     # before any model is loaded: SourceError says what is missing
    loss, parts = mix(preferences)      # () and {"sigmoid": (), "image": (), "anchor": (), "sft": ()}

For a trainer. `mix.needs` says what a batch must be given; make an `answers.Preferences` of it and call the mix.

- "reference": `Answers.reference` of all sides, (N, T), or (N,) where sums were kept. Without it none is loaded.
- "rejected_images": `Preferences.contrast`, the chosen words about the row's `rejected_images`, to which the loss
  prefers the row's `images`. "attacked": the same, where the loss wants those words about both.
- "negatives": a row may have several rejected answers, `rejected` being a list of them; `Preferences.rejected` has one
  entry for each and `Preferences.group` their rows. One image encode a row is enough.
- "margin": `Preferences.margin`, from the column. "shift": `Preferences.shift`, from a `RunningMean` of both rewards.
- "token_weights": `Answers.weights` of all sides, from `diff`; the reference then (N, T).
- "auxiliary": `Preferences.auxiliary`, from rows of another data set (prompt + completion).
- "blind": `Answers.blind` of both sides. "divergence": `Answers.divergence` of both sides (`losses.token_divergence`,
  of logits). "noisy": `Preferences.noisy` (`losses.noisy_choice`, of logits: the policy's about `images` and about
  `rejected_images`, the reference's about `images`).

`mix.rejected_sees` is the column whose pictures the rejected words are read about, where a row has it.
A name of `TRL` is TRL's own loss and left to it (`mix.native`: names with weights); the mix computes the others.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from foveal.errors import RecipeError, SourceError, nearest
from foveal.train import losses
from foveal.train.answers import Answers, Preferences

if TYPE_CHECKING:
    from torch import Tensor

PAIR = ("images", "prompt", "chosen", "rejected")

AGAINST = frozenset({"rejected_images", "noisy"})
"""Needs that set the chosen words against the rejected pictures, which are then not those of the rejected words."""

CONTRAST = AGAINST | {"attacked"}
"""Needs for which the chosen words are read about the rejected pictures too."""


@dataclass(frozen=True, slots=True)
class Loss:
    """One loss.

    Attributes:
        about: one line for people.
        source: the paper.
        call: the function of `losses`; its keyword-only parameters are the knobs.
        takes: what it is called with.
        needs: what it needs beside the log-probabilities of chosen and rejected answers; see the head of this file.
        columns: what a row must have.
        rejected: whether it reads the rejected answers.
    """

    about: str
    source: str
    call: Callable[..., Tensor]
    takes: Callable[[Preferences], tuple[Any, ...]]
    needs: frozenset[str] = frozenset({"reference"})
    columns: tuple[str, ...] = PAIR
    rejected: bool = True

    @property
    def needs_reference(self) -> bool:
        """Whether log-probabilities under the reference are needed."""
        return "reference" in self.needs

    @property
    def needs_rejected_images(self) -> bool:
        """Whether the chosen words are also read about other pictures."""
        return "rejected_images" in self.needs

    @property
    def grouped(self) -> bool:
        """Whether a row has several rejected answers."""
        return "negatives" in self.needs

    @property
    def needs_margin(self) -> bool:
        """Whether a row says how clear its preference is."""
        return "margin" in self.needs

    @property
    def token_weights(self) -> bool:
        """Whether tokens are weighed by a diff of the two answers."""
        return "token_weights" in self.needs

    @property
    def knobs(self) -> Mapping[str, Any]:
        """Settings by name, with their defaults; `inspect.Parameter.empty` where there is none."""
        parameters = inspect.signature(self.call).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def _given(answers: Answers | None, what: str) -> Answers:
    assert answers is not None, f"this loss needs Preferences.{what}"
    return answers


def _ratios(p: Preferences) -> tuple[Tensor, ...]:
    return p.chosen.ratio, p.rejected.ratio


def _means(p: Preferences) -> tuple[Tensor, ...]:
    return p.chosen.mean, p.rejected.mean


def _picture(p: Preferences) -> tuple[Tensor, ...]:
    return p.chosen.ratio, _given(p.contrast, "contrast").ratio


def _attacked(p: Preferences) -> tuple[Tensor, ...]:
    contrast = _given(p.contrast, "contrast")
    return contrast.logps, contrast.mask


def _dense(p: Preferences) -> tuple[Tensor, ...]:
    return p.chosen.dense_ratio, p.rejected.dense_ratio, p.chosen.weight, p.rejected.weight


def _levels(p: Preferences) -> tuple[Any, ...]:
    contrast = _given(p.contrast, "contrast").dense_ratio
    return p.chosen.dense_ratio, p.rejected.dense_ratio, contrast, p.chosen.divergence, p.rejected.divergence


def _guided(p: Preferences) -> tuple[Any, ...]:
    def parts(side: Answers) -> tuple[Tensor, ...]:
        assert side.blind is not None, "this loss needs Answers.blind"
        return side.total, side.summed(side.blind), side.reference_total

    return parts(p.chosen), parts(p.rejected)


def _auxiliary(p: Preferences) -> tuple[Tensor, ...]:
    other = _given(p.auxiliary, "auxiliary")
    return other.logps, other.mask


_REFERENCE = frozenset({"reference"})
_WORDS = ("images", "prompt", "chosen")

LOSSES: Mapping[str, Loss] = MappingProxyType(
    {
        "sigmoid": Loss("DPO", "2305.18290", losses.dpo, _ratios),
        "infonce": Loss(
            "DPO with k rejected answers a row (SeVa)", "2404.10501", losses.info_nce,
            lambda p: (*_ratios(p), p.group), _REFERENCE | {"negatives"},
        ),
        "image": Loss(
            "the same words prefer their picture to another (mDPO, Image-DPO)", "2406.11839", losses.image_dpo,
            _picture, _REFERENCE | {"rejected_images"}, (*_WORDS, "rejected_images"), rejected=False,
        ),
        "anchor": Loss(
            "the chosen answer's reward stays positive (mDPO)", "2406.11839", losses.anchor,
            lambda p: (p.chosen.ratio,), _REFERENCE, _WORDS, rejected=False,
        ),
        "ddpo": Loss(
            "DPO whose changed words count more (RLHF-V)", "2312.00849", losses.ddpo, _dense,
            _REFERENCE | {"token_weights"},
        ),
        "mmdpo": Loss(
            "DPO with a strength by the row's margin (MM-RLHF)", "2502.10391", losses.mmdpo,
            lambda p: (*_ratios(p), p.margin), _REFERENCE | {"margin"}, (*PAIR, "margin"),
        ),
        "simpo": Loss("by mean log-probability, without a reference", "2405.14734", losses.simpo, _means, frozenset()),
        "odds": Loss("ORPO's odds-ratio term, without a reference", "2403.07691", losses.odds, _means, frozenset()),
        "bco": Loss(
            "each answer's reward against the running mean (MPO's quality term)", "2404.04656", losses.bco,
            lambda p: (*_ratios(p), p.shift), _REFERENCE | {"shift"},
        ),
        "noisy": Loss(
            "the chosen answer over what a noisy picture suggests (POVID's second term)", "2402.11411", losses.dpo,
            lambda p: (p.chosen.ratio, _given(p.noisy, "noisy").ratio), _REFERENCE | {"noisy"},
            (*_WORDS, "rejected_images"), rejected=False,
        ),
        "attacked": Loss(
            "the chosen answer about the rejected picture too, by dynamic fine-tuning (AdPO)", "2504.01735",
            losses.attacked, _attacked, frozenset({"attacked"}), (*_WORDS, "rejected_images"), rejected=False,
        ),
        "chip": Loss(
            "response, picture and token preferences in one (CHiP)", "2501.16629", losses.chip, _levels,
            _REFERENCE | {"rejected_images", "token_weights", "divergence"}, (*PAIR, "rejected_images"),
        ),
        "vdpo": Loss(
            "DPO on vision-guided log-probabilities (V-DPO)", "2411.02712", losses.vdpo, _guided, _REFERENCE | {"blind"}
        ),
        "sft": Loss(
            "cross-entropy of the chosen answers, pooled over tokens, as TRL's", "", losses.sft,
            lambda p: (p.chosen.logps, p.chosen.mask), frozenset(), _WORDS, rejected=False,
        ),
        "nll": Loss(
            "cross-entropy of the chosen answers, each answer counting alike", "2411.10442", losses.nll,
            lambda p: (p.chosen.mean,), frozenset(), _WORDS, rejected=False,
        ),
        "lm": Loss(
            "cross-entropy of other rows (HA-DPO's auxiliary term)", "2311.16839", losses.sft, _auxiliary,
            frozenset({"auxiliary"}), (), rejected=False,
        ),
    }
)  # fmt: skip
"""Every loss of ours by its name."""

RECIPES: Mapping[str, str] = MappingProxyType(
    {
        "dpo": "sigmoid",
        "mdpo": "sigmoid+image+anchor",
        "adpo": "sigmoid+attacked",
        "hadpo": "sigmoid+lm:0.5",
        "mpo": "sigmoid:0.8+bco:0.2+nll",
        "orpo": "nll+odds:0.1",
        "povid": "sigmoid:0.5+noisy:0.5",
        "seva": "infonce",
    }
)
"""Mixes that papers name, spelt out in the losses above."""

TRL = frozenset(
    {"hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired", "apo_zero"}
    | {"apo_down", "discopop", "sigmoid_norm"}
)
"""Loss types that TRL 1.16 computes by itself; `sigmoid` and `sft` of ours equal TRL's."""


@dataclass(frozen=True, slots=True)
class Term:
    """A loss in a mix, with its weight and the knobs that are set. `loss` is None when it is TRL's own."""

    name: str
    loss: Loss | None
    weight: float = 1.0
    knobs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mix:
    """A weighted sum of losses."""

    terms: tuple[Term, ...]

    @property
    def ours(self) -> tuple[tuple[Term, Loss], ...]:
        """The terms computed here."""
        return tuple((t, t.loss) for t in self.terms if t.loss is not None)

    @property
    def native(self) -> Mapping[str, float]:
        """TRL's own terms with their weights."""
        return {t.name: t.weight for t in self.terms if t.loss is None}

    @property
    def needs(self) -> frozenset[str]:
        """What the terms need, together."""
        return frozenset({"reference"} if self.native else set()).union(*(loss.needs for _, loss in self.ours))

    @property
    def rejected_sees(self) -> str:
        """The column of the pictures that the rejected words are about, where a row has it.

        Rejected pictures belong to the rejected words, unless a term sets the chosen words against them.
        """
        return "images" if self.needs & AGAINST else "rejected_images"

    @property
    def columns(self) -> tuple[str, ...]:
        """What a row must have, in order."""
        wanted = [*(PAIR if self.native else ()), *(c for _, loss in self.ours for c in loss.columns)]
        return tuple(dict.fromkeys(wanted))

    def check(self, columns: Collection[str], where: str = "the data set") -> None:
        """Refuse a data set that lacks what the mix reads.

        Raises:
            SourceError: names the first missing column, the term that wants it and what is there.
        """
        present = {*columns, *(["images"] if "image" in columns else [])}
        for term in self.terms:
            for column in term.loss.columns if term.loss else PAIR:
                if column not in present:
                    there = ", ".join(sorted(columns)) or "none"
                    raise SourceError(
                        f"{where} has no column {column!r}, which loss {term.name!r} needs (has: {there})"
                    )

    def __call__(self, batch: Preferences) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum of our terms, (), and each term's mean before its weight."""
        parts = {t.name: loss.call(*loss.takes(batch), **t.knobs).mean() for t, loss in self.ours}
        return sum(t.weight * parts[t.name] for t, _ in self.ours), parts

    def __str__(self) -> str:
        """Return it as `parse` reads it."""
        return "+".join(t.name if t.weight == 1 else f"{t.name}:{t.weight:g}" for t in self.terms)


def parse(text: str, knobs: Mapping[str, Any] | None = None) -> Mix:
    """Read a mix: names of `LOSSES`, `RECIPES` and `TRL` joined by "+", each with its weight after a colon if not 1.

    Args:
        text: "sigmoid+sft:0.2", "mdpo", "infonce".
        knobs: settings; "beta" for every term that has it, "simpo.beta" for one.

    Raises:
        RecipeError: a name, weight or knob that does not bind, a term twice, terms that do not go together.
    """
    weights: dict[str, float] = {}
    for name, weight in _spelt_out(text):
        if name in weights:
            raise RecipeError(f"loss {name!r} is in {text!r} twice; give it one weight")
        weights[name] = weight
    _go_together(weights, text)
    settings = _bound(weights, dict(knobs or {}))
    return Mix(tuple(Term(name, LOSSES.get(name), weights[name], settings[name]) for name in weights))


def _spelt_out(text: str) -> list[tuple[str, float]]:
    terms = []
    for part in text.split("+"):
        name, _, number = part.strip().partition(":")
        weight = weight_of(number, f"loss {part.strip()!r}", "sft:0.2")
        if name in RECIPES:
            terms += [(inner, weight * w) for inner, w in _spelt_out(RECIPES[name])]
        elif name in LOSSES or name in TRL:
            terms.append((name, weight))
        else:
            raise RecipeError(f"no loss {name!r}{nearest(name, {*LOSSES, *RECIPES})}")
    return terms


def weight_of(number: str, what: str, example: str) -> float:
    """Return the weight that stands after a name's colon, 1 where none does.

    Raises:
        RecipeError: it is not a number above 0.
    """
    try:
        weight = float(number or 1)
    except ValueError:
        weight = -1.0
    if not 0 < weight < float("inf"):
        raise RecipeError(f"{what}: the weight after the colon is a number above 0, as in {example}")
    return weight


def _go_together(names: Collection[str], text: str) -> None:
    if "infonce" not in names:
        return
    other = next((n for n in names if n != "infonce" and (n in TRL or LOSSES[n].rejected)), None)
    if other:
        raise RecipeError(f"{text!r}: infonce has several rejected answers a row and {other} has one; use one of them")


def _bound(names: Collection[str], knobs: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Give every knob to the terms that have it."""
    settings: dict[str, dict[str, Any]] = {name: {} for name in names}
    known = {name: LOSSES[name].knobs for name in names if name in LOSSES}
    for knob in sorted(knobs, key=lambda k: "." in k):  # one for all first, so that one's own is the last word
        term, _, short = knob.rpartition(".")
        takers = [n for n in known if short in known[n] and term in ("", n)]
        if not takers and not (knob == "beta" and set(names) & TRL):
            choice = {k for n in known for k in known[n]}
            raise RecipeError(f"no knob {knob!r} in loss {'+'.join(names)!r}{nearest(short, choice)}")
        for name in takers:
            settings[name][short] = knobs[knob]
    for name, own in known.items():
        for knob, default in own.items():
            if default is inspect.Parameter.empty and knob not in settings[name]:
                raise RecipeError(f"loss {name!r} needs {knob}: it has no default; set {name}.{knob}")
    return settings
