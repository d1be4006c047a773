"""Rewards in TRL's own trainers, with the strict metric beside them, on a tiny Llava."""

from __future__ import annotations

import pytest
from PIL import Image

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]
trl = pytest.importorskip("trl")
torch = pytest.importorskip("torch")

from foveal.train.rewards import REWARDS, chosen  # noqa: E402
from foveal.train.watch import HeldOut, greedy  # noqa: E402
from tests.models import tiny  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.make(tmp_path_factory.mktemp("tiny"))


def rows(count):
    question = [{"type": "image"}, {"type": "text", "text": "How many?"}]
    return [
        {
            "images": [Image.new("RGB", (28, 28), (60 * n, 90, 10))],
            "prompt": [{"role": "user", "content": question}],
            "answer": "two", "tags": "{}",
        }
        for n in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize(("trainer", "config"), [(trl.GRPOTrainer, trl.GRPOConfig), (trl.RLOOTrainer, trl.RLOOConfig)])
def test_rewards_and_what_is_watched_stand_in_one_line(folder, tmp_path, trainer, config):
    import datasets
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    functions, weights = chosen(("exact", "brief:0.5"), ("verbatim", "claims"))
    arguments = config(
        output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=4, num_generations=2, logging_steps=1,
        reward_weights=weights, max_completion_length=4, report_to="none", use_cpu=True, bf16=False, disable_tqdm=True,
        gradient_checkpointing=False, save_strategy="no", remove_unused_columns=False, seed=1,
    )  # fmt: skip
    told = []
    watch = HeldOut(rows(3), {"verbatim": REWARDS["verbatim"].call}, greedy(processor, 4, 2), every=2, say=told.append)
    run = trainer(
        model=AutoModelForImageTextToText.from_pretrained(folder), reward_funcs=functions, args=arguments,
        train_dataset=datasets.Dataset.from_list(rows(4)).cast_column("images", datasets.List(datasets.Image())),
        processing_class=processor, callbacks=[watch],
    )  # fmt: skip
    run.train()
    first, *lines = run.state.log_history
    assert first == {"step": 0, "strict/verbatim": 0.0} and told == []
    logs = [line for line in lines if "reward" in line]
    assert [line["step"] for line in logs] == [1, 2]
    assert logs[-1]["strict/verbatim"] == 0.0 and "strict/verbatim" not in logs[0]
    for line in logs:
        assert {f"rewards/{name}/mean" for name in ("exact", "brief", "verbatim", "claims")} <= line.keys()
        assert line["reward"] == pytest.approx(line["rewards/exact/mean"] + 0.5 * line["rewards/brief/mean"], abs=1e-6)


def test_answers_are_the_same_alone_and_in_a_batch(folder):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder).train()
    asked = rows(3)
    asked[1]["prompt"][0]["content"][1] = {"type": "text", "text": "And how many of those are red, I wonder?"}
    together = greedy(processor, 6, 8)(model, asked)
    assert together == [greedy(processor, 6, 1)(model, [row])[0] for row in asked]
    assert model.training and len(together) == 3


def test_pictures_may_be_paths(folder, tmp_path):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    (row,) = rows(1)
    row["images"][0].save(tmp_path / "p.png")
    ask = greedy(processor, 6)
    assert ask(model, [row]) == ask(model, [{**row, "images": [str(tmp_path / "p.png")]}])
