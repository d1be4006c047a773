"""Numbers gone through side by side, each in a process of its own that does not outlive this one."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import TypeAlias

THREADS = "OMP_NUM_THREADS"
"""Set in the environment: how many threads numpy and torch use, and here the vision tower too."""

Work: TypeAlias = Callable[[int, Callable[[str], object]], None]
"""Takes a number and what takes lines for people; it has to be picklable."""


@dataclass
class _Worker:
    process: SpawnProcess
    lines: Connection

    def told(self, say: Callable[[str], object]) -> bool:
        """Pass on a line, or wait for the end; return whether it goes on."""
        try:
            say(self.lines.recv())
        except (EOFError, ConnectionError):
            self.process.join()
            return False
        return True


def side_by_side(work: Work, n: int, workers: int, say: Callable[[str], object]) -> None:
    """Do 0 to n - 1, so many at once, and return when all have ended, however they did.

    Steps of a small model leave most of a second core idle, and numbers do not wait for each other. Each process has
    its share of the cores. Whoever needs to know how one ended looks at what it left.
    """
    todo, running = list(range(n)), list[_Worker]()
    with _threads(max(1, (os.cpu_count() or 1) // min(workers, n))):
        try:
            while todo or running:
                while todo and len(running) < workers:
                    running.append(_started(work, todo.pop(0)))
                ready = wait([w.lines for w in running])
                running = [w for w in running if w.lines not in ready or w.told(say)]
        finally:
            for worker in running:
                worker.process.terminate()


def _started(work: Work, number: int) -> _Worker:
    context = multiprocessing.get_context("spawn")  # a forked child of a process that has used torch hangs
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(work, number, theirs))
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _run(work: Work, number: int, lines: Connection) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    work(number, lines.send)


def _end_with_parent() -> None:
    """End this process as soon as its parent has, kill -9 included: nobody waits for it any more."""
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(1)


@contextmanager
def _threads(n: int) -> Iterator[None]:
    """Give processes started inside so many threads: libraries read it once, as they are imported."""
    before = os.environ.get(THREADS)
    os.environ[THREADS] = str(n)
    try:
        yield
    finally:
        os.environ.pop(THREADS)
        os.environ.update({} if before is None else {THREADS: before})
