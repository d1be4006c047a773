"""Every loss as the trainer computes it from pictures and words, against the formula written out by hand."""

import math
from pathlib import Path

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from torch.nn.functional import logsigmoid  # noqa: E402

from foveal.train.loss_table import parse  # noqa: E402
from foveal.train.preference import Collator, Listed, PreferenceTrainer, frozen_copy, precompute  # noqa: E402
from tests.train import plain  # noqa: E402
from tests.train.families import make  # noqa: E402
from tests.train.plain import prompt  # noqa: E402

ARCHITECTURES = ("llava", "qwen2_vl", "internvl")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    photos = plain.photos(tmp_path_factory.mktemp("photos"))
    return [
        {"images": [photos[0]], "rejected_images": [photos[1]], "prompt": prompt("Colour?"), "chosen": "A red one.",
         "rejected": ["A blue one.", "None"], "margin": 1.5},
        {"images": [photos[2], photos[0]], "rejected_images": [photos[1], photos[1]], "prompt": prompt("Two?", 2),
         "chosen": "Green and then red it is.", "rejected": ["Green it is.", "Red", "Both are blue."], "margin": 0.25},
    ]  # fmt: skip


@pytest.fixture(scope="module")
def extra(rows):
    said = [{"role": "assistant", "content": [{"type": "text", "text": "Some other words."}]}]
    return [{"images": rows[0]["images"], "prompt": prompt("Other?"), "completion": said}]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def models(request):
    """A reference, a policy that has moved away from it, and their processor."""
    reference, processor = make(request.param)
    policy = frozen_copy(reference)
    torch.manual_seed(1)
    for weight in policy.parameters():
        weight.requires_grad_(True).data.add_(0.03 * torch.randn_like(weight))
    return reference, policy, processor


def trainer(policy, processor, mix, folder, rows, reference=None, known=None, extra=(), **more):
    import transformers

    config = transformers.TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=2, report_to="none", use_cpu=True, disable_tqdm=True,
        remove_unused_columns=False, save_strategy="no", logging_steps=1, **more,
    )  # fmt: skip
    return PreferenceTrainer(
        mix=mix, reference=reference, model=policy, args=config, train_dataset=Listed(rows, known),
        data_collator=Collator(processor, mix.needs, auxiliary=extra),
    )  # fmt: skip


class Hand:
    """Log-probabilities of one row's sides, one plain forward pass each."""

    def __init__(self, reference, policy, processor, row):
        self.models, self.processor, self.row = (policy, reference), processor, row

    def sides(self, answer, images=None, blind=False):
        """Tokens' log-probabilities under policy and reference."""
        images = self.row["images"] if images is None else images
        messages = self.row["prompt"]
        if blind:
            images, messages = (
                [],
                [{**m, "content": [b for b in m["content"] if b["type"] != "image"]} for m in messages],
            )
        return [plain.tokens(m, self.processor, images, messages, answer) for m in self.models]

    def ratio(self, answer, images=None):
        policy, reference = self.sides(answer, images)
        return (policy - reference).sum()

    @property
    def w(self):
        return self.ratio(self.row["chosen"])

    def l(self, at=0):  # noqa: E743
        return self.ratio(self.row["rejected"][at])

    @property
    def c(self):
        return self.ratio(self.row["chosen"], self.row["rejected_images"])


def dense(policy, reference, weights):
    return (weights * (policy - reference)).sum() / weights.sum()


def changed(answer, words):
    """Weights of an answer's bytes and its end: 5 in the words that changed."""
    weights = [1.0] * (len(answer) + 1)
    for word in words:
        at = answer.index(word)
        weights[at : at + len(word)] = [5.0] * len(word)
    return torch.tensor(weights)


CHANGES = (({"red"}, {"blue"}), ({"and", "then", "red"}, set()))


