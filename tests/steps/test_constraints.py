"""Constraints: each knows what keeps and what breaks it, and drawn ones do not contradict each other."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveal.errors import RecipeError
from foveal.steps import constraints as c

TABLE = [
    (c.at_most(3), "One two three.", "One two three four."),
    (c.at_least(3), "- One two three.", "- One two."),
    (c.sentences(2), "It is red. Mr. Smith likes it.", "It is red."),
    (c.bullets(2), "- a\n\n* b", "- a\n- b\n- c"),
    (c.bullets(2), "- a\n- b", "Here:\n- a\n- b"),
    (c.numbered(2), "1. a\n2) b", "1. a\n3. b"),
    (c.lower_case(), "all is small", "All is small"),
    (c.upper_case(), "ALL IS LARGE!", "123"),
    (c.mentions("cup"), "The Cup is red.", "The cupboard is red."),
    (c.avoids("cup"), "The cupboard is red.", "A CUP."),
    (c.avoids("cup"), "Red.", " "),
    (c.without(",", "comma"), "Red and blue.", "Red, blue."),
    (c.ends_in("!", "an exclamation mark"), "Red!\n", "Red."),
    (c.quoted(), '"All of it."', 'He says "all".'),
    (c.in_language("French"), "La tasse est sur la table et il y a un chat.", "The cup is on the table."),
    (c.in_language("Chinese"), "桌子上有一个杯子。", "There is a cup."),
    (c.in_paragraphs(2), "One.\n\nTwo.", "One.\nTwo."),
    (c.begins_with("In short"), "In short, it is red.", "It is red, in short."),
    (c.titled(), "# The cup\nIt is red.", "# The cup\n# It is red."),
]


@pytest.mark.parametrize(("constraint", "keeps", "breaks"), TABLE, ids=[t[0].name for t in TABLE])
def test_a_constraint_knows_what_keeps_it(constraint: c.Constraint, keeps: str, breaks: str) -> None:
    assert c.broken([constraint], keeps) == []
    assert c.broken([constraint], breaks) == [constraint]
    assert constraint.family in c.FAMILIES
    assert constraint.says.endswith((".", '".'))


@given(st.integers(0, 10**6), st.text(max_size=200), st.integers(1, 4))
def test_drawn_constraints_are_of_different_families_and_any_text_can_be_checked(seed: int, text: str, n: int) -> None:
    drawn = c.draw(random.Random(seed), text, n)
    assert 1 <= len(drawn) <= n
    assert len({one.family for one in drawn}) == len(drawn)
    assert [one.name for one in c.draw(random.Random(seed), text, n)] == [one.name for one in drawn]
    c.broken(drawn, text)
    assert not {"lower case", "begins with"} <= {one.name for one in drawn}


def test_an_unknown_family_is_named() -> None:
    with pytest.raises(RecipeError, match="did you mean 'length'"):
        c.draw(random.Random(0), "", 1, ["lenght"])
