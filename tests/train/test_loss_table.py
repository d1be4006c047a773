"""Names, weights and knobs bind before anything is loaded, and need no torch."""

from __future__ import annotations

import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveal.errors import RecipeError, SourceError
from foveal.train import losses
from foveal.train.loss_table import CONTRAST, LOSSES, PAIR, RECIPES, TRL, parse

NAMES = sorted({*LOSSES, *TRL} - {"infonce", "vdpo"})


def weights(text, **knobs):
    return {t.name: t.weight for t in parse(text, knobs).terms}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sigmoid", {"sigmoid": 1}),
        (" sigmoid + sft:0.2 ", {"sigmoid": 1, "sft": 0.2}),
        ("dpo", {"sigmoid": 1}),
        ("mdpo+sft:1e-2", {"sigmoid": 1, "image": 1, "anchor": 1, "sft": 0.01}),
        ("mdpo:0.5", {"sigmoid": 0.5, "image": 0.5, "anchor": 0.5}),
        ("mpo", {"sigmoid": 0.8, "bco": 0.2, "nll": 1}),
        ("infonce+image+lm:0.5", {"infonce": 1, "image": 1, "lm": 0.5}),
        ("ipo:2+anchor", {"ipo": 2, "anchor": 1}),
    ],
)
def test_mixes(text, expected):
    assert weights(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "knobs", "sentence"),
    [
        ("sigmod", {}, "no loss 'sigmod'; did you mean 'sigmoid'?"),
        ("", {}, "no loss ''"),
        ("sigmoid+", {}, "no loss ''"),
        ("sft:", {}, None),
        ("sft:x", {}, "'sft:x': the weight after the colon is a number above 0"),
        ("sft:0", {}, "a number above 0"),
        ("sft:-1", {}, "a number above 0"),
        ("sft:nan", {}, "a number above 0"),
        ("sft:inf", {}, "a number above 0"),
        ("sigmoid+dpo", {}, "loss 'sigmoid' is in 'sigmoid+dpo' twice"),
        ("seva+sigmoid", {}, "several rejected answers a row and sigmoid has one"),
        ("infonce+ipo", {}, "several rejected answers a row and ipo has one"),
        ("vdpo", {}, "loss 'vdpo' needs gamma"),
        ("sigmoid", {"bta": 1}, "no knob 'bta' in loss 'sigmoid'; did you mean 'beta'?"),
        ("sigmoid", {"simpo.beta": 1}, "no knob 'simpo.beta'"),
        ("sft", {"beta": 1}, "no knob 'beta' in loss 'sft'"),
    ],
)
def test_what_does_not_bind(text, knobs, sentence):
    if sentence is None:
        assert weights(text) == {"sft": 1}
        return
    with pytest.raises(RecipeError, match=re.escape(sentence)):
        parse(text, knobs)


def test_a_knob_for_all_and_one_for_one():
    mix = parse("mdpo+simpo", {"anchor.beta": 0.5, "beta": 0.2, "delta": 1.0})
    assert {t.name: dict(t.knobs) for t in mix.terms} == {
        "sigmoid": {"beta": 0.2}, "image": {"beta": 0.2}, "anchor": {"beta": 0.5, "delta": 1.0}, "simpo": {"beta": 0.2},
    }  # fmt: skip
    assert parse("ipo", {"beta": 0.3}).native == {"ipo": 1}  # TRL's own takes it from its config


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from([0.25, 1, 3.0])), min_size=1, unique_by=lambda t: t[0])
)
def test_a_mix_prints_as_it_is_read(terms):
    text = "+".join(name if weight == 1 else f"{name}:{weight:g}" for name, weight in terms)
    mix = parse(text)
    assert str(mix) == text and str(parse(str(mix))) == text
    assert mix.native.keys() == {n for n, _ in terms} - LOSSES.keys()


def test_columns_and_needs_are_those_of_all_terms():
    mix = parse("mdpo+ddpo+mmdpo")
    assert mix.columns == ("images", "prompt", "chosen", "rejected", "rejected_images", "margin")
    assert mix.needs == {"reference", "rejected_images", "token_weights", "margin"}
    assert parse("simpo+sft").needs == frozenset() and parse("hinge").needs == {"reference"}
    assert parse("mdpo").rejected_sees == parse("povid").rejected_sees == "images"
    assert parse("adpo").needs == {"reference", "attacked"} and parse("adpo").rejected_sees == "rejected_images"
    assert parse("adpo+image").rejected_sees == "images"
    assert parse("sigmoid").rejected_sees == parse("vdpo", {"gamma": 2}).rejected_sees == "rejected_images"


@pytest.mark.parametrize("name", [*LOSSES, *RECIPES, *sorted(TRL)])
def test_a_set_that_lacks_a_column_is_told_so(name):
    mix = parse(name, {"vdpo": {"gamma": 2}}.get(name))
    mix.check(mix.columns)
    mix.check(["image", *mix.columns, "id"])
    for missing in mix.columns:
        with pytest.raises(SourceError, match=f"row-file has no column '{missing}', which loss '") as told:
            mix.check([c for c in mix.columns if c != missing], "row-file")
        assert "\n" not in str(told.value)


def test_one_picture_a_row_may_be_called_image():
    parse("sigmoid").check(["image", "prompt", "chosen", "rejected"])
    with pytest.raises(SourceError, match="has: none"):
        parse("sigmoid").check([])


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_loss_tells_what_it_is(name):
    loss = LOSSES[name]
    assert loss.about and loss.call.__doc__ and (loss.source or name == "sft")
    assert loss.needs_reference == ("reference" in loss.needs)
    assert loss.rejected == ("rejected" in loss.columns)
    assert set(loss.columns) <= {*PAIR, "rejected_images", "margin"}
    assert ("rejected_images" in loss.columns) == bool(loss.needs & CONTRAST)
    assert loss.needs_rejected_images <= ("rejected_images" in loss.columns)
    assert loss.needs_margin == ("margin" in loss.columns)
    assert loss.source in (loss.call.__doc__ or "") or name in {"noisy", "lm"}  # these call another term's function


def test_every_function_says_shapes_and_source():
    public = [f for n, f in vars(losses).items() if inspect.isfunction(f) and not n.startswith("_")]
    assert len(public) >= 14
    for function in public:
        text = inspect.getdoc(function) or ""
        assert "(B,)" in text or "(N," in text, function.__name__
        assert "Source:" in text or function.__name__ == "sft", function.__name__


@pytest.mark.torch
def test_trls_own_are_trls():
    found = importlib.util.find_spec("trl")
    source = (Path(found.origin).parent / "trainer" / "dpo_trainer.py").read_text(encoding="utf-8")
    assert set(re.findall(r'loss_type == "(\w+)"', source)) == TRL | {"sigmoid", "sft"}


def test_names_and_weights_need_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None; import foveal.train.loss_table as t; print(t.parse('mdpo+sft:0.2'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("sigmoid+image+anchor+sft:0.2", 0), done.stderr
