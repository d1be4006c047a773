"""The `datasets` library opens every export, with Image features where it holds pictures."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]
datasets = pytest.importorskip("datasets")

from foveal.data import export, open_source  # noqa: E402
from foveal.record import Chat, Item, Pair, Record  # noqa: E402
from tests.consumers.samples import SIZE, A, B, chats, load_parquet, pairs  # noqa: E402


@pytest.fixture
def load(tmp_path):
    def loaded(*args, **kwargs):
        return datasets.load_dataset(*args, split="train", cache_dir=str(tmp_path / "cache"), **kwargs)

    return loaded


def test_trl(tmp_path):
    export([*chats(), *pairs()], "trl", tmp_path)
    for table, rows in (("sft", 6), ("dpo", 6)):
        data = load_parquet(tmp_path, table)
        assert data.num_rows == rows
        assert data.features["images"] == datasets.List(datasets.Image())
        assert data[0]["images"][0].size == (SIZE, SIZE)
    assert data[1]["chosen"] == [{"role": "assistant", "content": [{"type": "text", "text": "good 1"}]}]


def test_hub_folder(tmp_path, load):
    records = [
        *chats(), *pairs(), Record((A,)), Record((B,), Item("Which?", "a", ("a", "b"))),
        Record((A, B), Pair("What?", "yes", "yes", rejected_images=[1])),
    ]  # fmt: skip
    card = {"license": "cc-by-4.0", "recipe": "steps: []", "funnel": {"kept": 4}, "models": {"vlm": "m"}}
    report = export(records, "hf", tmp_path, title="squares", card=card)
    assert report.rows == len(records)
    names = datasets.get_dataset_config_names(str(tmp_path))
    assert sorted(names) == ["contrast", "dpo", "items", "pictures", "sft"]
    for name in names:
        assert datasets.Image() in (
            f.feature for f in load(str(tmp_path), name).features.values() if hasattr(f, "feature")
        )
    assert load(str(tmp_path), "items")[0]["choices"] == ["a", "b"]
    from huggingface_hub import DatasetCard

    assert DatasetCard.load(tmp_path / "README.md").data.license == "cc-by-4.0"


def test_rows_of_json(tmp_path, load):
    for name, file in (("llava", "llava.json"), ("sharegpt", "sharegpt_sft.jsonl"), ("ms-swift", "swift_sft.jsonl"),
                       ("openai", "openai_sft.jsonl")):  # fmt: skip
        out = tmp_path / name
        report = export(chats(), name, out)
        assert load("json", data_files=str(out / file)).num_rows == report.rows


def test_webdataset(tmp_path, load):
    export([r for r in [*chats(), *pairs()] if len(r.images) == 1], "webdataset", tmp_path)
    data = load("webdataset", data_files=str(tmp_path / "foveal-1-*.tar"))
    assert data.features["jpg"] == datasets.Image()
    assert data[0]["jpg"].size == (SIZE, SIZE)


def test_what_datasets_writes_is_read(tmp_path):
    """Parquet and save_to_disk folders, with pictures found by their type."""
    rows = {"picture": [i.data() for i in (A, B)], "label": [3, 4]}
    features = datasets.Features({"picture": datasets.Image(), "label": datasets.ClassLabel(names=list("abcde"))})
    rows["picture"] = [{"bytes": data, "path": None} for data in rows["picture"]]
    data = datasets.Dataset.from_dict(rows, features=features)
    data.to_parquet(str(tmp_path / "p" / "train.parquet"))
    data.save_to_disk(str(tmp_path / "d"))
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(str(tmp_path / "dd"))
    for folder, times in (("p", 1), ("d", 1), ("dd", 2)):
        found = list(open_source(tmp_path / folder))
        assert [r.images[0] for r in found] == [A, B] * times
        assert found[1].tags["label"] == 4


def test_what_trl_users_have_is_read(tmp_path):
    """The shape of the trl-lib vision data sets: messages as text, pictures in a list."""
    messages = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "That."}]
    text = datasets.Value("string")
    said = datasets.List({"role": text, "content": text})
    features = datasets.Features({"images": datasets.List(datasets.Image()), "messages": said})
    data = datasets.Dataset.from_dict(
        {"images": [[{"bytes": A.data(), "path": None}]], "messages": [messages]}, features=features
    )
    data.to_parquet(str(tmp_path / "train.parquet"))
    (record,) = open_source(tmp_path / "train.parquet")
    assert record.body == Chat([("user", "What?"), ("assistant", "That.")])
    assert record.images == (A,)
