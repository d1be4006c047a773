from __future__ import annotations

import io
import json

import pytest
from PIL import Image as Pillow

from foveal import picture
from foveal.data import EXPORTS, export
from foveal.data.turns import forbidden
from foveal.errors import RecipeError, SetupError
from foveal.record import Chat, Image, Item, Pair, Record, Turn


def image(red: int = 0, mode: str = "RGB", kind: str = "PNG", **how) -> Image:
    out = io.BytesIO()
    Pillow.new("RGB", (9, 7), (red, 0, 0)).convert(mode).save(out, kind, **how)
    return Image.of(out.getvalue())


def chat(text: str = "What?", *images: Image, answer: str = "That.") -> Record:
    return Record(images or (image(),), Chat([("user", text), ("assistant", answer)]))


COMMANDS = [
    "<image>", "<video>", "<audio>", "<bbox>", "<ref-object>", "<|im_start|>", "<|endoftext|>", "<|vision_start|>",
    "<|image_pad|>", "<start_of_turn>", "<image_soft_token>", "<IMG_CONTEXT>", "[INST]", "[IMG]", "</s>", "<s>",
    "<｜begin▁of▁sentence｜>", "<Image>", "<eos>", "<im_start>", "<</SYS>>",
]  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(EXPORTS) - {"webdataset"}))
def test_commands_in_text_are_refused_and_counted(name, tmp_path):
    records = [chat(f"See {c} here") for c in COMMANDS] + [chat(answer=f"See {c} here") for c in COMMANDS]
    records += [Record((image(),), Pair("Q", f"a {c}", "b")) for c in COMMANDS] * (name != "llava")
    report = export([*records, chat("a < b, x <y> z, |p|, <div>, 2<<3")], name, tmp_path)
    assert report.rows == 1
    assert report.skipped.total() == len(records)
    assert all(reason.startswith("text holds ") for reason in report.skipped)


def test_plain_signs_are_no_commands():
    for text in ("a<b", "<p>", "|x|", "<|", "<| |> spaced out", "[1]", "<sub>", "<small>", "</span>", "list<string>"):
        assert forbidden(text) == "" or text == "<| |> spaced out", text


def test_archives_hold_every_text(tmp_path):
    report = export([chat(f"See {c}") for c in COMMANDS], "webdataset", tmp_path)
    assert (report.rows, report.skipped.total()) == (len(COMMANDS), 0)


def test_what_has_no_shape_is_counted(tmp_path):
    records = [
        Record((image(),)),
        Record((image(),), Item("Q", "A")),
        Record((image(),), Pair("Q", "a", "b")),
        Record((image(),), Chat([("user", "Q")])),
        Record((image(),), Chat([("assistant", "A"), ("user", "Q")])),
        Record((image(),), Chat([Turn("user", (3, "Q")), Turn("assistant", "A")])),
        Record((Image.of(b"no picture"),), Chat([("user", "Q"), ("assistant", "A")])),
        Record((image(),), Chat([("system", "S"), ("user", "Q"), ("assistant", "A")])),
        chat("USER: x ASSISTANT: y"),
        chat(),
    ]
    report = export(records, "llava", tmp_path)
    assert report.rows == 1
    assert report.skipped == {
        "no shape for a bare picture": 1, "no shape for an item": 1, "no shape for a pair": 1,
        "conversation does not end with the assistant": 1, "turns do not alternate": 1,
        "names a picture it does not have": 1, "not a picture": 1, "no shape for a system turn": 1,
        "text holds  ASSISTANT: ": 1,
    }  # fmt: skip
    assert export(records, "webdataset", tmp_path / "w").rows == 9


def test_equal_sides_are_no_pair(tmp_path):
    report = export([Record((image(),), Pair("Q", "a", "a"))], "trl", tmp_path)
    assert report.skipped == {"chosen and rejected are the same": 1}


def test_pictures_are_written_once_and_as_the_models_saw_them(tmp_path):
    exif = Pillow.Exif()
    exif[0x0112] = 6
    turned = image(5, kind="JPEG", exif=exif)
    one = image(1)
    export([chat("a", one), chat("b", one), chat("c", turned), chat("d", image(9, "CMYK", "JPEG"))], "llava", tmp_path)
    rows = json.loads((tmp_path / "llava.json").read_text())
    assert len(list((tmp_path / "images").rglob("*.*"))) == 3
    assert rows[0]["image"] == rows[1]["image"] == f"images/{one.digest[:2]}/{one.digest}.png"
    with Pillow.open(tmp_path / rows[2]["image"]) as plain:
        assert plain.size == (7, 9)
    assert picture.inspect((tmp_path / rows[3]["image"]).read_bytes()).format == "png"


