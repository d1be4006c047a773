"""Records that show what exports must carry: one picture, two interleaved, none, several turns, pairs."""

from __future__ import annotations

import io
from pathlib import Path

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
