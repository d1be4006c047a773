"""`foveal analyse SOURCE ...`: what rows are like, before any is chosen: tables, a page with plots, JSON."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from foveal.errors import RecipeError, nearest


def options(p: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    p.add_argument("source", nargs="+", help="rows: folders of finished runs, data files or folders of pictures")
    p.add_argument(
        "--by", action="append", default=[], metavar="TAG",
        help="tell the values of a tag apart (repeatable; default: tags with few values)",
    )  # fmt: skip
    p.add_argument("--limit", type=int, metavar="N", help="only the first N rows")
    p.add_argument(
        "--pictures", type=int, default=2000, metavar="N",
        help="how many different pictures are opened for sizes and near-duplicates (default 2000, 0 for none)",
    )  # fmt: skip
    p.add_argument("-o", "--out", type=Path, default=Path("analysis.html"), help="the page (default: analysis.html)")
    p.add_argument("--json", action="store_true", help="print everything as JSON, and nothing else; writes no page")


def run(args: argparse.Namespace, _: Sequence[str]) -> int:
    """Read, show and write.

    Raises:
        SetupError: there is nothing to read, a number is out of range, or no row has a tag that was named.
    """
    from foveal.data import open_source
    from foveal.view.survey import survey

    if (args.limit is not None and args.limit < 1) or args.pictures < 0:
        raise RecipeError("--limit is a whole number from 1 up, --pictures from 0")
    if not args.json and not args.out.absolute().parent.is_dir():
        raise RecipeError(f"cannot write {args.out}: there is no folder {args.out.parent}")
    rows = open_source(args.source if len(args.source) > 1 else args.source[0], limit=args.limit)
    found = survey(rows, rows.where, args.by, args.pictures)
    for tag in args.by:
        if tag not in found.all.tags:
            raise RecipeError(f"--by {tag}: no row has that tag{nearest(tag, found.all.tags)}")
    if args.json:
        import orjson

        from foveal.view.survey_json import to_json

        print(orjson.dumps(to_json(found), option=orjson.OPT_INDENT_2).decode())
        return 0
    _show(found, args.out)
    return 0


def _show(found: object, out: Path) -> None:
    from rich.console import Console

    from foveal.view import survey_page
    from foveal.view.survey import Survey

    assert isinstance(found, Survey)
    console = Console(highlight=False)
    # In a file or a pipe nothing needs to be folded to fit.
    console = console if console.is_terminal else Console(width=160, highlight=False)
    for line in survey_page.lines(found):
        console.print(line)
    survey_page.write(found, out)
    print(f"\nplots: {out}")
