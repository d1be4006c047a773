"""A simulated clock, a simulated server, and clients that always have more to ask."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from foveal.models.limits import Limiter, Outcome, Ticket


@dataclass
class Sim:
    """Runs a Limiter against a server that holds `slots` requests at once and queues or refuses the others."""

    slots: int = 64
    latency: Callable[[int, random.Random], float] = lambda busy, rng: 0.2
    refuse: bool = False
    random_bad: float = 0.0
    retry_after: float = 1.0
    limiter: Limiter = field(default_factory=Limiter)
    now: float = 0.0
    served: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    limits: list[tuple[float, int]] = field(default_factory=list)
    running: int = 0
    queue: list[Ticket] = field(default_factory=list)
    events: list[tuple[float, int, str, Ticket]] = field(default_factory=list)
    count: int = 0
    rng: random.Random = field(default_factory=lambda: random.Random(1))

    def at(self, delay: float, what: str, ticket: Ticket) -> None:
        self.count += 1
        heapq.heappush(self.events, (self.now + delay, self.count, what, ticket))

    def serve(self, ticket: Ticket) -> None:
        self.running += 1
        self.at(self.latency(self.running, self.rng), "done", ticket)

    def arrive(self) -> None:
        ticket = self.limiter.begin(self.now)
        if self.rng.random() < self.random_bad or (self.refuse and self.running >= self.slots):
            self.at(0.002, "refused", ticket)
        elif self.running < self.slots:
            self.serve(ticket)
        else:
            self.queue.append(ticket)

    def finish(self, ticket: Ticket, outcome: Outcome) -> None:
        self.limiter.end(ticket, outcome, self.now)
        (self.served if outcome == "ok" else self.refused).append(self.now)

    def until(self, end: float, demand: int = 100_000) -> Sim:
        while self.now < end:
            while self.limiter.free > 0 and self.limiter.busy < demand:
                self.arrive()
            self.limits.append((self.now, self.limiter.limit))
            if not self.events:
                break
            self.now, _, what, ticket = heapq.heappop(self.events)
            match what:
                case "refused":  # the slot is held for one latency, as the backend does
                    self.at(min(self.retry_after, self.limiter.typical or 0.2), "bad", ticket)
                case "bad":
                    self.finish(ticket, "bad")
                case "done":
                    self.running -= 1
                    self.finish(ticket, "ok")
                    if self.queue and self.running < self.slots:
                        self.serve(self.queue.pop(0))
        return self

    def rate(self, start: float, end: float) -> float:
        return sum(start <= t < end for t in self.served) / (end - start)

    def limit_between(self, start: float, end: float) -> tuple[int, int]:
        inside = [n for t, n in self.limits if start <= t < end]
        return min(inside), max(inside)
