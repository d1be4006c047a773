"""A model that answers from a script: for tests, and for trying a method without a server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import yaml

from foveal.errors import ModelFailed, ModelSetupError
from foveal.models.wire import Reply, Request

Script: TypeAlias = Callable[[Request], str | Reply]


def words_of(request: Request) -> str:
    """Return the text of the last message."""
    return "".join(p for p in request.messages[-1].parts if isinstance(p, str))


@dataclass
class Scripted:
    """Answers by a function of the request, or by rules [(pattern, answer)]; refuses what no rule matches.

    Attributes:
        asked: every request it was sent, in order.
        delay: seconds each answer takes.
    """

    script: Script | Sequence[tuple[str, str]]
    identity: str = "scripted"
    delay: float = 0.0
    slots: int = 64
    asked: list[Request] = field(default_factory=list)
    keep_asked: bool = True

    @classmethod
    def load(cls, path: Path) -> Scripted:
        """Read rules from a YAML file: a list of {match: regular expression or "hook", say: text}.

        Raises:
            ModelSetupError: the file is not such a list.
        """
        try:
            rules = [(str(r["match"]), str(r["say"])) for r in yaml.safe_load(path.read_text(encoding="utf-8"))]
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
            raise ModelSetupError(f"{path} is not a list of {{match, say}} rules: {error}") from error
        return cls(rules, identity=f"scripted:{path.stem}")

    async def open(self, hooking: bool) -> None:
        """Do nothing: a script is always ready."""

    async def close(self) -> None:
        """Do nothing."""

    async def send(self, request: Request) -> Reply:
        """Answer by the script.

        Raises:
            ModelFailed: no rule matches.
        """
        if self.keep_asked:
            self.asked.append(request)
        if self.delay:
            await asyncio.sleep(self.delay)
        said = self.script(request) if callable(self.script) else self._by_rule(self.script, request)
        words = sum(len(p.split()) for m in request.messages for p in m.parts if isinstance(p, str))
        return said if isinstance(said, Reply) else Reply(said, tokens_in=words, tokens_out=len(said.split()))

    @staticmethod
    def _by_rule(rules: Sequence[tuple[str, str]], request: Request) -> str:
        words = words_of(request)
        for pattern, answer in rules:
            if (pattern == "hook" and request.open_turn) or (not request.open_turn and re.search(pattern, words)):
                return answer
        raise ModelFailed("no rule in the script", words[:80])
