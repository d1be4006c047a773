"""The embedded model through its front door. Pictures need the fetched tower; the rest runs on features made here."""

import json
from io import BytesIO

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from PIL import Image as Pillow

from foveal.errors import ImageError
from foveal.methods.oasis.method import P
from foveal.models.local import SENTINEL, check_open_turn
from foveal.models.small import Small, SmallVLM
from foveal.models.small.decoder import gelu, read_safetensors
from foveal.models.small.tower import HIDDEN, PATCHES, WIDTH, opened, pixels
from foveal.models.wire import Message, Request
from foveal.record import Image

HOOK = {"temperature": 1.0, "top_k": 20, "min_tokens": 2, "max_tokens": 60}


class FakeTower:
    """Features drawn from the picture's digest."""

    def features(self, images):
        return [
            np.random.default_rng(int(i.digest[:8], 16)).normal(size=(PATCHES, WIDTH)).astype(np.float32)
            for i in images
        ]


@pytest.fixture(scope="module")
def small():
    return SmallVLM(tower=FakeTower())


def ask(text, n=0, images=1, **how):
    shown = tuple(Image.of(f"{n} {k}".encode()) for k in range(images))
    return Request((Message("user", (*shown, text) if text else shown),), open_turn=not text, **how)


@pytest.mark.parametrize(
    "text", ["What is on the left?", "näïve ☃ 12\n\n 3.5", "", "a  b\t\n", "<|user|> <image>", "x" * 300]
)
def test_text_comes_back(small, text):
    assert small.tokenizer.decode(small.tokenizer.encode(text)) == text
    assert small.tokenizer.decode(small.tokenizer.encode(text, lines=False)) == text


def test_special_tokens_cannot_be_written(small):
    specials = set(small.tokenizer.ids.values())
    assert not specials & set(small.tokenizer.encode("<|end|><|assistant|><image><|user|>"))


def test_own_prompts_are_short(small):
    prompts = [
        P.grounded(instruction="Where is the cat?"),
        P.sensible(instruction="Where is the cat?"),
        P.kind(text="A cat."),
    ]
    assert all(len(small.tokenizer.encode(p)) < 40 for p in prompts)


def test_answers_do_not_depend_on_the_batch(small):
    requests = [ask(None, n, sampling=HOOK, seed=n) for n in range(4)]
    requests += [
        ask("What is on the left?", 7),
        ask(P.kind(text="A cat."), images=0, choices=("instruction", "caption")),
    ]
    together = small.generate(requests)
    alone = [small.generate([r])[0] for r in reversed(requests)][::-1]
    assert [r.text for r in together] == [r.text for r in alone]
    assert all(
        abs(a.probs[c] - b.probs[c]) < 1e-4 for a, b in zip(together, alone, strict=True) if a.probs for c in a.probs
    )


def test_seed_decides(small):
    def say(seed):
        return small.generate([ask(None, 1, sampling=HOOK, seed=seed)])[0].text

    assert say(1) == say(1)
    assert len({say(seed) for seed in range(6)}) > 1


def test_choices_have_probabilities(small):
    reply = small.generate([ask(P.grounded(instruction="Where is the cat?"), choices=tuple("12345"))])[0]
    assert reply.text == max(reply.probs, key=reply.probs.get)
    assert 0.5 < sum(reply.probs.values()) <= 1.0001


def test_limits_and_stops(small):
    short = small.generate([ask("Describe the picture.", sampling={"max_tokens": 3})])[0]
    assert (short.finish, short.tokens_out) == ("length", 3)
    stopped = small.generate([ask("Describe the picture.", sampling={"stop": [" is "], "max_tokens": 60})])[0]
    assert " is " not in stopped.text
    long = small.generate([ask("Say hi.", sampling={"min_tokens": 30, "max_tokens": 30})])[0]
    assert long.tokens_out == 30


