"""Numbers and times as people read them."""

from __future__ import annotations

from rich.console import Console, RenderableType


def count(n: float) -> str:
    """Return a whole number with thousands separated, shortened from a hundred thousand on: 1,234 · 123 k · 4.57 M."""
    if abs(n) < 100_000:
        return f"{n:,.0f}"
    for limit, unit in ((1e6, "k"), (1e9, "M"), (1e12, "G")):
        if abs(n) < limit * 0.9995:
            return f"{n / (limit / 1e3):.3g} {unit}"
    return f"{n / 1e12:.3g} T"


def short(value: float) -> str:
    """Return a number in about three digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Return a time in its two largest units: 40 ms · 4.2 s · 3 min 05 s · 2 h 10 min · 3 d 4 h."""
    if 0 < seconds < 0.95:
        return f"{1000 * seconds:.2g} ms" if seconds < 0.0995 else f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def money(cost: float | None) -> str:
    """Return a cost in USD, None as "no price known"."""
    if cost is None:
        return "no price known"
    return f"${cost:,.2f}" if cost >= 0.1 or cost == 0 else f"${cost:.2g}"


def share(part: float, whole: float) -> str:
    """Return a percentage, "" of nothing."""
    if not whole:
        return ""
    percent = 100 * part / whole
    return f"{percent:.1f} %" if 0 < percent < 10 or 99 < percent < 100 else f"{percent:.0f} %"


def plural(n: int, noun: str, many: str = "") -> str:
    """Return a count with its noun."""
    return f"{count(n)} {noun if n == 1 else many or noun + 's'}"


_UNSEEN = {c: 0xFFFD for c in (*range(32), *range(127, 160)) if c not in (9, 10)}


def visible(text: str) -> str:
    """Return a text that cannot command a terminal (what models write is not trusted)."""
    return text.translate(_UNSEEN)


def clip(text: str, most: int) -> str:
    """Return the text on one line, cut to `most` characters, without control characters."""
    line = visible(" ".join(text.split()))
    return line if len(line) <= most else line[: most - 1] + "…"


def as_text(shown: RenderableType, width: int | None = None) -> str:
    """Return what rich would print, coloured when the output is a terminal that wants it."""
    console = Console(highlight=False, width=width)
    with console.capture() as captured:
        console.print(shown)
    return captured.get().rstrip("\n")
