"""Every loss against plain arithmetic, on log-probabilities of three families of models, and what must hold of all."""

from __future__ import annotations

import functools
import math

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from foveal.train import losses  # noqa: E402
from foveal.train.answers import Answers, Preferences, RunningMean  # noqa: E402
from foveal.train.loss_table import LOSSES, RECIPES, parse  # noqa: E402
from tests.train import vlms  # noqa: E402

CHOSEN = [[5, 6, 7, 1], [8, 9, 1], [10, 11, 12, 13, 14, 1]]
REJECTED = [[5, 6, 20, 1], [8, 21, 22, 23, 1], [10, 1]]
WEIGHTS = [[1, 1, 5, 1], [1, 5, 1], [1, 5, 5, 5, 5, 1]], [[1, 1, 5, 1], [1, 5, 5, 5, 1], [1, 1]]
MARGIN, SHIFT, GROUP = [0.0, 0.7, 3.0], 0.02, [0, 2, 2]
KNOBS = {"vdpo": {"gamma": 1.5}}


# --- by hand: floats and loops only -----------------------------------------------------------------------------------


def softplus(x):
    return math.log1p(math.exp(-abs(x))) + max(x, 0.0)


def minus_log_sigma(x):
    return softplus(-x)


def softmax(row):
    top = max(row)
    e = [math.exp(x - top) for x in row]
    return [x / sum(e) for x in e]


class Told:
    """What the models said of one batch, as lists of floats."""

    def __init__(self, p: Preferences, raw: dict[str, list]):
        self.n = len(CHOSEN)
        self.raw = raw
        for name in ("chosen", "rejected", "contrast"):
            side = getattr(p, name)
            setattr(self, name, (self.tokens(side, side.logps), self.tokens(side, side.reference)))
        self.blind = self.tokens(p.chosen, p.chosen.blind), self.tokens(p.rejected, p.rejected.blind)
        self.other = self.tokens(p.auxiliary, p.auxiliary.logps)

    @staticmethod
    def tokens(side, values):
        rows = values.detach().double().tolist()
        return [[x for x, m in zip(r, ms, strict=True) if m] for r, ms in zip(rows, side.mask.tolist(), strict=True)]

    def h(self, side, row, weights=None):
        ours, theirs = (said[row] for said in getattr(self, side))
        each = weights[row] if weights else [1] * len(ours)
        return sum(w * (a - b) for w, a, b in zip(each, ours, theirs, strict=True))

    def mean(self, side, row):
        ours = getattr(self, side)[0][row]
        return sum(ours) / len(ours)

    def divergence(self, side, row):
        """Sum over tokens of sum over the vocabulary of p_ref log(p_ref / p)."""
        total = 0.0
        ours, theirs = self.raw[side]
        for a, b in zip(ours[row], theirs[row], strict=True):
            p, q = softmax(a), softmax(b)
            total += sum(y * math.log(y / x) for x, y in zip(p, q, strict=True))
        return total

    def noisy(self, row):
        """Log-ratio, on the clean picture, of the tokens that the noisy picture makes the policy choose."""
        total = 0.0
        for ours, theirs, other in zip(*(self.raw[k][row] for k in ("clean", "clean_reference", "noisy")), strict=True):
            best = max(range(len(other)), key=other.__getitem__)
            total += math.log(softmax(ours)[best]) - math.log(softmax(theirs)[best])
        return total


