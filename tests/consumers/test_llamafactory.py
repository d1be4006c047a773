"""LLaMA-Factory's own loader and converter on the sharegpt export.

Its pins clash with a current transformers, so scripts/test-consumers installs it apart, without its dependencies.
torchaudio, which its data code imports for audio alone, is stood in for by an empty module when absent.
"""

from __future__ import annotations

import importlib.util
import sys
import types

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]
if importlib.util.find_spec("llamafactory") is None:
    pytest.skip("not installed: scripts/test-consumers runs this", allow_module_level=True)
if importlib.util.find_spec("torchaudio") is None:
    import transformers  # noqa: F401 - it looks for torchaudio, and must not find what stands in for it

    sys.modules["torchaudio"] = types.ModuleType("torchaudio")

from llamafactory.data.loader import _load_single_dataset  # noqa: E402
from llamafactory.data.parser import get_dataset_list  # noqa: E402
from llamafactory.hparams import DataArguments, ModelArguments  # noqa: E402

from foveal.data import export  # noqa: E402
from tests.consumers.samples import A, chats, contrast, pairs, parsed_by, printed, spoilt  # noqa: E402


def load(out, name):
    from transformers import Seq2SeqTrainingArguments

    model = ModelArguments(model_name_or_path="none", cache_dir=str(out / "cache"))
    data = DataArguments(dataset=[name], dataset_dir=str(out), media_dir=str(out))
    training = Seq2SeqTrainingArguments(output_dir=str(out / "run"), report_to="none", use_cpu=True, bf16=False)
    (attributes,) = get_dataset_list([name], str(out))
    return _load_single_dataset(attributes, model, data, training)


def test_chats(tmp_path):
    report = export(chats(), "sharegpt", tmp_path)
    data = load(tmp_path, "foveal_sft")
    assert data.num_rows == report.rows == 6
    assert data[1]["_system"] == "Be brief."
    assert data[2]["_prompt"] == [{"role": "user", "content": "Left <image> right <image> which?"}]
    assert data[2]["_response"] == [{"role": "assistant", "content": "The second."}]
    for row in data:  # its converter drops what it cannot align by emptying it
        assert row["_response"], row
        marks = sum(m["content"].count("<image>") for m in row["_prompt"])
        assert marks == len(row["_images"] or [])


def test_pairs(tmp_path):
    export(pairs(), "sharegpt", tmp_path)
    data = load(tmp_path, "foveal_dpo")
    assert [[m["content"] for m in row["_response"]] for row in data] == [[f"good {i}", f"bad {i}"] for i in range(6)]
    assert all(path.startswith(str(tmp_path)) for row in data for path in row["_images"])


def test_judged_answers(tmp_path):
    export(pairs(), "sharegpt-kto", tmp_path)
    data = load(tmp_path, "foveal_kto")
    assert [[m["content"] for m in row["_response"]] for row in data][:2] == [["good 0", ""], ["", "bad 0"]]
    assert all(len(row["_images"]) == row["_prompt"][0]["content"].count("<image>") == 1 for row in data)


@pytest.mark.parametrize(
    ("verb", "more"), [("sft", ()), ("dpo", ("--loss", "dpo+sft:0.2", "--beta", "0.3")), ("kto", ())]
)
def test_its_parser_takes_what_is_printed_for_it(verb, more, capsys):
    parsed = parsed_by(classes(), printed(capsys, "llamafactory", verb, *more))
    assert (parsed.stage, parsed.finetuning_type, parsed.lora_rank, parsed.max_steps) == (verb, "lora", 8, 7)
    if verb == "dpo":
        assert (parsed.pref_loss, parsed.pref_ftx, parsed.pref_beta) == ("sigmoid", 0.2, 0.3)


def classes():
    from llamafactory import hparams

    return [hparams.ModelArguments, hparams.DataArguments, hparams.TrainingArguments, hparams.FinetuningArguments]


def test_a_picture_that_no_turn_names_is_not_shown(tmp_path):
    report = export([spoilt(), contrast()], "sharegpt", tmp_path)
    assert dict(report.skipped) == {"no shape for sides with different pictures": 1}
    (row,) = load(tmp_path, "foveal_dpo")
    assert [m["content"] for m in row["_response"]] == ["good", "bad"]
    assert row["_prompt"] == [{"role": "user", "content": "<image>What is it?"}]
    assert [A.digest in path for path in row["_images"]] == [True]
