"""A claim: sentences of a paper that can be true or false here, and the arms that decide them, as plain data.

Every arm goes data -> training -> model and is measured on held-out scenes by `foveal.evals`; an expectation compares
one figure of two arms. A claim is one small file in `claims/` with a `CLAIM`; there is no list to add it to.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from foveal.errors import RecipeError, nearest
from foveal.evals.suite import EVALUATIONS
from foveal.proof import claims
from foveal.recipe import bind, owner_of, parse_recipe, recipe_of
from foveal.train.data import VERBS
from foveal.train.loss_table import parse

Way: TypeAlias = Literal["higher", "lower", "kept"]
Who: TypeAlias = Literal["subject", "teacher", "truth", "asker"]
"""Who plays a role: what is trained; a stronger model; the truth about the scenes; or the truth where a method asks
something and the teacher where it is answered, for a method whose questions need a larger model than there is."""
MARGIN = 0.02
"""What is too little to matter: two points of a share. See `Expect`."""


# --- data ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Labelled:
    """Original rows: questions about training scenes with their true answers.

    Attributes:
        first: of the training scenes; `scenes`: how many.
        each: questions a scene; the first of them asks for a description.
    """

    scenes: int
    first: int = 0
    each: int = 4


@dataclass(frozen=True)
class Made:
    """Rows that a method makes from training scenes, by its own recipe.

    Attributes:
        method: its name.
        scenes: how many, from the training scene `first` on.
        knobs: of the method, or of a step of its recipe as "step.knob".
        given: what the method gets: bare "pictures", or "questions" about them with their answers (as of Labelled).
        by: who plays its roles.
        roles: who plays some of them instead.
        on: a method whose rows' pictures are the ones this gets, where it chooses among the scenes.
    """

    method: str
    scenes: int
    first: int = 0
    knobs: Mapping[str, Any] = field(default_factory=dict)
    given: Literal["pictures", "questions"] = "pictures"
    each: int = 4
    by: Who = "subject"
    roles: Mapping[str, Who] = field(default_factory=dict)
    on: Made | None = None


@dataclass(frozen=True)
class Sampled:
    """As many rows of a method as are wanted, drawn at random; all of them where there are fewer."""

    of: Made
    rows: int


@dataclass(frozen=True)
class Upsampled:
    """Original rows once more, drawn again and again until they are as many as the rows of `like`."""

    of: Labelled
    like: Made | Sampled


@dataclass(frozen=True)
class Contrast:
    """Pairs whose rejected side also sees the perturbed picture: the same words about it are the less likely ones."""

    of: Made


Part: TypeAlias = Labelled | Made | Sampled | Upsampled | Contrast


# --- training ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    """A `foveal.train` job, as far as a claim says; the proof fills in data, model, folder and seed.

    Attributes:
        rate: the learning rate.
        lora: rank of an adapter, 0 for all weights but the vision tower's.
    """

    verb: str
    steps: int
    rate: float
    batch: int = 8
    loss: str = ""
    knobs: Mapping[str, Any] = field(default_factory=dict)
    lora: int = 0


@dataclass(frozen=True)
class Arm:
    """One way from pictures to a model.

    Attributes:
        data: parts, one after the other; none for the subject as it is.
        training: None for the subject as it is.
        about: what it is, in a few words.
    """

    name: str
    about: str
    data: tuple[Part, ...] = ()
    training: Training | None = None


BASE = Arm("base", "the subject, not trained further")


# --- what is claimed -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Expect:
    """A sentence that can be true or false: how a figure of one arm compares with another's.

    Attributes:
        says: the sentence.
        metric: a figure of `foveal eval`, such as "chair/chair_i".
        of: the arm it is about; `than`: the other one.
        way: "higher", "lower", or "kept": not worse by more than the margin.
        margin: the least difference that matters, in the figure's unit.
    """

    says: str
    metric: str
    of: str
    than: str
    way: Way
    margin: float = MARGIN


@dataclass(frozen=True)
class Claim:
    """What a paper claims, and how it is decided.

    Attributes:
        name: as on the command line.
        paper: its arXiv number.
        about: one sentence.
        metrics: figures that are shown, those of the expectations among them.
        smoke: the arms that `--smoke` trains; the base is always among them.
        notes: what is not as in the paper.
    """

    name: str
    paper: str
    about: str
    arms: tuple[Arm, ...]
    expects: tuple[Expect, ...]
    metrics: tuple[str, ...]
    smoke: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def evaluations(self) -> tuple[str, ...]:
        """The evaluations that its figures come from."""
        return tuple(dict.fromkeys(m.partition("/")[0] for m in self.metrics))

    def arm(self, name: str) -> Arm:
        """Return an arm by name."""
        return next(a for a in self.arms if a.name == name)


@dataclass(frozen=True)
class Sizes:
    """How many held-out scenes a seed is evaluated on, and how many of them are asked with a temperature."""

    held: int = 160
    sampled: int = 24


FULL = Sizes()
TINY = Sizes(held=10, sampled=3)
TINY_SCENES, TINY_STEPS, TINY_BATCH, TINY_ROWS = 12, 4, 4, 12


def shrunk(claim: Claim) -> Claim:
    """Return a claim that still takes every stage, but as little of each as can be."""
    arms = tuple(_tiny(a) for a in claim.arms if a.name in ("base", *claim.smoke))
    names = {a.name for a in arms}
    return replace(claim, arms=arms, expects=tuple(e for e in claim.expects if {e.of, e.than} <= names))


def _tiny(arm: Arm) -> Arm:
    short = arm.training and replace(arm.training, steps=min(TINY_STEPS, arm.training.steps), batch=TINY_BATCH)
    return replace(arm, data=tuple(_few(p) for p in arm.data), training=short)


def _few(part: Part) -> Any:
    match part:
        case Labelled() | Made():
            first = 0 if part.first == 0 else TINY_SCENES
            few = replace(part, first=first, scenes=min(TINY_SCENES, part.scenes), each=min(3, part.each))
            return replace(few, on=_few(few.on)) if isinstance(few, Made) and few.on else few
        case Sampled():
            return Sampled(_few(part.of), min(TINY_ROWS, part.rows))
        case Upsampled():
            return Upsampled(_few(part.of), _few(part.like))
        case Contrast():
            return Contrast(_few(part.of))


def only(claim: Claim, names: Sequence[str]) -> Claim:
    """Return a claim with some of its arms, and what is expected between them; the base stays.

    Raises:
        RecipeError: it has no such arm.
    """
    known = [a.name for a in claim.arms]
    for name in names:
        if name not in known:
            raise RecipeError(f"claim {claim.name}: no arm is called {name!r}{nearest(name, known)}")
    arms = tuple(a for a in claim.arms if a.name in ("base", *names))
    left = {a.name for a in arms}
    expects = tuple(e for e in claim.expects if {e.of, e.than} <= left)
    return replace(claim, arms=arms, expects=expects, smoke=tuple(s for s in claim.smoke if s in left))


# --- finding and checking ------------------------------------------------------------------------------------------


def all_claims() -> dict[str, Claim]:
    """Return every claim by name: each module of `claims/` has one."""
    found = sorted(m.name for m in pkgutil.iter_modules(claims.__path__))
    known = [importlib.import_module(f"{claims.__name__}.{name}").CLAIM for name in found]
    return {claim.name: claim for claim in known}


def chosen(names: Sequence[str]) -> list[Claim]:
    """Return claims by name, all of them for none.

    Raises:
        RecipeError: no such claim (the nearest is named), or one does not bind.
    """
    known = all_claims()
    for name in names:
        if name not in known:
            raise RecipeError(f"no claim is called {name!r}{nearest(name, known)}")
    picked = [known[name] for name in dict.fromkeys(names)] or list(known.values())
    for claim in picked:
        check(claim)
    return picked


def check(claim: Claim) -> None:
    """Bind every name of a claim: arms, methods, knobs, verbs, losses, evaluations.

    Raises:
        RecipeError: one does not bind.
    """
    names = [a.name for a in claim.arms]
    for name in (*claim.smoke, *(n for e in claim.expects for n in (e.of, e.than))):
        if name not in names:
            raise RecipeError(f"claim {claim.name}: no arm is called {name!r}{nearest(name, names)}")
    if len(names) != len(set(names)):
        raise RecipeError(f"claim {claim.name}: two arms have the same name")
    for evaluation in claim.evaluations:
        if evaluation not in EVALUATIONS or EVALUATIONS[evaluation].score is None:
            raise RecipeError(f"claim {claim.name}: no evaluation {evaluation!r}{nearest(evaluation, EVALUATIONS)}")
    for expect in claim.expects:
        if expect.metric not in claim.metrics:
            raise RecipeError(f"claim {claim.name}: {expect.metric} is expected of and is not among the metrics")
    for arm in claim.arms:
        _check_arm(claim, arm)


def _check_arm(claim: Claim, arm: Arm) -> None:
    if bool(arm.data) != bool(arm.training):
        raise RecipeError(f"claim {claim.name}, arm {arm.name}: data and training go together")
    for made in methods_of(arm.data):
        for role in set(made.roles) - set(bind(recipe_for(made)).roles):
            raise RecipeError(f"claim {claim.name}, arm {arm.name}: {made.method} has no role {role!r}")
        if made.given == "questions" and made.each < 1:
            raise RecipeError(f"claim {claim.name}, arm {arm.name}: a scene is asked at least one question")
    if arm.training and arm.training.verb not in VERBS:
        raise RecipeError(f"claim {claim.name}, arm {arm.name}: no verb {arm.training.verb!r}")
    if arm.training and arm.training.verb == "dpo":
        parse(arm.training.loss or "dpo", arm.training.knobs)


def methods_of(parts: Sequence[Part]) -> list[Made]:
    """Return the method runs that parts need, those that choose the pictures of others before these."""
    found: list[Made] = []
    for part in parts:
        match part:
            case Made():
                found += [*methods_of([part.on] if part.on else []), part]
            case Upsampled(like=other) | Sampled(of=other) | Contrast(of=other):
                found += methods_of([other])
    return found


def recipe_for(made: Made) -> Any:
    """Return the method's recipe with the part's knobs put in.

    Raises:
        RecipeError: no step has a knob of that name.
    """
    recipe = recipe_of(made.method)
    steps = recipe.named_steps()
    for name, value in made.knobs.items():
        where, _, knob = name.rpartition(".")
        try:
            steps[owner_of(recipe, where, knob)][1][knob] = list(value) if isinstance(value, tuple) else value
        except RecipeError as error:
            raise RecipeError(f"{made.method}: {error}") from None
    return parse_recipe({**recipe.model_dump(), "steps": [{s: k} for s, k in steps]}, made.method)
