"""From a user's words to a backend."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from foveal.errors import MissingExtra, ModelSetupError
from foveal.models.connect import ModelSpec, connect, spec_of
from foveal.models.openai import OpenAIBackend
from foveal.models.prices import cost, price_of
from foveal.models.scripted import Scripted


def test_shorthands(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("- {match: '.', say: hi}")
    assert isinstance(connect("http://localhost:8000/v1"), OpenAIBackend)
    assert isinstance(connect({"model": "m", "url": ["http://a:1/v1", "https://b/v1"]}), OpenAIBackend)
    assert isinstance(connect(f"scripted:{tmp_path / 's.yaml'}"), Scripted)
    assert spec_of("small").is_small and not spec_of({"model": "small", "url": "http://x"}).is_small


@pytest.mark.parametrize("name", ["gpt-4o", "hf:", "", "scripted:"])
def test_a_name_alone_needs_a_url(name: str) -> None:
    with pytest.raises(ModelSetupError, match="needs a url"):
        connect(name)


def test_a_missing_extra_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "foveal.models.hf", raising=False)
    with pytest.raises(MissingExtra, match=r"foveal\[hf\]"):
        connect("hf:some/model")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"modle": "x"}, "modle"),
        ({"concurrency": 0}, "concurrency"),
        ({"sampling": {"temprature": 1}}, "unknown sampling temprature"),
        ({"price": {"input": 1}}, "price"),
        ({"price": {"input": 1, "output": 2, "cached": 1}}, "cached"),
    ],
)
def test_settings_are_checked(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ModelSetupError, match=message):
        spec_of(fields)


def test_values_are_not_repeated_in_errors() -> None:
    with pytest.raises(ModelSetupError) as error:
        spec_of({"model": "m", "url": 5, "key": "sk-secret"})
    assert "secret" not in str(error.value)


def test_describe_shows_no_secrets() -> None:
    spec = ModelSpec(model="m", url=["http://u:pw@a:1/v1?key=s", "http://b:2/v1"])
    assert spec.describe() == "m at http://a:1/v1, http://b:2/v1"
    assert spec_of("small").describe() == "small"


def test_prices() -> None:
    assert price_of("gpt-4o-mini") == (0.15, 0.60)
    assert price_of("my-model") is None and cost("my-model", 1, 1) is None
    assert price_of("my-model", {"input": 1, "output": 2}) == (1.0, 2.0)
    assert cost("gpt-4o-mini@2024-07-18", 1_000_000, 500_000) == pytest.approx(0.45)
