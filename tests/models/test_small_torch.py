"""The embedded model as a standard transformers VLM gives the logits of the numpy runtime."""

import sys
from io import BytesIO
from pathlib import Path

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.small, pytest.mark.filterwarnings("ignore")]
sys.path.insert(0, str(Path(__file__).parents[2] / "small"))


def picture() -> bytes:
    from PIL import Image

    out = BytesIO()
    square = Image.new("RGB", (200, 150), (210, 40, 40))
    square.paste((20, 60, 200), (40, 30, 120, 110))
    square.save(out, "PNG")
    return out.getvalue()


def test_same_logits(tmp_path):
    import numpy as np
    import torch
    from PIL import Image as Pillow
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from export_hf import model, packaged, processor
    from foveal.models.small import SmallVLM
    from foveal.models.small.tower import tower_file
    from foveal.models.wire import Message, Request
    from foveal.record import Image

    model(packaged(), tower_file()).save_pretrained(tmp_path)
    processor(packaged()).save_pretrained(tmp_path)
    loaded, ready = (
        AutoModelForImageTextToText.from_pretrained(tmp_path).eval(),
        AutoProcessor.from_pretrained(tmp_path),
    )
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is on the left?"}]}]
    prompt = ready.apply_chat_template(chat, add_generation_prompt=True)
    inputs = ready(images=Pillow.open(BytesIO(picture())), text=prompt, return_tensors="pt")
    with torch.inference_mode():
        theirs = loaded(**inputs).logits[0, -1].numpy()

    small = SmallVLM()
    image = Image.of(picture())
    request = Request((Message("user", (image, "What is on the left?")),))
    assert small.tokenizer.prompt(request.messages, False) == inputs["input_ids"][0].tolist()
    _, _, ours = small._begin(request, small._features([image]))
    assert np.abs(ours[0] - theirs).max() < 2e-3
    with torch.inference_mode():
        out = loaded.generate(**inputs, max_new_tokens=24, do_sample=False)
    said = ready.tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert said.strip() == small.generate([request])[0].text
