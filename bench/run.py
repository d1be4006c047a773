"""foveal against a hand-written loop and against its own targets, by one command: `python bench/run.py`.

Makes the pictures, starts the mock server on loopback, runs the bare loop and foveal alternately, holds every row
against what the server must have said, prints the table and writes it to bench/RESULTS.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import make_images
from harness import HERE, Load, Measured, ideal_requests, kill_and_continue, launch, measure, wait

DATA, RUNS = HERE / "data" / "images", HERE / "runs"
FAULTS = {"p429": 0.03, "p500": 0.02, "pmalformed": 0.02, "ptimeout": 0.004}


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    case: str
    what: str
    measured: str
    target: str
    good: bool

    def __str__(self) -> str:
        return f"| {self.case} | {self.what} | {self.measured} | {self.target} | {'yes' if self.good else '**no**'} |"


HEAD = "| case | what | measured | target | met |\n|---|---|---|---|---|"
Lines = Iterator[Line]


@dataclass(frozen=True)
class Scale:
    """How much is run: everything, or a quick look."""

    quick: bool
    pairs: int

    def of(self, full: int, quick: int) -> int:
        return quick if self.quick else full


# --- speed ---------------------------------------------------------------------------------------------------------


@dataclass
class Pairs:
    """Runs of the bare loop and of foveal, one after the other, several times."""

    load: Load
    bare: list[Measured]
    ours: list[Measured]

    def ratio(self, of: Callable[[Measured], float]) -> tuple[float, str]:
        """Return the median of foveal / bare over the pairs, and how it is shown."""
        each = sorted(of(f) / of(b) for b, f in zip(self.bare, self.ours, strict=True))
        spread = f" ({each[0]:.2f} to {each[-1]:.2f})" if len(each) > 1 else ""
        return (middle := statistics.median(each)), f"{middle:.2f}{spread}"

    @property
    def ideal(self) -> float:
        """Seconds that the server alone needs."""
        return ideal_requests(self.load.n, DATA) * self.load.latency / self.load.slots

    def times(self, of: Callable[[Measured], float]) -> str:
        """Return the medians of foveal and of the bare loop."""
        return f"{statistics.median(map(of, self.ours)):.2f}, bare {statistics.median(map(of, self.bare)):.2f}"


def pairs(load: Load, count: int) -> Pairs:
    """Run them."""
    found = Pairs(load, [], [])
    for _ in range(count):
        found.bare.append(measure("bare", load, DATA, RUNS / "bare"))
        found.ours.append(measure("foveal", load, DATA, RUNS / "foveal"))
    return found


def work(m: Measured) -> float:
    return m.work


def cpu(m: Measured) -> float:
    return 1000 * m.cpu / m.requests


def right(case: str, found: Pairs) -> Line:
    """Return the line that says whether every row is there, right and once."""
    lost, wrong, doubled = (sum(getattr(m, w) for m in found.ours) for w in ("lost", "wrong", "doubled"))
    repeated = sum(m.repeated for m in found.ours)
    said = f"{lost} lost, {wrong} wrong, {doubled} doubled, {repeated} calls repeated"
    return Line(case, "rows", said, "all 0", not (lost or wrong or doubled or repeated))


def speed(case: str, load: Load, count: int, most: float) -> Lines:
    """Measure work time, CPU, memory, first row."""
    found = pairs(load, count)
    slots = f"{load.slots} slots × {1000 * load.latency:.0f} ms, {load.n} pictures"
    ratio, shown = found.ratio(work)
    by_ideal = found.times(lambda m: m.work / found.ideal)
    yield Line(case, f"{slots}: work time ÷ bare loop's", f"{shown}; ÷ ideal {by_ideal}", f"≤ {most}", ratio <= most)
    ratio, shown = found.ratio(cpu)
    absolute = statistics.median(map(cpu, found.ours))
    said = f"{found.times(cpu)}; ratio {shown}"
    yield Line(
        case,
        "CPU ms per request, start and report included",
        said,
        "≤ 0.6 or ≤ 2 × bare's",
        absolute <= 0.6 or ratio <= 2,
    )
    rss = max(m.rss for m in found.ours)
    yield Line(case, "peak memory, MB", f"{rss:.0f}, bare {max(m.rss for m in found.bare):.0f}", "< 250", rss < 250)
    first = statistics.median(m.first_row or 1e9 for m in found.ours)
    yield Line(
        case, "first row after the first request, s", found.times(lambda m: m.first_row or 1e9), "≤ 1", first <= 1
    )
    yield right(case, found)


def slots64(scale: Scale) -> Lines:
    """64 slots x 200 ms."""
    yield from speed("a", Load(scale.of(2000, 500), 64, 0.2), scale.pairs, 1.05)


def slots256(scale: Scale) -> Lines:
    """256 slots x 50 ms: the client is the bottleneck."""
    yield from speed("b", Load(scale.of(2000, 500), 256, 0.05), scale.pairs, 1.25)


def refused(scale: Scale) -> Lines:
    """3 % of 429."""
    found = pairs(Load(scale.of(2000, 500), 64, 0.2, {"p429": 0.03}), scale.pairs)
    ours = statistics.median(m.work / found.ideal for m in found.ours)
    shown = found.times(lambda m: m.work / found.ideal)
    yield Line("c", "3 % answered 429, Retry-After 1: work time ÷ ideal", shown, "≤ 1.2", ours <= 1.2)
    yield right("c", found)


def faults(scale: Scale) -> Lines:
    """The mix of faults."""
    found = pairs(Load(scale.of(500, 200), 64, 0.2, FAULTS, timeout=5.0), scale.pairs)
    ratio, shown = found.ratio(work)
    mix = "3 % 429, 2 % 500, 2 % malformed scores, 0.4 % hang 20 s (client gives up after 5)"
    yield Line("d", f"{mix}: work time ÷ bare loop's", shown, "≤ 1.15", ratio <= 1.15)
    yield right("d", found)


# --- kills, memory, size -------------------------------------------------------------------------------------------


def kills(scale: Scale) -> Lines:
    """Kill -9 at random moments: where the server keeps the client waiting, and where the client is the slower one."""
    for latency in (0.2, 0.05):
        yield from _kills(Load(scale.of(300, 60), 64, latency), scale.of(20, 5))


def _kills(load: Load, count: int) -> Lines:
    rng = random.Random(1)
    ends = [kill_and_continue(load, DATA, RUNS / "kill", rng) for _ in range(count)]
    over = sum(repeated > in_flight for repeated, in_flight, _ in ends)
    repeated = f"repeated: mean {statistics.mean(e[0] for e in ends):.0f}, most {max(e[0] for e in ends)}"
    under_way = f"most in flight: mean {statistics.mean(e[1] for e in ends):.0f}"
    what = f"{count} kills -9 at {load.slots} slots × {1000 * load.latency:.0f} ms, then the same command"
    said = f"{over} of {count} kills with more ({repeated}; {under_way})"
    yield Line("e", f"{what}: more calls repeated than were in flight", said, "0", not over)
    lost, wrong, doubled = (sum(getattr(m, w) for *_, m in ends) for w in ("lost", "wrong", "doubled"))
    yield Line("e", "rows", f"{lost} lost, {wrong} wrong, {doubled} doubled", "all 0", not (lost or wrong or doubled))


def memory(scale: Scale) -> Lines:
    """Peak memory as the number of records grows."""
    sizes = (1000, scale.of(200_000, 20_000))
    peaks = []
    for n in sizes:
        folder = RUNS / "memory"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        command = [sys.executable, str(HERE / "memory.py"), str(n), str(folder / "out")]
        began = time.monotonic()
        found = wait(launch(command, folder / "log.txt"), began)
        if found.code:
            raise SystemExit((folder / "log.txt").read_text()[-2000:])
        peaks.append(found)
    said = "; ".join(f"{n:,}: {m.rss:.0f} ({m.whole:.0f} s)" for n, m in zip(sizes, peaks, strict=True))
    yield Line("f", "peak memory, MB, by number of records", said, "< 400", peaks[-1].rss < 400)


def start(scale: Scale) -> Lines:
    """`foveal --help`."""
    used = []
    for _ in range(scale.of(9, 5)):
        process = subprocess.Popen([sys.executable, "-m", "foveal.cli", "--help"], stdout=subprocess.DEVNULL)
        used.append(wait(process, time.monotonic()).cpu)  # type: ignore[arg-type]
    middle = statistics.median(used)
    yield Line("g", "`foveal --help`, CPU s", f"{middle:.3f}", "< 0.25", middle < 0.25)


def size(scale: Scale) -> Lines:
    """A fresh environment with the base install."""
    with tempfile.TemporaryDirectory() as place:
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        python = Path(place) / "bin" / "python"
        subprocess.run([str(python), "-m", "pip", "install", "-q", str(HERE.parent)], check=True)
        site = next(Path(place).glob("lib/python*/site-packages"))
        own = ("pip", "setuptools", "wheel", "_distutils_hack", "distutils-precedence", "pkg_resources")
        files = (p for d in site.iterdir() if not d.name.startswith(own) for p in (d.rglob("*") if d.is_dir() else [d]))
        total = sum(p.stat().st_size for p in files if p.is_file()) / 1e6
        packages = sum(not d.name.startswith(own) for d in site.glob("*.dist-info"))
    yield Line(
        "h", "base install", f"{total:.0f} MB, {packages} packages", "≤ 150 MB, ≤ 40", total <= 150 and packages <= 40
    )


CASES = {
    "a": slots64, "b": slots256, "c": refused, "d": faults, "e": kills, "f": memory, "g": start, "h": size,
}  # fmt: skip


# --- the page ------------------------------------------------------------------------------------------------------


def machine() -> str:
    """Describe the machine in general words."""
    load = os.getloadavg()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{platform.system()} on {platform.machine()}, {cores} cores, load average {load:.1f} when it began"


PAGE = """# What foveal costs beside the work itself

