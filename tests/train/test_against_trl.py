"""Where TRL has the same loss, it comes to the same number on the same batch."""

from __future__ import annotations

import copy

import pytest
from PIL import Image

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]
trl = pytest.importorskip("trl")
torch = pytest.importorskip("torch")

from foveal.train.answers import Answers, Preferences  # noqa: E402
from foveal.train.loss_table import parse  # noqa: E402
from tests.models import tiny  # noqa: E402

ROWS = [
    ("What?", "A red cat.", "A dog"),
    ("How many are there?", "Two", "I see three of them."),
    ("Where?", "Left.", "Up"),
]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = tiny.make(tmp_path_factory.mktemp("tiny"))
    model = AutoModelForImageTextToText.from_pretrained(folder)
    reference = copy.deepcopy(model)
    with torch.no_grad():
        for p in reference.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    return model, reference, AutoProcessor.from_pretrained(folder)


def rows():
    def say(role, text):
        picture = [{"type": "image"}] if role == "user" else []
        return [{"role": role, "content": [*picture, {"type": "text", "text": text}]}]

    return [
        {
            "images": [Image.new("RGB", (28, 28), (80 * n, 50, 200))],
            "prompt": say("user", question), "chosen": say("assistant", good), "rejected": say("assistant", bad),
        }
        for n, (question, good, bad) in enumerate(ROWS)
    ]  # fmt: skip


def read(model, batch):
    """Log-probabilities of a TRL batch's tokens, and which of them are answers."""
    mask = batch["completion_mask"][:, 1:]
    inputs = {k: v for k, v in batch.items() if k != "completion_mask"}
    logps = model(**inputs).logits[:, :-1].log_softmax(-1)
    return logps.gather(-1, batch["input_ids"][:, 1:, None])[..., 0], mask


@pytest.mark.parametrize(
    ("theirs", "weights", "ours", "knobs"),
    [
        (["sigmoid"], [1.0], "sigmoid", {"beta": 0.3}),
        (["sft"], [1.0], "sft", {}),
        (["bco_pair"], [1.0], "bco", {"beta": 0.3}),
        (["sigmoid_norm"], [1.0], "ddpo", {"beta": 0.3}),  # weights of one
        (["sigmoid", "bco_pair", "sft"], [0.8, 0.2, 1.0], "sigmoid:0.8+bco:0.2+sft", {"beta": 0.3}),
    ],
)
def test_the_same_number(parts, tmp_path, theirs, weights, ours, knobs):
    import datasets

    model, reference, processor = parts
    arguments = trl.DPOConfig(
        output_dir=str(tmp_path), loss_type=theirs, loss_weights=weights, beta=0.3, report_to="none", use_cpu=True,
        bf16=False, gradient_checkpointing=False, max_length=None, per_device_train_batch_size=3,
    )  # fmt: skip
    trainer = trl.DPOTrainer(
        model=copy.deepcopy(model), ref_model=copy.deepcopy(reference), args=arguments, processing_class=processor,
        train_dataset=datasets.Dataset.from_list(rows()).cast_column("images", datasets.List(datasets.Image())),
    )  # fmt: skip
    trainer.model.eval()
    batch = trainer.data_collator(rows())
    expected = trainer.compute_loss(trainer.model, batch)
    logps, mask = read(model, batch)
    both = Answers(logps, mask, read(reference, batch)[0].detach(), torch.ones_like(logps))
    loss, _ = parse(ours, knobs)(Preferences(*both.split(len(ROWS))))
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