def by_hand(name: str, t: Told) -> float:
    """The batch's mean loss."""
    rows = range(t.n)
    w, l = [t.h("chosen", i) for i in rows], [t.h("rejected", i) for i in rows]  # noqa: E741
    if name == "sigmoid":
        each = [minus_log_sigma(0.1 * (w[i] - l[i])) for i in rows]
    elif name == "infonce":
        each = []
        for i in rows:
            top = math.exp(0.1 * w[i])
            bottom = top + sum(math.exp(0.1 * l[j]) for j in rows if GROUP[j] == i)
            each.append(-math.log(top / bottom))
    elif name == "image":
        each = [minus_log_sigma(0.1 * (w[i] - t.h("contrast", i))) for i in rows]
    elif name == "anchor":
        each = [minus_log_sigma(0.1 * w[i] - 0.0) for i in rows]
    elif name == "ddpo":
        each = [
            minus_log_sigma(
                0.5
                * (
                    t.h("chosen", i, WEIGHTS[0]) / sum(WEIGHTS[0][i])
                    - t.h("rejected", i, WEIGHTS[1]) / sum(WEIGHTS[1][i])
                )
            )
            for i in rows
        ]
    elif name == "mmdpo":
        each = [minus_log_sigma(0.1 * (1 + 0.5 * (1 - math.exp(-0.5 * MARGIN[i]))) * (w[i] - l[i])) for i in rows]
    elif name == "simpo":
        each = [minus_log_sigma(2.0 * (t.mean("chosen", i) - t.mean("rejected", i)) - 1.0) for i in rows]
    elif name == "odds":
        each = []
        for i in rows:
            p, q = math.exp(t.mean("chosen", i)), math.exp(t.mean("rejected", i))
            each.append(minus_log_sigma(math.log((p / (1 - p)) / (q / (1 - q)))))
    elif name == "bco":
        each = [minus_log_sigma(0.1 * w[i] - SHIFT) + minus_log_sigma(-(0.1 * l[i] - SHIFT)) for i in rows]
    elif name == "noisy":
        each = [minus_log_sigma(0.1 * (w[i] - t.noisy(i))) for i in rows]
    elif name == "chip":
        each = []
        for i in rows:
            a, b = t.h("chosen", i, WEIGHTS[0]), t.h("rejected", i, WEIGHTS[1])
            c = t.h("contrast", i, WEIGHTS[0])
            kl = t.divergence("rejected", i) - t.divergence("chosen", i)
            each.append(minus_log_sigma(0.1 * ((a - b) + (a - c) - 0.1 * kl)))
    elif name == "vdpo":
        each = []
        for i in rows:
            better = 1.5 * sum(t.chosen[0][i]) - 0.5 * sum(t.blind[0][i]) - sum(t.chosen[1][i])
            worse = 1.5 * sum(t.rejected[0][i]) - 0.5 * sum(t.blind[1][i]) - sum(t.rejected[1][i])
            each.append(minus_log_sigma(0.1 * (better - worse)))
    elif name == "attacked":
        each = [-sum(math.exp(x) * x for x in t.contrast[0][i]) for i in rows]
    elif name == "nll":
        each = [-t.mean("chosen", i) for i in rows]
    elif name in ("sft", "lm"):
        said = [x for row in (t.chosen[0] if name == "sft" else t.other) for x in row]
        each = [-sum(said) / len(said)]
    else:
        raise AssertionError(f"no hand computation of {name}")
    return sum(each) / len(each)


# --- what models say --------------------------------------------------------------------------------------------------


def cut(out, mask):
    return [[x for x, m in zip(r, ms, strict=True) if m] for r, ms in zip(out.tolist(), mask.tolist(), strict=True)]


def padded(rows, length):
    return torch.tensor([[*r, *[0.0] * (length - len(r))] for r in rows])


def answers(model, reference, seen, said, blank, weights=None, length=None):
    """One side, with all that any loss may want; the raw logits beside it."""
    ours, tokens, mask = vlms.logits(model, seen, said, length)
    theirs = vlms.logits(reference, seen, said, length)[0]
    pick = [x.log_softmax(-1).gather(-1, tokens[..., None])[..., 0] for x in (ours, theirs)]
    with torch.no_grad():
        blind = vlms.logps(model, blank, said, length)[0]
    weighed = None if weights is None else padded(weights, mask.shape[1])
    side = Answers(*pick[:1], mask, pick[1], weighed, blind, losses.token_divergence(ours, theirs, mask))
    return side, ours, theirs


