"""How many requests an endpoint is given at once: the limit finds its own level.

A window is a stretch of requests begun at one limit. Its speed is what Little's law says the endpoint got through:
requests in flight / slowdown x share that came back well, where slowdown is latency against the first replies of the
same kind. Speed needs no clock of its own, so it is known one latency after a change, and it does not mind that a
score takes a tenth of an answer's time. Everything is a comparison of two windows: climb while doubling helps, then
try a little more and a little less, and keep what pays. Errors lower the speed like any other waste, so random errors
do not make the limit collapse, while a server that refuses what it cannot hold pulls it down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Outcome: TypeAlias = Literal["ok", "bad", "void"]
"""How a request ended: well; refused, failed or timed out; or in a way that says nothing of the endpoint."""

State: TypeAlias = Literal["climb", "hold", "try", "cut"]

START, TOP = 16, 4096
DOUBLING_PAYS = 1.15
SLOWER = 1.3
MORE, MORE_PAYS = 1.25, 1.05
LESS, LESS_COSTS = 0.85, 0.98
CUT_COSTS = 0.93
TOO_MANY_BAD = 0.1
QUEUEING = 1.1
NOISE = 0.03
FIRST = 8
BOLD, BOLDEST = 1.25, 0.65


@dataclass(slots=True)
class Window:
    """The first `size` requests begun at one limit, and what became of them.

    It is judged when *they* are back, not at the first so many replies: quick ones and refusals return first.
    """

    limit: float
    before: Window | None = None
    begun: int = 0
    ok: int = 0
    bad: int = 0
    busy: float = 0.0
    slow: float = 0.0
    squares: float = 0.0
    speed: float = 0.0
    judged: bool = False
    climbing: bool = False
    passed: int = 0
    peak: int = 0
    size: int = 0

    def __post_init__(self) -> None:
        self.size = self.round

    @property
    def round(self) -> int:
        """The least number of requests that tells anything."""
        return max(32, int(self.limit))

    @property
    def noise(self) -> float:
        """Standard error of the mean slowdown, relative to it."""
        if self.ok < 2:
            return 0.0
        mean = self.slow / self.ok
        return math.sqrt(max(0.0, self.squares / self.ok - mean * mean) / self.ok) / mean

    @property
    def complete(self) -> bool:
        """Whether most of its requests are back: nine in ten while climbing, later all but hopeless stragglers.

        Leaving out the slowest flatters a server that does not queue, whose latencies differ more.
        """
        back = self.ok + self.bad
        return back >= 0.9 * self.size if self.climbing else back >= self.size or self.passed > 2 * self.size

    def add(self, outcome: Outcome, busy: int, slowdown: float) -> None:
        """Count one request that had `busy` requests beside it when it began."""
        if outcome == "ok":
            self.ok, self.busy, self.slow = self.ok + 1, self.busy + busy, self.slow + slowdown
            self.squares += slowdown * slowdown
        else:
            self.bad += 1

    @property
    def share(self) -> float:
        """The share of bad ones."""
        return self.bad / (self.ok + self.bad) if self.bad else 0.0

    def judge(self) -> None:
        """Fix the speed: what the endpoint got through, in slots that work at the pace of an idle server.

        It stays as it was when most were back, so that windows are compared at the same age.
        """
        self.judged = True
        self.speed = self.busy / self.slow * (1 - self.share) if self.slow else 0.0

    @property
    def slowdown(self) -> float:
        """Mean latency against that of the first replies."""
        return self.slow / self.ok if self.ok else 1.0

    @property
    def used(self) -> bool:
        """Whether there was enough work to fill the limit; a window that was not full tells nothing of it."""
        return self.ok == 0 or self.busy / self.ok >= 0.8 * self.limit


@dataclass(slots=True)
class Ticket:
    """A request under way; `counts` if it is among the first of its window."""

    started: float
    busy: int
    window: Window
    counts: bool


@dataclass(slots=True)
class Pace:
    """What latency to expect of each kind of request, from the first few of its kind."""

    known: dict[int, tuple[int, float]] = field(default_factory=dict)
    now: float = 1.0

    def slowdown(self, kind: int, latency: float) -> float:
        """Return latency / expected latency; a kind's first replies set what is expected."""
        count, mean = self.known.get(kind, (0, 0.0))
        if count < FIRST:
            mean = (mean * count + latency / self.now) / (count + 1)
            self.known[kind] = count + 1, mean
        slow = latency / mean if mean > 0 else 1.0
        self.now += 0.1 * (min(slow, 8.0) - self.now)
        return slow