def by_hand(name, h, at):
    beta, row = 0.2, h.row
    w = [h.w, h.l()] if name not in ("simpo", "orpo", "infonce") else []
    if name == "dpo":
        return -logsigmoid(beta * (w[0] - w[1]))
    if name == "infonce":
        return torch.log(1 + sum(torch.exp(-beta * (h.w - h.l(i))) for i in range(len(row["rejected"]))))
    if name == "mdpo":
        return -logsigmoid(beta * (w[0] - w[1])) - logsigmoid(beta * (w[0] - h.c)) - logsigmoid(beta * w[0])
    if name == "ddpo":
        one, other = CHANGES[at]
        better = dense(*h.sides(row["chosen"]), changed(row["chosen"], one))
        worse = dense(*h.sides(row["rejected"][0]), changed(row["rejected"][0], other))
        return -logsigmoid(beta * (better - worse))
    if name == "mmdpo":
        return -logsigmoid(beta * (1 + 0.5 * (1 - math.exp(-0.5 * row["margin"]))) * (w[0] - w[1]))
    means = [h.sides(a)[0].mean() for a in (row["chosen"], row["rejected"][0])]
    if name == "simpo":
        return -logsigmoid(beta * (means[0] - means[1]) - 1.0)
    if name == "orpo":
        odds = [m - torch.log(1 - m.exp()) for m in means]
        return -means[0] - 0.1 * logsigmoid(odds[0] - odds[1])
    if name == "vdpo":
        sides = []
        for answer in (row["chosen"], row["rejected"][0]):
            (policy, reference), (blind, _) = h.sides(answer), h.sides(answer, blind=True)
            sides.append(3 * policy.sum() - 2 * blind.sum() - reference.sum())
        return -logsigmoid(beta * (sides[0] - sides[1]))
    raise AssertionError(name)


@pytest.mark.parametrize("name", ["dpo", "infonce", "mdpo", "ddpo", "mmdpo", "simpo", "orpo", "vdpo"])
def test_a_loss_is_what_its_formula_says(name, models, rows, tmp_path):
    reference, policy, processor = models
    mix = parse(name, {"beta": 0.2, **({"vdpo.gamma": 3.0} if name == "vdpo" else {})} if name != "orpo" else {})
    given = rows if name == "infonce" else [{**r, "rejected": r["rejected"][:1]} for r in rows]
    if name not in ("mdpo",):
        given = [{k: v for k, v in r.items() if k != "rejected_images"} for r in given]
    made = trainer(policy, processor, mix, tmp_path, given, reference if "reference" in mix.needs else None)
    batch = made.data_collator([made.train_dataset[i] for i in range(2)])
    with torch.no_grad():
        loss = made.compute_loss(policy, batch)
        wanted = sum(by_hand(name, Hand(reference, policy, processor, r), i) for i, r in enumerate(given)) / 2
    assert float(loss) == pytest.approx(float(wanted), abs=1e-5)


def test_the_rejected_words_see_the_rejected_pictures(models, rows, tmp_path):
    """Image-DPO rows with loss dpo: the same words about another picture are the rejected side."""
    reference, policy, processor = models
    given = [{**r, "rejected": [r["chosen"]]} for r in rows]
    made = trainer(policy, processor, parse("dpo"), tmp_path, given, reference)
    batch = made.data_collator([made.train_dataset[i] for i in range(2)])
    with torch.no_grad():
        hands = [Hand(reference, policy, processor, r) for r in given]
        wanted = sum(-logsigmoid(0.1 * (h.w - h.c)) for h in hands) / 2
        assert float(made.compute_loss(policy, batch)) == pytest.approx(float(wanted), abs=1e-5)


def test_adpo_rejects_words_about_the_attacked_picture_and_teaches_the_right_ones_there(models, rows, tmp_path):
    reference, policy, processor = models
    given = [{**r, "rejected": r["rejected"][:1]} for r in rows]
    mix = parse("adpo", {"beta": 0.2})
    known = precompute(reference, given, Collator(processor, mix.needs), 2, tmp_path / "reference.safetensors", "a")
    made = [trainer(policy, processor, mix, tmp_path, given, *who) for who in ((reference, None), (None, known))]
    batches = [m.data_collator([m.train_dataset[i] for i in range(2)]) for m in made]
    wanted = 0.0
    with torch.no_grad():
        for row in given:
            h = Hand(reference, policy, processor, row)
            preferred = -logsigmoid(0.2 * (h.w - h.ratio(row["rejected"][0], row["rejected_images"])))
            there = h.sides(row["chosen"], row["rejected_images"])[0]
            wanted += float(preferred - (there.exp() * there).sum()) / 2
        for m, batch in zip(made, batches, strict=True):
            assert float(m.compute_loss(policy, batch)) == pytest.approx(wanted, abs=1e-5)
    contexts = len(batches[0]["main"]["images_of"])
    assert contexts == 4  # the attacked picture is encoded once for the chosen and the rejected words


