"""Pairs in the report and in `foveal show`: which words differ, which picture each side saw, untrusted text."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PILImage

import foveal
from foveal.cli import _tell_rows, main
from foveal.models.scripted import Scripted
from foveal.record import Image, Pair, Turn
from foveal.view.analysis import analyse
from foveal.view.charts import pair_charts
from foveal.view.folder import Folder
from foveal.view.pairs import MOST_WORDS, shown, word_diff
from foveal.view.report import write_report
from foveal.view.summary import history
from tests.view.build import Run
from tests.view.test_report import EVIL, Page

STEPS = [{"name": "seva", "step": "seva", "kind": "row"}]
TEXTS = st.lists(st.sampled_from(["a", "b", "c", " ", "\n", ". "]), max_size=40).map("".join)


@given(TEXTS, TEXTS)
def test_the_pieces_are_the_text(one: str, other: str) -> None:
    left, right = word_diff(one, other)
    assert ("".join(t for t, _ in left), "".join(t for t, _ in right)) == (one, other)
    # What is not marked is the same on both sides.
    same = [[w for text, marked in side if not marked for w in text.split()] for side in (left, right)]
    assert same[0] == same[1]


def test_marked_words() -> None:
    left, right = word_diff("A red cup\nstands", "A blue cup stands there")
    assert [t for t, marked in left if marked] == ["red"]
    assert [t for t, marked in right if marked] == ["blue", "there"]


def test_very_long_texts_are_not_compared() -> None:
    assert word_diff("a " * (MOST_WORDS + 1), "b") == ([("a " * (MOST_WORDS + 1), False)], [("b", False)])


def body(**more):
    return {
        "kind": "pair", "prompt": [{"role": "user", "content": [0, "What?"]}], "chosen": "a", "rejected": "b", **more
    }  # fmt: skip


IMAGES = [("d0", "clean.png"), ("d1", "other.png")]


@pytest.mark.parametrize(
    ("given", "tags", "saw", "about"),
    [
        (body(), {}, (["d0"], ["d0"]), ""),
        (body(), {"rejected_saw": ["d1"], "perturb": "blur:6"}, (["d0"], ["d1"]), "blur:6"),
        (body(rejected_images=[1]), {}, (["d0"], ["d1"]), ""),
        (body(chosen_images=[1], rejected_images=[0]), {}, (["d1"], ["d0"]), ""),
        (body(prompt=[{"role": "user", "content": "What?"}]), {}, (["d0", "d1"], ["d0", "d1"]), ""),
        (body(prompt=[{"role": "user", "content": "What?"}], rejected_images=[1]), {}, (["d0"], ["d1"]), ""),
        (body(rejected_images=[7]), {"rejected_saw": "d1"}, (["d0"], ["d0"]), ""),
    ],
)
def test_which_picture_each_side_saw(given, tags, saw, about) -> None:
    pair = shown(given, IMAGES, tags)
    assert tuple([d for d, _ in side.images] for side in pair.sides) == saw
    assert (pair.apart, pair.sides[1].about) == (saw[0] != saw[1], about)


@pytest.mark.parametrize("given", [None, {"kind": "chat", "turns": []}, {"kind": "pair"}, {"kind": "?"}])
def test_what_is_no_pair(given) -> None:
    assert shown(given, IMAGES, {}) is None


# --- the report ----------------------------------------------------------------------------------------------------


def png(level: int) -> Image:
    out = io.BytesIO()
    PILImage.new("RGB", (40, 30), (level, 90, 90)).save(out, "PNG")
    return Image.of(out.getvalue())


def pair(chosen: str, rejected: str) -> Pair:
    return Pair([Turn("user", (0, "What is it?"))], chosen, rejected)


def test_numbers_over_the_set(tmp_path) -> None:
    with Run(tmp_path, steps=STEPS) as run:
        for n, (chosen, rejected) in enumerate(
            [("a b c d", "a"), ("a b", "a"), ("a", "b c"), ("a", "a"), ("x", "a blurry x")]
        ):
            run.make("seva", run.source(), [pair(chosen, rejected)], group="g" if n < 2 else f"g{n}", distance=0.5)
    with Folder(tmp_path) as folder:
        found = analyse(folder)
    lengths = found.pairs.lengths
    assert (lengths.longer, lengths.shorter, lengths.equal, found.pairs.same) == (2, 2, 1, 1)
    assert (found.pairs.several, len(found.pairs.groups)) == (2, 4)
    assert dict(found.pairs.leaking) == {"chosen": 0, "rejected": 1}
    assert "group" not in found.words
    ratio, apart = pair_charts(found.pairs)
    assert sum(b.total for b in ratio.bins) == sum(b.total for b in apart.bins) == 5
    assert {b.label: b.total for b in ratio.bins if b.total} == {
        "0.3 to 0.35 times as long": 1, "0.5 to 0.59 times as long": 1, "1 to 1.2 times as long": 1,
        "2 to 2.4 times as long": 1, "4 to 4.8 times as long": 1,
    }  # fmt: skip
    page = write_report(tmp_path).read_text()
    assert (
        "In 50 % of the pairs whose sides differ in length the chosen side is the longer (2 of 4; 1 of one length)"
        in page
    )
    assert "Up to 2 rejected answers to one question, 4 questions in all." in page
    assert "(“the image is blurry”) in 1 rejected answer." in page
    assert "<b>distance</b>" not in page


def test_no_pairs_no_section(tmp_path) -> None:
    with Run(tmp_path, steps=STEPS) as run:
        run.source()
    assert 'id="pairs"' not in write_report(tmp_path).read_text()


@pytest.fixture
def out(tmp_path, pictures):
    """Return the run folder of SeVa on two pictures, by a model that writes what nobody should run."""

    def say(request):
        seen = next(p for m in request.messages for p in m.parts if not isinstance(p, str))
        return f"{EVIL} seen {'well' if seen.source != 'memory' else 'badly'} \x1b[31m"

    recipe = {"name": "seva", "steps": [{"seva": {"leaks": False}}]}
    foveal.run(recipe, pictures(2), models={"policy": Scripted(say)}, out=tmp_path / "out")
    return tmp_path / "out"


def test_both_pictures_are_shown_side_by_side(out) -> None:
    page = Page(write_report(out).read_text())
    alts = [i["alt"] for i in page.of("img")]
    assert alts.count("the picture that the chosen answer is about") == 2
    assert alts.count("the picture that the rejected answer is about") == 2
    assert alts.count("picture 1 of the record") == 2
    sources = [i["src"] for i in page.of("img")]
    assert len(set(sources)) == 4
    marked = page.text["mark"]
    assert marked == ["well", "badly"] * 2


def test_what_a_model_wrote_is_never_run(out) -> None:
    page = Page(write_report(out).read_text())
    assert len(page.of("script")) == 1
    assert not [a for _, attrs in page.tags for a in attrs if a.startswith("on")]
    assert "{{ 7*7 }}" in "".join(page.text["p"])


def test_show_tells_the_sides_apart(out, capsys) -> None:
    (row, *_) = foveal.runner.folder.load_rows(out)
    said = history(out, row.id)
    assert "\x1b[31m" not in said
    flat = " ".join(said.split())
    assert f"about picture {row.images[1].digest[:12]}, diffusion:500" in flat
    assert f"about picture {row.images[0].digest[:12]}" in flat
    assert flat.index("chosen:") < flat.index("rejected:")
    assert main(["show", str(out)]) == 0


def test_the_end_of_a_run_shows_both_sides(out, capsys) -> None:
    _tell_rows(out)
    first = capsys.readouterr().out.splitlines()[0]
    assert first.count(EVIL[:30]) == 3 and "  not  " in first


def test_a_run_without_a_pair_says_why(tmp_path, pictures, capsys) -> None:
    (tmp_path / "s.yaml").write_text(
        '- {match: "ask one thing", say: "What is it now?"}\n- {match: ".", say: "A cup."}\n'
    )
    words = ["run", "seva", str(pictures(1)), "-o", str(tmp_path / "out"), "--quiet", "--set", "equal=exact"]
    assert main([*words, "--model", f"scripted:{tmp_path / 's.yaml'}"]) == 0
    assert "the same answer either way" in " ".join(capsys.readouterr().out.split())