class Limiter:
    """The limit of one endpoint. Knows no clock and no loop: it is told when things begin and end.

    Args:
        pinned: keep to this limit, whatever happens.
        start: the first limit.
    """

    def __init__(self, pinned: int | None = None, start: int = START) -> None:
        self._pinned = pinned
        self._start = float(pinned or start)
        self.busy = 0
        self._pace = Pace()
        self._climb()

    @property
    def limit(self) -> int:
        """How many requests may be under way at present."""
        return int(self._limit)

    @property
    def free(self) -> int:
        """How many more may begin."""
        return int(self._limit) - self.busy

    @property
    def typical(self) -> float:
        """A typical latency in seconds, 0 before the first reply."""
        means = [mean for _, mean in self._pace.known.values()]
        return max(means, default=0.0) * self._pace.now

    def begin(self, now: float) -> Ticket:
        """Count a request in; `now` in seconds."""
        self.busy += 1
        window = self._window
        counts = window.begun < window.size
        window.begun += counts
        window.peak = max(window.peak, self.busy)
        return Ticket(now, self.busy, window, counts)

    def end(self, ticket: Ticket, outcome: Outcome, now: float, kind: int = 0) -> None:
        """Count a request out.

        Args:
            kind: requests of one kind take about the same time on an idle server.
        """
        self.busy -= 1
        window = ticket.window
        if outcome == "void" and ticket.counts:
            window.begun -= 1  # another takes its place
        if self._pinned or outcome == "void":
            return
        slow = self._pace.slowdown(kind, now - ticket.started) if outcome == "ok" else 1.0
        if self._state == "climb" and outcome == "ok" and window.peak >= 0.8 * window.limit:
            self._grow()
        window.passed += not ticket.counts
        if ticket.counts:
            window.add(outcome, ticket.busy, slow)
        if window.complete and not window.judged:
            window.judge()
            self._judge(window)

    def _judge(self, window: Window) -> None:
        if self._state == "climb":
            self._climbed(window)
        elif window is not self._window:
            return
        elif window.ok == 0:
            self._climb()
        elif not self._sure(window):
            window.size, window.judged = window.size + window.round, False
        else:
            {"hold": self._held_on, "try": self._tried, "cut": self._was_cut}[self._state](window)

    def _sure(self, window: Window) -> bool:
        """Whether the window has seen enough to tell, in less detail and sooner when much comes back bad."""
        noise, rounds = (NOISE, 16) if window.share <= self._tolerated else (2 * NOISE, 6)
        return window.noise <= noise or window.size >= rounds * window.round

    # --- slow start ---

    def _climb(self) -> None:
        self._state = "climb"
        self._limit = self._start
        self._window = Window(self._limit, climbing=True)
        self._held = self._window
        self._rest = self._resting = 1
        self._direction = MORE
        self._tolerated = TOO_MANY_BAD

    def _grow(self) -> None:
        """One more for each good reply: twice as many after one latency."""
        window = self._window
        if not window.judged and self._pace.now > SLOWER:
            return  # what replies already show is to be understood first
        if window.before and window.before.before and not window.before.before.judged:
            return  # far enough ahead of what is known
        self._limit = min(self._limit + 1, TOP)
        if self._limit >= 2 * self._window.limit:
            self._window = Window(self._limit, self._window, climbing=True)

    def _climbed(self, window: Window) -> None:
        if window.ok == 0:
            self._climb()
        elif window.before and window.before.judged and window.speed < DOUBLING_PAYS * window.before.speed:
            # Where twice as many were no faster at all, the server's slots are fewer still.
            self._hold(window.limit if window.speed > window.before.speed else window.before.limit)

    # --- afterwards: hold, try, keep what pays ---

    def _enter(self, state: State, limit: float) -> None:
        self._state = state
        self._limit = max(1.0, min(limit, TOP))
        self._window = Window(self._limit)

    def _hold(self, limit: float) -> None:
        self._enter("hold", limit)

    def _held_on(self, window: Window) -> None:
        self._rest -= 1
        if window.share > self._tolerated:
            return self._cut(window)
        self._tolerated = max(TOO_MANY_BAD, 0.9 * self._tolerated)
        if self._rest > 0 or not window.used:
            return self._hold(self._limit)
        self._held = window
        if self._direction < 1 and window.slowdown < QUEUEING:
            self._direction = MORE
        return self._enter("try", self._next(window))

    def _next(self, window: Window) -> float:
        """Return the limit to try: a step up; or down, boldly the first time, to where fixed slots are full."""
        if self._direction > 1:
            return max(window.limit * MORE, window.limit + 1)
        if self._resting == 1:
            return min(window.limit * LESS, max(window.limit * BOLDEST, BOLD * window.speed))
        return window.limit * LESS

    def _tried(self, window: Window) -> None:
        held = self._held
        if not window.used:
            return self._hold(held.limit)
        pays = MORE_PAYS if self._direction > 1 else LESS_COSTS
        if window.speed >= pays * held.speed:
            self._rest = self._resting = 1
            return self._hold(window.limit)
        self._direction = LESS if self._direction > 1 else MORE
        self._resting = min(2 * self._resting, 16)
        self._rest = self._resting
        return self._hold(held.limit)

    # --- errors ---

    def _cut(self, window: Window) -> None:
        """Try with less, since so many came back bad: with what would have been served."""
        self._held = window
        self._enter("cut", window.limit * max(0.5, 1 - window.share))

    def _was_cut(self, window: Window) -> None:
        """Stay lower if nothing was lost by it; else the errors have another reason: go back and bear them."""
        held = self._held
        if window.speed >= CUT_COSTS * held.speed:
            self._rest = self._resting = 4
            return self._hold(window.limit)
        self._tolerated = min(1.0, held.share + 0.1)
        return self._hold(held.limit)
