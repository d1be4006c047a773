"""The command line."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from foveal import __version__
from foveal.commands import analyse, evaluate, perturb, prove, scrapbook, train
from foveal.errors import DiskFull, FovealError, RecipeError, RunStopped, nearest

if TYPE_CHECKING:
    from foveal.data import Source
    from foveal.recipe import Plan
    from foveal.runner.folder import Exported
    from foveal.runner.local import Run

STOPPED, BAD_SETUP, ALL_FAILED = 3, 2, 1
"""Exit codes beside 0: stopped and can be continued; nothing was paid; every record failed."""

SMALL_NOTE = (
    "The embedded model knows 133 kinds of objects in simple scenes; on other pictures its data is only good "
    "for trying things out. Name your own with --model URL."
)
ORACLE_NOTE = (
    "The oracle answers from the truth of scenes: it measures a method and is no model. Every row is tagged with the "
    "roles it played."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = _parser()
    args, extra = parser.parse_known_args(argv)
    if extra and args.command not in ("run", "preview"):
        parser.error(f"unknown option {extra[0]}{nearest(extra[0], _options(args.command))}")
    try:
        return int(args.do(args, extra) or 0)
    except RunStopped as stop:
        return _say(f"foveal: stopped: {stop}", STOPPED)
    except FovealError as error:
        return _say(f"foveal: {error}", BAD_SETUP)
    except KeyboardInterrupt:
        return _say("foveal: stopped at once; the same command continues", STOPPED)
    except BrokenPipeError:
        # The reader of our output has gone (`foveal show | head`); what is left has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _say(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code


# --- options -------------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="foveal",
        description="Turn images into aligned vision-language models.",
        epilog="foveal COMMAND --help tells more.",
    )
    parser.add_argument("--version", action="version", version=f"foveal {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (do, text, options) in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:], allow_abbrev=False)
        options(sub)
        sub.set_defaults(do=do)
    return parser


def _options(command: str) -> list[str]:
    sub = argparse.ArgumentParser()
    COMMANDS[command][2](sub)
    return [o for action in sub._actions for o in action.option_strings if o.startswith("--")]


def _model_options(p: argparse.ArgumentParser) -> None:
    group = p.add_argument_group(
        "models", "--<role> SPEC and --<role>-name NAME set one role; see `foveal methods NAME` for roles"
    )
    group.add_argument("--model", metavar="SPEC", help="who plays every role: a server's URL, hf:PATH, small (default)")
    group.add_argument("--model-name", metavar="NAME", help="the model's name on its server")
    group.add_argument("--dialect", help="server kind for hooking: auto, vllm, sglang, llamacpp, none")
    group.add_argument(
        "--concurrency", type=int, metavar="N", help="requests at once for each endpoint (default: finds its level)"
    )
    group.add_argument("--timeout", type=float, metavar="S", help="seconds before a request is given up")
    group.add_argument("--key-env", metavar="NAME", help="environment variable that holds the API key")
    group.add_argument("--price", metavar="IN,OUT", help="USD per million tokens in and out")


def _work_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("what", metavar="METHOD", help="a method, a recipe.yaml, or file.py:function")
    p.add_argument("source", nargs="?", help="pictures or conversations: a folder, glob, parquet, JSONL, tar, URL")
    p.add_argument("-o", "--out", type=Path, help="run folder (default: out)")
    p.add_argument(
        "--set", action="append", default=[], metavar="KNOB=VALUE", dest="knobs", help="set a knob (repeatable)"
    )
    p.add_argument("--prompts", action="append", metavar="DIR", help="your own prompt files, by the same names")
    p.add_argument("--store", type=Path, metavar="DIR", help="share the calls of another run folder")
    p.add_argument("--seed", type=int, help="changes every random choice")
    _model_options(p)


def _run_options(p: argparse.ArgumentParser) -> None:
    _work_options(p)
    p.add_argument("--limit", type=int, metavar="N", help="only the first N records")
    p.add_argument("--export", metavar="A,B", help="formats to write afterwards; see `foveal export --help`")
    p.add_argument("--json", action="store_true", help="print the summary as JSON, and nothing else")
    p.add_argument("--quiet", action="store_true", help="no progress")
    group = p.add_argument_group("budget", "the run stops cleanly when one is reached; the same command continues it")
    group.add_argument("--max-calls", type=int, metavar="N")
    group.add_argument("--max-tokens", type=int, metavar="N")
    group.add_argument("--max-cost", type=float, metavar="USD")
    group.add_argument("--max-time", type=float, metavar="S")


def _preview_options(p: argparse.ArgumentParser) -> None:
    _work_options(p)
    p.add_argument("-n", type=int, default=5, help="how many records (default 5)")
    p.add_argument("--json", action="store_true", help="print the estimate as JSON")


def _show_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("folder", type=Path, nargs="?", default=Path("out"), help="run folder (default: out)")
    p.add_argument("--record", metavar="ID", help="one record, by the beginning of its id, with its whole history")
    p.add_argument("--json", action="store_true", help="for scripts; stable")


def _export_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("folder", type=Path, nargs="?", default=Path("out"), help="run folder (default: out)")
    p.add_argument(
        "--to",
        required=True,
        metavar="A,B",
        help="llava, sharegpt, sharegpt-kto, ms-swift, ms-swift-kto, ms-swift-grpo, trl, trl-completion, trl-kto, "
        "trl-grpo, openai, webdataset, hf",
    )
    p.add_argument("-o", "--out", type=Path, help="where to (default: export/ in the run folder)")


def _methods_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("name", nargs="?", help="one method, with its page")
    p.add_argument("--json", action="store_true", help="for scripts; stable")


def _serve_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("model", nargs="?", default="small", help="small (default), hf:PATH, or any model spec")
    p.add_argument("--port", type=int, default=8000)


# --- run and preview -----------------------------------------------------------------------------------------------


def _plan(args: argparse.Namespace, extra: Sequence[str], **fields: Any) -> tuple[Plan, Source]:
    from foveal.runner.local import plan_of

    roles, names = _role_options(extra)
    shared = {
        "dialect": args.dialect,
        "concurrency": args.concurrency,
        "timeout": args.timeout,
        "key_env": args.key_env,
    }
    shared = {k: v for k, v in shared.items() if v is not None} | _price(args.price)
    models = {role: _spec(spec, names.pop(role, args.model_name), shared) for role, spec in roles.items()}
    if args.model or args.model_name or shared or not models:
        models.setdefault("model", _spec(args.model or "small", args.model_name, shared if args.model else {}))
    for role, name in names.items():
        models[role] = _spec(args.model or "small", name, shared)
    return plan_of(
        args.what,
        args.source,
        models if args.model or roles or names else {},
        args.knobs,
        prompts=args.prompts,
        seed=args.seed,
        **fields,
    )


def _role_options(extra: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Read `--role SPEC` and `--role-name NAME` from what the parser did not know."""
    roles: dict[str, str] = {}
    names: dict[str, str] = {}
    rest = [part for e in extra for part in (e.split("=", 1) if e.startswith("--") else [e])]
    while rest:
        option = rest.pop(0)
        if not option.startswith("--") or not rest or rest[0].startswith("--"):
            raise RecipeError(f"unknown option {option}{nearest(option, _options('run'))}")
        if difflib.get_close_matches(option, _options("run"), n=1, cutoff=0.85):
            raise RecipeError(f"unknown option {option}{nearest(option, _options('run'))}")
        name, value = option[2:], rest.pop(0)
        if name.endswith("-name"):
            names[name.removesuffix("-name")] = value
        else:
            roles[name] = value
    return roles, names


