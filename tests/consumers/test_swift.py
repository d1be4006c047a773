"""ms-swift's own preprocessor on the ms-swift export.

Its pins clash with a current transformers and trl, so scripts/test-consumers installs it apart, without its
dependencies.
"""

from __future__ import annotations

import importlib.util

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]
if importlib.util.find_spec("swift") is None:
    pytest.skip("not installed: scripts/test-consumers runs this", allow_module_level=True)

from foveal.data import export  # noqa: E402
from tests.consumers.samples import A, chats, contrast, pairs, parsed_by, printed, spoilt  # noqa: E402


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    from swift.dataset import load_dataset

    def load(name, **more):
        return load_dataset(str(tmp_path / name), num_proc=1, strict=True, load_from_cache_file=False, **more)[0]

    return load


def test_chats(tmp_path, load):
    report = export(chats(), "ms-swift", tmp_path)
    data = load("swift_sft.jsonl")
    assert data.num_rows == report.rows == 6
    assert data[2]["messages"][0]["content"] == "Left <image> right <image> which?"
    for row in data:
        marks = sum(m["content"].count("<image>") for m in row["messages"])
        assert marks == len(row["images"] or [])
        assert all((tmp_path / image["path"]).is_file() for image in row["images"] or [])


def test_pairs(tmp_path, load):
    export(pairs(), "ms-swift", tmp_path)
    data = load("swift_dpo.jsonl")
    assert [(r["messages"][-1]["content"], r["rejected_response"]) for r in data] == [
        (f"good {i}", f"bad {i}") for i in range(6)
    ]


def test_pairs_about_two_pictures(tmp_path, load):
    export([contrast()], "ms-swift", tmp_path)
    (row,) = load("swift_dpo.jsonl")
    assert row["images"][0]["path"] != row["rejected_images"][0]["path"]
    assert row["rejected_messages"][-1]["content"] == "this"


def test_a_picture_that_no_turn_names_is_not_shown(tmp_path, load):
    export([spoilt()], "ms-swift", tmp_path)
    (row,) = load("swift_dpo.jsonl")
    assert (row["messages"][-1]["content"], row["rejected_response"]) == ("good", "bad")
    assert [A.digest in image["path"] for image in row["images"]] == [True]
    assert not row.get("rejected_images")


def test_judged_answers(tmp_path, load):
    export(pairs(), "ms-swift-kto", tmp_path)
    data = load("swift_kto.jsonl")
    assert [bool(label) for label in data["label"]] == [True, False] * 6
    assert [row["messages"][-1]["content"] for row in data][:2] == ["good 0", "bad 0"]


def test_tasks(tmp_path, load):
    export(pairs(), "ms-swift-grpo", tmp_path)
    data = load("swift_grpo.jsonl", remove_unused_columns=False)  # as its GRPO does, for the rewards
    assert data["solution"] == [f"good {i}" for i in range(6)]
    assert {row["messages"][-1]["role"] for row in data} == {"user"}


@pytest.mark.parametrize(
    ("verb", "more"), [("sft", ()), ("dpo", ("--loss", "ipo+sft:0.2", "--beta", "0.3")), ("kto", ())]
)
def test_its_parser_takes_what_is_printed_for_it(verb, more, capsys):
    from swift.arguments import RLHFArguments, SftArguments

    parsed = parsed_by([SftArguments if verb == "sft" else RLHFArguments], printed(capsys, "ms-swift", verb, *more))
    assert (parsed.tuner_type, parsed.lora_rank, parsed.max_steps, parsed.freeze_vit) == ("lora", 8, 7, True)
    if verb != "sft":
        assert parsed.rlhf_type == verb
    if verb == "dpo":
        assert (parsed.loss_type, parsed.rpo_alpha, parsed.beta) == (["ipo"], 0.2, 0.3)
