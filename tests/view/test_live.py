from __future__ import annotations

import io
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest
from rich.console import Console

from foveal.store import Meter
from foveal.view import live
from foveal.view.live import LiveDisplay, Pace
from foveal.view.numbers import count, duration, money, share


@dataclass
class Fake:
    state: str = "running"
    total: int | None = 100
    done: int = 0
    kept: int = 0
    rows: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    meter: Meter = field(default_factory=Meter)
    slots: int = 64
    began: float = field(default_factory=time.monotonic)


def busy() -> Fake:
    fake = Fake(
        done=40,
        kept=25,
        rows=31,
        dropped=Counter(garbled=9, unclear=3, dull=1, x=1, y=1),
        failed=Counter({"empty reply": 1}),
    )
    fake.meter.in_flight = 17
    for _ in range(300):
        fake.meter.paid("oasis", "vlm", 1000, 50, None)
    for _ in range(20):
        fake.meter.recalled("oasis", "vlm")
    return fake


def drawn(fake: Fake, width: int = 100) -> str:
    out = io.StringIO()
    display = LiveDisplay(fake, out=out)
    display._console = Console(file=out, width=width, no_color=True, highlight=False)
    display._console.print(display.render())
    return out.getvalue()


def test_everything_is_on_the_display():
    text = drawn(busy())
    for part in (
        "40/100 40 %",
        "300 calls + 20 remembered",
        "17 of 64 slots",
        "300 k in, 15,000 out",
        "no price known",
        "kept 25 (31 rows)",
        "dropped 15",
        "failed 1",
        "dropped: garbled 9 · unclear 3",
        "others 1",
        "failed: empty reply 1",
    ):
        assert part in text, part


def test_the_bar_is_as_wide_as_the_shares():
    fake = busy()
    bar = live._bar(fake, 100)
    widths = {str(s.style): s.end - s.start for s in bar.spans}
    assert widths == {"green": 25, "yellow": 15, "red": 1, "bright_black": 59}


@pytest.mark.parametrize("width", [40, 60, 200])
def test_no_line_is_wider_than_the_terminal(width):
    fake = busy()
    fake.dropped["a reason that goes on and on " * 5] = 99
    assert max(len(line) for line in drawn(fake, width).splitlines()) <= width


def test_plain_lines_without_a_terminal(monkeypatch):
    monkeypatch.setattr(live, "LINE_EVERY", 0.05)
    out = io.StringIO()
    fake = busy()
    with LiveDisplay(fake, "foveal oasis", out=out):
        time.sleep(0.13)
        fake.done, fake.state = 100, "finished"
    lines = out.getvalue().splitlines()
    assert lines[0] == "foveal oasis"
    assert 3 <= len(lines) <= 6
    assert "40/100 records" in lines[1]
    assert "100/100 records" in lines[-1]
    assert lines[-1].endswith("finished")
    assert "\x1b" not in out.getvalue()


def test_no_colour_when_not_wanted(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    out = io.StringIO()
    display = LiveDisplay(busy(), out=out)
    display._console = Console(file=out, force_terminal=True, width=80, highlight=False)
    display._console.print(display.render())
    # Bold stays, colour goes (no-color.org).
    assert not re.search(r"\x1b\[(?:\d+;)*[39]\d", out.getvalue())


def test_a_reader_that_went_away_does_not_hurt():
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    with LiveDisplay(busy(), out=Gone()):
        pass
    assert not [t for t in threading.enumerate() if t.name == "foveal-live"]


def test_rates_are_of_late_not_of_all_time():
    pace, fake = Pace(), Fake(total=1000)
    for second in range(100):
        fake.done = second if second < 50 else 50 + (second - 50) * 10
        rates = pace.at(float(second), fake)
    assert rates.records == pytest.approx(10)
    assert rates.left == pytest.approx((1000 - 540) / 10)


def test_time_left_is_not_told_while_unknown():
    fake = Fake(total=None, done=5)
    pace = Pace()
    pace.at(0.0, fake)
    assert pace.at(1.0, fake).left is None
    assert "5 records" in drawn(fake)


def test_watching_costs_less_than_a_hundredth_of_a_core():
    fake = busy()
    display = LiveDisplay(fake, out=io.StringIO())
    display._console = Console(file=io.StringIO(), force_terminal=True, width=100)
    display._console.print(display.render())
    began = time.thread_time()
    for _ in range(40):
        display._console.print(display.render())
    assert (time.thread_time() - began) / 40 / live.REFRESH < 0.02  # twice the aim: this machine is shared


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (count(99_999), "99,999"),
        (count(123_456), "123 k"),
        (count(999_600), "1 M"),
        (count(4_570_000), "4.57 M"),
        (duration(4.21), "4.2 s"),
        (duration(59.9), "60 s"),
        (duration(185), "3 min 05 s"),
        (duration(7800), "2 h 10 min"),
        (duration(3e5), "3 d 11 h"),
        (money(None), "no price known"),
        (money(0), "$0.00"),
        (money(12.345), "$12.35"),
        (money(0.00123), "$0.0012"),
        (share(1, 3), "33 %"),
        (share(1, 1000), "0.1 %"),
        (share(0, 5), "0 %"),
        (share(1, 0), ""),
    ],
)
def test_numbers_as_people_read_them(said, expected):
    assert said == expected
