"""A network in this process: batches, one bad request, the open turn."""

import asyncio
import threading

import pytest

from foveal.errors import ImageError, ModelFailed, ModelSetupError
from foveal.models.local import LocalBackend, check_open_turn
from foveal.models.wire import Backend, Message, Reply, Request
from foveal.record import Image


class Echo:
    """An engine that repeats, fails on "bad" and notes its batches."""

    identity = "echo@1"

    def __init__(self):
        self.batches, self.threads = [], set()

    def generate(self, requests):
        self.batches.append(len(requests))
        self.threads.add(threading.get_ident())
        for request in requests:
            if said(request) == "bad":
                raise ImageError("picture unreadable")
            if said(request) == "worse":
                raise RuntimeError("numbers")
        return [Reply(said(r)) for r in requests]

    def render(self, messages, open_turn=False):
        return (
            "<u>"
            + "".join(p if isinstance(p, str) else "<i>" for p in messages[0].parts)
            + ("" if open_turn else "</u>")
        )


def said(request):
    return request.messages[0].parts[-1]


def ask(text, **how):
    return Request((Message("user", (text,)),), **how)


def run(texts, engine, **how):
    async def go():
        backend = LocalBackend(lambda: engine, **how)
        await backend.open(hooking=True)
        try:
            return await asyncio.gather(*(backend.send(ask(t)) for t in texts), return_exceptions=True)
        finally:
            await backend.close()

    return asyncio.run(go())


def test_is_a_backend():
    assert isinstance(LocalBackend(Echo).__class__, type)
    assert all(hasattr(LocalBackend, name) for name in dir(Backend) if not name.startswith("_"))


def test_requests_are_batched_on_one_thread():
    engine = Echo()
    replies = run([str(i) for i in range(40)], engine, batch=16)
    assert [r.text for r in replies] == [str(i) for i in range(40)]
    assert engine.batches == [16, 16, 8]
    assert engine.threads != {threading.get_ident()}
    assert len(engine.threads) == 1


def test_one_bad_request_fails_alone():
    replies = run(["a", "bad", "b", "worse"], Echo())
    assert [getattr(r, "text", None) for r in replies] == ["a", None, "b", None]
    assert isinstance(replies[1], ImageError)
    assert isinstance(replies[3], ModelFailed)


def test_asked_before_open():
    with pytest.raises(ModelSetupError, match="before it is open"):
        _ = LocalBackend(Echo).identity


def test_cancelled_requests_are_not_answered():
    engine = Echo()

    async def go():
        backend = LocalBackend(lambda: engine)
        await backend.open(hooking=False)
        gone = asyncio.create_task(backend.send(ask("gone")))
        await asyncio.sleep(0)
        gone.cancel()
        reply = await backend.send(ask("here"))
        await backend.close()
        return reply

    assert asyncio.run(go()).text == "here"
    assert engine.batches == [1]


def test_a_template_that_closes_the_turn_is_caught():
    class Closes(Echo):
        def render(self, messages, open_turn=False):
            return super().render(messages, False)

    class After(Echo):
        def render(self, messages, open_turn=False):
            return "<u>" + "".join(p for p in messages[0].parts if isinstance(p, str)) + "<i>"

    check_open_turn(Echo())
    for engine in (Closes(), After()):
        with pytest.raises(ModelSetupError, match="cannot leave"):
            check_open_turn(engine)


def test_priority_goes_first():
    engine = Echo()
    order = []

    async def go():
        backend = LocalBackend(lambda: engine, batch=1)
        await backend.open(hooking=False)

        async def one(text, priority):
            order.append((await backend.send(ask(text, priority=priority))).text)

        await asyncio.gather(one("late", 5), one("soon", 1), one("now", 0))
        await backend.close()

    asyncio.run(go())
    assert order == ["now", "soon", "late"]
    assert Image.of(b"1") == Image.of(b"1")