def test_several_pictures_long_prompts_and_turns(small):
    replies = small.generate([ask("What is on the left?", images=3), ask("word " * 3000), ask("Hello.", images=0)])
    assert all(r.text for r in replies)
    image = Image.of(b"1")
    turns = (
        Message("user", (image, "What is on the left?")),
        Message("assistant", ("A cat.",)),
        Message("user", ("And on the right?",)),
    )
    assert small.generate([Request(turns, sampling={"max_tokens": 20})])[0].text
    assert small.generate([Request((Message("system", ("Be brief.",)), *turns), sampling={"max_tokens": 20})])[0].text


def test_nothing_asked_nothing_answered(small):
    assert small.generate([]) == []


def test_open_turn_passes_the_sentinel(small):
    check_open_turn(small)
    assert small.render([Message("user", (Image.of(b"1"), SENTINEL))], True) == f"<|user|><image>{SENTINEL}"


@pytest.mark.parametrize("many", [True, False])
def test_json_shape(small, many):
    text = "1. Is there a cat in the picture?\n2. What is on the left?"
    said = small.generate([ask(P.extract(text=text, many=many), images=0, sampling={"max_tokens": 80})])[0].text
    found = json.loads(said)["instructions"]
    assert len(found) == 1 + many
    assert all(isinstance(f, str) and f.endswith("?") for f in found)


def test_sorts_texts(small):
    requests = [
        ask(P.kind(text=t), images=0, choices=("instruction", "caption"))
        for t in ("Where is the cat?", "A cat on the left and a dog on the right.")
    ]
    assert [r.text for r in small.generate(requests)] == ["instruction", "caption"]


def test_backend_shows_tokens():
    backend = Small()
    request = ask("What is on the left?")
    ids = backend.prompt_ids(request, generation=True)
    assert backend.decode(ids[-2:]) == "<|end|><|assistant|>"
    assert backend.prompt_ids(request, generation=False) == ids[:-1]
    assert backend.identity.startswith("foveal-small@")


def test_gelu():
    assert np.allclose(
        gelu(np.array([-2.0, -0.5, 0, 0.5, 2.0], np.float32)),
        [-0.0455003, -0.1542687, 0, 0.3457313, 1.9544997],
        atol=1e-6,
    )


def test_weights_fit_the_package():
    from importlib import resources

    path = resources.files("foveal.models.small") / "model.safetensors"
    weights, shape = read_safetensors(path)
    assert sum(w.size for w in weights.values()) < 10_000_000
    assert path.stat().st_size < 25_000_000
    assert shape["vocabulary"] == len(weights["embed_tokens.weight"])


def test_edits_of_the_graph():
    added = opened(b"model").removeprefix(b"model")
    assert added[0] == 7 << 3 | 2  # another graph, which protobuf merges with the first
    assert added[1] == len(added) - 2
    assert HIDDEN.encode() in added


@pytest.mark.parametrize("data", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n broken"])
def test_unreadable_pictures_fail_alone(data):
    with pytest.raises(ImageError):
        pixels(data)


@pytest.mark.small
def test_real_pictures_end_to_end():
    small = SmallVLM()
    images = []
    for mode in ("RGB", "L", "P", "RGBA", "CMYK"):
        out = BytesIO()
        Pillow.new(mode, (300, 200)).save(out, "TIFF")
        images.append(Image.of(out.getvalue()))
    hooks = [Request((Message("user", (image,)),), open_turn=True, sampling=HOOK) for image in images]
    assert all(reply.text for reply in small.generate(hooks))


def test_weaker_checkpoint_is_another_model():
    from importlib import resources

    from foveal.models.connect import connect

    weak, strong = connect("small:weak"), connect("small")
    assert weak.identity.startswith("foveal-small-weak@")
    assert weak.identity.split("@")[1] != strong.identity.split("@")[1]
    assert (resources.files("foveal.models.small") / "weak.safetensors").stat().st_size < 8_000_000
    request = ask("What is on the left?", 3)
    assert weak.prompt_ids(request, generation=True) == strong.prompt_ids(request, generation=True)


def test_several_see_with_one_tower():
    tower, seen = FakeTower(), []
    features = tower.features
    tower.features = lambda images: seen.append(len(images)) or features(images)
    for model in (Small(), Small()):
        model.see_with(tower)
        model._small.generate([ask("What is it?")])
    assert seen == [1, 1]
