"""`report.html`: one self-contained page about a run. It opens from disk, loads nothing, and trusts no text in it.

Every text that a model or a file gave is escaped by the template engine; bars are SVG attributes, never style strings;
the page's own policy (CSP) allows its one script and style sheet by their hashes, pictures from inside the page, and
nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import math
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from foveal import __version__
from foveal.errors import DiskFull, FovealError
from foveal.recipe import find_step
from foveal.steps.language import LANGUAGE_METHOD
from foveal.view import numbers
from foveal.view.analysis import Bin, Findings, Numbers, Score, analyse, histogram, top, total
from foveal.view.cuts import cuts
from foveal.view.folder import Folder
from foveal.view.history import Asked, End, Node, read_node
from foveal.view.pairs import PairFindings
from foveal.view.pictures import thumbnail_uri
from foveal.view.summary import Summary, summary_of
from foveal.view.texts import VERB_METHODS

THUMB = 320
MOST_BYTES = 4_200_000
"""The gallery ends when the page comes to about this size."""
MOST_TEXT = 6000
PERCENTILES = (10, 30, 50, 70, 90)
"""Those that are drawn."""
WIDE, HIGH, FLOOR = 360, 104, 126
"""A chart's own units: its width, its tallest bar, where its axis lies."""
SERIES = {"kept": "kept", "not kept": "dropped"}
SHARES = {"kept": 0.4, "dropped": 0.35, "failed": 0.2, "pending": 0.05}


