"""The sentinel rule on the shapes of chat templates there are; they are written here, not taken from models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foveal.errors import ModelSetupError
from foveal.models.hooking import cut, find_opening, hf_messages, prefix_of
from foveal.models.template import jinja, template_file
from foveal.models.wire import Message
from foveal.record import Image

PARTS = "{% for p in m.content %}{{ IMAGE if p.type == 'image' else p.text }}{% endfor %}"


def parts(image: str) -> str:
    """Return the loop over a message's parts that most templates have, a plain string allowed."""
    loop = PARTS.replace("IMAGE", json.dumps(image))
    return "{% if m.content is string %}{{ m.content }}{% else %}" + loop + "{% endif %}"


def chatml(image: str, system: str = "") -> str:
    said = "{% for m in messages %}<|im_start|>{{ m.role }}\n" + parts(image) + "<|im_end|>\n{% endfor %}"
    return f"{system}{said}{{% if add_generation_prompt %}}<|im_start|>assistant\n{{% endif %}}"


def labelled(user: str, assistant: str, image: str, eos: str = "</s>") -> str:
    one = (
        "{% if m.role == 'user' %}"
        + user
        + parts(image)
        + "{% else %}"
        + assistant
        + " "
        + parts(image)
        + eos
        + "{% endif %}"
    )
    return "{% for m in messages %}" + one + "{% endfor %}{% if add_generation_prompt %}" + assistant + "{% endif %}"


def bracketed(image: str) -> str:
    one = "{% if m.role == 'user' %}[INST]" + parts(image) + "[/INST]{% else %}" + parts(image) + "</s>{% endif %}"
    return "<s>{% for m in messages %}" + one + "{% endfor %}"


def tagged(head: str, open_: str, close: str, image: str, answer: str) -> str:
    one = open_ + parts(image) + close
    return (
        head + "{% for m in messages %}" + one + "{% endfor %}{% if add_generation_prompt %}" + answer + "{% endif %}"
    )


QWEN = "<|vision_start|><|image_pad|><|vision_end|>"
FAMILIES = {
    "Qwen2-VL": (
        chatml(QWEN, "<|im_start|>system\nBe kind.<|im_end|>\n"),
        f"<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n{QWEN}",
        "<|im_end|>",
        {"<|im_end|>", "<|im_start|>", "<|im_start|>assistant"},
    ),
    "Qwen3-VL": (chatml(QWEN), f"<|im_start|>user\n{QWEN}", "<|im_end|>", {"<|im_end|>", "<|im_start|>"}),
    "InternVL": (chatml("<IMG_CONTEXT>\n"), "<|im_start|>user\n<IMG_CONTEXT>\n", "<|im_end|>", {"<|im_end|>"}),
    "LLaVA-1.5": (
        labelled("USER: ", "\nASSISTANT:", "<image>\n"), "USER: <image>\n", "", {"ASSISTANT:", "USER:", "</s>"},
    ),
    "LLaVA-1.6 Vicuna": (
        labelled("USER: ", " ASSISTANT:", "<image>\n"), "USER: <image>\n", "", {"ASSISTANT:", "USER:"},
    ),
    "Mistral": (bracketed("[IMG]"), "<s>[INST][IMG]", "[/INST]", {"[/INST]", "[INST]"}),
    "Llama-3.2": (
        tagged("<|begin_of_text|>", "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n", "<|eot_id|>", "<|image|>",
               "<|start_header_id|>assistant<|end_header_id|>\n\n"),
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n<|image|>", "<|eot_id|>",
        {"<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"},
    ),
    "Gemma 3": (
        tagged("", "<start_of_turn>{{ m.role }}\n", "<end_of_turn>\n", "<start_of_image>", "<start_of_turn>model\n"),
        "<start_of_turn>user\n<start_of_image>", "<end_of_turn>", {"<end_of_turn>", "<start_of_turn>"},
    ),
    "Gemma 4": (
        tagged("", "<|turn>{{ m.role }}\n", "<turn|>\n", "<|image|>", "<|turn>model\n"),
        "<|turn>user\n<|image|>", "<turn|>", {"<turn|>", "<|turn>"},
    ),
    "Idefics3": (
        tagged("<|begin_of_text|>", "{{ m.role | capitalize }}:", "<end_of_utterance>\n", "<image>", "Assistant:"),
        "<|begin_of_text|>User:<image>", "<end_of_utterance>", {"<end_of_utterance>", "Assistant:"},
    ),
    "Phi-3.5": (
        tagged("", "<|{{ m.role }}|>\n", "<|end|>\n", "<|image_1|>\n", "<|assistant|>\n"),
        "<|user|>\n<|image_1|>\n", "<|end|>", {"<|end|>", "<|assistant|>", "<|user|>"},
    ),
    "GLM-4V": (
        tagged("[gMASK]<sop>", "<|{{ m.role }}|>\n", "", "<|begin_of_image|><|image|><|end_of_image|>",
               "<|assistant|>\n"),
        "[gMASK]<sop><|user|>\n<|begin_of_image|><|image|><|end_of_image|>", "", {"<|assistant|>", "<|user|>"},
    ),
    "DeepSeek-VL2": (
        labelled("<|User|>: ", "\n\n<|Assistant|>:", "<image>\n"), "<|User|>: <image>\n", "",
        {"<|Assistant|>:", "<|User|>"},
    ),
    "Kimi-VL": (
        tagged("", "<|im_user|>{{ m.role }}<|im_middle|>", "<|im_end|>",
               "<|media_start|>image<|media_pad|><|media_end|>", "<|im_assistant|>assistant<|im_middle|>"),
        "<|im_user|>user<|im_middle|><|media_start|>image<|media_pad|><|media_end|>", "<|im_end|>",
        {"<|im_end|>", "<|im_assistant|>", "<|im_user|>"},
    ),
    "MiniCPM-V": (
        chatml("(<image>./</image>)\n"), "<|im_start|>user\n(<image>./</image>)\n", "<|im_end|>", {"<|im_end|>"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: str) -> None:
    template, prefix, end, stops = FAMILIES[family]
    found = find_opening(jinja(template))
    assert found.prefix == prefix
    assert found.end.strip() == end
    assert stops <= set(found.stops)
    assert not any(s in found.stops for s in ("user", "assistant", "model", ":"))
    assert found.picture and found.picture in found.prefix


def test_the_picture_is_told_from_what_surrounds_it() -> None:
    assert find_opening(jinja(chatml(QWEN))).picture == QWEN
    assert find_opening(jinja(bracketed("[IMG]"))).picture == "[IMG]"


def test_a_template_of_plain_strings() -> None:
    template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content + '' }}<|end|>{% endfor %}"
    with pytest.raises(ModelSetupError, match="cannot show a picture"):
        find_opening(jinja(template))
    assert find_opening(jinja(template), as_text="<image>\n").prefix == "<|user|><image>\n"