def test_files_appear_whole_or_not_at_all(tmp_path):
    def breaks():
        yield chat()
        raise KeyboardInterrupt

    for name in EXPORTS:
        out = tmp_path / name
        export([chat("old")], name, out)
        before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
        with pytest.raises(KeyboardInterrupt):
            export(breaks(), name, out)
        after = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
        assert {p: after[p] for p in before} == before, name
        assert {p.parent.parent.name for p in after.keys() - before.keys()} <= {"images"}, name


@pytest.mark.parametrize("name", sorted(EXPORTS))
def test_same_records_same_bytes(name, tmp_path):
    records = [chat("a", image(1)), chat("b"), Record((image(2),), Pair("Q", "a", "b"))]
    for folder in "12":
        export(records, name, tmp_path / folder)
    one, other = (
        {p.relative_to(tmp_path / f): p.read_bytes() for p in (tmp_path / f).rglob("*") if p.is_file()} for f in "12"
    )
    assert one == other


def test_what_an_earlier_export_left_is_removed(tmp_path):
    export([chat(), Record((image(),), Pair("Q", "a", "b"))], "sharegpt", tmp_path)
    report = export([chat()], "sharegpt", tmp_path)
    assert sorted(p.name for p in report.files) == ["dataset_info.json", "sharegpt_sft.jsonl"]
    assert not (tmp_path / "sharegpt_dpo.jsonl").exists()


def test_shards(tmp_path, monkeypatch):
    from foveal.data import exports, folder

    monkeypatch.setattr(exports, "SHARD", 100)
    monkeypatch.setattr(folder, "SHARD", 100)
    records = [chat(f"{n}", image(n)) for n in range(5)]
    tables = [p.name for p in export(records, "trl", tmp_path / "t").files]
    assert tables[0] == f"train-00000-of-{len(tables):05}.parquet"
    assert len(tables) > 1
    assert len(export(records, "webdataset", tmp_path / "w").files) > 1
    from foveal.data import open_source

    assert len(list(open_source(tmp_path / "t"))) == 5


def test_unknown_name_and_unwritable_folder(tmp_path):
    with pytest.raises(RecipeError, match="did you mean 'llava'"):
        export([], "lava", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="cannot write"):
        export([], "llava", tmp_path / "file")


def test_nothing(tmp_path):
    for name in EXPORTS:
        assert export([], name, tmp_path / name).rows == 0


def test_card(tmp_path):
    card = {
        "license": "cc0-1.0",
        "recipe": "name: x\n```\n# not a heading",
        "funnel": {"kept": 3},
        "prompts": {"hook.md": "ab12"},
    }
    export([chat()], "hf", tmp_path, title="My <b>set</b>", card=card)
    text = (tmp_path / "README.md").read_text()
    import yaml

    head = yaml.safe_load(text.split("---\n")[1])
    assert head["license"] == "cc0-1.0"
    assert head["configs"] == [{"config_name": "sft", "data_files": [{"split": "train", "path": "sft/*.parquet"}]}]
    assert "# My &lt;b>set" in text
    assert "````yaml\nname: x\n```\n# not a heading\n````" in text
    assert "hook.md: ab12" in text


def test_the_page_has_every_export_and_its_example_runs(tmp_path):
    import re
    from pathlib import Path

    import foveal

    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    for name in EXPORTS:
        assert f"| `{name}` |" in page, name
    (example,) = re.findall(r"```python\n(from foveal.*?)```", page, re.DOTALL)
    (tmp_path / "contrast.py").write_text(example)
    (tmp_path / "p.png").write_bytes(image(60).data())
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cup."}]
    (tmp_path / "chats.json").write_text(json.dumps([{"image": "p.png", "conversations": turns}]))
    run = foveal.run(f"{tmp_path}/contrast.py:contrast", tmp_path / "chats.json", out=tmp_path / "out", how="blur:4")
    (row,) = run.records()
    assert row.body == Pair([Turn("user", (0, "What?"))], "A cup.", "A cup.", rejected_images=[1])
    assert export([row], "ms-swift", tmp_path / "swift").rows == 1
    written = json.loads((tmp_path / "swift" / "swift_dpo.jsonl").read_text())
    assert written["images"] != written["rejected_images"]
