"""Recipes: a short YAML of source, models, steps with knobs, exports, budget; all bound before anything is paid."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
import typing
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import orjson
import pydantic
import yaml

from foveal import __version__, methods
from foveal.errors import RecipeError, nearest
from foveal.models.connect import ModelSpec
from foveal.models.model import Model
from foveal.models.wire import Backend
from foveal.prompts import Prompts
from foveal.record import Chat, Image, Item, Pair, Record, digest
from foveal.steps import choose, filters, meaning, near
from foveal.steps import pairs as pair_steps
from foveal.steps import table as table_steps
from foveal.store import Budget

KINDS: Mapping[type, str] = {Chat: "chat", Pair: "pair", Item: "item", Image: "image"}
TABLE_ROOMS = (table_steps, near, meaning, choose, filters, pair_steps)
"""Modules whose functions of a Table are steps."""
SHARED = Path(table_steps.__file__).parent
"""The folder of the verbs that methods share."""


# --- steps ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Knob:
    """A parameter with a default."""

    name: str
    type: Any
    default: Any

    def check(self, value: Any, step: str) -> Any:
        """Return the value as the knob's type; strings (from a command line) are read as YAML first.

        Raises:
            RecipeError: it is not of the type.
        """
        adapter = pydantic.TypeAdapter[Any](self.type)
        if isinstance(value, str) and self.type is not str:
            with suppress(yaml.YAMLError, pydantic.ValidationError):
                return adapter.validate_python(yaml.safe_load(value))
        try:
            return adapter.validate_python(value)
        except pydantic.ValidationError as error:
            raise RecipeError(f"{step}: {self.name}={value!r} does not fit: {error.errors()[0]['msg']}") from None


@dataclass(frozen=True)
class Step:
    """A step as its signature tells it.

    Attributes:
        name: what recipes call it.
        kind: "row" (async, of a record and roles) or "table" (of a Table).
        call: the function.
    """

    name: str
    kind: Literal["row", "table"]
    call: Callable[..., Any]

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return typing.get_type_hints(self.call)

    @cached_property
    def roles(self) -> tuple[str, ...]:
        """Parameters annotated Model: bound by the run."""
        return tuple(n for n in inspect.signature(self.call).parameters if self._hints.get(n) is Model)

    @cached_property
    def knobs(self) -> dict[str, Knob]:
        """Parameters with defaults."""
        given = inspect.signature(self.call).parameters.items()
        return {n: Knob(n, self._hints.get(n, Any), p.default) for n, p in given if p.default is not p.empty}

    @property
    def module(self) -> ModuleType:
        """The module the function lives in."""
        return sys.modules[self.call.__module__]

    @property
    def doc(self) -> str:
        """The module's documentation, else the function's."""
        return inspect.cleandoc(self.module.__doc__ or self.call.__doc__ or "")

    @property
    def paper(self) -> str:
        """The arXiv number in the first line of the documentation, "" when there is none."""
        found = re.search(r"\b(\d{4}\.\d{4,5})\b", self.doc.split("\n", 1)[0])
        return found.group(1) if found else ""

    @property
    def makes(self) -> str:
        """What kind of rows it makes: chat, pair, item, image (bare pictures), or "" when it does not say."""
        return KINDS.get(getattr(self.module, "MAKES", None), "")  # type: ignore[arg-type]

    @property
    def prompts(self) -> Prompts | None:
        """The prompt files beside it."""
        return next((p for p in vars(self.module).values() if isinstance(p, Prompts)), None)

    @property
    def folder(self) -> Path:
        """The folder of its module."""
        return Path(inspect.getsourcefile(self.call) or ".").parent

    def digest(self) -> str:
        """Return a digest of its code and its helpers', its prompts as they would be used now, and foveal's version."""
        code = [path.read_bytes() for path in _sources(Path(inspect.getsourcefile(self.call) or ""))]
        return digest(*code, orjson.dumps(self.prompts.digests() if self.prompts else {}), __version__)

    def bind(self, knobs: Mapping[str, Any]) -> dict[str, Any]:
        """Check knobs against the signature.

        Raises:
            RecipeError: unknown knob (the nearest is named) or a value of the wrong type.
        """
        for name in knobs:
            if name not in self.knobs:
                raise RecipeError(f"{self.name} has no knob {name!r}{nearest(name, self.knobs)}")
        return {name: self.knobs[name].check(value, self.name) for name, value in knobs.items()}


def _sources(file: Path) -> list[Path]:
    """Return a step's file and the files it is made from: modules beside it or below, and the verbs methods share."""
    found, left = [file], [file]
    while left:
        for path in _imported(left.pop()):
            if (
                path not in found
                and path.name != "__init__.py"
                and any(map(path.is_relative_to, (file.parent, SHARED)))
            ):
                found.append(path)
                left.append(path)
    return [file, *sorted(found[1:])]