REFUSED = {
    "drops the words": ("{% for m in messages %}U:{% endfor %}", "drops or changes the user's words"),
    "changes the words": (tagged("", "U:", "", "<i>", "").replace("p.text", "p.text | lower"), "drops or changes"),
    "shows the words twice": (tagged("", "U:", parts("<i>"), "<i>", ""), "shows the user's words 2 times"),
    "picture behind": (
        "{% for m in messages %}U:{% for p in m.content if p.type == 'text' %}{{ p.text }}{% endfor %}"
        "{% for p in m.content if p.type == 'image' %}<i>{% endfor %}{% endfor %}",
        "puts the picture behind",
    ),
    "no pictures": (
        "{% for m in messages %}{% for p in m.content if p.text %}{{ p.text }}{% endfor %}{% endfor %}",
        "does not show pictures",
    ),
    "raises": ("{{ raise_exception('only strings') }}", "only strings"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_hooked_is_refused(case: str) -> None:
    template, message = REFUSED[case]
    with pytest.raises(ModelSetupError, match=message):
        find_opening(jinja(template))


def test_a_conversation_before_the_open_turn() -> None:
    image = Image.of(b"x")
    said = [Message("user", (image, "Look.")), Message("assistant", ("A cat.",)), Message("user", ())]
    prefix = prefix_of(jinja(chatml("<i>")), said)
    assert prefix == "<|im_start|>user\n<i>Look.<|im_end|>\n<|im_start|>assistant\nA cat.<|im_end|>\n<|im_start|>user\n"
    assert hf_messages(said)[1] == {"role": "assistant", "content": "A cat."}


def test_cut() -> None:
    assert cut("What is it?<|im_end|>\n<|im_start|>assistant", ("<|im_start|>", "<|im_end|>")) == "What is it?"
    assert cut("What is it?", ("<|im_end|>",)) == "What is it?"


# --- templates -----------------------------------------------------------------------------------------------------


def test_helpers_templates_expect() -> None:
    assert jinja("{{ {'a': 'é<'} | tojson }}")([], False) == '{"a": "é<"}'
    assert (
        jinja("{% generation %}x{% endgeneration %}{{ bos_token }}{{ eos_token }}", eos_token="</s>")([], False)
        == "x</s>"
    )
    assert len(jinja("{{ strftime_now('%Y') }}")([], False)) == 4
    assert jinja("{% for i in [1,2,3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}")([], False) == "1"


def test_templates_are_sandboxed() -> None:
    import jinja2

    for attack in ("{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}"):
        with pytest.raises(jinja2.exceptions.SecurityError):
            jinja(attack)([], False)


def test_template_files(tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text("{{ messages | length }}")
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": "{{ eos_token }}", "eos_token": {"content": "</s>"}})
    )
    (tmp_path / "none.json").write_text("{}")
    assert template_file(tmp_path / "t.jinja")([1, 2], False) == "2"  # type: ignore[list-item]
    assert template_file(tmp_path / "tokenizer_config.json")([], False) == "</s>"
    for name, message in (("none.json", "holds no chat_template"), ("gone.jinja", "cannot be read")):
        with pytest.raises(ModelSetupError, match=message):
            template_file(tmp_path / name)
    with pytest.raises(ModelSetupError, match="not valid Jinja"):
        jinja("{% for %}")