def test_mpo_shifts_by_the_mean_reward_and_hadpo_adds_other_rows(models, rows, extra, tmp_path):
    reference, policy, processor = models
    given = [{k: v for k, v in r.items() if k != "rejected_images"} | {"rejected": r["rejected"][:1]} for r in rows]
    hands = [Hand(reference, policy, processor, r) for r in given]
    mpo = trainer(policy.train(), processor, parse("mpo"), tmp_path, given, reference)
    hadpo = trainer(policy, processor, parse("hadpo"), tmp_path, given, reference, extra=extra)
    batches = [m.data_collator([m.train_dataset[i] for i in range(2)]) for m in (mpo, hadpo)]
    with torch.no_grad():
        w, l = ([0.1 * x for x in side] for side in ([h.w for h in hands], [h.l() for h in hands]))  # noqa: E741
        shift = sum(w + l) / 4
        dpo = sum(-logsigmoid(a - b) for a, b in zip(w, l, strict=True)) / 2
        bco = sum(-logsigmoid(a - shift) - logsigmoid(shift - b) for a, b in zip(w, l, strict=True)) / 2
        nll = sum(-h.sides(h.row["chosen"])[0].mean() for h in hands) / 2
        assert float(mpo.compute_loss(policy, batches[0])) == pytest.approx(
            float(0.8 * dpo + 0.2 * bco + nll), abs=1e-5
        )
        other = plain.tokens(policy, processor, extra[0]["images"], extra[0]["prompt"], "Some other words.")
        lm = -other.mean()  # both rows of the batch take the only other row there is
        assert float(hadpo.compute_loss(policy, batches[1])) == pytest.approx(float(dpo + 0.5 * lm), abs=1e-5)
    policy.eval()


def test_chip_and_povid_compare_whole_distributions(models, rows, tmp_path):
    reference, policy, processor = models
    given = [{**r, "rejected": r["rejected"][:1]} for r in rows]
    made = {n: trainer(policy, processor, parse(n), tmp_path, given, reference) for n in ("chip", "povid")}
    batches = {n: m.data_collator([m.train_dataset[i] for i in range(2)]) for n, m in made.items()}

    def all_of(model, row, answer, images):
        return plain.distribution(model, processor, images, row["prompt"], answer)

    wanted = {"chip": 0.0, "povid": 0.0}
    with torch.no_grad():
        for at, row in enumerate(given):
            h, (one, other) = Hand(reference, policy, processor, row), CHANGES[at]
            texts = (row["chosen"], row["rejected"][0])
            weights = [changed(t, words) for t, words in zip(texts, (one, other), strict=True)]
            hs = [(weight * (p - r)).sum() for weight, (p, r) in zip(weights, map(h.sides, texts), strict=True)]
            contrast = h.sides(row["chosen"], row["rejected_images"])
            hs.append((weights[0] * (contrast[0] - contrast[1])).sum())
            kl = []
            for text in texts:
                ours, theirs = (all_of(m, row, text, row["images"])[0] for m in (policy, reference))
                kl.append((theirs.exp() * (theirs - ours)).sum())
            wanted["chip"] -= logsigmoid(0.1 * (hs[0] - hs[1] + hs[0] - hs[2] - 0.1 * (kl[1] - kl[0]))) / 2
            noisy = all_of(policy, row, row["chosen"], row["rejected_images"])[0].argmax(-1, keepdim=True)
            suggested = [
                all_of(m, row, row["chosen"], row["images"])[0].gather(1, noisy).sum() for m in (policy, reference)
            ]
            wanted["povid"] -= 0.5 * logsigmoid(0.1 * (h.w - h.l())) / 2
            wanted["povid"] -= 0.5 * logsigmoid(0.1 * (h.w - (suggested[0] - suggested[1]))) / 2
        for name, m in made.items():
            assert float(m.compute_loss(policy, batches[name])) == pytest.approx(float(wanted[name]), abs=1e-5), name


