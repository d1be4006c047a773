"""Records that show what exports must carry: one picture, two interleaved, none, several turns, pairs."""

from __future__ import annotations

import io
import shlex
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image as Pillow

from foveal.record import Chat, Image, Pair, Record, Turn

SIZE = 16


def picture(red: int, kind: str = "PNG", side: int = SIZE) -> Image:
    """A plain square."""
    out = io.BytesIO()
    Pillow.new("RGB", (side, side), (red, 60, 90)).save(out, kind)
    return Image.of(out.getvalue())


A, B = picture(10), picture(200, "JPEG")


def chats() -> list[Record]:
    """Conversations."""
    return [
        Record((A,), Chat([("user", "What is it?"), ("assistant", "A square.")]), {"score": 4.5}),
        Record((B,), Chat([("system", "Be brief."), ("user", "Colour?"), ("assistant", "Red.")]), {"score": "none"}),
        Record((A, B), Chat([Turn("user", ("Left ", 0, " right ", 1, " which?")), ("assistant", "The second.")])),
        Record((A,), Chat([("user", "Hi"), ("assistant", "Hello."), ("user", "And?"), ("assistant", "Fine.")])),
        Record((), Chat([("user", "No picture?"), ("assistant", "None.")])),
        Record((B,), Chat([("user", "Size?"), ("assistant", "Small.")])),
    ]


def pairs() -> list[Record]:
    """Preferences."""
    return [
        Record((A if i % 2 else B,), Pair(f"Question {i}?", f"good {i}", f"bad {i}"), {"margin": i / 10})
        for i in range(6)
    ]


def spoilt() -> Record:
    """A pair as SeVa makes it: both sides about the first picture, and the second is just kept."""
    return Record((A, B), Pair([Turn("user", (0, "What is it?"))], "good", "bad"), {"rejected_saw": [B.digest]})


def contrast() -> Record:
    """A pair as Image-DPO and mDPO make it: the same words, another picture on the rejected side."""
    return Record((A, B), Pair([Turn("user", (0, "Which?"))], "this", "this", rejected_images=[1]))


def load_parquet(out: Path, table: str):
    """Load a table as users do."""
    from datasets import load_dataset

    return load_dataset(str(out), data_dir=table, split="train", cache_dir=str(out / "cache"))


def printed(capsys: Any, trainer: str, verb: str, *more: str) -> list[str]:
    """Return the words of the command that `foveal train --print` gives, without the export and the program."""
    from foveal.cli import main

    given = ["train", verb, "run1", "--model", "a/b", "--lora", "8", "--steps", "7", "--print", trainer, *more]
    assert main(given) == 0
    lines = [line for line in capsys.readouterr().out.replace("\\\n", " ").splitlines() if not line.startswith("#")]
    assert lines[0].startswith("foveal export run1 --to ")
    return shlex.split(lines[1])[2:]


def parsed_by(classes: Sequence[type], words: Sequence[str]) -> Namespace:
    """Return what a trainer's own parser of its arguments makes of them; nothing of a model is opened."""
    from transformers import HfArgumentParser

    parser = HfArgumentParser(classes)
    left: Namespace = parser.parse_args(list(words))
    return left