Image → question (VLM) → score as JSON (LLM) → keep ≥ 3 → answer (VLM), on JPEGs of 57 kB on average, against a mock
server on loopback whose every answer is known beforehand; {pictures}. `bare` is a hand-written asyncio + aiohttp loop
with a journal, given the right concurrency; foveal is the command a user types, everything switched on, and finds the
concurrency by itself. Both run in turn, {pairs} times; ratios are medians over the pairs (least to most). Ideal =
requests × latency ÷ slots. Work runs from the first request's arrival to the last answer; CPU is user + system of the
whole process; memory its peak. **Read ratios, not seconds**: the machine is shared with other work.

{date}; {machine}; Python {python}, aiohttp {aiohttp}, SQLite {sqlite}.

{table}

Again: `pip install -e . numpy && python bench/run.py` (`--quick` for a look, `--case b` for one case).
"""


def main() -> None:
    """Run the cases and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer pictures and turns")
    parser.add_argument("--case", action="append", choices=CASES, help="only this one (repeatable); the page stays")
    parser.add_argument("--pairs", type=int, help="turns of each speed case (default 5, quick 1)")
    args = parser.parse_args()
    scale = Scale(args.quick, args.pairs or (1 if args.quick else 5))
    where = machine()
    make_images.make(DATA, scale.of(2000, 500))
    lines = []
    print(HEAD)
    for name in args.case or CASES:
        for line in CASES[name](scale):
            print(line, flush=True)
            lines.append(line)
    if not args.case and not args.quick:
        _write(lines, scale, where)
    sys.exit(any(not line.good for line in lines))


def _write(lines: list[Line], scale: Scale, where: str) -> None:
    import sqlite3

    table = "\n".join([HEAD, *map(str, lines)])
    known = {"python": platform.python_version(), "aiohttp": version("aiohttp"), "sqlite": sqlite3.sqlite_version}
    date = time.strftime("%Y-%m-%d")
    page = PAGE.format(table=table, machine=where, date=date, pairs=scale.pairs, pictures="2,000 of them", **known)
    (HERE / "RESULTS.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
