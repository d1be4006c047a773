"""Run a scripted model over synthetic bare records: `memory.py COUNT OUT`; its peak memory tells what grows."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from foveal import Chat, Model, Record, keep
from foveal.data import Source
from foveal.models.scripted import Scripted
from foveal.recipe import Recipe, bind, with_backends
from foveal.record import Image
from foveal.runner.local import run_plan
from foveal.runner.waiting import wait
from foveal.view.report import write_report


async def one_call(image: Record, model: Model) -> Record:
    """Ask once and keep two of three."""
    answer = await model.ask("What is this?", image.images)
    keep(int(image.id[:8], 16) % 3, "every third")
    return image.make(Chat([("user", "What is this?"), ("assistant", answer)]))


def records(count: int) -> Iterator[Record]:
    """Yield records of pictures a few bytes long."""
    for number in range(count):
        yield Record((Image.of(b"picture %d" % number, f"synthetic/{number}"),), None, {"source": f"{number}"})


def main(count: int, out: Path) -> None:
    """Run."""
    recipe = Recipe(name="memory", source="synthetic", steps=[f"{__file__}:one_call"])
    model = Scripted(lambda request: "A picture of something. " * 8, keep_asked=False)
    source = Source("pictures", "synthetic", lambda: records(count), lambda: count, Counter())
    run = wait(run_plan(with_backends(bind(recipe), {"model": model}), source, out))
    assert run.progress.done == count
    write_report(out)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
