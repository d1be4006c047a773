"""Pictures with truth for the tests, and models that know it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from foveal.evals.answer import Question, Shot
from foveal.models.scripted import Scripted, words_of
from foveal.models.wire import Reply, Request
from foveal.record import Image
from foveal.scrapbook.parts import Scene
from scrapbook.scenes import row


def shot(scene: Scene, name: str = "") -> Shot:
    """Return a scene with a picture of its own; the bytes are no picture, for scripted models do not look."""
    return Shot(Image.of(f"{name}/{scene}".encode(), name or "memory"), scene)


def shots(*scenes: Sequence[str]) -> list[Shot]:
    """Return pictures of nouns from left to right."""
    return [shot(row(*nouns), f"{i:03}.jpg") for i, nouns in enumerate(scenes)]


def knowing(questions: Sequence[Question], say: Callable[[Question], str | Reply], identity: str = "known") -> Scripted:
    """Return a model that says to each question what a function says."""
    known = {(q.picture, q.text): q for q in questions}

    def script(request: Request) -> str | Reply:
        picture = next(p.digest for m in request.messages for p in m.parts if not isinstance(p, str))
        return say(known[picture, words_of(request)])

    return Scripted(script, identity=identity)