# --- the gallery ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Card:
    """One record in the gallery.

    Attributes:
        thumbs: (data URI, source) of the pictures beside it.
        seen: digest -> data URI of the pictures that one side of a pair alone saw, and of those it is set against.
    """

    id: str
    status: str
    reason: str
    source: str
    thumbs: tuple[tuple[str, str], ...]
    node: Node
    seen: Mapping[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> list[Node]:
        """The rows made of it that no later step took out."""
        return [leaf for child in self.node.children for leaf in _leaves(child)]

    @property
    def calls(self) -> list[Asked]:
        """All its calls and its children's."""
        return list(self.node.all_calls())

    @property
    def ends(self) -> list[End]:
        """What became of it and its children, where there is something to tell."""
        return [e for e in _ends(self.node) if e.status != "kept" or e.reason or e.detail]


def _leaves(node: Node) -> Iterator[Node]:
    if node.children:
        for child in node.children:
            yield from _leaves(child)
    elif all(e.status == "kept" for e in node.ends):
        yield node


def _ends(node: Node) -> Iterator[End]:
    yield from node.ends
    for child in node.children:
        yield from _ends(child)


def pick(folder: Folder, gallery: int) -> list[tuple[str, str, str]]:
    """Return (record, status, reason) of the records to show: some of every reason first, evenly drawn.

    Ids are digests, so their order is as good as chance and the same every time.
    """
    _ = folder.fates
    sql = """SELECT id, status, reason FROM (
               SELECT id, status, reason, row_number() OVER (PARTITION BY reason ORDER BY id) AS k
               FROM fate WHERE status=?) ORDER BY k, reason LIMIT ?"""
    there = {status: list(folder.query(sql, (status, gallery))) for status in SHARES}
    wanted = _quotas({status: len(found) for status, found in there.items()}, gallery)
    return [(i, s, r) for status in SHARES for i, s, r in there[status][: wanted[status]]]


def _quotas(there: Mapping[str, int], gallery: int) -> dict[str, int]:
    """Return how many of each status to show: by shares, with what one does not need going to the others."""
    wanted = {status: min(n, round(gallery * SHARES[status])) for status, n in there.items()}
    while sum(wanted.values()) < min(gallery, sum(there.values())):
        for status in there:
            if wanted[status] < there[status] and sum(wanted.values()) < gallery:
                wanted[status] += 1
    return wanted


def cards(folder: Folder, gallery: int) -> Iterator[Card]:
    """Yield the records to show, until the page is full."""
    used = 0
    for record, status, reason in pick(folder, gallery):
        node = read_node(folder, record)
        seen = {d: thumbnail_uri(source, folder.path, THUMB) for d, source in _seen(node)}
        beside = [(d, source) for d, source in _pictures(node) if d not in seen or (d, source) in node.images]
        thumbs = tuple((thumbnail_uri(source, folder.path, THUMB), source) for _, source in beside[:4])
        card = Card(record, status, reason, str(node.tags.get("source") or ""), thumbs, node, seen)
        used += sum(len(uri) for uri, _ in thumbs) + sum(map(len, seen.values())) + _weight(node)
        if used > MOST_BYTES:
            return
        yield card


def _pictures(node: Node) -> list[tuple[str, str]]:
    """Return the record's pictures, then those that its children added."""
    found = list(node.images)
    for child in node.children:
        found += [i for i in _pictures(child) if i not in found]
    return found


def _seen(node: Node) -> list[tuple[str, str]]:
    """Return the pictures to be shown over the sides of the pairs below a record, where those saw different ones."""
    pair = node.pair
    own = [image for side in pair.sides for image in side.images] if pair is not None and pair.apart else []
    return [*own, *(image for child in node.children for image in _seen(child))]


def _weight(node: Node) -> int:
    said = sum(
        min(len(c.text), MOST_TEXT) + sum(min(len(str(p)), MOST_TEXT) for _, ps in c.messages for p in ps)
        for c in node.calls
    )
    return 800 * (1 + len(node.calls)) + said + sum(_weight(child) for child in node.children)


# --- charts --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chart:
    """A histogram as the template draws it.

    Attributes:
        series: names of the stacked series, in order ("kept", "other", or one of no name).
        mark: a threshold to draw, with its knob's name.
        names: what to write under the axis where, instead of numbers.
        lines: values to draw thinly, with what stands over them.
    """

    title: str
    note: str
    bins: Sequence[Bin]
    series: tuple[str, ...]
    low: float
    high: float
    mark: tuple[float, str] | None = None
    names: tuple[tuple[float, str], ...] = ()
    lines: tuple[tuple[float, str], ...] = ()

    @property
    def placed_lines(self) -> list[tuple[float, str]]:
        """The lines, placed; of two that would be written over each other, the first."""
        placed: list[tuple[float, str]] = []
        for value, text in self.lines:
            x = self.x(min(max(value, self.low), self.high))
            if not placed or x - placed[-1][0] > 24:
                placed.append((x, text))
        return placed

    @property
    def most(self) -> int:
        """The tallest bar."""
        return max((b.total for b in self.bins), default=0)

    def x(self, value: float) -> float:
        """Return where a value lies across the chart."""
        return round((value - self.low) / max(self.high - self.low, 1e-9) * WIDE, 2)

    @property
    def bars(self) -> Iterator[Bar]:
        """The bars, placed; series are stacked from below in order."""
        for b in self.bins:
            pieces, y = [], float(FLOOR)
            for name, n in zip(self.series, b.counts, strict=True):
                tall = max(HIGH * n / self.most, 0.75) if n else 0.0
                y -= tall
                if n:
                    pieces.append((SERIES.get(name, "plain"), round(y, 2), round(tall, 2)))
            each = ", ".join(f"{n} {name}" for name, n in zip(self.series, b.counts, strict=True) if name)
            title = f"{b.label}: {numbers.count(b.total)}" + (f" ({each})" if each else "")
            yield Bar(self.x(b.low), round(self.x(b.high) - self.x(b.low), 2), title, tuple(pieces))

    @property
    def ticks(self) -> list[tuple[float, str, str]]:
        """What is written under the axis: (x, text, anchor)."""
        if not self.bins:
            return []
        if self.names:
            return [(self.x(value), text, "middle") for value, text in self.names]
        if self.bins[0].high - self.bins[0].low == 1 and len(self.bins) <= 12:
            return [(round(self.x(b.low + 0.5), 2), b.label.replace(" or more", "+"), "middle") for b in self.bins]
        edges = [*(b.low for b in self.bins), self.high][:: max(1, len(self.bins) // 4)]
        ends = {0: "start", WIDE: "end"}
        return [(self.x(e), f"{e:g}", ends.get(round(self.x(e)), "middle")) for e in edges]


@dataclass(frozen=True)
class Bar:
    """One bar, placed: its column, what it tells when pointed at, and its pieces (class, y, height)."""

    x: float
    width: float
    title: str
    pieces: tuple[tuple[str, float, float], ...]


def chart_of(
    title: str,
    note: str,
    series: Mapping[str, Numbers],
    mark: tuple[float, str] | None = None,
    lines: tuple[tuple[float, str], ...] = (),
    **axis: Any,
) -> Chart:
    """Return a histogram of several series; `axis` as `histogram` takes it."""
    bins = histogram(list(series.values()), **axis)
    low, high = (bins[0].low, bins[-1].high) if bins else (0.0, 1.0)
    return Chart(title, note, bins, tuple(series), low, high, mark, lines=lines)


def score_charts(found: Findings, knobs: Mapping[str, Mapping[str, Any]]) -> list[Chart]:
    """Return a chart for each scoring prompt, its threshold drawn where a knob of its name holds one."""
    charts = []
    for score in found.scores.values():
        short = score.name.rpartition("/")[2] or "the method's own words"
        note = "; ".join(_score_notes(score))
        series = {"kept": score.kept, "not kept": score.other}
        fine = any(not v.is_integer() for s in series.values() for v in s.counts)
        axis: dict[str, Any] = {
            "low": score.low,
            "high": score.high,
            "bins": (score.high - score.low) * (5 if fine else 1),
        }
        charts.append(chart_of(short, note, series, _mark(short, knobs.get(score.step, {})), **axis))
    return charts


def _score_notes(score: Score) -> Iterator[str]:
    both = score.kept.n + score.other.n
    yield numbers.plural(both, "score")
    ways = {"from token probabilities": score.by_probs, "parsed": score.parsed}
    yield ", ".join(f"{numbers.share(n, both)} {way}" for way, n in ways.items() if n)
    if score.unread:
        yield f"{numbers.plural(score.unread, 'reply', 'replies')} unreadable"
    means = {"where kept": score.kept, "where not": score.other}
    yield "mean " + ", ".join(f"{values.mean:.2f} {where}" for where, values in means.items() if values.n)


def _mark(name: str, knobs: Mapping[str, Any]) -> tuple[float, str] | None:
    for knob in (name, name.partition("_")[0]):
        value = knobs.get(knob)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value), f"{knob} {value:g}"
    return None


def knobs_of(folder: Folder) -> dict[str, dict[str, Any]]:
    """Return each step's knobs as they were in force: set, or by default."""
    known: dict[str, dict[str, Any]] = {}
    for info in folder.steps:
        try:
            defaults = {name: knob.default for name, knob in find_step(info.step).knobs.items()}
        except FovealError:
            defaults = {}  # a step of the user's own, or one that has since gone
        known[info.label] = {**defaults, **info.knobs}
    return known


def spread(title: str, note: str, values: Numbers, **axis: Any) -> Chart:
    """Return a histogram of one series with percentiles of the set."""
    return chart_of(title, note, {"": values}, lines=percentiles(values), **axis)


def percentiles(values: Numbers) -> tuple[tuple[float, str], ...]:
    """Return what is drawn of a set's percentiles: value and name."""
    return tuple((values.quantile(q / 100), f"{q} %") for q in PERCENTILES)


def cut_charts(folder: Folder) -> list[Chart]:
    """Return a chart for each step that cut rows by a number: all that came to it, by what became of them."""
    charts = []
    for cut in cuts(folder):
        stay = (
            f"{numbers.short(min(cut.kept.counts))} to {numbers.short(max(cut.kept.counts))}" if cut.kept.n else "none"
        )
        note = f"{numbers.plural(cut.whole.n, 'row')} came in; kept: {numbers.count(cut.kept.n)}, values {stay}"
        series = {"kept": cut.kept, "not kept": cut.other}
        charts.append(chart_of(f"{cut.step}: {cut.tag}", note, series, lines=percentiles(cut.whole)))
    return charts


def tag_charts(found: Findings) -> list[Chart]:
    """Return a chart for each numeric tag that varies and is not already told by the prompt that gave it."""
    told = {score.name.rpartition("/")[2] for score in found.scores.values()}
    told |= {"distance"} if found.pairs.logs else set()  # drawn with the pairs
    charts = []
    for name, values in sorted(found.numeric.items()):
        if name not in told and len(values.counts) > 1:
            note = f"{numbers.plural(values.n, 'row')}; mean {values.mean:.3g}, standard deviation {values.std:.3g}"
            charts.append(chart_of(name, note, {"": values}))
    return charts


def length_charts(found: Findings) -> list[Chart]:
    """Return the charts of lengths in words, with mean and standard deviation in words and in characters."""
    charts = []
    for name, values in found.lengths.items():
        letters = found.letters[name]
        words = f"mean {values.mean:.1f} words, standard deviation {values.std:.1f}"
        note = f"{numbers.plural(values.n, 'text')}; {words}; {letters.mean:.0f} ± {letters.std:.0f} characters"
        charts.append(chart_of(name, note, {"": values}, low=0, high=max(values.quantile(0.98), 1.0)))
    return charts


def pair_charts(pairs: PairFindings) -> list[Chart]:
    """Return the charts of a set of pairs: how lengths compare, and how far the sides are apart."""
    if not pairs.logs:
        return []
    bins = [Bin(n / 4, (n + 1) / 4, _times(n / 4, (n + 1) / 4), (0,)) for n in range(-12, 12)]
    counts = Counter(min(max(math.floor(log / math.log(2) * 4 + 1e-9), -12), 11) for log in pairs.logs)
    bins = [replace(b, counts=(counts[n],)) for n, b in enumerate(bins, -12)]
    found = pairs.lengths
    note = f"chosen words for each rejected word; geometric mean {found.ratio:.2f}"
    names = ((-2, "¼"), (-1, "½"), (0, "equal"), (1, "2 times"), (2, "4 times"))
    lengths = Chart("length of chosen to rejected", note, bins, ("",), -3, 3, names=names)
    apart = Numbers()
    for value in pairs.distances:
        apart.add(value)
    note = f"share of words that differ; mean {apart.mean:.2f} of {numbers.plural(apart.n, 'pair')}"
    return [lengths, chart_of("distance of the sides", note, {"": apart}, low=0, high=1, bins=20)]


def _times(low: float, high: float) -> str:
    return f"{2**low:.2g} to {2**high:.2g} times as long"


# --- the page ------------------------------------------------------------------------------------------------------


def write_report(folder: Path, *, gallery: int = 60) -> Path:
    """Write `report.html` into a run folder.

    Args:
        folder: the run folder.
        gallery: how many records to show, fewer when the page would grow beyond about 5 MB.

    Raises:
        StoreError: it is not a run folder.
        DiskFull: the page cannot be written.
    """
    with Folder(folder) as opened:
        page = render(opened, gallery)
    write_page(folder / "report.html", page)
    return folder / "report.html"


def write_page(path: Path, page: str) -> None:
    """Write a page at once, or not at all.

    Raises:
        DiskFull: it cannot be written.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        partial.write_text(page, encoding="utf-8", errors="replace")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DiskFull(f"cannot write {path}: {error.strerror}") from error


def render(folder: Folder, gallery: int) -> str:
    """Return the page."""
    summary, found = summary_of(folder), analyse(folder)
    style, script = part("report.css"), part("report.js")
    shown = list(cards(folder, gallery))
    return template("template.html").render(
        s=summary,
        f=found,
        folder=folder,
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        policy=policy(style, script),
        cards=shown,
        counts=_counts(summary),
        widest=max((step.came for step in summary.steps), default=0),
        scores=score_charts(found, knobs_of(folder)),
        tags=tag_charts(found),
        cuts=cut_charts(folder),
        lengths=length_charts(found),
        pairs=pair_charts(found.pairs),
        language_method=LANGUAGE_METHOD,
        verb_method=VERB_METHODS[found.verb_method],
        finishes=total(found.finishes.values()),
        version=__version__,
        when=time.strftime("%-d %B %Y, %H:%M", time.localtime(folder.at)),
        most_text=MOST_TEXT,
        state={"running": "not ended (it is running, or was killed)"}.get(summary.state, summary.state),
    )


def _counts(summary: Summary) -> dict[str, int]:
    r = summary.records
    return {"kept": r.kept, "dropped": sum(r.dropped.values()), "failed": sum(r.failed.values()), "pending": r.pending}


def part(name: str) -> str:
    """Return one of the files beside this one."""
    return resources.files("foveal.view").joinpath(name).read_text(encoding="utf-8")


def policy(style: str, script: str = "") -> str:
    """Return the page's own policy: its style and script by their hashes, pictures inside it, and nothing else."""

    def allowed(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    rules = {"default-src": "'none'", "img-src": "data:", "style-src": allowed(style), "script-src": allowed(script)}
    return "; ".join(f"{k} {v}" for k, v in {**rules, "base-uri": "'none'", "form-action": "'none'"}.items())


def template(name: str) -> jinja2.Template:
    """Return one of our pages, with what all of them use."""
    loader = jinja2.FunctionLoader(part)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters = ("count", "duration", "money", "share", "short", "plural", "clip")
    environment.filters |= {name: getattr(numbers, name) for name in filters} | {"top": top, "percent": _percent}
    return environment.get_template(name)


def _percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 3) if whole else 0.0
