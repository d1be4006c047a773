"""The limit finds the level of simulated servers."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from foveal.models.limits import Limiter
from tests.models.sim import Sim


def noisy(seconds: float, spread: float) -> Callable[[int, Random], float]:
    return lambda busy, rng: seconds * rng.lognormvariate(0, spread) / 2.718281828 ** (spread**2 / 2)


# slots, latency, seconds simulated
FIXED = [
    pytest.param(64, noisy(0.2, 0), 12.0, id="64 slots x 200 ms"),
    pytest.param(256, noisy(0.05, 0), 6.0, id="256 slots x 50 ms"),
    pytest.param(64, noisy(0.2, 0.6), 24.0, id="64 slots, latencies differ"),
    pytest.param(256, noisy(0.05, 0.6), 12.0, id="256 slots, latencies differ"),
    pytest.param(4, noisy(1, 0), 240.0, id="4 slots x 1 s"),
]


@pytest.mark.parametrize(("slots", "latency", "seconds"), FIXED)
def test_a_server_of_fixed_slots_is_filled_and_not_flooded(
    slots: int, latency: Callable[..., float], seconds: float
) -> None:
    sim = Sim(slots=slots, latency=latency).until(seconds)
    full = slots / latency(1, Random(0)) if slots < 5 else slots / (0.2 if slots == 64 else 0.05)
    assert sim.rate(seconds / 6, seconds) >= 0.95 * full
    assert sim.limit_between(seconds / 2, seconds)[1] <= 8 * slots


def test_it_is_found_within_a_few_rounds() -> None:
    assert Sim().until(3).rate(0.8, 2.8) >= 0.95 * 320
    assert Sim(slots=256, latency=noisy(0.05, 0)).until(1).rate(0.3, 0.9) >= 0.95 * 5120


def test_a_server_that_slows_down_as_it_fills_is_taken_near_its_best() -> None:
    sim = Sim(slots=10_000, latency=lambda busy, rng: 1 + busy / 64).until(240)
    assert sim.rate(60, 240) >= 0.8 * 64  # 64 per second is never quite reached
    assert sim.limit_between(120, 240)[1] < 2000


def test_a_server_that_refuses_what_it_cannot_hold_is_left_in_peace() -> None:
    sim = Sim(slots=32, refuse=True).until(24)
    assert sim.rate(4, 24) >= 0.95 * 160
    assert sim.limit_between(12, 24)[1] <= 56
    late = sum(t > 12 for t in sim.refused) / max(1, sum(t > 12 for t in sim.served))
    assert late < 0.3


@pytest.mark.parametrize("share", [0.03, 0.05, 0.2])
def test_random_errors_do_not_bring_it_down(share: float) -> None:
    sim = Sim(random_bad=share).until(24)
    assert sim.rate(4, 24) >= 0.9 * 320
    assert sim.limit_between(6, 24)[0] >= 48


def test_little_work_teaches_nothing() -> None:
    sim = Sim().until(5, demand=3)
    assert sim.limiter.limit == 16
    assert sim.until(12).rate(7, 12) >= 0.9 * 320


def test_bursts_do_not_unsettle_it() -> None:
    sim = Sim().until(6)
    for start in (6, 8, 10):
        sim.until(start + 1, demand=2).until(start + 2)
    assert sim.until(16).rate(13, 16) >= 0.93 * 320


def test_an_outage_is_survived() -> None:
    sim = Sim().until(6)
    sim.random_bad = 1.0
    sim.until(8)
    sim.random_bad = 0.0
    assert sim.until(20).rate(12, 20) >= 0.93 * 320


def test_pinned() -> None:
    sim = Sim(limiter=Limiter(pinned=7), random_bad=0.5).until(4)
    assert sim.limit_between(0, 4) == (7, 7)


def test_cancelled_requests_teach_nothing() -> None:
    limiter = Limiter()
    for _ in range(500):
        limiter.end(limiter.begin(0.0), "void", 99.0)
    assert (limiter.limit, limiter.busy, limiter.free) == (16, 0, 16)


def test_kinds_of_requests_are_not_compared_with_each_other() -> None:
    """A tenth of a second for a score and a second for an answer, in turns: not a server that becomes slow."""
    sim = Sim(slots=64)
    short = iter(range(10**9))
    sim.latency = lambda busy, rng: 0.02 if next(short) % 2 else 0.2
    sim.finish = lambda ticket, outcome: (  # type: ignore[method-assign]
        sim.limiter.end(ticket, outcome, sim.now, kind=int(sim.now - ticket.started > 0.1)),
        sim.served.append(sim.now),
    )
    sim.until(12)
    assert sim.rate(4, 12) >= 0.9 * 64 / 0.11


def test_the_first_limit_doubles_after_one_latency() -> None:
    """The first of sixteen had nobody beside it when it began; the limit was used all the same."""
    limiter = Limiter()
    tickets = [limiter.begin(0.0) for _ in range(16)]
    for ticket in tickets:
        limiter.end(ticket, "ok", 1.0)
    assert limiter.limit == 32


def test_slower_replies_are_understood_before_the_limit_grows_on() -> None:
    limiter = Limiter()
    for ticket in [limiter.begin(0.0) for _ in range(16)]:
        limiter.end(ticket, "ok", 1.0)
    slow = [limiter.begin(1.0) for _ in range(32)]
    for ticket in slow[:28]:  # fewer than tell anything of this window
        limiter.end(ticket, "ok", 4.0)
    assert limiter.limit < 48
