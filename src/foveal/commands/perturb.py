"""`foveal perturb photo.jpg`: a contact sheet of a picture's perturbations, each kind at several strengths."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from foveal.errors import ImageError, RecipeError, SetupError

if TYPE_CHECKING:
    from PIL import Image as Pillow

    from foveal.steps.perturb import Perturbation

LABEL, GAP, MARGIN = 22, 12, 20
INK, SOFT, PAPER = (25, 27, 31), (91, 96, 104), (251, 251, 248)


def options(p: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    p.add_argument("picture", type=Path, help="the picture")
    p.add_argument("-o", "--out", type=Path, default=Path("sheet.png"), help="where to (default: sheet.png)")
    p.add_argument(
        "--kind",
        action="append",
        metavar="KIND[:STRENGTH]",
        help="only these (repeatable): diffusion, moco, flip, crop, small-crop, blur, pixelate, downscale, jitter, "
        "mask, blank; with a strength, just that one",
    )
    p.add_argument("--seed", type=int, default=0, help="changes what is drawn: noise, crops, patches")
    p.add_argument("--side", type=int, default=336, metavar="PX", help="longer side of the model's input (default 336)")


def run(args: argparse.Namespace, _: Sequence[str]) -> int:
    """Write the sheet.

    Raises:
        SetupError: there is no such picture or kind, or the sheet cannot be written.
    """
    from foveal import picture
    from foveal.steps.perturb import KINDS

    rows = list(_rows(args.kind or list(KINDS), args.side))
    try:
        plain = picture.decode(args.picture.read_bytes())
    except OSError as error:
        raise SetupError(f"cannot read {args.picture}: {error.strerror}") from error
    except ImageError as error:
        raise SetupError(f"{args.picture}: {error}") from error
    sheet = contact_sheet(plain, rows, args.side, args.seed)
    try:
        sheet.save(args.out)
    except (OSError, ValueError) as error:
        raise SetupError(f"cannot write {args.out}: {error}") from error
    print(f"{sum(map(len, rows))} perturbations of {args.picture.name} at {args.side or 'its own'} pixels: {args.out}")
    return 0


def _rows(kinds: Sequence[str], side: int) -> Iterator[list[Perturbation]]:
    """Yield a row for each kind; strengths of one kind that are asked for one by one share theirs."""
    from foveal.steps.perturb import KINDS, Perturbation

    rows: dict[str, list[Perturbation]] = {}
    for text in kinds:
        one = Perturbation.read(text, side)
        strengths = [one.strength] if ":" in text else KINDS[one.kind].shown
        rows.setdefault(one.kind, []).extend(Perturbation(one.kind, s, side) for s in strengths)
    yield from rows.values()


def contact_sheet(
    plain: Pillow.Image, rows: Sequence[Sequence[Perturbation]], side: int, seed: int = 0
) -> Pillow.Image:
    """Return the picture and its perturbations on one sheet, a row for each kind.

    Args:
        plain: the picture, RGB.
        rows: perturbations without their seeds.
        side: pixels of a cell's longer side, 0 for the picture's own.
        seed: of all that is drawn.

    Raises:
        RecipeError: the sheet would have too many pixels.
    """
    from PIL import Image as Pillow

    from foveal.picture import PIXEL_LIMIT
    from foveal.steps.perturb import fitted

    cell = side or max(plain.size)
    wide = MARGIN * 2 + (cell + GAP) * (1 + max(map(len, rows))) - GAP
    # A picture that comes out small is shown as large as the model makes it.
    shown = [[(str(o), fitted(o.drawn(Random(f"{seed} {o}")).apply(plain), cell)) for o in row] for row in rows]
    tall = [LABEL + max(min(cell, image.height) for _, image in row) + GAP for row in shown]
    if wide * (2 * MARGIN + sum(tall)) > PIXEL_LIMIT:
        raise RecipeError(f"a sheet of {wide}x{sum(tall)} pixels is too large: name a --side or fewer kinds")
    small = plain.copy()
    small.thumbnail((cell, cell), reducing_gap=3.0)
    sheet = Pillow.new("RGB", (wide, 2 * MARGIN + max(sum(tall), LABEL + small.height + GAP) - GAP), PAPER)
    _cell(sheet, (MARGIN, MARGIN), "the picture", small, INK)
    top = MARGIN
    for row, height in zip(shown, tall, strict=True):
        for column, (label, image) in enumerate(row, 1):
            _cell(sheet, (MARGIN + column * (cell + GAP), top), label, image, SOFT)
        top += height
    return sheet


def _cell(sheet: Pillow.Image, at: tuple[int, int], label: str, image: Pillow.Image, ink: tuple[int, int, int]) -> None:
    from PIL import ImageDraw, ImageFont

    draw = ImageDraw.Draw(sheet)
    draw.text(at, label, fill=ink, font=ImageFont.load_default(15))
    sheet.paste(image, (at[0], at[1] + LABEL))