def fresh(name: str, length=None):
    """A batch of three rows as a family of models reads it, and the same as floats."""
    model, reference = vlms.make(name)
    clean, other, blank = vlms.pictures(3, 1), vlms.pictures(3, 2), torch.zeros(3, 3, 28, 28)
    chosen, ours, theirs = answers(model, reference, clean, CHOSEN, blank, WEIGHTS[0], length)
    rejected, ours_l, theirs_l = answers(model, reference, clean, REJECTED, blank, WEIGHTS[1], length)
    contrast, noisy, _ = answers(model, reference, other, CHOSEN, blank, WEIGHTS[0], length)
    auxiliary = answers(model, reference, other[:2], REJECTED[:2], blank[:2], length=length)[0]
    suggested = [losses.noisy_choice(side, noisy.detach()) for side in (ours, theirs)]
    p = Preferences(
        chosen, rejected, contrast, Answers(suggested[0], chosen.mask, suggested[1]), auxiliary,
        torch.tensor(GROUP), torch.tensor(MARGIN), torch.tensor(SHIFT),
    )  # fmt: skip
    d = [x.detach().double() for x in (ours, theirs, ours_l, theirs_l, noisy)]
    raw = {
        "chosen": (cut(d[0], chosen.mask), cut(d[1], chosen.mask)),
        "rejected": (cut(d[2], rejected.mask), cut(d[3], rejected.mask)),
        "clean": cut(d[0], chosen.mask), "clean_reference": cut(d[1], chosen.mask), "noisy": cut(d[4], chosen.mask),
    }  # fmt: skip
    return model, p, Told(p, raw)


batch = functools.cache(fresh)


@pytest.fixture(scope="module", params=list(vlms.MAKERS))
def family(request):
    return request.param


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_loss_is_what_paper_and_pencil_say(family, name):
    model, p, told = fresh(family)
    loss, parts = parse(name, KNOBS.get(name))(p)
    assert abs(loss.item() - by_hand(name, told)) < 1e-5
    assert list(parts) == [name]
    loss.backward()
    grads = [q.grad for q in model.parameters() if q.grad is not None]
    assert all(g.isfinite().all() for g in grads) and any(g.abs().max() > 0 for g in grads)
    eyes = [q.grad for n, q in model.named_parameters() if "vision" in n or "visual" in n]
    assert any(g is not None and g.abs().max() > 0 for g in eyes)  # the pictures are what is learnt from


@pytest.mark.parametrize("name", list(RECIPES))
def test_a_paper_s_mix_is_the_weighted_sum_of_its_terms(family, name):
    weights = {
        "dpo": {"sigmoid": 1}, "mdpo": {"sigmoid": 1, "image": 1, "anchor": 1}, "hadpo": {"sigmoid": 1, "lm": 0.5},
        "mpo": {"sigmoid": 0.8, "bco": 0.2, "nll": 1}, "orpo": {"nll": 1, "odds": 0.1},
        "povid": {"sigmoid": 0.5, "noisy": 0.5}, "seva": {"infonce": 1}, "adpo": {"sigmoid": 1, "attacked": 1},
    }[name]  # fmt: skip
    _, p, told = batch(family)
    loss, parts = parse(name)(p)
    assert set(parts) == set(weights)
    assert abs(loss.item() - sum(w * by_hand(term, told) for term, w in weights.items())) < 1e-5


@pytest.mark.parametrize("name", list(LOSSES))
def test_padding_changes_nothing(name):
    mix = parse(name, KNOBS.get(name))
    _, short, _ = batch("llava")
    _, long, _ = batch("llava", length=11)
    assert abs(mix(short)[0].item() - mix(long)[0].item()) < 1e-6


# --- numbers that can be checked with a pocket calculator -------------------------------------------------------------


