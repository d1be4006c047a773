"""What an export writes, a source reads back as the same words about the same pictures."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from foveal.data import EXPORTS, export, open_source
from foveal.data.turns import forbidden, ordered, pieces, shown
from foveal.record import Chat, Image, Item, Pair, Record, Turn


def _png(seed: int) -> bytes:
    out = io.BytesIO()
    Pillow.new("RGB", (8 + seed, 8), (seed * 40 % 256, 90, 200)).save(out, "PNG" if seed % 2 else "JPEG")
    return out.getvalue()


PICTURES = [Image.of(_png(i)) for i in range(4)]
words = st.text(
    st.one_of(st.characters(codec="utf-8", exclude_characters="\0"), st.sampled_from(list("<image>\n |"))), max_size=12
).filter(lambda t: not forbidden(t) and " ASSISTANT: " not in t)


@st.composite
def contents(draw, images: int, image_turn: bool = True):
    """A turn's content that names each image once or more, or plain text."""
    text = draw(words.filter(bool))
    if not images or not image_turn:
        return text
    found = list(draw(st.permutations(range(images))))
    out = []
    for index in found:
        out += [*draw(st.lists(words, max_size=1)), index]
    return (*out, *draw(st.lists(words, max_size=1)))


@st.composite
def conversations(draw, images: int, end: str):
    turns = [Turn("system", draw(words.filter(bool)))] if draw(st.booleans()) else []
    explicit = draw(st.booleans())
    for number in range(draw(st.integers(1, 3))):
        if number:
            turns.append(Turn("assistant", draw(words)))
        turns.append(Turn("user", draw(contents(images, explicit and number == 0))))
    return (*turns, Turn("assistant", draw(words))) if end == "assistant" else tuple(turns)


@st.composite
def records(draw, pairs: bool = True):
    images = tuple(PICTURES[: draw(st.integers(0, 3))])
    if pairs and draw(st.booleans()):
        prompt = draw(conversations(len(images), "user"))
        chosen, rejected = draw(st.tuples(words, words).filter(lambda p: p[0] != p[1] and p[1] != ""))
        return Record(images, Pair(prompt, chosen, rejected), {"score": draw(st.floats(0, 1))})
    return Record(images, Chat(draw(conversations(len(images), "assistant"))), {"kind": draw(words)})


def meaning(record: Record):
    """The record's words with picture digests where pictures stand: what must survive."""
    body = record.body
    pair = isinstance(body, Pair)
    turns, images = ordered(record, body.prompt, shown(record, body)) if pair else ordered(record, body.turns)
    said = tuple(
        (t.role, tuple(images[p].digest if isinstance(p, int) else p for p in pieces(t.content))) for t in turns
    )
    others = tuple(record.images[i].digest for i in body.rejected_images or ()) if pair else ()
    return said, (body.chosen, body.rejected, *others) if pair else ()


READ = {
    "llava": ["llava.json"],
    "sharegpt": ["sharegpt_sft.jsonl", "sharegpt_dpo.jsonl"],
    "ms-swift": ["swift_sft.jsonl", "swift_dpo.jsonl"],
    "trl": ["sft", "dpo", "contrast"],
    "trl-completion": ["completion", "dpo"],
    "openai": ["openai_sft.jsonl", "openai_dpo.jsonl"],
    "webdataset": [f"foveal-{n}-000000.tar" for n in range(4)],
    "hf": ["sft", "dpo"],
}


def read_back(out: Path, name: str) -> list[Record]:
    found = []
    for part in READ[name]:
        if (out / part).exists():
            found += list(open_source(out / part, root=out))
    return found


@pytest.mark.parametrize("name", sorted(READ))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_identity(name, data):
    given_records = data.draw(st.lists(records(), min_size=1, max_size=5))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        report = export(given_records, name, out)
        back = read_back(out, name)
    assert report.rows + report.skipped.total() == len(given_records)
    assert len(back) == report.rows, (report, back)
    assert all(isinstance(r, Record) for r in back), back
    if name == "llava":
        fit = [r for r in given_records if isinstance(r.body, Chat) and r.body.turns[0].role != "system"]
    else:
        assert not report.skipped, report
        fit = given_records
    assert sorted(map(repr, map(meaning, back))) == sorted(map(repr, map(meaning, fit)))


