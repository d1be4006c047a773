from __future__ import annotations

import math

import orjson
import pytest

import foveal
from foveal.errors import RecipeError
from foveal.models.scripted import Scripted
from foveal.view import catalogue, preview
from foveal.view.preview import estimate, spread
from tests.view.build import Run, chat

STEPS = [{"name": "oasis", "step": "oasis", "kind": "row"}]


@pytest.fixture
def few(tmp_path):
    with Run(tmp_path, steps=STEPS) as run:
        for n in (1, 2, 3):
            source = run.source()
            for k in range(n):
                run.call(
                    source,
                    "oasis/kind",
                    f"call {k}",
                    "yes",
                    tokens=(100, 10),
                    cost=0.01,
                    seconds=2.0,
                    at=1000.0 + k,
                    role="llm",
                )
            run.call(source, "", "answer it", "so be it", tokens=(1000, 50), cost=0.1, seconds=4.0, at=1000.0)
            run.make("oasis", source, [chat("Q?", "A.")] * (n > 1))
    return tmp_path


def test_the_estimate_is_the_mean_times_the_number_of_all(few):
    guess = estimate(few, 1000).to_json()
    assert guess["calls"]["mean"] == pytest.approx(3000)
    assert guess["tokens_in"]["mean"] == pytest.approx(1200 * 1000)
    assert guess["cost"]["mean"] == pytest.approx(0.12 * 1000)
    assert guess["rows"]["mean"] == pytest.approx(1000 * 2 / 3)
    assert [(b["role"], b["calls"]["mean"]) for b in guess["by"]] == [
        ("llm", pytest.approx(2000)),
        ("vlm", pytest.approx(1000)),
    ]
    assert orjson.loads(orjson.dumps(guess)) == guess


def test_the_spread_is_students(few):
    calls = estimate(few, 1000).to_json()["calls"]
    half = 4.30 * 1.0 / math.sqrt(3)  # t of 2 degrees of freedom; the counts 2, 3, 4 have a standard deviation of 1
    assert (calls["low"], calls["high"]) == (pytest.approx((3 - half) * 1000), pytest.approx((3 + half) * 1000))


def test_one_record_tells_no_spread():
    assert (spread([7.0], 10).mean, spread([7.0], 10).low) == (70.0, None)
    assert spread([5.0] * 40, 2) == preview.Spread(10.0, 10.0, 10.0)
    assert spread([0.0, 10.0], 1).low == 0.0  # there are no negative calls


def test_time_is_model_time_over_the_overlap_of_the_preview(few):
    guess = estimate(few, 1000)
    # 6 short calls of 2 s and 3 of 4 s, begun between 1000 and 1002: busy for 4 s.
    assert guess.overlap == pytest.approx((6 * 2 + 3 * 4) / 4)
    assert guess.seconds == pytest.approx(8 * 1000 / 6)


def test_no_price_is_no_cost(tmp_path):
    with Run(tmp_path, steps=STEPS) as run:
        for _ in range(2):
            run.call(run.source(), "p", "w", "s", cost=None)
    assert estimate(tmp_path, 10).to_json()["cost"] is None


def test_every_prompt_and_answer_is_shown(tmp_path, pictures, oasis_model: Scripted, capsys):
    foveal.run("oasis", pictures(4), model=oasis_model, out=tmp_path / "out")
    preview.show(tmp_path / "out", 4000)
    text = " ".join(capsys.readouterr().out.split())
    assert "record 4 of 4" in text
    assert "24x16 png, 0 kB, " in text
    assert text.count("user (turn left open): ") == 4
    assert "Estimate for all 4,000 records, from 4" in text
    preview.show(tmp_path / "out", None, as_json=True)
    told = orjson.loads(capsys.readouterr().out)
    assert (told["total"], told["records"]) == (None, 4)
    assert told["calls"]["mean"] == pytest.approx(len(oasis_model.asked) / 4)


# --- the catalogue -------------------------------------------------------------------------------------------------


def test_methods_as_json():
    (oasis,) = [m for m in orjson.loads(catalogue.show(as_json=True)) if m["name"] == "oasis"]
    assert (oasis["kind"], oasis["paper"], oasis["roles"]) == ("chat", "2503.08741", ["vlm", "llm"])
    assert oasis["knobs"]["proposer"] == {"type": "hook | prompt", "default": "hook"}


def test_one_method_has_its_page():
    told = orjson.loads(catalogue.show("oasis", as_json=True))
    assert told["knobs"]["top_p"]["about"] == "of the sampled texts."
    assert told["roles_about"]["vlm"].startswith("sees the picture")
    assert "Answer with one word" in told["prompts"]["kind"]
    text = catalogue.show("oasis")
    assert "https://arxiv.org/abs/2503.08741" in text
    assert all(knob in text for knob in told["knobs"])


def test_the_nearest_method_is_named():
    with pytest.raises(RecipeError, match="did you mean 'oasis'"):
        catalogue.show("oassis")
