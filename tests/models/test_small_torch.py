"""The embedded model as a standard transformers VLM gives the logits of the numpy runtime."""

from io import BytesIO

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.small, pytest.mark.filterwarnings("ignore")]


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

    from foveal.models.small import SmallVLM
    from foveal.models.wire import Message, Request
    from foveal.record import Image
    from foveal.train.small import model, packaged, processor

    model(packaged()).save_pretrained(tmp_path)
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


def test_there_and_back(tmp_path):
    """Exported, changed, and written back: foveal's own runtime gives the logits of the changed transformers model."""
    import numpy as np
    import torch
    from PIL import Image as Pillow

    from foveal.models.connect import connect
    from foveal.models.wire import Message, Request
    from foveal.record import Image
    from foveal.train.small import model, packaged, processor, to_light

    made, ready = model(packaged()), processor(packaged())
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in (*made.model.language_model.parameters(), *made.model.multi_modal_projector.parameters()):
            weight += 0.02 * weight.std() * torch.randn_like(weight)
    made.save_pretrained(tmp_path)  # as training leaves it: another model.safetensors beside the light form
    to_light(made, packaged(), tmp_path / "small")
    small = connect(f"small:{tmp_path}")._small

    request = Request((Message("user", (Image.of(picture()), "What is on the left?")),))
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is on the left?"}]}]
    prompt = ready.apply_chat_template(chat, add_generation_prompt=True)
    inputs = ready(images=Pillow.open(BytesIO(picture())), text=prompt, return_tensors="pt")
    with torch.inference_mode():
        theirs = made(**inputs).logits[0, -1].numpy()
    _, _, ours = small._begin(request, small._features([Image.of(picture())]))
    packaged_says = connect("small")._small
    _, _, before = packaged_says._begin(request, packaged_says._features([Image.of(picture())]))
    assert np.abs(ours[0] - theirs).max() < 2e-3 < np.abs(before[0] - theirs).max()
    assert small.identity != packaged_says.identity


def test_a_folder_without_weights_is_told(tmp_path):
    from foveal.errors import ModelSetupError
    from foveal.models.connect import connect

    with pytest.raises(ModelSetupError, match="holds no weights of the embedded model"):
        connect(f"small:{tmp_path}")
