"""`foveal train sft|dpo|kto|grpo|rloo DATA --model ... -o OUT`: from rows to weights."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

from foveal.errors import RecipeError

VERBS = ("sft", "dpo", "kto", "grpo", "rloo")
ELSEWHERE = ("trl", "ms-swift", "llamafactory")


def options(p: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    p.add_argument(
        "verb", choices=VERBS, help="sft: conversations; dpo: pairs; kto: labelled answers; grpo, rloo: rewards"
    )
    p.add_argument("data", metavar="DATA", help="a run folder, an export, or any data file that foveal reads")
    p.add_argument("--model", default="small", help="small (default), small:FOLDER, a path, or a hub id")
    p.add_argument("-o", "--out", default="trained", help="folder for the model (default: trained)")
    p.add_argument(
        "--print", choices=ELSEWHERE, dest="shown", help="print the same training as a command of another trainer"
    )
    _loss(p)
    _weights(p)
    _steps(p)
    _rounds(p)


def _loss(p: argparse.ArgumentParser) -> None:
    group = p.add_argument_group("what is learnt", "docs/training.md lists losses, rewards and what rows they need")
    group.add_argument("--loss", default="", help="dpo (default), seva, mdpo, simpo, ...; a mix is sigmoid+sft:0.2")
    group.add_argument(
        "--knob", action="append", default=[], metavar="NAME=VALUE", help="of a loss: beta=0.2, simpo.gamma=1"
    )
    group.add_argument("--beta", type=float, help="the same as --knob beta=VALUE")
    group.add_argument(
        "--reference",
        default="",
        help="precomputed (default: nothing stays in memory), adapter (with --lora), or resident",
    )
    group.add_argument("--auxiliary", default="", metavar="DATA", help="conversations for a loss's `lm` term (HA-DPO)")
    group.add_argument("--reward", action="append", default=[], metavar="NAME[:WEIGHT]", help="grpo, rloo (repeatable)")
    group.add_argument(
        "--strict",
        action="append",
        default=[],
        metavar="NAME",
        help="a reward only watched, on --eval too (repeatable)",
    )
    group.add_argument("--eval", default="", metavar="DATA", dest="held_out", help="rows that are only evaluated on")


def _weights(p: argparse.ArgumentParser) -> None:
    group = p.add_argument_group("which weights")
    group.add_argument("--lora", type=int, default=0, metavar="RANK", help="train an adapter (default: all weights)")
    group.add_argument(
        "--alpha", type=int, default=0, metavar="N", help="the adapter's scale (default: twice its rank)"
    )
    group.add_argument("--merge", action="store_true", help="melt the adapter into the saved model")
    group.add_argument("--train-tower", action="store_true", dest="tower", help="train the vision tower too")
    group.add_argument("--dtype", default="auto", help="of the weights: float32 (default), bfloat16")


def _steps(p: argparse.ArgumentParser) -> None:
    group = p.add_argument_group("how long, how fast")
    group.add_argument("--epochs", type=float, default=1.0, help="times through the data (default 1)")
    group.add_argument("--steps", type=int, default=0, metavar="N", help="stop after so many, instead of --epochs")
    group.add_argument("--batch", type=int, default=4, help="rows at a time on each device (default 4)")
    group.add_argument("--accumulate", type=int, default=1, metavar="N", help="batches to a step (default 1)")
    group.add_argument(
        "--rate", type=float, default=0.0, help="learning rate (default: TRL's; ten times it with --lora)"
    )
    group.add_argument(
        "--max-length", type=int, default=0, metavar="N", dest="longest", help="tokens of a row (default: no limit)"
    )
    group.add_argument(
        "--save-every", type=int, default=0, metavar="N", help="steps between checkpoints; the same command continues"
    )
    group.add_argument("--seed", type=int, default=0, help="changes every random choice (default 0)")
    group.add_argument("--limit", type=int, default=0, metavar="N", help="only the first N records")
    group.add_argument("--skip-broken", action="store_true", help="leave broken rows out instead of stopping")
    group.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="settings",
        help="any field of the trainer's own configuration (repeatable)",
    )  # fmt: skip
    group.add_argument("--json", action="store_true", help="print the run card as JSON, and nothing else")


def _rounds(p: argparse.ArgumentParser) -> None:
    group = p.add_argument_group("rounds", "DATA is then the method's source, and each round's policy makes its data")
    group.add_argument(
        "--rounds", type=int, default=0, metavar="N", help="data, training, data by the trained model, ..."
    )
    group.add_argument("--method", help="what makes the data: seva, a recipe, file.py:function")
    group.add_argument(
        "--role", action="append", default=[], metavar="ROLE=SPEC", help="who plays another role, such as judge"
    )
    group.add_argument(
        "--method-set", action="append", default=[], metavar="KNOB=VALUE", help="set a knob of the method (repeatable)"
    )


def do(args: argparse.Namespace, extra: Sequence[str]) -> int:
    """Train, or print how another trainer would."""
    from foveal.train.job import Job, train

    knobs = _pairs(args.knob, "--knob") | ({"beta": args.beta} if args.beta is not None else {})
    fields = {f: getattr(args, f) for f in Job.__dataclass_fields__ if hasattr(args, f)}
    given = {"knobs": knobs, "settings": _pairs(args.settings, "--set")}
    job = Job(**{**fields, **given, "rewards": tuple(args.reward), "strict": tuple(args.strict)})
    if args.shown:
        from foveal.train.elsewhere import command

        print(command(job, args.shown))
        return 0
    say: Callable[[str], object] = (lambda _: None) if args.json else print
    if args.rounds:
        from foveal.train.rounds import rounds

        if not args.method:
            raise RecipeError("--rounds needs --method: what makes each round's data")
        roles = {name: str(spec) for name, spec in _pairs(args.role, "--role").items()}
        cards = rounds(job, args.method, args.rounds, roles, tuple(args.method_set), say)
    else:
        cards = [train(job, say)]
    if args.json:
        print(json.dumps(cards if args.rounds else cards[0], indent=2))
    else:
        print("\n".join(cards[-1].get("wrote", ())))
    return 0


def _pairs(given: Sequence[str], option: str) -> dict[str, Any]:
    """Read NAME=VALUE, the value as JSON where it is that, else as text."""
    out: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise RecipeError(f"{option} takes NAME=VALUE, not {text!r}")
        try:
            out[name] = json.loads(value)
        except ValueError:
            out[name] = value
    return out