def test_precomputed_references_equal_resident_ones_and_are_kept(models, rows, tmp_path):
    reference, policy, processor = models
    mix = parse("infonce+image+anchor")
    collate = Collator(processor, mix.needs)
    keep = tmp_path / "reference.safetensors"
    known = precompute(reference, rows, collate, 1, keep, "a")
    made = [trainer(policy, processor, mix, tmp_path, rows, *who) for who in ((reference, None), (None, known))]
    with torch.no_grad():
        losses = [m.compute_loss(policy, m.data_collator([m.train_dataset[1], m.train_dataset[0]])) for m in made]
    assert float(losses[0]) == pytest.approx(float(losses[1]), abs=1e-6)
    again = precompute(policy, rows, collate, 2, keep, "a")  # from the file: another model is not asked
    assert all(torch.equal(a, b) for r, s in zip(known, again, strict=True) for a, b in zip(r, s, strict=True))
    other = precompute(policy, rows, collate, 2, keep, "b")
    assert not torch.equal(known[0][0], other[0][0])


def test_dpo_is_trls_dpo(models, rows, tmp_path):
    """The same weights after the same steps as TRL's own trainer, where TRL has the loss."""
    import datasets
    import trl

    reference, _, processor = models
    given = [{k: v for k, v in r.items() if k != "rejected_images"} | {"rejected": r["rejected"][:1]} for r in rows]
    ours = trainer(
        frozen_copy(reference).requires_grad_(True), processor, parse("dpo"), tmp_path / "a", given, reference,
        max_steps=3, learning_rate=1e-3,
    )  # fmt: skip
    said = [
        [{"role": "assistant", "content": [{"type": "text", "text": t}]}]
        for r in given
        for t in (r["chosen"], r["rejected"][0])
    ]
    data = datasets.Dataset.from_list([
        {"images": [{"path": p, "bytes": None} for p in r["images"]], "prompt": r["prompt"], "chosen": said[2 * i],
         "rejected": said[2 * i + 1]} for i, r in enumerate(given)
    ]).cast_column("images", datasets.List(datasets.Image()))  # fmt: skip
    config = trl.DPOConfig(
        output_dir=str(tmp_path / "b"), per_device_train_batch_size=2, max_steps=3, learning_rate=1e-3, use_cpu=True,
        bf16=False, gradient_checkpointing=False, report_to="none", max_length=None, save_strategy="no",
        logging_steps=1, disable_tqdm=True,
    )  # fmt: skip
    theirs = trl.DPOTrainer(
        model=frozen_copy(reference).requires_grad_(True), ref_model=frozen_copy(reference), args=config,
        train_dataset=data, processing_class=processor,
    )  # fmt: skip
    ours.train(), theirs.train()
    mine, other = ([x["loss"] for x in t.state.log_history if "loss" in x] for t in (ours, theirs))
    assert mine == pytest.approx(other, abs=1e-5) and mine[-1] < mine[0]


def test_files_of_a_checkpoint_hold_the_running_mean(models, rows, tmp_path):
    reference, policy, processor = models
    given = [{k: v for k, v in r.items() if k != "rejected_images"} | {"rejected": r["rejected"][:1]} for r in rows]
    made = trainer(
        frozen_copy(policy).requires_grad_(True), processor, parse("mpo"), tmp_path, given, reference, max_steps=1
    )
    made.train()
    made._save_checkpoint(made.model, None)
    again = trainer(
        frozen_copy(policy).requires_grad_(True), processor, parse("mpo"), tmp_path, given, reference, max_steps=2
    )
    again._load_from_checkpoint(str(tmp_path / "checkpoint-1"))
    assert again.shift.state() == made.shift.state() and again.shift.count == 4
    assert Path(tmp_path / "checkpoint-1" / "trainer_state.json").is_file()
