"""A proof from start to end: scenes, data, trainings, evaluations, for each seed; what was done is not done again.

Everything lies under one folder: `scenes/`, `plots/`, `results.json`, and for each subject and seed `runs/` (methods),
`rows/` (what arms train on), `models/` and `evals/`. Runs, trainings and evaluations continue by themselves.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from foveal.errors import FovealError, RunStopped
from foveal.evals.answer import Shot
from foveal.evals.shots import load_shots
from foveal.evals.stats import Measure
from foveal.evals.suite import EVALUATIONS, ask_all, questions_of, scored
from foveal.proof.cast import TEACHER, Cast, settled, subject
from foveal.proof.claim import FULL, Arm, Claim, Contrast, Part, Sampled, Sizes, Training, Upsampled
from foveal.proof.data import Kitchen, slug
from foveal.proof.parallel import side_by_side
from foveal.record import digest
from foveal.scrapbook import make
from foveal.train.job import Job, train

TRAIN_SEED, HELD_SEED, APART = 40_000_000, 80_000_000, 100_000
"""First scene of a seed's training and held-out scenes: seeds do not share any."""
SAVE_EVERY = 25


@dataclass(frozen=True)
class Setting:
    """What is proven, on what and by whom.

    Attributes:
        out: the folder.
        claims: from `claim.chosen`.
        seeds: how many.
        subject: who is trained; `teacher`: who makes data where a claim says so.
        workers: how many seeds are gone through at once, each in a process and on a share of the cores.
    """

    out: Path
    claims: tuple[Claim, ...]
    seeds: int = 3
    sizes: Sizes = FULL
    subject: str = field(default_factory=subject)
    teacher: str = TEACHER
    workers: int = 1


@dataclass
class Outcome:
    """What an arm came to with one seed.

    Attributes:
        rows: it was trained on.
        losses: of the training, step by step.
        seconds: that the training took, whenever that was.
        identity: who answered.
        measures: figure -> measure.
        error: why there are none, "" where there are.
    """

    rows: int = 0
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    identity: str = ""
    measures: dict[str, Measure] = field(default_factory=dict)
    error: str = ""


@dataclass
class Proof:
    """What a proof came to.

    Attributes:
        outcomes: for each seed, key of an arm -> outcome; see `key`.
        identities: role -> whose weights these were: the name of the embedded model means others tomorrow.
        made: calls paid this time; `remembered`: that were not.
        trained: trainings done this time.
        seconds: by stage, this time.
    """

    setting: Setting
    outcomes: list[dict[str, Outcome]] = field(default_factory=list)
    identities: dict[str, str] = field(default_factory=dict)
    made: int = 0
    remembered: int = 0
    trained: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def of(self, arm: Arm) -> list[Outcome]:
        """Return an arm's outcome with each seed."""
        return [by[key(arm)] for by in self.outcomes]


def key(arm: Arm) -> str:
    """Return what makes an arm what it is: arms of two claims with the same data and training are one."""
    return slug("arm", Arm("", "", arm.data, arm.training)) if arm.training else "base"


def prove(
    setting: Setting, say: Callable[[str], object] = print, after: Callable[[Proof], object] | None = None
) -> Proof:
    """Make, train and evaluate every arm with every seed.

    Args:
        setting: what is proven.
        say: takes lines for people.
        after: given the proof after each seed, so that something is there when the rest takes hours.

    Raises:
        SetupError: something does not fit.
        RunStopped: a signal; the same call continues.
    """
    cast, proof = Cast(), Proof(setting)
    if min(setting.workers, setting.seeds) > 1:
        side_by_side(partial(_alone, setting), setting.seeds, setting.workers, say)
    for seed in range(setting.seeds):
        proof.outcomes.append({})
        _Seed(setting, seed, cast, proof, say).run()
        if after:
            after(proof)
    return proof


def _alone(setting: Setting, seed: int, say: Callable[[str], object]) -> None:
    """Go through one seed; `prove` gathers what was done, for nothing is paid or trained twice."""
    _Seed(setting, seed, Cast(), Proof(setting, [{}]), say).run()


def arms_of(claims: Sequence[Claim]) -> dict[str, tuple[Arm, tuple[str, ...]]]:
    """Return key -> arm and the evaluations that its claims ask for; each arm once, the base first."""
    found: dict[str, tuple[Arm, tuple[str, ...]]] = {}
    for claim in claims:
        for arm in claim.arms:
            _, before = found.get(key(arm), (arm, ()))
            found[key(arm)] = (arm, tuple(dict.fromkeys((*before, *claim.evaluations))))
    return found