def t(*numbers, grad=False):
    return torch.tensor(numbers, dtype=torch.float64, requires_grad=grad)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (lambda: losses.dpo(t(2.0), t(-1.0)), math.log(1 + math.exp(-0.3))),
        (lambda: losses.dpo(t(2.0), t(-1.0), beta=t(1.0)), math.log(1 + math.exp(-3))),
        (
            lambda: losses.info_nce(t(2.0), t(-1.0, 0.0), torch.tensor([0, 0])),
            math.log(1 + math.exp(-0.3) + math.exp(-0.2)),
        ),
        (lambda: losses.image_dpo(t(1.0), t(1.0)), math.log(2)),
        (lambda: losses.anchor(t(10.0), delta=1.0), math.log(2)),
        (lambda: losses.ddpo(t(12.0), t(-6.0), t(6.0), t(3.0)), math.log(1 + math.exp(-2))),
        (lambda: losses.mmdpo(t(10.0), t(0.0), t(2 * math.log(2))), math.log(1 + math.exp(-1.25))),  # beta 0.125
        (lambda: losses.simpo(t(-0.5), t(-1.0)), math.log(2)),
        (lambda: losses.odds(t(math.log(0.8)), t(math.log(0.5))), math.log(1.25)),  # odds 4 and 1
        (lambda: losses.bco(t(3.0), t(3.0), t(0.3)), 2 * math.log(2)),
        (lambda: losses.chip(t(5.0), t(1.0), t(4.0), t(2.0), t(12.0)), math.log(1 + math.exp(-0.4))),
        (
            lambda: losses.vdpo((t(3.0), t(1.0), t(2.0)), (t(2.0), t(1.0), t(3.0)), gamma=2.0),
            math.log(1 + math.exp(-0.3)),
        ),
        (lambda: losses.nll(t(-0.25)), 0.25),
        (lambda: losses.attacked(t(math.log(0.5), math.log(0.25), -9.0)[None], t(1, 1, 0)[None]), math.log(2)),
    ],
)
def test_small_numbers(value, expected):
    assert value().mean().item() == pytest.approx(expected, abs=1e-8)


def test_pooled_cross_entropy_counts_tokens_and_nll_counts_answers():
    logps, mask = t(*[[-1.0, -1.0, -1.0], [-4.0, 0.0, 0.0]]), torch.tensor([[1, 1, 1], [1, 0, 0]])
    assert losses.sft(logps, mask).mean().item() == pytest.approx((3 + 4) / 4)
    assert losses.nll(Answers(logps, mask).mean).mean().item() == pytest.approx((1 + 4) / 2)


# --- what must hold ---------------------------------------------------------------------------------------------------

RATIO = st.floats(-80, 80, allow_nan=False, width=32)
RATIOS = st.lists(st.tuples(RATIO, RATIO), min_size=1, max_size=6)


@given(RATIOS, st.floats(0.01, 1))
def test_one_rejected_answer_is_dpo(rows, beta):
    w, l = (t(*side) for side in zip(*rows, strict=True))  # noqa: E741
    plain = losses.dpo(w, l, beta=beta)
    assert torch.allclose(losses.info_nce(w, l, beta=beta), plain, atol=1e-9)
    assert torch.allclose(losses.info_nce(w, l, torch.arange(len(w)), beta=beta), plain, atol=1e-9)


@given(st.lists(RATIO, min_size=1, max_size=4), st.data())
def test_more_rejected_answers(chosen, data):
    rejected = data.draw(st.lists(st.tuples(RATIO, st.integers(0, len(chosen) - 1)), min_size=1, max_size=9))
    order = data.draw(st.permutations(rejected))

    def loss(rows):
        return losses.info_nce(t(*chosen), t(*(r for r, _ in rows)), torch.tensor([g for _, g in rows]))

    assert torch.allclose(loss(rejected), loss(order), atol=1e-9)  # their order is no matter
    # One more is never easier; to rounding, for the rows of others are summed over one more place.
    assert (loss([*rejected, (0.0, 0)]) >= loss(rejected) - 1e-12).all()
    alone = [losses.info_nce(t(c), t(*own), torch.zeros(len(own), dtype=int)).item() if own else 0.0
             for i, c in enumerate(chosen) for own in [[r for r, g in rejected if g == i]]]  # fmt: skip
    assert loss(rejected).tolist() == pytest.approx(alone, abs=1e-9)  # rows do not see each other


