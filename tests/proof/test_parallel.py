"""Numbers side by side: all are done, one that fails takes none along, and none outlives who started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from foveal.proof.parallel import THREADS, side_by_side

Say = Callable[[str], object]


def square(place: Path, n: int, say: Say) -> None:
    """Write down a square, the process and its share of threads."""
    if n == 1:
        raise SystemExit("one fails")
    (place / str(n)).write_text(f"{n * n} {os.getpid()} {os.environ[THREADS]}")
    say(f"{n} is done")


def linger(place: Path, n: int, say: Say) -> None:
    """Say who this is and stay."""
    (place / f"{n}.new").write_text(str(os.getpid()))
    (place / f"{n}.new").rename(place / f"{n}.pid")
    time.sleep(60)


def test_all_are_done_each_in_a_process_of_its_own(tmp_path: Path) -> None:
    lines: list[str] = []
    before = os.environ.get(THREADS)
    side_by_side(partial(square, tmp_path), 4, 2, lines.append)
    found = {p.name: p.read_text().split() for p in tmp_path.iterdir()}
    assert {n: int(words[0]) for n, words in found.items()} == {"0": 0, "2": 4, "3": 9}
    assert len({words[1] for words in found.values()} | {str(os.getpid())}) == 4
    assert {words[2] for words in found.values()} == {str(max(1, (os.cpu_count() or 1) // 2))}
    assert sorted(lines) == ["0 is done", "2 is done", "3 is done"]
    assert os.environ.get(THREADS) == before


def test_none_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    program = (
        "from functools import partial; from pathlib import Path\n"
        "from tests.proof.test_parallel import linger, side_by_side\n"
        f"if __name__ == '__main__': side_by_side(partial(linger, Path({str(tmp_path)!r})), 2, 2, print)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program])
    try:
        until(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
        parent.send_signal(signal.SIGKILL)
        workers = [int(p.read_text()) for p in tmp_path.glob("*.pid")]
        until(lambda: not any(map(alive, workers)))
    finally:
        parent.kill()
        parent.wait()


def until(true: Callable[[], bool]) -> None:
    """Wait for something, for half a minute at most."""
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Return whether a process runs: one that has ended and was not asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
