"""`foveal train` through the front door: what it refuses, what it writes, how it goes on after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from foveal.cli import main  # noqa: E402
from foveal.data import export  # noqa: E402
from foveal.record import Chat, Pair, Record  # noqa: E402
from foveal.train.job import Job, train  # noqa: E402
from tests.consumers.samples import A, B, chats, pairs  # noqa: E402
from tests.train.families import saved  # noqa: E402


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Exports and two models."""
    root = tmp_path_factory.mktemp("data")
    export(chats(), "trl", root / "chats")
    export(pairs(), "trl", root / "pairs")
    sides = [Pair("Which?", f"red {i}", f"red {i}", rejected_images=(1,), chosen_images=(0,)) for i in range(4)]
    export([Record((A, B), side) for side in sides], "trl", root / "contrast")
    export([Record((A,), Pair(f"Q{i // 3}?", "good", f"bad {i}")) for i in range(9)], "ms-swift", root / "groups")
    for name in ("llava", "internvl"):
        saved(name, root / name)
    return root


def run(*words):
    return main(["train", *map(str, words)])


def card(folder):
    return json.loads((folder / "card.json").read_text())


def losses(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


# --- what it refuses -------------------------------------------------------------------------------------------------


def lines(folder, *rows):
    folder.mkdir()
    (folder / "rows.jsonl.txt").write_text("")
    (folder / "data.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return folder / "data.jsonl"


PICTURE = "data:image/png;base64," + __import__("base64").b64encode(A.data()).decode()
GOOD = {"images": [PICTURE], "prompt": "What?", "chosen": "a", "rejected": "b"}

BAD = {
    "wrong columns": (("dpo",), [{"foo": 1, "bar": 2}], "rows with foo, bar are of no known form"),
    "no pairs": (("dpo",), [{"images": [PICTURE], "prompt": "What?", "completion": "a"}], "conversations, not pairs"),
    "no side": (("dpo",), [{"images": [PICTURE], "prompt": "What?", "chosen": "a"}], "row of another form"),
    "missing image": (("dpo",), [GOOD, {**GOOD, "images": ["no/such.png"]}], r"row 2: picture unread.*--skip-broken"),
    "placeholders": (("sft",), [{"images": [PICTURE], "messages": [{"role": "user", "content": "<image> or <image>?"},
                     {"role": "assistant", "content": "x"}]}], "more placeholders than pictures: 2 <image>, 1 pict"),
    "placeholder in an answer": (("dpo",), [{**GOOD, "chosen": "a <|im_end|>"}], r"text holds <\|im_end\|>"),
    "same sides": (("dpo",), [{**GOOD, "rejected": "a"}], "chosen and rejected are the same"),
    "unknown loss": (("dpo", "--loss", "mpdo"), [GOOD], "no loss 'mpdo'; did you mean"),
    "unknown knob": (("dpo", "--knob", "bta=1"), [GOOD], "no knob 'bta'"),
    "no contrast": (("dpo", "--loss", "mdpo"), [GOOD], "loss 'image' needs 'rejected_images', which 1 of 1 rows"),
    "no margin": (("dpo", "--loss", "mmdpo"), [GOOD], "loss 'mmdpo' needs 'margin'"),
    "no other rows": (("dpo", "--loss", "hadpo"), [GOOD], "--auxiliary"),
    "contrast with TRL's": (("dpo", "--loss", "ipo"), [{**GOOD, "rejected_images": [PICTURE]}], "no rejected_images"),
    "no label": (("kto",), [{"images": [PICTURE], "prompt": "What?", "completion": "a"}], "answer without a label"),
    "no reward": (("grpo",), [{"images": [PICTURE], "prompt": "What?", "answer": "a"}], "a reward is wanted"),
    "nothing to judge": (("grpo", "--reward", "exact"), [{"images": [PICTURE], "prompt": "What?"}], "no row that rew"),
    "reward for pairs": (("dpo", "--reward", "exact"), [GOOD], "not from rewards"),
    "precomputed whole distributions": (("dpo", "--loss", "chip", "--reference", "precomputed"),
                                        [{**GOOD, "rejected_images": [PICTURE]}], "every choice"),
    "adapter without one": (("dpo", "--reference", "adapter"), [GOOD], "needs --lora"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_told_in_one_sentence_before_a_model_is_loaded(name, tmp_path, capsys):
    import re

    (verb, *options), rows, wanted = BAD[name]
    path = lines(tmp_path / "in", *rows)
    assert run(verb, path, "--model", tmp_path / "no-model", "-o", tmp_path / "out", *options) == 2
    told = capsys.readouterr().err.strip()
    assert re.search(wanted, told), told
    assert told.count("\n") == 0 and told.startswith("foveal: ")


def test_no_data_and_an_empty_file(tmp_path, capsys):
    (tmp_path / "empty.jsonl").write_text("")
    for path, wanted in (("nowhere", "no 'nowhere'"), (tmp_path / "empty.jsonl", "has no rows that can be read")):
        assert run("sft", path, "-o", tmp_path / "out") == 2
        assert wanted in capsys.readouterr().err


@pytest.mark.parametrize(("gone", "wanted"), [("torch", "pip install torch"), ("trl", "pip install 'foveal[train]'")])
def test_without_the_libraries(gone, wanted, data, tmp_path, capsys, monkeypatch):
    import importlib.util

    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == gone else known(n, *a))
    assert run("sft", data / "chats", "-o", tmp_path / "out") == 2
    assert wanted in capsys.readouterr().err


def test_no_model_and_unknown_settings(data, tmp_path, capsys):
    assert run("sft", data / "chats", "--model", tmp_path / "none", "-o", tmp_path / "a") == 2
    assert "transformers cannot load" in capsys.readouterr().err
    setting = ("--set", "learning_rat=1")
    assert run("sft", data / "chats", "--model", data / "llava", "-o", tmp_path / "b", *setting) == 2
    assert "did you mean 'learning_rate'" in capsys.readouterr().err


# --- what it does ----------------------------------------------------------------------------------------------------

VERBS = {
    "sft": ("sft", "chats"),
    "dpo": ("dpo", "pairs"),
    "adapter": ("dpo", "pairs", "--lora", 4, "--reference", "adapter", "--loss", "mpo"),
    "groups": ("dpo", "groups", "--loss", "seva"),
    "contrast": ("dpo", "contrast", "--loss", "image+anchor"),
    "attacked": ("dpo", "contrast", "--loss", "adpo"),
    "trl": ("dpo", "pairs", "--loss", "hinge+sft:0.1", "--lora", 4),
    "kto": ("kto", "pairs", "--lora", 4, "--merge"),
    "grpo": ("grpo", "chats", "--reward", "exact", "--reward", "brief:0.1", "--strict", "verbatim", "--eval", "chats"),
    "rloo": ("rloo", "chats", "--reward", "exact", "--strict", "verbatim"),
}


@pytest.mark.parametrize("model", ["llava", "internvl"])
@pytest.mark.parametrize("name", VERBS)
def test_every_verb(name, model, data, tmp_path):
    verb, source, *options = VERBS[name]
    options = [data / o if o in ("chats", "pairs") else o for o in options]
    if verb in ("grpo", "rloo"):
        options += ["--set", "max_completion_length=4", "--set", "num_generations=2"]
    out = tmp_path / "out"
    fixed = ("--model", data / model, "-o", out, "--steps", 2, "--batch", 2, "--rate", 1e-3)
    assert run(verb, data / source, *fixed, *options) == 0
    written = card(out)
    assert written["state"] == "finished" and written["steps"] == 2
    assert written["data"]["digest"] and written["versions"]["trl"] and written["command"]
    assert len(losses(out)) == 2
    log = (out / "log.jsonl").read_text()
    assert ("strict/verbatim" in log or "rewards/verbatim/mean" in log) == (verb in ("grpo", "rloo"))
    assert f"| data | {data / source} (" in (out / "README.md").read_text()
    from transformers import AutoModelForImageTextToText

    trained = AutoModelForImageTextToText.from_pretrained(out)
    before = AutoModelForImageTextToText.from_pretrained(data / model).state_dict()
    if "--lora" in options and "--merge" not in options:
        assert (out / "adapter_model.safetensors").is_file()
        assert not any("vision" in n for n, _ in trained.named_parameters() if "lora" in n)
        return
    after = trained.state_dict()
    moved = {n for n in before if not torch.equal(before[n], after[n])}
    assert moved or verb in ("grpo", "rloo")  # a model of random weights earns no reward to learn from
    assert not any("vision" in n for n in moved)


def test_groups_are_joined_and_labels_kept(data, tmp_path):
    from foveal.train.data import read

    joined = read(data / "groups", "dpo", tmp_path, grouped=True)
    assert [len(r["rejected"]) for r in joined.rows] == [3, 3, 3]
    assert len(read(data / "groups", "dpo", tmp_path)) == 9
    tagged = [Record((A,), Pair("Q?", f"good {i}", f"bad {i}"), {"group": "x" if i < 2 else "y"}) for i in range(3)]
    export(tagged, "trl", tmp_path / "tagged")
    assert len(read(tmp_path / "tagged", "dpo", tmp_path, grouped=True)) == 3  # the chosen answers differ
    labels = read(data / "pairs", "kto", tmp_path)
    assert [r["label"] for r in labels.rows] == [True, False] * 6


def test_every_answer_of_a_conversation_counts_with_the_pictures_before_it(tmp_path):
    from foveal.record import Turn
    from foveal.train.data import read

    talk = Chat([Turn("user", (0, "One?")), ("assistant", "a"), Turn("user", (1, "Two?")), ("assistant", "b")])
    export([Record((A, B), talk)], "trl", tmp_path / "in")
    found = read(tmp_path / "in", "sft", tmp_path / "out")
    assert [len(r["images"]) for r in found.rows] == [1, 2]
    assert [len(r["prompt"]) for r in found.rows] == [1, 3]


def test_broken_rows_can_be_left_out_and_are_counted(data, tmp_path, capsys):
    path = lines(tmp_path / "in", GOOD, {**GOOD, "images": ["no/such.png"]}, {**GOOD, "chosen": "c"})
    fixed = ("--model", data / "llava", "-o", tmp_path / "out", "--steps", 1, "--batch", 2, "--skip-broken")
    assert run("dpo", path, *fixed) == 0
    assert card(tmp_path / "out")["data"]["left_out"] == {"picture unreadable": 1}
    assert "1 records left out: picture unreadable" in capsys.readouterr().out


def test_the_same_again_is_done_and_another_is_refused(data, tmp_path, capsys):
    fixed = ("--model", data / "llava", "-o", tmp_path / "out", "--batch", 2)
    assert run("dpo", data / "pairs", *fixed, "--steps", 1) == 0
    first = (tmp_path / "out" / "card.json").read_bytes()
    assert run("dpo", data / "pairs", *fixed, "--steps", 1) == 0
    assert "holds this very training, finished" in capsys.readouterr().out
    assert (tmp_path / "out" / "card.json").read_bytes() == first
    assert run("dpo", data / "pairs", *fixed, "--steps", 2) == 2
    assert "holds another training" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")
    assert run("dpo", data / "pairs", "--model", data / "llava", "-o", tmp_path / "other") == 2
    assert "holds other files" in capsys.readouterr().err


def test_answers_of_another_model_are_told(data, tmp_path, capsys):
    mine, other = (
        [Record((A,), Pair(f"Q{i}?", "good", "bad"), {"policy": who}) for i in range(2)]
        for who in (f"hf:{data}/llava", "gpt-9")
    )
    for name, rows, told in (("mine", mine, False), ("other", other, True)):
        export(rows, "trl", tmp_path / name)
        fixed = ("--model", data / "llava", "-o", tmp_path / f"out-{name}", "--steps", 1, "--batch", 2)
        assert run("dpo", tmp_path / name, *fixed) == 0
        assert ("the answers are of gpt-9" in capsys.readouterr().out) == told
        assert bool(card(tmp_path / f"out-{name}")["warnings"]) == told


QUIZ = '''
from foveal.record import Pair, Record
from foveal.models.model import Model

async def quiz(seed: Record, policy: Model) -> Record:
    """Ask what is there; whatever was said is the worse answer."""
    said = await policy.ask("What?", seed.images, max_tokens=4)
    return seed.make(Pair("What?", "good", said or "nothing"))
'''


def test_rounds_make_data_with_the_model_of_the_round_before(data, tmp_path, pictures, capsys):
    (tmp_path / "quiz.py").write_text(QUIZ)
    words = ("dpo", pictures(3), "--rounds", 2, "--method", f"{tmp_path}/quiz.py:quiz", "--model", data / "llava",
             "-o", tmp_path / "out", "--lora", 2, "--steps", 2, "--batch", 2, "--rate", 0.01)  # fmt: skip
    assert run(*words) == 0
    cards = [card(tmp_path / "out" / f"round-{n}" / "model") for n in (1, 2)]
    assert cards[1]["model"]["identity"] == str(tmp_path / "out" / "round-1" / "model")
    runs = [json.loads((tmp_path / "out" / f"round-{n}" / "data" / "run.json").read_text())["models"] for n in (1, 2)]
    assert [m["policy"] for m in runs] == [str(data / "llava"), cards[1]["model"]["identity"]]
    assert [c["warnings"] for c in cards] == [[], []]  # each is trained on its own answers
    told = capsys.readouterr().out
    assert "rewards/margins 0 " in told.split("round 2")[1].split("step 2")[0]  # and starts at its own reference
    assert run(*words) == 0
    assert capsys.readouterr().out.count("holds this very training, finished") == 2


@pytest.mark.parametrize("verb", ["sft", "dpo"])
def test_a_killed_training_goes_on_with_the_same_losses(verb, data, tmp_path):
    """The losses after a SIGKILL are those of a training that nobody killed, the running mean of `mpo` included."""
    source = data / ("pairs" if verb == "dpo" else "chats")
    more = ("--loss", "mpo", "--lora", 4) if verb == "dpo" else ()
    fixed = ("--batch", 2, "--steps", 30, "--save-every", 4, "--rate", 3e-3, "--set", "logging_steps=1", *more)
    words = ["train", verb, source, "--model", data / "llava", *fixed]

    assert main([*map(str, words), "-o", str(tmp_path / "whole")]) == 0
    killed = subprocess.Popen([sys.executable, "-m", "foveal", *map(str, words), "-o", tmp_path / "killed"], env=ENV)
    while not (tmp_path / "killed" / "checkpoint-8" / "trainer_state.json").exists():
        assert killed.poll() is None, killed.returncode
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert card(tmp_path / "killed")["state"] == "running"
    (tmp_path / "killed" / "checkpoint-99").mkdir()  # as a kill leaves one half written
    again = []
    job = replace(
        Job(verb, str(source), str(data / "llava"), str(tmp_path / "killed")), **SAME, **(MORE if more else {})
    )
    train(job, again.append)
    assert again[0].startswith("continuing from checkpoint-")
    whole = losses(tmp_path / "whole")
    assert len(whole) == 30 and losses(tmp_path / "killed") == whole
    assert len(again) <= 24  # it did not begin anew


ENV = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "OMP_NUM_THREADS": "1"}
SAME = {"batch": 2, "steps": 30, "save_every": 4, "rate": 3e-3, "settings": {"logging_steps": 1}}
MORE = {"loss": "mpo", "lora": 4}