@given(RATIOS, st.floats(0.01, 1))
def test_a_beta_a_row_that_is_the_same_for_all_is_plain(rows, beta):
    w, l = (t(*side) for side in zip(*rows, strict=True))  # noqa: E741
    plain = losses.dpo(w, l, beta=beta)
    assert torch.allclose(losses.dpo(w, l, beta=torch.full_like(w, beta)), plain)
    assert torch.allclose(losses.mmdpo(w, l, torch.zeros_like(w), beta=beta), plain)
    assert torch.allclose(
        losses.mmdpo(w, l, torch.full_like(w, 1e9), beta=beta, w=1.0), losses.dpo(w, l, beta=2 * beta)
    )


def test_weights_of_one_are_no_weights():
    _, p, _ = batch("llava")
    ones = [Answers(a.logps, a.mask, a.reference, torch.ones_like(a.logps)) for a in (p.chosen, p.rejected)]
    plain = losses.dpo(p.chosen.ratio, p.rejected.ratio, beta=0.3)
    summed = losses.ddpo(*(a.dense_ratio for a in ones), *(a.weight for a in ones), beta=0.3, average=False)
    assert torch.allclose(summed, plain, atol=1e-6)
    lengths = [torch.tensor([len(a) for a in side]) for side in (CHOSEN, REJECTED)]
    normal = losses.dpo(p.chosen.ratio / lengths[0], p.rejected.ratio / lengths[1], beta=0.3)
    assert torch.allclose(losses.ddpo(*(a.dense_ratio for a in ones), *(a.weight for a in ones), beta=0.3), normal)


def test_an_unguided_vdpo_is_dpo():
    _, p, _ = batch("qwen2vl")
    assert torch.allclose(parse("vdpo", {"gamma": 1.0})(p)[0], parse("sigmoid")(p)[0], atol=1e-6)


def test_what_losses_do_not_weigh_the_weights_leave_alone():
    _, p, _ = batch("llava")
    bare = Preferences(*(Answers(a.logps, a.mask, a.reference) for a in (p.chosen, p.rejected)))
    for name in ("sigmoid", "bco", "simpo", "sft"):
        assert parse(name)(p if name != "bco" else bare)[0].item() == parse(name)(bare)[0].item()


def test_kept_sums_of_the_reference_are_as_good_as_its_tokens():
    _, p, _ = batch("internvl")
    sums = [Answers(a.logps, a.mask, a.reference_total) for a in (p.chosen, p.rejected, p.contrast)]
    kept = Preferences(*sums, group=p.group, margin=p.margin, shift=p.shift)
    for name in ("sigmoid", "infonce", "mdpo", "mmdpo", "bco"):
        assert parse(name)(kept)[0].item() == pytest.approx(parse(name)(p)[0].item(), abs=1e-7)
    with pytest.raises(AssertionError, match="reference's tokens"):
        parse("ddpo")(Preferences(*(Answers(a.logps, a.mask, a.reference.sum(1), a.weights) for a in (p.chosen,) * 2)))


@given(RATIO)
def test_the_anchor_pulls_the_chosen_answer_up(ratio):
    w = t(ratio, grad=True)
    losses.anchor(w).sum().backward()
    assert w.grad < 0


@pytest.mark.parametrize("name", ["sigmoid", "infonce", "simpo", "odds", "bco", "mmdpo"])
def test_chosen_up_and_rejected_down(name):
    logps = [(-torch.rand(3, 4, dtype=torch.float64) - 0.1).requires_grad_() for _ in range(2)]
    sides = [Answers(x, torch.ones(3, 4), torch.full((3, 4), -0.5)) for x in logps]
    parse(name)(Preferences(*sides, margin=torch.tensor(MARGIN)))[0].backward()
    assert (logps[0].grad < 0).all() and (logps[1].grad > 0).all()


def test_extremes_stay_finite():
    far = torch.tensor([-3e4, -1.0, 0.0, 3e4])
    for function in (losses.dpo, losses.info_nce, losses.image_dpo, losses.simpo, losses.bco):
        w, l = far.clone().requires_grad_(), far.flip(0).clone().requires_grad_()  # noqa: E741
        loss = function(w, l)
        loss.sum().backward()
        assert loss.isfinite().all() and w.grad.isfinite().all() and l.grad.isfinite().all()
    sure, unsure = torch.tensor([0.0, -60.0]).requires_grad_(), torch.tensor([-60.0, 0.0]).requires_grad_()
    loss = losses.odds(sure, unsure)
    loss.sum().backward()
    assert loss.isfinite().all() and sure.grad.isfinite().all() and unsure.grad.isfinite().all()


