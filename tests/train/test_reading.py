"""Pictures encoded once a context give what plain forward passes give, on three architectures."""

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from foveal.train.reading import Collector, read  # noqa: E402
from tests.train import plain  # noqa: E402
from tests.train.families import NAMES, make  # noqa: E402
from tests.train.plain import prompt  # noqa: E402


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return plain.photos(tmp_path_factory.mktemp("photos"))


ROWS = [
    ((0,), "What is it?", ("A red one.", "Two blue squares, perhaps.", "No.")),
    ((1,), "And this, which is longer?", ("Blue.",)),
    ((), "No picture?", ("None at all.", "Some.")),
    ((2, 0), "Two?", ("Both.", "Neither of them")),
]


@pytest.mark.parametrize("name", NAMES)
def test_same_as_one_by_one(name, photos):
    model, processor = make(name)
    collector, wanted = Collector(processor), []
    for shown, question, answers in ROWS:
        images, asked = [photos[i] for i in shown], prompt(question, len(shown))
        for answer in answers:
            collector.add(images, asked, answer)
            wanted.append(plain.tokens(model, processor, images, asked, answer))
    assert len(collector.contexts) == len(ROWS)
    with torch.no_grad():
        found = read(model, collector.reading(), logits=True)
    for row, want in enumerate(wanted):
        got = found.logps[row][found.mask[row].bool()]
        assert torch.allclose(got, want, atol=1e-5), (row, got - want)
        again = found.logits[row].log_softmax(-1)[: len(want)]
        assert torch.allclose(again.max(-1).values.clamp(max=0), again.max(-1).values)


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_encoded_once_and_learns_from_every_answer(name, photos):
    model, processor = make(name)
    seen = []
    tower = model.get_encoder(modality="image")
    tower.register_forward_pre_hook(
        lambda m, args, kwargs: seen.append((args or (kwargs["pixel_values"],))[0].shape), with_kwargs=True
    )
    answers = ["One.", "Two three.", "Four"]

    def gradient(each_alone):
        model.zero_grad()
        batches = [[a] for a in answers] if each_alone else [answers]
        for batch in batches:
            collector = Collector(processor)
            for answer in batch:
                collector.add([photos[0]], prompt("What?"), answer)
            found = read(model, collector.reading())
            (found.logps * found.mask).sum().backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    together = gradient(False)
    assert len(seen) == 1
    alone = gradient(True)
    assert len(seen) == 4 and seen[1] == seen[0]
    assert {n for n in together if "vision" in n or "visual" in n}
    for name_, value in alone.items():
        assert torch.allclose(value, together[name_], atol=1e-4), name_


def test_the_length_limit_cuts_answers_and_refuses_prompts(photos):
    from foveal.errors import SetupError

    model, processor = make("llava")
    collector = Collector(processor, longest=40)
    collector.add([photos[0]], prompt("What?"), "A very long answer that goes on and on.")
    reading = collector.reading()
    assert reading["tokens"]["input_ids"].shape[1] == 40
    with torch.no_grad():
        assert read(model, reading).mask.sum() == reading["answer"].sum()
    short = Collector(processor, longest=8)
    short.add([photos[0]], prompt("What?"), "A")
    with pytest.raises(SetupError, match="leaves no room for its answer"):
        short.reading()
