"""`foveal scrapbook make`: scenes whose truth is known exactly; `foveal scrapbook sheet`: a look at them."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from foveal.errors import RecipeError, SourceError

if TYPE_CHECKING:
    from foveal.scrapbook import Settings

SHARES = {
    "text": "scenes with a sign, caption strip or tag",
    "chart": "scenes with a chart",
    "table": "scenes with a table",
    "occlusion": "scenes of two or three things that may cover each other",
    "treated": "things in other colours than their own",
    "repeat": "scenes that show something more than once",
}


def options(p: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    verbs = p.add_subparsers(dest="verb", required=True, metavar="VERB", help="make or sheet")
    make = verbs.add_parser("make", help="draw scenes and their truth", description="Draw scenes and their truth.")
    make.add_argument("-n", type=int, default=1000, help="scenes the folder shall hold (default 1000)")
    make.add_argument("-o", "--out", type=Path, default=Path("scenes"), help="where to (default: scenes)")
    make.add_argument("--seed", type=int, default=0, help="seed of the first scene; the others count up (default 0)")
    make.add_argument(
        "--split",
        default="train",
        choices=("train", "held"),
        help="train (default) or held: looks, words and fonts never seen in training",
    )
    make.add_argument(
        "--classes",
        default="all",
        choices=("all", "seen", "unseen"),
        help="all (default), or the hard split: one noun in six is unseen",
    )
    make.add_argument(
        "--objects", default="1-5", metavar="M-N", help="things in a scene, a number or a range (default 1-5)"
    )
    for name, what in SHARES.items():
        make.add_argument(f"--{name}", type=float, metavar="SHARE", help=f"share of {what}")
    make.add_argument("--workers", type=int, help="processes (default: all cores)")
    sheet = verbs.add_parser("sheet", help="a contact sheet", description="Draw a contact sheet of a folder of scenes.")
    sheet.add_argument("folder", type=Path, help="a folder that make has drawn")
    sheet.add_argument("-o", "--out", type=Path, default=Path("sheet.png"), help="where to (default: sheet.png)")
    sheet.add_argument("-n", type=int, default=24, help="how many scenes (default 24)")


def run(args: argparse.Namespace, _: Sequence[str]) -> int:
    """Do what was asked.

    Raises:
        SetupError: an option that does not fit, a folder that cannot be used, or a source that cannot be fetched.
    """
    return _make(args) if args.verb == "make" else _sheet(args)


def _make(args: argparse.Namespace) -> int:
    from foveal.scrapbook.folder import make

    if args.n < 1 or (args.workers is not None and args.workers < 1):
        raise RecipeError("-n and --workers are whole numbers from 1 up")
    settings = _settings(args)
    began = time.perf_counter()
    made = make(args.out, args.n, args.seed, args.split, settings, args.workers)
    seconds = time.perf_counter() - began
    rate = f"; {made.drawn / seconds:.0f} pictures a second" if made.drawn > 1000 else ""
    print(f"{made.folder}: {made.scenes} scenes, {made.drawn} drawn now in {seconds:.1f} s{rate}")
    return 0


def _settings(args: argparse.Namespace) -> Settings:
    from foveal.scrapbook import Settings

    shares = {name: value for name in SHARES if (value := getattr(args, name)) is not None}
    for name, value in shares.items():
        if not (math.isfinite(value) and 0 <= value <= 1):
            raise RecipeError(f"--{name} {value:g}: a share from 0 to 1 is needed")
    low, high = _range(args.objects)
    weights = tuple(w if low <= n <= high else 0.0 for n, w in enumerate(Settings().objects, 1))
    settings = Settings(objects=weights, classes=args.classes, **shares)
    if settings.text + settings.chart + settings.table > 1:
        raise RecipeError("--text, --chart and --table are shares of the same scenes: together at most 1")
    return settings


def _range(said: str) -> tuple[int, int]:
    low, _, high = said.partition("-")
    try:
        found = int(low), int(high or low)
    except ValueError:
        found = 0, 0
    if not 1 <= found[0] <= found[1] <= 5:
        raise RecipeError(f"--objects {said}: a number from 1 to 5, or two such as 2-4")
    return found


def _sheet(args: argparse.Namespace) -> int:
    from PIL import Image

    from foveal.scrapbook import load_truth

    truths = list(load_truth(args.folder).values())[: max(1, args.n)]
    if not truths:
        raise SourceError(f"{args.folder} holds no scenes yet")
    side, gap = 224, 8
    columns = min(6, len(truths))
    rows = -(-len(truths) // columns)
    sheet = Image.new("RGB", (columns * (side + gap) + gap, rows * (side + gap) + gap), "white")
    for i, truth in enumerate(truths):
        with Image.open(args.folder / truth.file) as picture:
            sheet.paste(picture, (gap + i % columns * (side + gap), gap + i // columns * (side + gap)))
    try:
        sheet.save(args.out)
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot write {args.out}: {error}") from error
    print(f"{len(truths)} scenes: {args.out}")
    return 0
