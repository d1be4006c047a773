"""Prompts are files: whose file answers, what a missing variable does, what one run sees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import foveal
from conftest import oasis_answers
from foveal.errors import RecipeError
from foveal.models.scripted import Scripted, words_of
from foveal.models.wire import Request
from foveal.prompts import Prompts, overriding


@pytest.fixture
def prompts(tmp_path: Path) -> Prompts:
    """Return two prompts of a method `mine`."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "kind.md").write_text("Sort this: {{ text }}\n")
    (folder / "loop.md").write_text("{% for x in many %}{{ x }},{% endfor %}")
    return Prompts(folder, "mine")


def test_rendering(prompts: Prompts) -> None:
    said = prompts.kind(text="<b>&{{ x }}")
    assert (said, said.name) == ("Sort this: <b>&{{ x }}", "mine/kind")  # a text is never a template, nor escaped
    assert prompts["loop"](many=[1, 2]) == "1,2,"
    assert prompts.names() == ["kind", "loop"]


def test_a_missing_variable_is_an_error(prompts: Prompts) -> None:
    with pytest.raises(RecipeError, match=r"kind\.md: 'text' is undefined"):
        prompts.kind(txt="x")


def test_an_unknown_prompt_is_named(prompts: Prompts) -> None:
    with pytest.raises(RecipeError, match="mine has no prompt 'knd'; did you mean 'kind'"):
        prompts.knd(text="x")


@pytest.mark.parametrize("place", ["kind.md", "mine/kind.md"])
def test_a_users_file_stands_in(prompts: Prompts, tmp_path: Path, place: str) -> None:
    theirs = tmp_path / "theirs" / place
    theirs.parent.mkdir(parents=True)
    theirs.write_text("Theirs: {{ text }}")
    before = prompts.digests()
    with overriding((tmp_path / "theirs",)):
        assert prompts.kind(text="x") == "Theirs: x"
        assert prompts.loop(many=[]) == ""
        changed = prompts.digests()
    assert prompts.kind(text="x") == "Sort this: x"
    assert changed["loop"] == before["loop"] == prompts.digests()["loop"]
    assert changed["kind"] != before["kind"] == prompts.digests()["kind"]


def test_the_first_folder_wins_and_the_methods_own_place_before_the_common_one(
    prompts: Prompts, tmp_path: Path
) -> None:
    for place in ("a/kind.md", "a/mine/kind.md", "b/kind.md"):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(place)
    with overriding((tmp_path / "a", tmp_path / "b")):
        assert prompts.kind() == "a/mine/kind.md"


def test_a_file_edited_under_way_does_not_count(prompts: Prompts) -> None:
    path = prompts.path("kind")
    with overriding(()):
        prompts.check()
        digests = prompts.digests()
        path.write_text("Other: {{ text }}")
        assert prompts.kind(text="x") == "Sort this: x"
        assert prompts.digests() == digests
    with overriding(()):
        assert prompts.kind(text="x") == "Other: x"
        assert prompts.digests() != digests


BAD = {
    "{{ text": "unexpected end of template",
    "{% if %}{{ text }}{% endif %}": "Expected an expression",
    "{{ txt }}": "no variable 'txt'; did you mean 'text'",
    "\xff": "can't decode",
}


@pytest.mark.parametrize(("text", "said"), BAD.items())
def test_a_bad_file_is_told_before_anything_is_paid(
    pictures: Callable[..., Path], tmp_path: Path, oasis_model: Scripted, text: str, said: str
) -> None:
    (tmp_path / "kind.md").write_bytes(text.encode("latin-1"))
    with pytest.raises(RecipeError, match=said) as error:
        foveal.run("oasis", pictures(2), model=oasis_model, out=tmp_path / "out", prompts=[str(tmp_path)])
    assert str(tmp_path / "kind.md") in str(error.value)
    assert oasis_model.asked == []


def test_a_run_sees_the_text_of_its_beginning(pictures: Callable[..., Path], tmp_path: Path) -> None:
    photos, theirs = pictures(12), tmp_path / "kind.md"
    theirs.write_text("First: instruction or caption? {{ text }}")

    def edit_at_once(request: Request) -> str:
        theirs.write_text("Second: instruction or caption? {{ text }}")
        return oasis_answers(request)

    model = Scripted(edit_at_once)
    foveal.run("oasis", photos, model=model, out=tmp_path / "out", prompts=[str(tmp_path)])
    used = {words_of(r)[:6] for r in model.asked if "instruction or caption?" in words_of(r)}
    assert used == {"First:"}