def scenes_of(parts: Sequence[Part]) -> int:
    """Return how many training scenes parts reach into."""
    reach = 0
    for part in parts:
        match part:
            case Upsampled(of=original, like=made):
                reach = max(reach, scenes_of((original, made)))
            case Sampled(of=made) | Contrast(of=made):
                reach = max(reach, scenes_of((made,)))
            case _:
                reach = max(reach, part.first + part.scenes)
    return reach


class _Seed:
    """One seed of a proof."""

    def __init__(
        self, setting: Setting, seed: int, cast: Cast, proof: Proof, say: Callable[[str], object]
    ) -> None:  # fmt: skip
        self.setting, self.seed, self.cast, self.proof, self.say = setting, seed, cast, proof, say
        self.arms = arms_of(setting.claims)
        who = {"subject": setting.subject, "teacher": setting.teacher}
        self.who = {role: settled(spec, setting.out) for role, spec in who.items()}
        proof.identities = {role: self._name(spec) for role, spec in self.who.items()}
        named = digest(*proof.identities.values())[:8]
        self.folder = setting.out / f"subject-{named}" / f"seed-{seed}"

    def _name(self, spec: str) -> str:
        """Return the identity of the embedded model's weights: the same name may mean others tomorrow."""
        return self.cast.open(spec).identity if spec.startswith("small") else spec

    def run(self) -> None:
        """Carry every arm through."""
        shots, held = self._scenes()
        kitchen = Kitchen(self.folder, self.seed, shots, self._players(), self.cast)
        for name, (arm, evaluations) in self.arms.items():
            outcome = self.proof.outcomes[-1][name] = Outcome()
            try:
                model = self._trained(arm, kitchen, outcome) if arm.training else self.who["subject"]
                self._evaluated(arm, name, model, evaluations, held, outcome)
            except RunStopped:
                raise
            except Exception as error:  # hours of other arms are not lost to one
                outcome.error = str(error) if isinstance(error, FovealError) else f"{type(error).__name__}: {error}"
            self.say(f"seed {self.seed}  {told(arm, outcome)}")
        self.proof.made += kitchen.made
        self.proof.remembered += kitchen.remembered

    def _players(self) -> dict[str, str]:
        truth = f"oracle:{self.setting.out / 'scenes' / f'train-{self.seed}'}"
        return self.who | {"truth": truth, "asker": f"{truth}?{self.who['teacher']}"}

    def _scenes(self) -> tuple[list[Shot], list[Shot]]:
        with self._clock("scenes"):
            n = max((scenes_of(arm.data) for arm, _ in self.arms.values()), default=0)
            place, at = self.setting.out / "scenes", self.seed * APART
            train_, held = place / f"train-{self.seed}", place / f"held-{self.seed}"
            make(train_, max(n, 1), TRAIN_SEED + at, "train", workers=1 if n < 64 else None)
            make(held, self.setting.sizes.held, HELD_SEED + at, "held", workers=1 if n < 64 else None)
            return load_shots(train_, n), load_shots(held, self.setting.sizes.held)

    def _trained(self, arm: Arm, kitchen: Kitchen, outcome: Outcome) -> Path:
        assert arm.training
        with self._clock("data"):
            rows = kitchen.write(arm.data, slug(arm.name, arm))
            ids = [orjson.loads(line)["id"] for line in (rows / "rows.jsonl").read_bytes().splitlines()]
        outcome.rows = len(ids)
        out = self.folder / "models" / f"{slug(arm.name, arm)}-{digest(*ids)[:6]}"
        with self._clock("training"):
            card, fresh = self._train(arm.training, rows, out)
        self.proof.trained += fresh
        log = (orjson.loads(line) for line in (out / "log.jsonl").read_bytes().splitlines())
        # JSON has no NaN: a loss that was none is null.
        outcome.losses = [math.nan if line["loss"] is None else line["loss"] for line in log if "loss" in line]
        outcome.seconds = card["seconds"]
        return out

    def _train(self, training: Training, rows: Path, out: Path) -> tuple[dict[str, Any], bool]:
        t = training
        job = Job(
            t.verb, str(rows), self.who["subject"], str(out), loss=t.loss, knobs=dict(t.knobs), lora=t.lora,
            merge=bool(t.lora), steps=t.steps, batch=t.batch, rate=t.rate, save_every=SAVE_EVERY, seed=self.seed,
        )  # fmt: skip
        lines: list[str] = []
        card = train(job, say=lines.append)
        prune(out)
        return card, not any("finished" in line for line in lines)

    def _evaluated(
        self, arm: Arm, name: str, model: str | Path, evaluations: Sequence[str], held: Sequence[Shot], outcome: Outcome
    ) -> None:
        place = self.folder / "evals" / (name if name == "base" else f"{slug(arm.name, arm)}")
        place.parent.mkdir(parents=True, exist_ok=True)
        with self._clock("evaluation"):
            for sampled in (False, True):
                names = [e for e in evaluations if bool(EVALUATIONS[e].samples) == sampled]
                shots = held[: self.setting.sizes.sampled] if sampled else held
                if names:
                    self._ask(names, shots, model, place, outcome)

    def _ask(
        self, names: Sequence[str], shots: Sequence[Shot], model: str | Path, place: Path, outcome: Outcome
    ) -> None:
        these = {name: EVALUATIONS[name] for name in names}
        asked = questions_of(these, shots, self.seed)
        answers = ask_all(these, asked, self.cast.open(model), place, where=f"{len(shots)} held-out scenes")
        outcome.identity = answers.identity
        self.proof.made += answers.made
        self.proof.remembered += answers.remembered
        for got in scored(these, asked, answers).values():
            outcome.measures.update({m.name: m for m in got.measures})

    def _clock(self, stage: str) -> _Clock:
        return _Clock(self.proof.seconds, stage)


