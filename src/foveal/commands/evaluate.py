"""`foveal eval pope,chair --on scenes/ --model SPEC`: figures with intervals; --against SPEC: and the difference."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveal.errors import DiskFull, MissingExtra, RecipeError

if TYPE_CHECKING:
    from foveal.evals.answer import How, Question
    from foveal.evals.suite import Asked, Evaluation
    from foveal.models.spec import ModelSpec

ALL_FAILED = 1
"""Exit code where no question was answered."""


def options(p: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    p.add_argument("names", metavar="A,B", help="evaluations: pope, chair, exact, following, consistency, arena")
    p.add_argument(
        "--on", type=Path, required=True, metavar="DIR", help="a folder of scenes; see `foveal scrapbook make`"
    )
    p.add_argument("-o", "--out", type=Path, default=Path("evals"), help="where to (default: evals)")
    p.add_argument("--limit", type=int, metavar="N", help="only the first N pictures")
    p.add_argument("--seed", type=int, default=0, help="changes which questions are drawn, and the resampling")
    p.add_argument("--prompts", action="append", default=[], metavar="DIR", help="your own prompt files, by name")
    p.add_argument("--json", action="store_true", help="print the results as JSON, and nothing else")
    p.add_argument("--quiet", action="store_true", help="no progress")
    _model_options(p)
    budget = p.add_argument_group("budget", "for each model; the same command continues where one is reached")
    budget.add_argument("--max-calls", type=int, metavar="N")
    budget.add_argument("--max-tokens", type=int, metavar="N")
    budget.add_argument("--max-cost", type=float, metavar="USD")
    budget.add_argument("--max-time", type=float, metavar="S")


def _model_options(p: argparse.ArgumentParser) -> None:
    group = p.add_argument_group(
        "models", "a SPEC is a server's URL, hf:PATH, small, or a mapping: '{model: small, sampling: {temperature: 1}}'"
    )
    group.add_argument("--model", default="small", metavar="SPEC", help="who is evaluated (default: small)")
    group.add_argument("--model-name", metavar="NAME", help="the model's name on its server")
    group.add_argument("--against", metavar="SPEC", help="another model, to compare with on the same questions")
    group.add_argument("--against-name", metavar="NAME", help="its name on its server")
    group.add_argument("--judge", metavar="SPEC", help="who judges the arena (default: the truth)")
    group.add_argument("--judge-name", metavar="NAME", help="its name on its server")
    group.add_argument("--concurrency", type=int, metavar="N", help="requests at once for each endpoint")
    group.add_argument("--timeout", type=float, metavar="S", help="seconds before a request is given up")
    group.add_argument("--key-env", metavar="NAME", help="environment variable that holds the API key")


def run(args: argparse.Namespace, _: Sequence[str]) -> int:
    """Ask, score, show and write.

    Raises:
        SetupError: something does not fit; nothing has been paid.
        RunStopped: a budget or a signal; the same command continues it.
    """
    if find_spec("numpy") is None:
        raise MissingExtra("evaluating", "evals")
    from foveal.evals.shots import load_shots
    from foveal.evals.suite import named, questions_of

    specs = {side: spec for side in ("model", "against", "judge") if (spec := _spec(args, side))}
    evaluations = named([n.strip() for n in args.names.split(",") if n.strip()], "against" in specs)
    folders = _folders(args.out, specs)
    if args.limit is not None and args.limit < 1:
        raise RecipeError(f"--limit {args.limit}: a whole number from 1 up is needed")
    shots = load_shots(args.on, args.limit)
    asked = questions_of(evaluations, shots, args.seed, args.prompts)
    if not args.json:
        total = len({q.record.id for questions in asked.values() for q in questions})
        print(f"foveal eval {', '.join(evaluations)}: {len(shots)} pictures of {args.on}, {total} questions")
    return _evaluate(args, evaluations, asked, specs, folders, len(shots))


def _evaluate(
    args: argparse.Namespace, evaluations: Mapping[str, Evaluation], asked: Mapping[str, Sequence[Question]],
    specs: Mapping[str, ModelSpec], folders: Mapping[str, Path], pictures: int,
) -> int:  # fmt: skip
    from foveal.evals import results
    from foveal.evals.suite import arena_of, ask_all, scored

    how, told = _how(args), {}
    for side in ("model", "against"):
        if side in specs:
            if not args.json:
                print(f"{side}: {specs[side].describe()} -> {folders[side]}")
            told[side] = ask_all(evaluations, asked, specs[side], folders[side], **how)
            for folder in told[side].folders:
                _report(folder)
    items = {side: scored(evaluations, asked, answers) for side, answers in told.items()}
    if "arena" in evaluations:
        judged = arena_of(asked["arena"], told["model"], told["against"], specs.get("judge"), folders["judge"], **how)
        items["model"] |= {"arena": judged}
    about = {"on": str(args.on), "pictures": pictures, "seed": args.seed, "evaluations": list(evaluations)}
    figures = results.figures(items["model"], items.get("against"), args.seed)
    done = results.write_results(args.out, about, figures, told, items)
    _show(args, done, told)
    return 0 if all(any(a.answers.values()) for a in told.values()) else ALL_FAILED


def _how(args: argparse.Namespace) -> How:
    from foveal.view.live import LiveDisplay

    limits = {"calls": args.max_calls, "tokens": args.max_tokens, "cost": args.max_cost, "time": args.max_time}
    budget = {k: v for k, v in limits.items() if v is not None}
    watch = None if args.quiet or args.json else LiveDisplay
    return {"where": str(args.on), "budget": budget, "prompts": args.prompts, "watch": watch}


def _report(folder: Path) -> None:
    from foveal.view.report import write_report

    with suppress(DiskFull):
        write_report(folder)


def _show(args: argparse.Namespace, done: Mapping[str, Any], told: Mapping[str, Asked]) -> None:
    from rich.console import Console

    from foveal.evals import results

    if args.json:
        print((args.out / "results.json").read_text(encoding="utf-8"), end="")
        return
    console = Console()
    # In a file or a pipe nothing needs to be folded to fit.
    (console if console.is_terminal else Console(width=120)).print(results.table(done))
    for side, answers in told.items():
        if lost := {name: n for name, n in answers.unanswered.items() if n}:
            print(f"{side}: no usable answer to {', '.join(f'{n} of {name}' for name, n in lost.items())}")
    print(f"results: {args.out / 'results.json'}   items: {args.out / 'items.jsonl'}")


# --- specs ---------------------------------------------------------------------------------------------------------


def _spec(args: argparse.Namespace, side: str) -> ModelSpec | None:
    from foveal.models.connect import spec_of

    given = getattr(args, side)
    if given is None:
        return None
    shared = {"concurrency": args.concurrency, "timeout": args.timeout, "key_env": args.key_env}
    named = {k: v for k, v in {**shared, "model": getattr(args, f"{side}_name")}.items() if v is not None}
    spec = spec_of(_mapping(given, side) if given.lstrip().startswith("{") else given)
    return spec_of({**spec.model_dump(exclude_defaults=True), **named}) if named else spec


def _mapping(given: str, side: str) -> dict[str, Any]:
    import yaml

    try:
        read = yaml.safe_load(given)
    except yaml.YAMLError as error:
        raise RecipeError(f"--{side} {given!r} is not a mapping in YAML: {' '.join(str(error).split())}") from None
    return dict(read)


def _folders(out: Path, specs: Mapping[str, ModelSpec]) -> dict[str, Path]:
    """Return each side's run folder, named after its model.

    Raises:
        RecipeError: the two models are the same.
    """
    names = {side: _slug(spec) for side, spec in specs.items()}
    if names.get("against") == names["model"]:
        raise RecipeError("--model and --against are the same model with the same settings")
    both = f"judge-{names['model']}-{names['against']}" if "against" in names else ""
    return {side: out / name for side, name in names.items()} | {"judge": out / f"{both}-by-{names.get('judge', '')}"}


def _slug(spec: ModelSpec) -> str:
    """Return a name for a folder: the model's, and where more was set than that, the beginning of a digest of it."""
    from foveal.record import digest

    plain = re.sub(r"[^A-Za-z0-9.]+", "-", spec.model or "-".join(spec.urls)).strip("-.")[-60:] or "model"
    what = spec.model_dump(exclude_defaults=True, exclude={"concurrency", "timeout", "key_env", "price", "attempts"})
    return plain if what == {"model": spec.model} else f"{plain}-{digest(repr(sorted(what.items())))[:6]}"
