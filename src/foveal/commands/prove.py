"""`foveal prove [CLAIM ...]`: sentences of papers, tried where the truth is known."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveal.errors import MissingExtra, RecipeError

if TYPE_CHECKING:
    from foveal.proof.prove import Proof, Setting

FAILED = 1
"""Exit code where an arm could not be trained or evaluated, or the smoke found the machinery wanting."""


def options(p: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    p.add_argument("claims", metavar="CLAIM", nargs="*", help="claims (default: all); see `foveal prove --list`")
    p.add_argument("-o", "--out", type=Path, default=Path("proof"), help="where to (default: proof)")
    p.add_argument("--seeds", type=int, metavar="N", help="how many seeds (default 3)")
    p.add_argument(
        "--subject", metavar="SPEC", help="who is trained: small, small:weak, small:FOLDER, a path, a hub id"
    )
    p.add_argument("--teacher", metavar="SPEC", help="who makes data where the paper has a stronger model for it")
    p.add_argument("--smoke", action="store_true", help="every stage once, as small as can be: tests the machinery")
    p.add_argument("--arms", metavar="A,B", help="only these arms of one claim, beside its base")
    p.add_argument("--held", type=int, metavar="N", help="held-out scenes for each seed (default 160)")
    p.add_argument(
        "--workers", type=int, metavar="N", help="seeds side by side, each in a process (default: as many as cores)"
    )
    p.add_argument("--list", action="store_true", dest="listed", help="list the claims and what they expect, and stop")
    p.add_argument("--plan", action="store_true", help="estimate the time, and stop")
    p.add_argument("--write", type=Path, metavar="PAGE", help="put the results into this page, plots beside it")
    p.add_argument("--json", action="store_true", help="print the results as JSON, and nothing else")


def run(args: argparse.Namespace, _: Sequence[str]) -> int:
    """Prove, show and write.

    Raises:
        SetupError: something does not fit.
        RunStopped: a signal; the same command continues.
    """
    require("numpy", "evaluating", "evals")
    from foveal.proof import plan

    setting = _setting(args)
    if args.listed:
        _list(setting)
        return 0
    if args.plan:
        told = plan.plan(setting.claims, setting.seeds, setting.sizes)
        _print_json(told) if args.json else print("\n".join(plan.lines(told)))
        return 0
    _require_all()
    return _prove(args, setting)


def require(module: str, what: str, extra: str) -> None:
    """Refuse early where a part is not installed.

    Raises:
        MissingExtra: it is not.
    """
    if find_spec(module) is None:
        raise MissingExtra(what, extra)


def _require_all() -> None:
    from foveal.train.job import require as require_train

    require("resvg_py", "drawing scenes", "scrapbook")
    require_train()


def _setting(args: argparse.Namespace) -> Setting:
    from dataclasses import replace

    from foveal.proof import cast, claim
    from foveal.proof.prove import Setting

    claims = claim.chosen(args.claims)
    sizes = claim.TINY if args.smoke else claim.FULL
    if args.arms:
        if len(claims) != 1:
            raise RecipeError("--arms are of one claim: name it")
        claims = [claim.only(claims[0], [a.strip() for a in args.arms.split(",") if a.strip()])]
    if args.smoke:
        claims = [claim.shrunk(c) for c in claims]
    seeds = args.seeds if args.seeds is not None else 1 if args.smoke else 3
    held = args.held if args.held is not None else sizes.held
    workers = args.workers if args.workers is not None else os.cpu_count() or 1
    if seeds < 1 or held < 2 or workers < 1:
        raise RecipeError("--seeds and --workers are whole numbers from 1 up, --held from 2")
    subject, teacher = args.subject or cast.subject(), args.teacher or cast.TEACHER
    return Setting(args.out, tuple(claims), seeds, replace(sizes, held=held), subject, teacher, workers)


def _prove(args: argparse.Namespace, setting: Setting) -> int:
    from foveal.proof import prove, results

    say: Callable[[str], object] = (lambda _: None) if args.json else _say

    def keep(proof: Proof) -> None:
        results.write_results(setting.out, results.results_of(proof, args.smoke))

    proof = prove.prove(setting, say, keep)
    found = results.results_of(proof, args.smoke)
    faults = list(prove.faults(proof)) if args.smoke else []
    if args.smoke:
        say("again, to see that nothing is paid twice")
        faults += prove.replayed(proof, prove.prove(setting, lambda _: None))
    _show(args, setting, proof, found)
    for fault in faults:
        print(f"foveal: {fault}", file=sys.stderr)
    failed = any(arm["errors"] for claim in found["claims"] for arm in claim["arms"])
    return FAILED if faults or failed else 0


def _say(line: str) -> None:
    print(line, flush=True)


def _show(args: argparse.Namespace, setting: Setting, proof: Proof, found: dict[str, Any]) -> None:
    from foveal.proof import results

    plots = _plots(setting, found)
    if args.write:
        results.write_page(args.write, found, plots, _command(args))
    if args.json:
        _print_json(found)
        return
    from rich.console import Console

    console = Console()
    if not console.is_terminal:  # a log breaks no lines
        console = Console(width=200)
    for table in results.tables(found):
        console.print(table)
    stages = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in proof.seconds.items())
    print(f"\n{stages}; {proof.made} calls made, {proof.remembered} remembered, {proof.trained} models trained")
    print(f"results: {setting.out / 'results.json'}   plots: {setting.out / 'plots'}")


def _plots(setting: Setting, found: dict[str, Any]) -> dict[str, Path]:
    from foveal.proof.plot import plot

    if find_spec("matplotlib") is None:
        print("foveal: no plots: they need an optional part: pip install 'foveal[proof]'", file=sys.stderr)
        return {}
    return {claim["name"]: plot(claim, setting.out / "plots") for claim in found["claims"]}


def _command(args: argparse.Namespace) -> str:
    given = [*args.claims]
    for name in ("arms", "seeds", "subject", "teacher", "held"):
        if getattr(args, name) is not None:
            given += [f"--{name}", str(getattr(args, name))]
    return shlex.join(["foveal", "prove", *given, *(["--smoke"] if args.smoke else [])])


def _print_json(told: dict[str, Any]) -> None:
    import orjson

    print(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())


def _list(setting: Setting) -> None:
    for claim in setting.claims:
        print(f"{claim.name} ({claim.paper}): {claim.about}")
        for expect in claim.expects:
            print(f"  {expect.says}: {expect.metric} of {expect.of} {expect.way} than of {expect.than}")