class _Clock:
    """Adds the time spent inside to a stage."""

    def __init__(self, seconds: dict[str, float], stage: str) -> None:
        self.seconds, self.stage = seconds, stage

    def __enter__(self) -> None:
        self.began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.seconds[self.stage] = self.seconds.get(self.stage, 0.0) + time.monotonic() - self.began


def prune(out: Path) -> None:
    """Take away what a finished training needs no longer; of the embedded model the light copy stays."""
    for checkpoint in out.glob("checkpoint-*"):
        shutil.rmtree(checkpoint, ignore_errors=True)
    for left in out.glob("reference-*.safetensors"):
        left.unlink(missing_ok=True)
    if (out / "small" / "model.safetensors").is_file():
        (out / "model.safetensors").unlink(missing_ok=True)


def told(arm: Arm, outcome: Outcome) -> str:
    """Return a line about an arm's outcome."""
    if outcome.error:
        return f"{arm.name}: FAILED: {outcome.error}"
    trained = ""
    if outcome.losses:
        ends = f"loss {outcome.losses[0]:.3f} to {outcome.losses[-1]:.3f}"
        trained = f"{outcome.rows} rows, {outcome.seconds:.0f} s, {ends}; "
    shown = {
        n: m.value
        for n, m in outcome.measures.items()
        if n in ("chair/chair_i", "chair/recall", "pope/f1", "exact/all")
    }
    return f"{arm.name}: {trained}" + ", ".join(f"{n} {v:.3f}" for n, v in shown.items())


# --- the machinery ---------------------------------------------------------------------------------------------------


def faults(proof: Proof) -> Iterator[str]:
    """Yield what is wrong with the machinery whatever the figures say: an arm not trained, a figure out of range."""
    base = {by["base"].identity for by in proof.outcomes if "base" in by}
    for claim in proof.setting.claims:
        for arm in claim.arms:
            for seed, outcome in enumerate(proof.of(arm)):
                where = f"{claim.name}, {arm.name}, seed {seed}"
                if outcome.error:
                    yield f"{where}: {outcome.error}"
                    continue
                if arm.training and outcome.identity in base:
                    yield f"{where}: the weights did not change"
                if arm.training and not (outcome.losses and all(map(math.isfinite, outcome.losses))):
                    yield f"{where}: the loss is not a number"
                yield from (f"{where}: {fault}" for fault in _figures(claim, outcome.measures))


def _figures(claim: Claim, measures: Mapping[str, Measure]) -> Iterator[str]:
    for name in claim.metrics:
        if name not in measures:
            yield f"there is no figure {name}"
        elif (
            not math.isfinite(value := measures[name].value)
            or value < 0
            or (measures[name].unit == "share" and value > 1)
        ):
            yield f"{name} is {value}"


def replayed(first: Proof, second: Proof) -> Iterator[str]:
    """Yield where a proof done again paid anew or came to something else."""
    if second.made or second.trained:
        yield f"done again, {second.made} calls were paid and {second.trained} models trained"
    for one, other in zip(first.outcomes, second.outcomes, strict=True):
        for name, outcome in one.items():
            values = [{n: m.value for n, m in o.measures.items()} for o in (outcome, other[name])]
            if orjson.dumps(values[0]) != orjson.dumps(values[1]):
                yield f"done again, {name} came to other figures"


def setting_json(setting: Setting) -> dict[str, Any]:
    """Return who and what, as results.json holds it."""
    return {
        "subject": setting.subject, "teacher": setting.teacher, "seeds": setting.seeds, "sizes": asdict(setting.sizes),
    }  # fmt: skip
