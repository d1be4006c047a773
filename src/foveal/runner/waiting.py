"""Waiting for a run from plain code, from a notebook, and under signals."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from foveal.errors import Interrupted
from foveal.runner.flow import Progress

T = TypeVar("T")


@contextmanager
def signals(progress: Progress) -> Iterator[None]:
    """First Ctrl-C or SIGTERM: no new calls, those in flight are awaited and remembered. Second: stop at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def asked() -> None:
        if progress.meter.stop and task:
            task.cancel()
        progress.state = "stopping: waiting for calls in flight (again to stop at once)"
        progress.meter.stop = progress.meter.stop or Interrupted("stopped on request; the same command continues it")

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def wait(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end from plain code and from a notebook, whose own loop is busy."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _wait_here(work)
    return _wait_in_thread(work)


def _wait_here(work: Coroutine[Any, Any, T], loops: list[asyncio.AbstractEventLoop] | None = None) -> T:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        if loops is not None:
            loops.append(runner.get_loop())
        return runner.run(work)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    with suppress(ImportError):
        import uvloop

        return uvloop.new_event_loop
    return None


def _wait_in_thread(work: Coroutine[Any, Any, T]) -> T:
    loops: list[asyncio.AbstractEventLoop] = []
    with ThreadPoolExecutor(1, "foveal-run") as pool:
        ended = pool.submit(_wait_here, work, loops)
        try:
            return ended.result()
        except KeyboardInterrupt:
            # The cell was interrupted: the run must let go of its store before the next cell.
            for loop in loops:
                loop.call_soon_threadsafe(_cancel_all, loop)
            raise


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()