def test_every_export_is_read_back_here():
    assert set(EXPORTS) == {*READ, "sharegpt-kto", "trl-kto", "ms-swift-kto", "trl-grpo", "ms-swift-grpo"}


@pytest.mark.parametrize(
    ("name", "file"), [("ms-swift-kto", "swift_kto.jsonl"), ("sharegpt-kto", "sharegpt_kto.jsonl"), ("trl-kto", "kto")]
)
def test_judged_answers(tmp_path, name, file):
    prompt = [Turn("user", (0, "What?"))]
    group = [Record(tuple(PICTURES[:2]), Pair(prompt, "a cup", bad)) for bad in ("a hat", "a dog")]
    contrast = Record(tuple(PICTURES[:2]), Pair(prompt, "a cup", "a cup", rejected_images=[1]))
    chat = [("user", "Why?"), ("assistant", "So.")]
    plain, bad = Record((), Chat(chat)), Record((PICTURES[0],), Chat(chat), {"label": False})
    report = export([*group, contrast, plain, bad, Record((), None)], name, tmp_path)
    assert (report.rows, dict(report.skipped)) == (5, {"no shape for a bare picture": 1})
    back = [
        (r.body.question, r.body.answer, r.tags["label"], r.images) for r in open_source(tmp_path / file, root=tmp_path)
    ]
    one, other = (PICTURES[0],), (PICTURES[1],)
    assert back == [
        ("What?", "a cup", True, one), ("What?", "a hat", False, one), ("What?", "a dog", False, one),
        ("What?", "a cup", False, other), ("Why?", "So.", True, ()), ("Why?", "So.", False, one),
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "file"), [("ms-swift-grpo", "swift_grpo.jsonl"), ("trl-grpo", "grpo")])
def test_tasks(tmp_path, name, file):
    given = [
        Record((PICTURES[0],), Item("Which?", "B", ("a cup", "a hat"))),
        Record((PICTURES[0],), Item("Which?")),
        Record(tuple(PICTURES[:2]), Pair([Turn("user", (0, "What?"))], "a cup", "a hat")),
        Record((), Chat([("user", "Why?"), ("assistant", "So.")])),
        Record((), Item("Is it <image>?", "yes")),
    ]
    report = export(given, name, tmp_path)
    assert dict(report.skipped) == {"an item without an answer": 1, "text holds <image>": 1}
    back = [
        (r.body.question, r.body.answer, r.tags["solution"], r.images)
        for r in open_source(tmp_path / file, root=tmp_path)
    ]
    one = (PICTURES[0],)
    assert back == [("Which?\nA. a cup\nB. a hat", "", "B", one), ("What?", "", "a cup", one), ("Why?", "", "So.", ())]


def test_lineage_survives(tmp_path):
    seed = Record((PICTURES[0],), None, {"source": "a.png"})
    record = seed.make(Chat([("user", "What is it?"), ("assistant", "A square.")]), score=4.5, kind="vqa")
    for name in ("llava", "sharegpt", "ms-swift", "trl", "webdataset"):
        out = tmp_path / name
        export([record], name, out)
        back = read_back(out, name)[0]
        assert back.body == record.body, name
        assert back.images == record.images
        tags = back.tags
        assert (tags["id"], tags["parent"], tags["score"], tags["kind"]) == (record.id, seed.id, 4.5, "vqa"), name


def test_pairs_about_two_pictures(tmp_path):
    bodies = [
        Pair("What colour?", "blue", "red", rejected_images=[1]),
        Pair([Turn("user", (0, "What colour?"))], "blue", "blue", rejected_images=[1]),
        Pair("What colour?", "blue", "blue", rejected_images=[1], chosen_images=[0]),
    ]
    for number, body in enumerate(bodies):
        record = Record(tuple(PICTURES[:2]), body)
        for name in ("ms-swift", "trl", "webdataset"):
            out = tmp_path / f"{name}{number}"
            assert export([record], name, out).rows == 1
            assert meaning(read_back(out, name)[0]) == meaning(record), name
        assert export([record], "sharegpt", tmp_path / "s").skipped == {"no shape for sides with different pictures": 1}
