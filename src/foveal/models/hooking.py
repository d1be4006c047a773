"""Hooking prompts: where a user's turn can be left open, for any chat template.

The rule needs no knowledge of model families. The template is rendered with a sentinel as the user's words after a
picture. What stands before the sentinel is the prefix to send; what stands behind it ends the user's turn; with the
generation prompt on, what stands behind it opens the assistant's. A model that continues the prefix speaks as the user,
and has finished when it writes what would stand there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from foveal.errors import ModelSetupError
from foveal.models.template import Messages, Render
from foveal.models.wire import Message
from foveal.record import Image

SENTINEL = "qXZsentinelZXq"
ADVICE = "use another dialect, or --set proposer=prompt"
SPECIAL = re.compile(r"<[|｜]?[^<>\s]{1,40}[|｜]?>|\[/?[A-Z_]{2,20}\]|</?s>")
LABEL = re.compile(r"[A-Z][A-Za-z]*[>\]|]*:\s*$")


@dataclass(frozen=True, slots=True)
class Opening:
    """What the sentinel rule finds in a chat template.

    Attributes:
        prefix: all that stands before the user's words, a picture's placeholder included.
        picture: what one picture adds to the prompt, its placeholder and the marks around it.
        end: what ends the user's turn, "" where nothing does.
        header: what stands between the user's words and the assistant's.
        stops: strings at which the user has finished.
    """

    prefix: str
    picture: str
    end: str
    header: str
    stops: tuple[str, ...]


def hf_messages(said: Sequence[Message], tail: str | None = None, as_text: str = "") -> list[dict[str, Any]]:
    """Return messages as chat templates take them.

    Args:
        said: the conversation.
        tail: text put behind the last message's parts.
        as_text: for templates that know no lists: what stands for a picture in plain text.
    """
    out: list[dict[str, Any]] = []
    for i, message in enumerate(said):
        parts: list[str | Image] = [*message.parts, *([tail] if tail is not None and i == len(said) - 1 else [])]
        if as_text or (all(isinstance(p, str) for p in parts) and message.role != "user"):
            content: Any = "".join(p if isinstance(p, str) else as_text for p in parts)
        else:
            content = [{"type": "text", "text": p} if isinstance(p, str) else {"type": "image"} for p in parts]
        out.append({"role": message.role, "content": content})
    return out


def _one(text: str, image: bool, as_text: str) -> list[dict[str, Any]]:
    if as_text:
        return [{"role": "user", "content": (as_text if image else "") + text}]
    return [{"role": "user", "content": [*([{"type": "image"}] if image else []), {"type": "text", "text": text}]}]


def rendered(render: Render, messages: Messages, generation: bool) -> str:
    """Render, or say why that is impossible.

    Raises:
        ModelSetupError: the template refuses.
    """
    try:
        return render(messages, generation)
    except (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise ModelSetupError(
            f"the chat template cannot show a picture with a user's words ({error}); {ADVICE}"
        ) from error


def split(text: str) -> tuple[str, str]:
    """Return what stands before and behind the sentinel.

    Raises:
        ModelSetupError: it is not there as it was given, exactly once.
    """
    if (count := text.count(SENTINEL)) != 1:
        how = f"shows the user's words {count} times" if count else "drops or changes the user's words"
        raise ModelSetupError(f"hooking is impossible: the chat template {how}; {ADVICE}")
    before, _, behind = text.partition(SENTINEL)
    return before, behind


def find_opening(render: Render, as_text: str = "") -> Opening:
    """Apply the sentinel rule.

    Args:
        render: renders the chat template.
        as_text: for templates that take plain strings only: what stands for a picture, its line break included.

    Raises:
        ModelSetupError: the user's words are missing, or the picture does not come before them.
    """
    prefix, end = split(rendered(render, _one(SENTINEL, True, as_text), False))
    bare, bare_end = split(rendered(render, _one(SENTINEL, False, as_text), False))
    if len(end) > len(bare_end):
        raise ModelSetupError(
            f"hooking is impossible: the chat template puts the picture behind the user's words; {ADVICE}"
        )
    picture = _inserted(bare, prefix)
    if not picture:
        raise ModelSetupError(f"hooking is impossible: the chat template does not show pictures; {ADVICE}")
    header = split(rendered(render, _one(SENTINEL, True, as_text), True))[1]
    return Opening(prefix, picture, end, header, stops_of(bare, end, header, _user_label(render, as_text)))


def _inserted(without: str, with_it: str) -> str:
    """Return what is in `with_it` beyond `without`, as one piece."""
    start = 0
    while start < min(len(without), len(with_it)) and without[start] == with_it[start]:
        start += 1
    stop = len(without) - start
    stop = next((n for n in range(stop, -1, -1) if with_it.endswith(without[len(without) - n :] if n else "")), 0)
    return with_it[start : len(with_it) - stop] if len(with_it) - stop > start else ""


def _user_label(render: Render, as_text: str) -> str:
    """Return what opens a later user's turn, "" where the template will not show one."""
    words: Callable[[str], Any] = lambda text: text if as_text else [{"type": "text", "text": text}]  # noqa: E731
    turns = [("user", "a"), ("assistant", "Zbetween"), ("user", SENTINEL)]
    messages = [{"role": role, "content": words(text)} for role, text in turns]
    try:
        before = split(rendered(render, messages, False))[0]
    except ModelSetupError:
        return ""
    return before.rpartition("Zbetween")[2]


def stops_of(opening: str, end: str, header: str, label: str) -> tuple[str, ...]:
    """Return the strings at which the user has finished.

    They are the mark that ends the user's turn; whatever opens the assistant's turn, for models that go on to answer;
    every special token that opens or closes a role; and a plain label such as "USER:" of a further turn.

    Args:
        opening: what stands before the user's words, without pictures.
    """
    answer = header[len(end) :] if header.startswith(end) else header
    found = [end.strip(), header.strip(), answer.strip()]
    found += [t for text in (end, header, label, opening) for t in SPECIAL.findall(text)]
    found += [m.group().strip() for text in (label, answer) if (m := LABEL.search(text.strip()))]
    return tuple(dict.fromkeys(f for f in found if len(f) > 1))


def cut(text: str, stops: Sequence[str]) -> str:
    """Return the text up to the first stop string, for servers that leave it in."""
    at = min((i for s in stops if (i := text.find(s)) >= 0), default=len(text))
    return text[:at]


def prefix_of(render: Render, said: Sequence[Message], as_text: str = "") -> str:
    """Return the prompt of a conversation whose last turn, the user's, is left open.

    Raises:
        ModelSetupError: the template does not show the user's words.
    """
    return split(rendered(render, hf_messages(said, SENTINEL, as_text), False))[0]
