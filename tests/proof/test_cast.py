"""The early checkpoint is who is trained, wherever it comes along."""

from __future__ import annotations

from pathlib import Path

import pytest

from foveal.errors import ModelSetupError
from foveal.proof import cast


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "tokenizer.json").write_text("tokens")
    (folder / "model.safetensors").write_text("weights")
    monkeypatch.setattr(cast, "_packaged", lambda: folder)
    return folder


def test_the_subject_is_the_early_checkpoint_where_there_is_one(package: Path, tmp_path: Path) -> None:
    assert cast.subject() == "small"
    (package / "weak.safetensors").write_text("early weights")
    assert cast.subject() == "small:weak"
    kind, _, folder = cast.settled("small:weak", tmp_path / "proof").partition(":")
    assert kind == "small"
    assert (Path(folder) / "model.safetensors").read_text() == "early weights"
    assert (Path(folder) / "tokenizer.json").read_text() == "tokens"


def test_others_are_left_as_they_are(package: Path, tmp_path: Path) -> None:
    for spec in ("small", "small:weights", "hf:path"):
        assert cast.settled(spec, tmp_path) == spec


def test_no_early_checkpoint_is_told(package: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelSetupError, match="without the embedded model's early checkpoint"):
        cast.settled("small:weak", tmp_path)
