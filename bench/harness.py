"""Start the mock server, run a client against it as a process of its own, measure it, and check every row."""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import answer_for, image_digest, instruction_for, keeps, score_for

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Load:
    """What is asked of a client."""

    n: int
    slots: int
    latency: float
    faults: Mapping[str, float] = field(default_factory=dict)
    timeout: float = 60.0


@dataclass
class Measured:
    """One run of one client.

    Attributes:
        work: seconds from the first request's arrival to the last answer.
        whole: seconds from exec to exit.
        cpu: user + system seconds of the process, start and imports included.
        rss: peak resident megabytes.
        first_row: seconds from the first request's arrival to the first row's last answer.
    """

    code: int
    whole: float
    cpu: float
    rss: float
    work: float = 0.0
    first_row: float | None = None
    requests: int = 0
    lost: int = 0
    wrong: int = 0
    doubled: int = 0
    repeated: int = 0
    stats: dict[str, Any] = field(default_factory=dict)


@contextmanager
def server(load: Load) -> Iterator[int]:
    """Run the mock server; gives its port."""
    options = {"slots": load.slots, "latency": load.latency, "port": 0, **load.faults}
    command = [sys.executable, str(HERE / "mock_server.py"), *(f"--{k}={v}" for k, v in options.items())]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline().split()[1])
    finally:
        process.terminate()
        process.communicate()


def stats(port: int) -> dict[str, Any]:
    """Return what the server has counted."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats", timeout=30) as reply:
        found: dict[str, Any] = json.load(reply)
    return found


def bare(load: Load, port: int, images: Path, out: Path) -> list[str]:
    """Return the command of the hand-written loop."""
    given = ["-n", load.n, "--url", f"http://127.0.0.1:{port}/v1", "--concurrency", load.slots]
    given += ["--timeout", load.timeout, "--out", out]
    return [sys.executable, str(HERE / "bare.py"), str(images), *map(str, given)]


def foveal(load: Load, port: int, images: Path, out: Path) -> list[str]:
    """Return the command as a user types it: no concurrency is given, it finds its own."""
    given = ["--limit", load.n, "--model", f"http://127.0.0.1:{port}/v1", "--timeout", load.timeout, "-o", out]
    step = f"{HERE / 'workload.py'}:workload"
    return [sys.executable, "-m", "foveal.cli", "run", step, str(images), *map(str, given), "--quiet"]


CLIENTS = {"bare": bare, "foveal": foveal}


def launch(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a client."""
    env = {**os.environ, "PYTHONPATH": str(HERE)}
    with log.open("ab") as out:
        return subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT)


def wait(process: subprocess.Popen[bytes], began: float) -> Measured:
    """Wait for a client to end."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    per_mb = 2**20 if sys.platform == "darwin" else 1024
    whole = time.monotonic() - began
    return Measured(process.returncode, whole, used.ru_utime + used.ru_stime, used.ru_maxrss / per_mb)


def measure(client: str, load: Load, images: Path, folder: Path) -> Measured:
    """Run a client against a server of its own, and check what it made."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with server(load) as port:
        began = time.monotonic()
        process = launch(CLIENTS[client](load, port, images, folder / "out"), folder / "log.txt")
        found = wait(process, began)
        found.stats = stats(port)
    if found.code:
        raise SystemExit(f"{client} failed ({found.code}):\n{(folder / 'log.txt').read_text()[-2000:]}")
    return check(found, load, images, folder / "out")


def check(found: Measured, load: Load, images: Path, out: Path) -> Measured:
    """Fill in times, and hold every row against what the server must have said."""
    s = found.stats
    found.work = s["last_done"] - s["first_request"]
    found.first_row = s["first_answer"] and s["first_answer"] - s["first_request"]
    found.requests, found.repeated = s["requests"], s["repeated_ok"]
    wanted = {row: row for row in expected(load.n, images)}
    rows = [as_tuple(json.loads(line)) for line in (out / "rows.jsonl").read_bytes().splitlines()]
    found.lost = len(set(wanted) - set(rows))
    found.wrong = sum(row not in wanted for row in rows)
    found.doubled = len(rows) - len(set(rows))
    return found


Row = tuple[str, str, int, str]


def expected(n: int, images: Path) -> Iterator[Row]:
    """Yield the rows that must be there."""
    for path in sorted(images.iterdir())[:n]:
        digest = image_digest(base64.b64encode(path.read_bytes()))
        if keeps(digest):
            yield path.name, instruction_for(digest), score_for(digest), answer_for(digest)


def ideal_requests(n: int, images: Path) -> int:
    """Return how many requests the workload takes when nothing goes wrong."""
    return 2 * n + sum(1 for _ in expected(n, images))


def as_tuple(row: dict[str, Any]) -> Row:
    """Return a row of either client in one form."""
    if "instruction" in row:
        return row["id"], row["instruction"], row["score"], row["answer"]
    question, answer = (turn["content"] for turn in row["body"]["turns"])
    return row["tags"]["source"], question, row["tags"]["score"], answer


def kill_and_continue(load: Load, images: Path, folder: Path, rng: random.Random) -> tuple[int, int, Measured]:
    """Kill -9 a run at a random moment and run the same command again.

    Returns:
        Calls that the server answered, before the kill or after it, and that were asked again; the most
        requests the client had under way at once until the kill, counted at the server as connections that were open
        at once and had carried a request, for the client sends one request at a time on each and opens another only
        when all are in use (so a request whose answer lies unread in a socket is under way, one whose answer was read
        is not); what the whole came to.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    goal = rng.uniform(0.02, 0.98) * ideal_requests(load.n, images)
    with server(load) as port:
        command = foveal(load, port, images, folder / "out")
        process = launch(command, folder / "log.txt")
        while process.poll() is None and stats(port)["unique_ok"] < goal:
            time.sleep(rng.uniform(0.001, 0.02))
        process.send_signal(signal.SIGKILL)
        process.wait()
        in_flight = stats(port)["max_connections"]
        time.sleep(2 * load.latency)  # the server ends what was under way
        began = time.monotonic()
        found = wait(launch(command, folder / "log.txt"), began)
        found.stats = stats(port)
    if found.code:
        raise SystemExit(f"the run after the kill failed:\n{(folder / 'log.txt').read_text()[-2000:]}")
    found = check(found, load, images, folder / "out")
    return found.repeated, in_flight, found