def _imported(file: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(file.read_bytes())):
        match node:
            case ast.Import(names=names):
                modules = [n.name for n in names]
            case ast.ImportFrom(module=str(module), names=names, level=0):
                modules = [module, *(f"{module}.{n.name}" for n in names)]
            case _:
                continue
        for name in modules:
            if "." in name and name.partition(".")[0] not in sys.modules:
                continue  # to look inside a package is to import it
            with suppress(ImportError, ValueError):
                spec = importlib.util.find_spec(name)
                if spec is not None and spec.has_location and spec.origin:
                    yield Path(spec.origin)


def all_methods() -> dict[str, Step]:
    """Return every method that comes with foveal, by name."""
    return {name: _method(name) for name in _method_names()}


def _method_names() -> list[str]:
    """Return the names of methods: their folders', with hyphens for underscores."""
    return sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(methods.__path__) if m.ispkg)


def _method(name: str) -> Step:
    folder = name.replace("-", "_")
    module = importlib.import_module(f"foveal.methods.{folder}.method")
    return Step(name, "row", getattr(module, folder))


def _tables() -> dict[str, Step]:
    found = [f for room in TABLE_ROOMS for f in inspect.getmembers(room, inspect.isfunction)]
    functions = [(name, f) for name, f in found if f.__module__ in {room.__name__ for room in TABLE_ROOMS}]
    return {
        name: Step(name, "table", f)
        for name, f in functions
        if not name.startswith("_") and _first(f) is table_steps.Table
    }


def _first(call: Callable[..., Any]) -> Any:
    hints = typing.get_type_hints(call)
    return hints.get(next(iter(inspect.signature(call).parameters), ""))


def find_step(name: str, beside: Path | None = None) -> Step:
    """Return a step by name, or from a user's own file as `path/to/file.py:function`.

    Raises:
        RecipeError: there is none of that name (the nearest is named), or its signature is not a step's.
    """
    if ":" in name and name.split(":")[0].endswith(".py"):
        return _own(name, beside)
    if name in (tables := _tables()):
        return tables[name]
    known = _method_names()
    if name not in known:
        raise RecipeError(f"no step is called {name!r}{nearest(name, [*known, *tables])}")
    return _method(name)


def _own(name: str, beside: Path | None) -> Step:
    file, _, function = name.partition(":")
    path = (beside / file if beside and not Path(file).is_absolute() else Path(file)).resolve()
    spec = importlib.util.spec_from_file_location(f"foveal_user_{path.stem}_{digest(str(path))[:8]}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise RecipeError(f"step {name!r}: no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    if (folder := str(path.parent)) not in sys.path:
        sys.path.append(folder)  # as for a script: its helpers lie beside it
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise RecipeError(f"step {name!r}: {path.name} cannot be imported: {type(error).__name__}: {error}") from error
    call = getattr(module, function, None)
    if not inspect.isfunction(call):
        known = [n for n, f in vars(module).items() if inspect.isfunction(f) and f.__module__ == spec.name]
        raise RecipeError(f"step {name!r}: {path.name} has no function {function!r}{nearest(function, known)}")
    return _checked(name, function, call)


def _checked(name: str, function: str, call: Callable[..., Any]) -> Step:
    try:
        kind: Literal["row", "table"] = "table" if _first(call) is table_steps.Table else "row"
    except Exception as error:
        raise RecipeError(f"step {name!r}: an annotation of {function} cannot be resolved: {error}") from error
    if kind == "row" and not (inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call)):
        raise RecipeError(f"step {name!r}: {function} must be an async function of a record, or a function of a Table")
    step, (_, *others) = Step(function, kind, call), inspect.signature(call).parameters or ("",)
    for other in others:
        if other not in step.roles and other not in step.knobs:
            raise RecipeError(f"step {name!r}: annotate {other} as Model (a role), or give it a default (a knob)")
    return step


