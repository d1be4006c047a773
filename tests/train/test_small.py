"""The embedded model taught further, and opened again by foveal's own runtime."""

import json
import math

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.small, pytest.mark.filterwarnings("ignore")]
torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from foveal.cli import main  # noqa: E402
from foveal.data import export  # noqa: E402
from foveal.record import Pair, Record  # noqa: E402
from tests.consumers.samples import A, B, picture  # noqa: E402


def test_taught_and_opened_again(tmp_path):
    import numpy as np
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from foveal.models.connect import connect
    from foveal.models.wire import Message, Request
    from foveal.picture import decode

    rows = [Record((p,), Pair("What is there?", "A plain square.", f"bad {i}")) for p in (A, B) for i in range(3)]
    export(rows, "trl", tmp_path / "in")
    out = tmp_path / "out"
    words = ["train", "dpo", tmp_path / "in", "--model", "small", "-o", out, "--loss", "seva", "--steps", 3,
             "--batch", 2, "--rate", 1e-3, "--lora", 4]  # fmt: skip
    assert main([*map(str, words)]) == 0
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert log[0]["loss"] == pytest.approx(math.log(1 + 3), abs=1e-5)
    assert log[2]["loss"] < log[0]["loss"]

    small, before = (connect(spec)._small for spec in (f"small:{out}", "small"))
    model, processor = AutoModelForImageTextToText.from_pretrained(out).eval(), AutoProcessor.from_pretrained(out)
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is there?"}]}]
    text = processor.apply_chat_template(chat, add_generation_prompt=True)
    inputs = processor(images=decode(A.data()), text=text, return_tensors="pt")
    with torch.inference_mode():
        wanted = model(**inputs).logits[0, -1].numpy()
    request = Request((Message("user", (A, "What is there?")),))
    ours, packaged = (s._begin(request, s._features([A]))[2][0] for s in (small, before))
    assert np.abs(ours - wanted).max() < 2e-3 < np.abs(packaged - wanted).max()


def test_a_frozen_tower_is_asked_once_a_picture():
    from foveal.picture import decode
    from foveal.train import small
    from foveal.train.models import remember, tower_of

    model, processor = small.model(small.packaged()), small.processor(small.packaged())
    tower, asked = tower_of(model), []
    pictures = [decode(picture(red).data()) for red in (1, 90, 200)]
    pixels = processor.image_processor(pictures, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        plain = tower(pixel_values=pixels).last_hidden_state
        forward = tower.forward
        tower.forward = lambda pixel_values, **more: asked.append(len(pixel_values)) or forward(pixel_values, **more)
        remember(tower, most=2 * plain[0].nbytes)
        for order in ([0, 1], [1, 0, 1, 2], [2, 0]):  # the third does not fit: it is asked about each time
            found = tower(pixel_values=pixels[order], return_dict=True).last_hidden_state
            assert torch.allclose(found, plain[order], atol=1e-5)
    assert asked == [2, 1, 1]
