r"""ms-swift's own preprocessor on the ms-swift export.

Its pins clash with a current transformers and trl, so it is installed apart, without its dependencies:
    pip install --no-deps ms-swift==4.6.0 modelscope modelscope_hub requests urllib3 certifi cryptography cffi \
        pycparser charset-normalizer json_repair aiohttp multidict attrs yarl propcache \
        aiohappyeyeballs aiosignal frozenlist
"""

from __future__ import annotations

import importlib.util

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]
if importlib.util.find_spec("swift") is None:
    pytest.skip("ms-swift is not installed", allow_module_level=True)

from foveal.data import export  # noqa: E402
from foveal.record import Pair, Record, Turn  # noqa: E402
from tests.consumers.samples import A, B, chats, pairs  # noqa: E402


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    from swift.dataset import load_dataset

    return lambda name: load_dataset(str(tmp_path / name), num_proc=1, strict=True, load_from_cache_file=False)[0]


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
    record = Record((A, B), Pair([Turn("user", (0, "Which?"))], "this", "this", rejected_images=[1]))
    export([record], "ms-swift", tmp_path)
    (row,) = load("swift_dpo.jsonl")
    assert row["images"][0]["path"] != row["rejected_images"][0]["path"]
    assert row["rejected_messages"][-1]["content"] == "this"