# --- the YAML ------------------------------------------------------------------------------------------------------


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")


class Limits(_Strict):
    """`budget:` of a recipe."""

    calls: int | None = pydantic.Field(default=None, ge=0)
    tokens: int | None = pydantic.Field(default=None, ge=0)
    cost: float | None = pydantic.Field(default=None, ge=0)
    time: float | None = pydantic.Field(default=None, ge=0)


class Recipe(_Strict):
    """A recipe as written."""

    name: str
    source: str | list[str] | None = None
    limit: int | None = pydantic.Field(default=None, ge=1)
    models: dict[str, str | ModelSpec] = pydantic.Field(default_factory=dict)
    steps: list[dict[str, dict[str, Any] | None] | str]
    export: list[str] = pydantic.Field(default_factory=list)
    budget: Limits = pydantic.Field(default_factory=Limits)
    prompts: list[str] = pydantic.Field(default_factory=list)
    seed: int = 0
    out: str | None = None

    def named_steps(self) -> list[tuple[str, dict[str, Any]]]:
        """Return (step name, knobs) pairs.

        Raises:
            RecipeError: a step is not written as `- name: {knobs}`.
        """
        pairs = []
        for step in self.steps:
            if isinstance(step, dict) and len(step) != 1:
                raise RecipeError(f"recipe {self.name}: write a step as `- name: {{knob: value}}`, not {step!r}")
            name, knobs = (step, None) if isinstance(step, str) else next(iter(step.items()))
            pairs.append((name, dict(knobs or {})))
        return pairs


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file.

    Raises:
        RecipeError: it cannot be read, is not YAML, or has a field that recipes do not have.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read recipe {path}: {error}") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"recipe {path} is not YAML: {' '.join(str(error).split())}") from error
    return parse_recipe(data, str(path))


def parse_recipe(data: Any, where: str) -> Recipe:
    """Check a recipe's fields.

    Raises:
        RecipeError: naming the first field that is wrong.
    """
    try:
        return Recipe.model_validate(data)
    except pydantic.ValidationError as error:
        # Of a model's settings pydantic tells first that they are no string; the deepest error is the one meant.
        first = max(error.errors(), key=lambda e: len(e["loc"]))
        path = [str(p) for p in first["loc"] if p not in ("str", "ModelSpec")]
        place = ".".join(path)
        inner: dict[str, type[pydantic.BaseModel]] = {"models": ModelSpec, "budget": Limits}
        owner = inner.get(path[0], Recipe) if path[1:] else Recipe
        hint = nearest(path[-1], owner.model_fields) if first["type"] == "extra_forbidden" else ""
        raise RecipeError(f"recipe {where}: {place or 'file'}: {first['msg']}{hint}") from None


def recipe_of(method: str) -> Recipe:
    """Return the recipe that comes with a method; for a step of the user's own, the recipe that is just this step.

    Raises:
        RecipeError: no such method.
    """
    step = find_step(method)
    own = step.folder / "recipe.yaml"
    if ":" not in method and step.kind == "row" and own.is_file():
        return read_recipe(own)
    return Recipe(name=step.name, steps=[method])


# --- binding -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bound:
    """A step with its knobs, under the label it has in this run."""

    label: str
    step: Step
    knobs: Mapping[str, Any]

    def fingerprint(self, models: Mapping[str, str]) -> str:
        """Return a digest of all a decision depends on: code, prompts, knobs, who answers (role -> identity)."""
        roles = {role: models[role] for role in self.step.roles}
        what = orjson.dumps([self.label, dict(self.knobs), roles], option=orjson.OPT_SORT_KEYS, default=str)
        return digest(self.step.digest(), what)

    def call(self, record: Record, models: Mapping[str, Model]) -> Any:
        """Call the step on a record."""
        return self.step.call(record, **{role: models[role] for role in self.step.roles}, **self.knobs)


@dataclass(frozen=True)
class Plan:
    """A recipe with every name bound; nothing is paid yet."""

    recipe: Recipe
    steps: tuple[Bound, ...]
    specs: Mapping[str, str | ModelSpec | Backend]
    budget: Budget = field(default_factory=Budget)

    @property
    def roles(self) -> tuple[str, ...]:
        """Every role some step has, in order of appearance."""
        return tuple(dict.fromkeys(role for bound in self.steps for role in bound.step.roles))

    def hooks(self, role: str) -> bool:
        """Tell whether a step may leave this role's user turn open: it proposes by hook, with its first role."""
        return any(_proposer(b) == "hook" and b.step.roles[:1] == (role,) for b in self.steps)


