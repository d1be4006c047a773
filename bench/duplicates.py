"""Near-duplicates of a million texts and a million pictures' hashes: `python bench/duplicates.py`.

Texts are drawn from a vocabulary with Zipf's frequencies, a tenth of them from templates; a tenth are copies of an
earlier one with words changed. Hashes are uniform ones, and such as pictures have: neighbouring bits alike, and many
of them nearly empty. Every case is a process of its own, and prints its time, peak memory and recall: the share of
pairs that were made alike and come out in one cluster. What is found is compared exactly, so nothing false is.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import time
from itertools import accumulate
from typing import Any

from foveal.steps.near import Clusters, near_by_minhash, near_hashes, shingles

AT, BITS = 0.8, 4


def texts(n: int, rng: random.Random) -> tuple[list[str], list[tuple[int, int]]]:
    """Return texts and the (later, earlier) pairs that were made alike, whether or not enough to count."""
    vocabulary = [f"{rng.choice('bcdfghklmnprstvw')}{rank:x}" for rank in range(50_000)]
    weights = list(accumulate(1 / (rank + 10) for rank in range(len(vocabulary))))
    templates = ["what colour is the {} on the {}", "how many {} are there beside the {}", "is the {} left of the {}"]
    out: list[str] = []
    pairs: list[tuple[int, int]] = []
    for i in range(n):
        kind = rng.random()
        if kind < 0.1 and i:
            j = rng.randrange(i)
            plain = out[j].split()
            for _ in range(rng.randint(0, 2)):
                plain[rng.randrange(len(plain))] = rng.choice(vocabulary)
            pairs.append((i, j))
        elif kind < 0.2:
            plain = rng.choice(templates).format(rng.choice(vocabulary), rng.choice(vocabulary)).split()
        else:
            plain = rng.choices(vocabulary, cum_weights=weights, k=rng.randint(10, 40))
        out.append(" ".join(plain))
    return out, pairs


def similar(a: str, b: str) -> float:
    one, other = shingles(a), shingles(b)
    return len(one & other) / len(one | other)


def hashes(n: int, rng: random.Random, alike: bool) -> tuple[list[int], list[tuple[int, int]]]:
    """Return hashes and the (later, earlier) pairs of them that differ in at most BITS bits by making."""
    out: list[int] = []
    pairs: list[tuple[int, int]] = []
    for i in range(n):
        if rng.random() < 0.1 and i:
            j = rng.randrange(i)
            code = out[j]
            for bit in rng.sample(range(64), rng.randint(0, BITS)):
                code ^= 1 << bit
            pairs.append((i, j))
        else:
            code = like_a_picture(rng) if alike else rng.getrandbits(64)
        out.append(code)
    return out, pairs


def like_a_picture(rng: random.Random) -> int:
    """Return 64 bits in rows of 8, each equal to its left or upper neighbour three times of four; 5 % nearly empty."""
    if rng.random() < 0.05:
        return sum(1 << bit for bit in rng.sample(range(64), rng.randint(5, 9)))
    code = 0
    for bit in range(64):
        known = [bit - 1] * (bit % 8 > 0) + [bit - 8] * (bit >= 8)
        same = known and rng.random() < 0.75
        code |= (code >> rng.choice(known) & 1 if same else rng.getrandbits(1)) << bit
    return code


def case(name: str, n: int) -> dict[str, Any]:
    """Run one case in this process."""
    rng = random.Random(1)
    made = time.perf_counter()
    if name == "texts":
        rows, planted = texts(n, rng)
        planted = [(i, j) for i, j in planted if similar(rows[i], rows[j]) >= AT]
        found = near_by_minhash(rows, AT)
    else:
        codes, planted = hashes(n, rng, name == "hashes like pictures'")
        found = near_hashes(codes, BITS)
    before, start = peak(), time.perf_counter()
    clusters = Clusters(n)
    for later, earlier in found:
        clusters.join(later, earlier)
    seconds = time.perf_counter() - start
    met = sum(clusters.first(i) == clusters.first(j) for i, j in planted)
    return {
        "case": name, "n": n, "seconds": round(seconds, 1), "made in": round(start - made, 1),
        "memory MB": round(peak()), "before MB": round(before), "planted": len(planted),
        "recall": met / max(1, len(planted)), "taken out": len(clusters.later()),
    }  # fmt: skip


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 1024) / 1.024


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--texts", type=int, default=1_000_000)
    options.add_argument("--hashes", type=int, default=1_000_000)
    options.add_argument("--case", nargs=2, metavar=("NAME", "N"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.case:
        print(json.dumps(case(chosen.case[0], int(chosen.case[1]))))
        return
    where = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{where}; load average {os.getloadavg()[0]:.1f}")
    print("| case | n | seconds | peak memory | of it before | planted pairs | recall | taken out |")
    print("|---|---|---|---|---|---|---|---|")
    sizes = {"texts": chosen.texts, "hashes": chosen.hashes, "hashes like pictures'": chosen.hashes}
    for name, n in sizes.items():
        if n:
            done = subprocess.run(
                [sys.executable, __file__, "--case", name, str(n)], capture_output=True, text=True, check=True
            )
            f = json.loads(done.stdout)
            print(
                f"| {name} | {n:,} | {f['seconds']} | {f['memory MB']} MB | {f['before MB']} MB | {f['planted']:,} "
                f"| {f['recall']:.6f} | {f['taken out']:,} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