def _price(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        price_in, price_out = (float(x) for x in text.split(","))
    except ValueError:
        raise RecipeError(f"--price takes two numbers, IN,OUT in USD per million tokens, not {text!r}") from None
    return {"price": {"input": price_in, "output": price_out}}


def _spec(spec: str, name: str | None, shared: dict[str, Any]) -> Any:
    from foveal.models.connect import spec_of

    given = {**shared, **({"model": name} if name else {})}
    return spec_of({**spec_of(spec).model_dump(exclude_defaults=True), **given}) if given else spec


def _fields(args: argparse.Namespace) -> dict[str, Any]:
    limits = {"calls": args.max_calls, "tokens": args.max_tokens, "cost": args.max_cost, "time": args.max_time}
    budget = {k: v for k, v in limits.items() if v is not None}
    export = [e.strip() for e in args.export.split(",")] if args.export else None
    return {"limit": args.limit, "budget": budget or None, "export": export}


def _run(args: argparse.Namespace, extra: Sequence[str]) -> int:
    from foveal.view import summary

    plan, source = _plan(args, extra, **_fields(args))
    _check_exports(plan.recipe.export)
    finished = _go(args, plan, source, quiet=args.quiet or args.json)
    summed = summary.summarise(finished.folder)
    if args.json:
        print(summary.as_json(summed))
    else:
        _tell(finished, summed)
    if finished.state == "stopped":
        return STOPPED
    records = summed.records
    return ALL_FAILED if records.all and sum(records.failed.values()) == records.all else 0


def _go(args: argparse.Namespace, plan: Plan, source: Source, quiet: bool) -> Run:
    from foveal.runner.folder import export_run
    from foveal.runner.local import run_plan
    from foveal.runner.waiting import wait
    from foveal.view.live import LiveDisplay
    from foveal.view.report import write_report

    folder = args.out or Path(plan.recipe.out or "out")
    if not quiet:
        _banner(plan, source, folder)
    finished = wait(run_plan(plan, source, folder, args.store, None if quiet else LiveDisplay))
    if finished.state == "finished":
        finished.exports += [export_run(folder, name) for name in plan.recipe.export]
    # Where the disk is full the run's own note tells it, and what to do.
    with suppress(*(() if finished.state == "finished" else (DiskFull,))):
        write_report(folder)
    return finished


def _banner(plan: Plan, source: Source, folder: Path) -> None:
    from foveal.models.connect import spec_of
    from foveal.models.wire import Backend

    specs = {role: spec_of(spec) for role, spec in plan.specs.items() if not isinstance(spec, Backend)}
    who = ", ".join(
        f"{role} = {' '.join([spec.model, *map(_host, spec.urls)]).strip()}" for role, spec in specs.items()
    )
    print(f"foveal {plan.recipe.name}: {source.describe()} -> {folder}\nmodels: {who}")
    if any(spec.model in ("small", "small:weak") for spec in specs.values()):
        print(SMALL_NOTE)
    if any(spec.model.startswith("oracle:") for spec in specs.values()):
        print(ORACLE_NOTE)


def _host(url: str) -> str:
    """Return a URL without what may be secret in it."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _tell(finished: Run, summed: Any) -> None:
    from foveal.view import summary

    summary.show(summed)
    if finished.rows:
        _tell_rows(finished.folder)
    for exported in finished.exports:
        _tell_export(exported)
    print(f"rows: {finished.folder / 'rows.jsonl'}   report: {finished.folder / 'report.html'}")
    if finished.note:
        print(finished.note)


def _preview(args: argparse.Namespace, extra: Sequence[str]) -> int:
    from foveal.runner.local import run_plan
    from foveal.runner.waiting import wait
    from foveal.view import preview

    plan, _ = _plan(args, extra)
    few, source = _plan(args, extra, limit=args.n)
    total = _count(plan)
    folder = args.out or Path(few.recipe.out or "out")
    if not args.json:
        _banner(few, source, folder)
    finished = wait(run_plan(few, source, folder, args.store))
    preview.show(folder, total, as_json=args.json)
    return STOPPED if finished.state == "stopped" else 0


def _count(plan: Plan) -> int | None:
    from foveal.data import open_source

    return open_source(plan.recipe.source or "", limit=plan.recipe.limit).count()


# --- the others ----------------------------------------------------------------------------------------------------


def _show(args: argparse.Namespace, _: Sequence[str]) -> int:
    from foveal.view import summary

    if args.record:
        print(summary.history(args.folder, args.record, as_json=args.json))
    elif args.json:
        print(summary.as_json(summary.summarise(args.folder)))
    else:
        summary.show(summary.summarise(args.folder))
    return 0


def _export(args: argparse.Namespace, _: Sequence[str]) -> int:
    from foveal.runner.folder import export_run

    names = [n.strip() for n in args.to.split(",") if n.strip()]
    _check_exports(names)
    for name in names:
        _tell_export(export_run(args.folder, name, args.out / name if args.out else None))
    return 0


def _check_exports(names: Sequence[str]) -> None:
    from foveal.data import EXPORTS

    for name in names:
        if name not in EXPORTS:
            raise RecipeError(f"no export is called {name!r}{nearest(name, EXPORTS)}")


def _tell_rows(folder: Path, most: int = 3) -> None:
    from itertools import islice

    from foveal.runner.folder import load_rows
    from foveal.view.numbers import clip

    for record in islice(load_rows(folder), most):
        question, answer = (getattr(record.body, side, "") for side in ("question", "answer"))
        source = Path(str(record.tags.get("source", record.id[:12]))).name
        if question:
            chosen, rejected = (getattr(record.body, side, "") for side in ("chosen", "rejected"))
            said = f"{clip(chosen, 50)}  not  {clip(rejected, 50)}" if chosen else clip(answer, 70)
            print(f"{clip(source, 40)}: {clip(question, 70)}  ->  {said}")


def _tell_export(exported: Exported) -> None:
    skipped = "".join(f", {n} left out: {reason}" for reason, n in exported.report.skipped.items())
    print(f"{exported.name}: {exported.report.rows} rows in {exported.out}{skipped}")


def _methods(args: argparse.Namespace, _: Sequence[str]) -> int:
    from foveal.view import catalogue

    print(catalogue.show(args.name, as_json=args.json))
    return 0


def _serve(args: argparse.Namespace, _: Sequence[str]) -> int:
    from foveal.models.connect import connect, spec_of
    from foveal.models.serve import serve

    serve(connect(spec_of(args.model)), port=args.port)
    return 0


Command: TypeAlias = tuple[
    Callable[[argparse.Namespace, Sequence[str]], int], str, Callable[[argparse.ArgumentParser], None]
]
COMMANDS: dict[str, Command] = {
    "run": (_run, "make data: foveal run oasis photos/", _run_options),
    "preview": (_preview, "a few records with every prompt and answer, and what all would cost", _preview_options),
    "show": (_show, "what a run came to; one record with its history", _show_options),
    "export": (_export, "write a run's rows for a trainer", _export_options),
    "methods": (_methods, "what exists: kinds, roles, knobs, papers", _methods_options),
    "analyse": (analyse.run, "what rows are like before any is chosen: tables and plots", analyse.options),
    "perturb": (perturb.run, "a contact sheet of what can be done to a picture", perturb.options),
    "scrapbook": (scrapbook.run, "draw scenes whose truth is known exactly", scrapbook.options),
    "eval": (evaluate.run, "ask a model questions whose answers are known: figures with intervals", evaluate.options),
    "train": (train.do, "train a model on rows: sft, dpo, kto, grpo, rloo", train.options),
    "prove": (prove.run, "what papers claim, tried where the truth is known", prove.options),
    "serve": (_serve, "put a model behind an OpenAI-compatible server on this machine", _serve_options),
}
"""What each command does, says of itself and takes. Those of other rooms come from `foveal.commands`."""


if __name__ == "__main__":
    sys.exit(main())
