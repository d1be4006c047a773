"""A method's signature is its schema: async, annotated, every knob documented, every role bindable."""

from __future__ import annotations

import inspect
import typing

import pytest

from foveal.models.model import Model
from foveal.recipe import KINDS, Recipe, Step, all_methods, bind, recipe_of
from foveal.record import Record
from foveal.view.catalogue import arguments

METHODS = all_methods()
RESERVED = {*Recipe.model_fields, "model", "what", "store", "watch", "knobs"}
"""What `foveal.run` takes for itself: a knob or role of this name could not be set."""


@pytest.fixture(params=sorted(METHODS))
def step(request: pytest.FixtureRequest) -> Step:
    """Return each method in turn."""
    return METHODS[request.param]


def test_it_is_async_and_annotated(step: Step) -> None:
    assert inspect.iscoroutinefunction(step.call) or inspect.isasyncgenfunction(step.call)
    hints = typing.get_type_hints(step.call)
    parameters = inspect.signature(step.call).parameters
    assert set(hints) == {*parameters, "return"}
    assert hints[next(iter(parameters))] is Record


def test_every_parameter_is_a_role_or_a_knob(step: Step) -> None:
    _, *others = inspect.signature(step.call).parameters
    assert others == [*step.roles, *step.knobs]
    assert step.roles
    assert not RESERVED & set(others)
    assert Model not in {k.type for k in step.knobs.values()}


def test_every_parameter_is_documented(step: Step) -> None:
    told = arguments(step)
    assert list(told) == list(inspect.signature(step.call).parameters)
    assert all(told.values())


def test_every_default_is_of_its_type(step: Step) -> None:
    for knob in step.knobs.values():
        assert knob.check(knob.default, step.name) == knob.default


def test_it_says_what_it_makes_and_where_it_comes_from(step: Step) -> None:
    assert step.makes in KINDS.values()
    assert step.paper


def test_its_recipe_binds(step: Step) -> None:
    plan = bind(recipe_of(step.name))
    assert step.name in [b.label for b in plan.steps]
    assert set(step.roles) <= set(plan.roles)
    assert plan.recipe.name == step.name


def test_its_prompts_can_be_read(step: Step) -> None:
    if step.prompts is not None:
        step.prompts.check()
        assert step.prompts.names()
