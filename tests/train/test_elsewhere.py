"""The commands for other trainers: TRL's own parser takes what is printed for it."""

import shlex

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("trl")

from foveal.cli import main  # noqa: E402


def printed(capsys, *words):
    assert main(["train", *words]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("verb", ["sft", "dpo"])
def test_trl_takes_what_is_printed_for_it(verb, capsys):
    import trl

    kinds = {"sft": trl.SFTConfig, "dpo": trl.DPOConfig}
    more = ("--loss", "dpo+sft:0.2", "--beta", "0.3") if verb == "dpo" else ()
    text = printed(capsys, verb, "run1", "--model", "a/b", "--lora", "8", "--print", "trl", "--steps", "7",
                   "--set", "bf16=false", *more)  # fmt: skip
    export, command = text.split("\n", 1)
    assert export.startswith("foveal export run1 --to trl")
    words = shlex.split(command.replace("\\\n", " "))  # as a shell joins lines
    assert words[:2] == ["trl", verb]
    parser = trl.TrlParser((trl.ScriptArguments, kinds[verb], trl.ModelConfig))
    script, config, model = parser.parse_args_and_config(args=words[2:])
    assert script.dataset_name.startswith("run1/export/trl") and model.model_name_or_path == "a/b"
    assert (model.lora_r, model.lora_alpha, model.use_peft) == (8, 16, True)
    assert config.max_steps == 7 and config.max_length is None
    if verb == "dpo":
        assert (config.loss_type, config.loss_weights, config.beta) == (["sigmoid", "sft"], [1.0, 0.2], 0.3)


@pytest.mark.parametrize("trainer", ["ms-swift", "llamafactory"])
def test_the_others_are_told_loss_and_adapter(trainer, capsys):
    said = printed(capsys, "dpo", "run1", "--model", "a/b", "--lora", "8", "--loss", "ipo+sft:0.5", "--print", trainer)
    assert "ipo" in said and "0.5" in said and "--lora_rank 8" in said and "foveal export run1" in said


@pytest.mark.parametrize(
    ("trainer", "loss", "wanted"),
    [("trl", "mdpo", "trl has no loss 'image'"), ("llamafactory", "seva", "llamafactory has no loss infonce")],
)
def test_what_they_lack_is_told(trainer, loss, wanted, capsys):
    assert main(["train", "dpo", "run1", "--model", "a/b", "--loss", loss, "--print", trainer]) == 2
    assert wanted in capsys.readouterr().err
    assert main(["train", "dpo", "run1", "--print", trainer]) == 2
    assert "trained by foveal alone" in capsys.readouterr().err
