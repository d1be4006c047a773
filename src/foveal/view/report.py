"""`report.html`: one self-contained page about a run. It opens from disk, loads nothing, and trusts no text in it.

Every text that a model or a file gave is escaped by the template engine; bars are SVG attributes, never style strings;
the page's own policy (CSP) allows its one script and style sheet by their hashes, pictures from inside the page, and
nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from foveal import __version__
from foveal.steps.language import LANGUAGE_METHOD
from foveal.view.analysis import analyse, total
from foveal.view.charts import cut_charts, knobs_of, length_charts, pair_charts, score_charts, tag_charts
from foveal.view.folder import Folder
from foveal.view.history import Asked, End, Node, read_node
from foveal.view.page import part, policy, template, write_page
from foveal.view.pictures import thumbnail_uri
from foveal.view.summary import Summary, summary_of
from foveal.view.texts import VERB_METHODS

THUMB = 320
MOST_BYTES = 4_200_000
"""The gallery ends when the page comes to about this size."""
MOST_TEXT = 6000
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
