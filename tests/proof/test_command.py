"""`foveal prove` through the front door, where nothing is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foveal.cli import main
from foveal.commands import prove
from foveal.proof.claim import all_claims


def test_it_lists_every_claim_with_its_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prove", "--list"]) == 0
    said = capsys.readouterr().out
    for claim in all_claims().values():
        assert claim.name in said
        assert all(e.says in said for e in claim.expects)


def test_the_plan_is_for_what_was_asked(capsys: pytest.CaptureFixture[str]) -> None:
    plans = []
    for asked in (["seva"], ["seva", "--arms", "seva-500"], ["seva", "--seeds", "1"], ["seva", "--smoke"]):
        assert main(["prove", *asked, "--plan", "--json"]) == 0
        plans.append(json.loads(capsys.readouterr().out))
    whole, arm, seed, smoke = plans
    assert whole["seconds"] > arm["seconds"] > smoke["seconds"] > 0
    assert whole["seconds"] == pytest.approx(3 * seed["seconds"], rel=0.01)
    assert arm["trainings"] == 1
    assert main(["prove", "--plan"]) == 0
    assert "in all: about" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["sevo"], "no claim is called 'sevo'; did you mean 'seva'"),
        (["--arms", "seva-500"], "--arms are of one claim: name it"),
        (["seva", "--arms", "seva-5"], "no arm is called 'seva-5'"),
        (["seva", "--seeds", "0"], "--seeds and --workers are whole numbers from 1 up"),
        (["seva", "--held", "1"], "--held from 2"),
    ],
)
def test_what_does_not_fit_is_one_sentence(asked: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prove", *asked, "--plan"]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(("missing", "extra"), [("numpy", "evals"), ("resvg_py", "scrapbook")])
def test_a_missing_part_is_named_with_its_pip_line(
    missing: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(prove, "find_spec", lambda name: None if name == missing else True)
    assert main(["prove", "seva", "-o", str(tmp_path / "out")]) == 2
    assert f"pip install 'foveal[{extra}]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
