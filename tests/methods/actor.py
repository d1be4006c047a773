"""A scripted model that is told what to say to each prompt, by the prompt's name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foveal
from foveal.models.oracle import _prompt
from foveal.models.scripted import Scripted
from foveal.models.wire import Reply, Request
from foveal.prompts import Prompt
from foveal.record import Record
from foveal.runner.local import Run
from foveal.view.summary import summarise


def called(request: Request) -> str:
    """Return the name of the prompt a request was made from: "hook", or "ask" for words that are no prompt file."""
    prompt = _prompt(request)
    return "hook" if request.open_turn else prompt.name.rpartition("/")[2] if isinstance(prompt, Prompt) else "ask"


def sees(request: Request) -> bool:
    return any(not isinstance(part, str) for message in request.messages for part in message.parts)


def shown(request: Request) -> str:
    """Return the digest of the first picture that a request shows."""
    return next(p.digest for m in request.messages for p in m.parts if not isinstance(p, str))


class Actor(Scripted):
    """Says what it is told for each prompt: a text, or a function of the request; else the last choice, or "A cup."."""

    def __init__(self, **said: Any) -> None:
        self.said = said
        super().__init__(self.say)

    def say(self, request: Request) -> str | Reply:
        usual = request.choices[-1] if request.choices else "A red cup stands on the table."
        said = self.said.get(called(request), usual)
        return said(request) if callable(said) else said

    def calls(self) -> list[str]:
        return [called(r) for r in self.asked]

    def counts(self) -> Counter[str]:
        return Counter(self.calls())


def go(method: str, source: Any, out: Path, model: Scripted | None = None, **knobs: Any) -> Run:
    return foveal.run(method, source, model=model or Actor(), out=out, **knobs)


def made(run: Run) -> list[Record]:
    return list(run.records())


def turns(record: Record) -> list[str]:
    return [t.text for t in record.body.turns]  # type: ignore[union-attr]


def dropped(run: Run) -> dict[str, int]:
    """Return why records ended, those that table steps took out among them; none may have failed."""
    assert not run.progress.failed, run.progress.failed
    return {reason: n for step in summarise(run.folder).steps for reason, n in step.dropped.items()}


Pictures = Callable[..., Path]