def test_what_is_off_the_mask_is_never_looked_at():
    """Padding may hold anything, and no gradient goes there."""
    logps = torch.tensor([[-1.0, -2.0, float("nan")], [-3.0, float("-inf"), float("-inf")]], requires_grad=True)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    side = Answers(logps, mask, logps.detach() + 0.5, torch.full((2, 3), 2.0))
    assert side.total.tolist() == [-3.0, -3.0] and side.mean.tolist() == [-1.5, -3.0]
    assert side.ratio.tolist() == [-1.0, -0.5] and side.dense_ratio.tolist() == [-2.0, -1.0]
    assert side.weight.tolist() == [4.0, 2.0] and side.length.tolist() == [2, 1]
    (side.ratio + side.dense_ratio + losses.sft(logps, mask)).sum().backward()
    assert logps.grad.isfinite().all() and (logps.grad[mask == 0] == 0).all()


def test_the_reference_and_the_blind_part_have_no_gradient():
    blind = torch.randn(2, requires_grad=True)
    w = torch.randn(2, requires_grad=True)
    losses.vdpo((w, blind, t(0.0, 0.0)), (w.detach(), blind, t(0.0, 0.0)), gamma=1.5).sum().backward()
    assert blind.grad is None and w.grad.abs().min() > 0
    better, worse = t(1.0, grad=True), t(1.0, grad=True)
    losses.chip(t(0.0), t(0.0), t(0.0), better, worse).sum().backward()
    assert better.grad is None and worse.grad > 0  # only the rejected side's divergence is trained, as released


def test_a_token_s_weight_is_not_learnt_from():
    logps = t(math.log(0.5), math.log(0.01), grad=True)
    losses.attacked(logps[None], t(1, 1)[None]).sum().backward()
    assert logps.grad.tolist() == pytest.approx([-0.5, -0.01])  # as cross-entropy, each scaled by its probability


def test_divergence_is_of_the_policy_from_the_reference():
    even, sure = torch.zeros(1, 1, 2), torch.tensor([[[0.9, 0.1]]]).log()
    here = losses.token_divergence(even, sure, torch.ones(1, 1)).item()
    assert here == pytest.approx(0.9 * math.log(1.8) + 0.1 * math.log(0.2), abs=1e-6)  # not 0.5 ln(0.5/0.9) + ...


def test_divergence_of_a_model_from_itself_is_none():
    logits = torch.randn(2, 3, 7)
    assert losses.token_divergence(logits, logits, torch.ones(2, 3)).abs().max() < 1e-6
    assert (losses.token_divergence(logits, torch.randn(2, 3, 7), torch.ones(2, 3)) > 0).all()


@given(st.lists(st.lists(st.floats(-9, 9), min_size=1, max_size=4), min_size=1, max_size=5), st.integers(0, 4))
def test_the_running_mean_is_the_mean_of_all_and_survives_a_restart(batches, stop):
    running = RunningMean()
    for n, rewards in enumerate(batches):
        if n == stop:
            running = RunningMean(*running.state())
        running.update(t(*rewards))
    everything = [x for b in batches for x in b]
    assert running.mean == pytest.approx(sum(everything) / len(everything), abs=1e-9)


def test_sides_come_apart_as_they_were_stacked():
    _, p, _ = batch("llava")
    length = max(p.chosen.logps.shape[1], p.rejected.logps.shape[1])
    grow = [torch.nn.functional.pad(a.logps, (0, length - a.logps.shape[1])) for a in (p.chosen, p.rejected)]
    masks = [torch.nn.functional.pad(a.mask, (0, length - a.mask.shape[1])) for a in (p.chosen, p.rejected)]
    first, rest = Answers(torch.cat(grow), torch.cat(masks)).split(3)
    assert torch.equal(first.total, p.chosen.total) and torch.equal(rest.total, p.rejected.total)
    assert first.reference is None
