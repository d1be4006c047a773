"""Thirty steps of any loss on a tiny model: the loss falls and what it is about grows."""

from __future__ import annotations

import copy

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from foveal.train import losses  # noqa: E402
from foveal.train.answers import Answers, Preferences, RunningMean  # noqa: E402
from foveal.train.loss_table import CONTRAST, LOSSES, RECIPES, parse  # noqa: E402
from tests.train import vlms  # noqa: E402

CHOSEN = [[5, 6, 7, 1], [8, 9, 1], [10, 11, 12, 1]]
REJECTED = [[5, 6, 20, 1], [8, 21, 22, 1], [10, 23, 1]]
WEIGHTS = [[[1, 1, 5, 1], [1, 5, 1], [1, 5, 5, 1]], [[1, 1, 5, 1], [1, 5, 5, 1], [1, 5, 1]]]
STEPS, RATE = 30, 2e-3
CLEAN, OTHER, BLANK = vlms.pictures(3, 1), vlms.pictures(3, 2), torch.zeros(3, 3, 28, 28)
MAIN = (("chosen", CLEAN, CHOSEN, 0), ("rejected", CLEAN, REJECTED, 1), ("contrast", OTHER, CHOSEN, 0))


def told(model, mix):
    """What a model says of the three rows, as far as the mix needs it: logits, log-probabilities and masks by side."""
    wanted = MAIN if mix.needs & CONTRAST else MAIN[:2]
    out = {}
    for name, seen, said, _ in wanted:
        logits, tokens, mask = vlms.logits(model, seen, said)
        out[name] = logits, logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0], mask
    return out


def preferences(model, mix, known, running):
    """One batch, with what the reference said of it before the training."""
    now = told(model, mix)
    sides = {}
    for name, _, _, which in MAIN[: len(now)]:
        logits, logps, mask = now[name]
        rows = [torch.tensor(w, dtype=torch.float32) for w in WEIGHTS[which]]
        weights = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        divergence = losses.token_divergence(logits, known[name][0], mask) if "divergence" in mix.needs else None
        sides[name] = Answers(logps, mask, known[name][1], weights, divergence=divergence)
    if "blind" in mix.needs:
        with torch.no_grad():
            for name, said in (("chosen", CHOSEN), ("rejected", REJECTED)):
                blind = vlms.logps(model, BLANK, said)[0]
                a = sides[name]
                sides[name] = Answers(a.logps, a.mask, a.reference, a.weights, blind)
    noisy = None
    if "noisy" in mix.needs:
        suggested = now["contrast"][0].detach()
        picked = [losses.noisy_choice(side["chosen"][0], suggested) for side in (now, known)]
        noisy = Answers(picked[0], now["chosen"][2], picked[1])
    shift = torch.tensor(running.update(*(0.1 * sides[s].ratio for s in ("chosen", "rejected"))))
    return Preferences(
        sides["chosen"], sides["rejected"], sides.get("contrast"), noisy, sides["chosen"],
        margin=torch.tensor([0.5, 1.0, 2.0]), shift=shift if "shift" in mix.needs else None,
    )  # fmt: skip


def margin(mix, p):
    """What the mix is about: chosen over rejected answers, over other pictures, or chosen answers themselves."""
    names = {t.name for t, _ in mix.ours}
    if names == {"attacked"}:
        return p.contrast.total.mean().item()
    if names & {"image"} and not any(loss.rejected for _, loss in mix.ours):
        return (p.chosen.total - p.contrast.total).mean().item()
    if not any(loss.rejected for _, loss in mix.ours):
        return p.chosen.total.mean().item()
    return (p.chosen.total - p.rejected.total).mean().item()


def train(family, text):
    mix = parse(text, {"gamma": 1.5} if text == "vdpo" else {})
    torch.manual_seed(0)
    model, _ = vlms.make(family)
    reference = copy.deepcopy(model)
    with torch.no_grad():
        known = told(reference, mix)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    running, curve, margins = RunningMean(), [], []
    for _ in range(STEPS):
        p = preferences(model, mix, known, running)
        loss, _ = mix(p)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        curve.append(loss.item())
        margins.append(margin(mix, p))
    return curve, margins


@pytest.mark.parametrize(
    ("family", "text"),
    [
        *(("llava", name) for name in [*LOSSES, *RECIPES]),
        *(
            (family, name)
            for family in ("internvl", "qwen2vl")
            for name in ("sigmoid", "infonce", "mdpo", "ddpo", "chip")
        ),
    ],
)
def test_thirty_steps_teach_it(family, text):
    curve, margins = train(family, text)
    assert margins[-1] > margins[0] + 0.05
    assert min(margins[STEPS // 2 :]) > margins[0]  # it stays learnt
    if "attacked" in parse(text, {"gamma": 1.5} if text == "vdpo" else {}).needs:
        return  # -sg(p) log p is no value that falls: from p = 0 it rises to p = 1/e, see docs/losses.md
    assert curve[-1] < curve[0]
    moving = "noisy" in parse(text, {"gamma": 1.5} if text == "vdpo" else {}).needs  # what it is set against is its own
    assert max(curve[-5 if moving else STEPS // 2 :]) < curve[0]  # it stays learnt


def test_the_same_seed_is_the_same_curve():
    assert train("llava", "mdpo") == train("llava", "mdpo")


def test_the_anchor_keeps_the_chosen_answer_likely():
    """mDPO's reason for it: DPO alone may raise the margin while the chosen answer itself becomes less likely."""

    def gained(text):
        mix = parse(text)
        model, _ = vlms.make("llava", seed=3)
        with torch.no_grad():
            known = told(model, mix)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
        for _ in range(STEPS):
            p = preferences(model, mix, known, RunningMean())
            optimiser.zero_grad()
            mix(p)[0].backward()
            optimiser.step()
        return p.chosen.ratio.mean().item()

    assert gained("sigmoid+anchor") > gained("sigmoid")
