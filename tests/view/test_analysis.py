from __future__ import annotations

import itertools
import math

import pytest

from foveal.view.analysis import Numbers, analyse, histogram
from foveal.view.folder import Folder
from tests.view.build import Run, chat

STEPS = [{"name": "oasis", "step": "oasis", "kind": "row"}]
MARKS = ("1", "2", "3", "4", "5")


def of(*values: float) -> Numbers:
    numbers = Numbers()
    for value in values:
        numbers.add(value)
    return numbers


@pytest.fixture
def found(tmp_path):
    with Run(tmp_path, steps=STEPS) as run:
        questions = [
            "What color is the car?",
            "What color is the car?",
            "Describe the old car.",
            "¿De qué color es el coche?",
        ]
        for n, question in enumerate(questions):
            source = run.source()
            run.make(
                "oasis",
                source,
                [chat(question, "Red " * (n + 1))],
                sensible=4 + n / 4,
                proposer="hook" if n else "prompt",
                sample=n,
            )
            run.call(
                source,
                "oasis/sensible",
                question,
                "5",
                choices=MARKS,
                probs={"4": 0.5, "5": 0.5},
                tokens=(10, 1),
                cost=0.5,
                seconds=n + 1,
            )
        dropped = run.source()
        run.end("oasis", dropped, "dropped", "instruction: not sensible")
        run.call(
            dropped, "oasis/sensible", "x", "I give it 2", choices=MARKS, tokens=(10, 1), finish="length", seconds=10
        )
        failed = run.source()
        run.end("oasis", failed, "failed", "unusable reply")
        run.call(failed, "oasis/sensible", "y", "who knows", choices=MARKS, tokens=(10, 1), seconds=1)
        run.call(
            failed,
            "oasis/kind",
            "z",
            "caption",
            choices=("instruction", "caption"),
            probs={"caption": 0.6, "instruction": 0.2},
            role="llm",
        )
    with Folder(tmp_path) as folder:
        yield analyse(folder)


def test_calls_are_summed_by_prompt(found):
    (kind, sensible) = sorted(found.lines, key=lambda line: line.prompt)
    assert (sensible.calls, sensible.tokens_in, sensible.cost, sensible.unpriced) == (6, 60, 2.0, 2)
    assert sensible.seconds == pytest.approx((1 + 2 + 3 + 4 + 10 + 1) / 6)
    assert (kind.role, kind.calls) == ("llm", 1)
    assert found.finishes["oasis", "oasis/sensible"] == {"stop": 5, "length": 1}


def test_scores_of_dropped_records_come_from_their_calls(found):
    score = found.scores["oasis", "oasis/sensible"]
    assert (score.by_probs, score.parsed, score.unread) == (4, 1, 1)
    assert score.kept.counts == {4.5: 4}
    assert score.other.counts == {2.0: 1}


def test_choices_have_their_mean_probability(found):
    choice = found.choices["oasis", "oasis/kind"]
    assert choice.words == {"caption": 1}
    assert choice.mass["caption"] == pytest.approx(0.75)


def test_rows(found):
    assert (found.rows, found.distinct, found.distinct_with_picture) == (4, 3, 4)
    assert found.lengths["questions"].counts == {5: 2, 4: 1, 6: 1}
    assert (found.lengths["answers"].mean, found.lengths["answers"].std) == (2.5, pytest.approx(math.sqrt(1.25)))
    assert found.languages == {"English": 3, "Spanish": 1}
    assert found.common_verbs == [("be", 2, [("color", 2)]), ("describe", 1, [("car", 1)])]
    assert found.words["proposer"] == {"hook": 3, "prompt": 1}
    assert found.numeric["sensible"].mean == 4.375


def test_every_value_is_in_one_bar():
    for series in (
        [of(*range(50))],
        [of(0.1, 0.25, 3.3), of(7)],
        [of(5)],
        [of(-3, 4)],
        [of(1e6, 2e6)],
        [of(0.001, 0.0012)],
    ):
        bins = histogram(series)
        assert sum(b.total for b in bins) == sum(s.n for s in series)
        assert len(bins) <= 26
        for b, c in itertools.pairwise(bins):
            assert c.low == pytest.approx(b.high)


def test_whole_numbers_get_a_bar_each():
    assert [(b.label, b.total) for b in histogram([of(1, 1, 3)], low=1, high=5, bins=4)] == [
        ("1", 2),
        ("2", 0),
        ("3", 1),
        ("4", 0),
        ("5", 0),
    ]


def test_a_scale_ends_where_it_ends():
    bins = histogram([of(1, 4.9, 5)], low=1, high=5, bins=20)
    assert (bins[0].low, bins[-1].high, len(bins)) == (1, pytest.approx(5), 20)
    assert bins[-1].total == 2


def test_the_long_tail_goes_into_a_last_bar_that_says_so():
    bins = histogram([of(1, 2, 3, 900)], low=0, high=3)
    assert bins[-1].label == "3 or more"
    assert bins[-1].total == 2


def test_quantile():
    assert of(*range(1, 101)).quantile(0.95) == 95
    assert of(7).quantile(0.5) == 7
    assert of(float("nan"), float("inf")).n == 0
