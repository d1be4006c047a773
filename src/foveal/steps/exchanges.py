"""The exchanges of a conversation: each question with its answer and what was said before."""

from __future__ import annotations

from dataclasses import dataclass

from foveal.record import Chat, Turn


@dataclass(frozen=True)
class Exchange:
    """A user turn and the assistant's turn that follows it.

    Attributes:
        before: the turns before it.
        asked: the user's turn.
        answer: the words of the assistant's.
    """

    before: tuple[Turn, ...]
    asked: Turn
    answer: str

    @property
    def question(self) -> str:
        """The words of the user's turn."""
        return self.asked.text.strip()


def exchanges(chat: Chat) -> list[Exchange]:
    """Return the exchanges of a conversation in order; turns without words, or without an answer, are none."""
    turns = chat.turns
    return [
        Exchange(turns[:at], turn, turns[at + 1].text)
        for at, turn in enumerate(turns[:-1])
        if (turn.role, turns[at + 1].role) == ("user", "assistant") and turn.text.strip() and turns[at + 1].text.strip()
    ]
