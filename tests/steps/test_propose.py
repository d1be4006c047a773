"""The explicit proposer draws the same for a record and sample, and varies over both."""

from __future__ import annotations

from foveal.methods.oasis.method import P
from foveal.record import Image, Record, Scope, scope
from foveal.steps.propose import DIFFICULTIES, TASKS, proposal

LANGUAGES = ("English",)
RECORDS = [Record((Image.of(bytes([n])),)) for n in range(60)]


def test_the_same_sample_is_the_same_request() -> None:
    assert [proposal(P, r, 1, LANGUAGES) for r in RECORDS] == [proposal(P, r, 1, LANGUAGES) for r in RECORDS]


def test_requests_vary() -> None:
    assert len({proposal(P, r, 0, LANGUAGES) for r in RECORDS}) > 40
    assert len({proposal(P, RECORDS[0], n, LANGUAGES) for n in range(20)}) > 12
    said = "\n".join(proposal(P, r, n, LANGUAGES) for r in RECORDS for n in range(3))
    assert all(choice in said for choice in (*TASKS, *DIFFICULTIES))


def test_the_runs_seed_changes_them() -> None:
    before = [proposal(P, r, 0, LANGUAGES) for r in RECORDS]
    token = scope.set(Scope("oasis", 1))
    after = [proposal(P, r, 0, LANGUAGES) for r in RECORDS]
    scope.reset(token)
    assert before != after


def test_languages() -> None:
    assert {"Thai" in proposal(P, r, 0, ("Thai",)) for r in RECORDS} == {True}