def _proposer(bound: Bound) -> Any:
    knob = bound.step.knobs.get("proposer")
    return bound.knobs.get("proposer", knob.default) if knob else None


def bind(recipe: Recipe, beside: Path | None = None) -> Plan:
    """Bind every name of a recipe: steps, knobs, roles.

    Raises:
        RecipeError: one does not bind; the nearest known name is given.
    """
    found = [(find_step(name, beside), knobs) for name, knobs in recipe.named_steps()]
    labels = _labels([step for step, _ in found])
    steps = [Bound(label, step, step.bind(knobs)) for label, (step, knobs) in zip(labels, found, strict=True)]
    plan = Plan(recipe, tuple(steps), _roles(recipe, steps), Budget(**recipe.budget.model_dump()))
    if not steps:
        raise RecipeError(f"recipe {recipe.name} has no steps")
    for bound in steps:
        if bound.step.kind == "table" and bound.step.module in TABLE_ROOMS:  # a user's own may need rows to work on
            bound.step.call(table_steps.Table((), lambda name, ids: []), **bound.knobs)  # a bad knob is told now
    return plan


def _roles(recipe: Recipe, steps: Sequence[Bound]) -> dict[str, str | ModelSpec]:
    roles = list(dict.fromkeys(role for b in steps for role in b.step.roles))
    for name in recipe.models:
        if name not in (*roles, "model"):
            raise RecipeError(f"recipe {recipe.name}: no step has a role {name!r}{nearest(name, roles)}")
    fallback = recipe.models.get("model", "small")
    return {role: recipe.models.get(role, fallback) for role in roles}


def with_backends(plan: Plan, backends: Mapping[str, Backend]) -> Plan:
    """Return the plan with some roles ("model": all others) played by backends made in Python.

    Raises:
        RecipeError: no step has such a role.
    """
    for role in backends:
        if role not in (*plan.roles, "model"):
            raise RecipeError(f"no step has a role {role!r}{nearest(role, plan.roles)}")
    named = plan.recipe.models
    rest = {r: backends["model"] for r in plan.roles if "model" in backends and r not in named}
    own = {r: b for r, b in backends.items() if r != "model"}
    return replace(plan, specs={**plan.specs, **rest, **own})


def with_knobs(recipe: Recipe, settings: Sequence[str], beside: Path | None = None) -> Recipe:
    """Return the recipe with `knob=value` or `step.knob=value` settings put in; a bare knob is the first step's.

    Raises:
        RecipeError: a setting is not of that form, or no step has the knob.
    """
    steps = recipe.named_steps()
    for setting in settings:
        target, sep, value = setting.partition("=")
        if not sep:
            raise RecipeError(f"--set takes knob=value, not {setting!r}")
        where, _, knob = target.rpartition(".")
        owner = owner_of(recipe, where, knob, beside)
        steps[owner][1][knob] = value
    return recipe.model_copy(update={"steps": [{name: knobs} for name, knobs in steps]})


def owner_of(recipe: Recipe, where: str, knob: str, beside: Path | None = None) -> int:
    """Return which step has a knob: that of the name `where` (a second one's is `name-2`), or the first that has it.

    Raises:
        RecipeError: none has.
    """
    steps = [find_step(name, beside) for name, _ in recipe.named_steps()]
    labels = _labels(steps)
    if where and where not in labels:
        raise RecipeError(f"the recipe has no step {where!r}{nearest(where, labels)}")
    for number, step in enumerate(steps):
        if where in ("", labels[number]) and knob in step.knobs:
            return number
    known = {k for label, s in zip(labels, steps, strict=True) if where in ("", label) for k in s.knobs}
    raise RecipeError(f"no step has a knob {knob!r}{nearest(knob, known)}")


def _labels(steps: Sequence[Step]) -> list[str]:
    """Return the steps' names, the second of one name as `name-2`."""
    seen = Counter[str]()
    labels = []
    for step in steps:
        seen[step.name] += 1
        labels.append(step.name if seen[step.name] == 1 else f"{step.name}-{seen[step.name]}")
    return labels
