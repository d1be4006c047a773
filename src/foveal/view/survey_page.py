"""A survey for people: a page like the report's, and tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from markupsafe import Markup
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from foveal import __version__
from foveal.view import charts
from foveal.view.analysis import Numbers
from foveal.view.charts import Chart, pair_charts
from foveal.view.numbers import clip, count, plural, share, short
from foveal.view.page import part, policy, template, write_page
from foveal.view.survey import RUN, SPANS, Group, Survey, Tag
from foveal.view.texts import VERB_METHODS

MOST_GROUPS = 8
"""Values of a tag that are drawn one beside the other."""


# --- charts ----------------------------------------------------------------------------------------------------------


def spread(title: str, values: Numbers, unit: str = "", **axis: Any) -> Chart:
    """Return a histogram with the set's percentiles."""
    note = f"{plural(values.n, 'value')}; mean {short(values.mean)}{unit}, median {short(values.quantile(0.5))}"
    return charts.spread(title, note, values, **axis)


def _lengths(group: Group) -> Iterator[Chart]:
    for name, texts in group.texts.items():
        most = max(texts.lengths.quantile(0.98), 1.0)
        yield spread(f"{name}, words", texts.lengths, " words", low=0, high=most)
    if len(group.turns.counts) > 1:
        yield spread("exchanges", group.turns)


def _numeric(group: Group) -> dict[str, Tag]:
    return {name: tag for name, tag in group.tags.items() if len(tag.numbers.counts) > 1}


def _pictures(found: Survey) -> Iterator[Chart]:
    for title, values in (
        ("longer side, pixels", found.pictures.sizes),
        ("longer side / shorter", found.pictures.ratios),
    ):
        if len(values.counts) > 1:
            yield spread(title, values, high=values.quantile(0.98))


def _apart(found: Survey, tag: str) -> Iterator[tuple[str, list[Chart]]]:
    """Yield (title, a chart for each of the commonest values) on one axis, for lengths and every number."""
    groups = list(islice(found.by[tag].items(), MOST_GROUPS))
    for name, texts in found.all.texts.items():
        axis: dict[str, Any] = {"low": 0, "high": max(texts.lengths.quantile(0.98), 1.0)}
        shown = [spread(v, g.texts[name].lengths, " words", **axis) for v, g in groups if name in g.texts]
        yield f"{name.capitalize()}, words", shown
    for name, whole in _numeric(found.all).items():
        if name != tag:
            axis = {"low": min(whole.numbers.counts), "high": max(whole.numbers.counts)}
            having = [(v, g.tags[name].numbers) for v, g in groups if name in g.tags and g.tags[name].numbers.n]
            yield name, [spread(v, values, **axis) for v, values in having]


# --- the page --------------------------------------------------------------------------------------------------------


def write(found: Survey, path: Path) -> None:
    """Write the page.

    Raises:
        DiskFull: it cannot be written.
    """
    write_page(path, render(found))


def render(found: Survey) -> str:
    """Return the page."""
    page = template("analysis.html")
    style = part("report.css")
    return page.render(
        s=found,
        style=Markup(style),  # noqa: S704 - our own file
        policy=policy(style),
        lengths=list(_lengths(found.all)),
        diverse=[(name, texts.diversity) for name, texts in found.all.texts.items()],
        numeric=[spread(name, tag.numbers) for name, tag in _numeric(found.all).items()],
        named=[(name, tag) for name, tag in found.all.tags.items() if tag.names],
        pairs=pair_charts(found.all.pairs),
        pictures=list(_pictures(found)),
        means={tag: [n for n in _numeric(found.all) if n != tag][:6] for tag in found.by},
        apart={tag: list(_apart(found, tag)) for tag in found.by},
        span_names=SPANS,
        run=RUN,
        verb_method=VERB_METHODS[found.verb_method],
        version=__version__,
    )


# --- the terminal ----------------------------------------------------------------------------------------------------


def lines(found: Survey) -> Iterator[RenderableType]:
    """Yield what the terminal shows."""
    kinds = ", ".join(f"{count(n)} {kind}" for kind, n in found.all.kinds.most_common())
    yield Text(f"{plural(found.all.rows, 'row')} of {found.where}: {kinds}", style="bold")
    for reason, n in found.unreadable.most_common():
        yield Text(f"not a row: {clip(reason, 80)} ({count(n)})", style="red")
    yield from _facts(found)
    if found.all.texts:
        yield Text()
        yield _texts_table(found.all)
        yield from _verbs(found.all)
    if found.all.tags:
        yield Text()
        yield from _tags(found.all)
    for tag, groups in found.by.items():
        yield Text()
        yield _by_table(found, tag, groups)


def _facts(found: Survey) -> Iterator[Text]:
    pictures, repeats = found.pictures, found.repeats
    if pictures.distinct:
        near = f"; of {count(pictures.looked_at)} opened {count(pictures.near)} look like an earlier one"
        broken = f", {count(pictures.unreadable)} cannot be read" if pictures.unreadable else ""
        yield Text(f"pictures: {count(pictures.distinct)} different{near if pictures.looked_at else ''}{broken}")
    if repeats.of:
        same = f"{count(repeats.exact)} word for word ({share(repeats.exact, repeats.of) or '0 %'})"
        near = f", {count(repeats.near)} of {count(repeats.compared)} nearly" if repeats.near is not None else ""
        yield Text(f"questions asked before: {same}, {count(repeats.same_picture)} about the same picture{near}")
        if repeats.near is None:
            yield Text("near-duplicates were not looked for: pip install 'foveal[curate]'", style="dim")
    if found.all.pairs.logs:
        lengths = found.all.pairs.lengths
        longer = share(lengths.longer, lengths.longer + lengths.shorter) or "0 %"
        yield Text(f"pairs: the chosen side is the longer in {longer} of those whose lengths differ")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(columns[0], overflow="fold")
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def _texts_table(group: Group) -> Table:
    table = _table("texts", "n", "words", "10 %", "50 %", "90 %", "distinct-2", "compression", "languages")
    for name, texts in group.texts.items():
        told, lengths = texts.diversity, texts.lengths
        spans = [short(lengths.quantile(q)) for q in (0.1, 0.5, 0.9)]
        tongues = ", ".join(f"{k} {share(n, lengths.n)}" for k, n in texts.languages.most_common(2))
        diverse = (f"{told.distinct[2]:.3f}", f"{told.compression:.2f}")
        table.add_row(name, count(lengths.n), short(lengths.mean), *spans, *diverse, tongues)
    return table


def _verbs(group: Group) -> Iterator[Text]:
    texts = group.texts.get("questions")
    if texts and texts.verbs:
        whole = texts.verbs.total()
        told = [
            f"{verb} {share(n, whole)} ({', '.join(noun for noun, _ in texts.nouns[verb].most_common(3) if noun)})"
            for verb, n in texts.verbs.most_common(6)
        ]
        yield Text("root verbs: " + ", ".join(told).replace(" ()", ""))


def _tags(group: Group) -> Iterator[RenderableType]:
    if numeric := {name: tag for name, tag in group.tags.items() if tag.numbers.n}:
        table = _table("number", "rows", "mean", *(f"{q} %" for q in SPANS))
        for name, tag in numeric.items():
            spans = [short(tag.numbers.quantile(q / 100)) for q in SPANS]
            table.add_row(clip(name, 24), count(tag.numbers.n), short(tag.numbers.mean), *spans)
        yield table
    if named := {name: tag for name, tag in group.tags.items() if tag.names}:
        table = _table("name", "coverage", "values", "effective")
        table.add_column("commonest", overflow="fold")
        for name, tag in named.items():
            common = ", ".join(f"{clip(k, 30)} {share(n, tag.having)}" for k, n in tag.names.most_common(4))
            effective = f"{tag.effective:.1f}"
            table.add_row(clip(name, 24), share(tag.having, group.rows), count(len(tag.names)), effective, common)
        yield table


def _by_table(found: Survey, tag: str, groups: Mapping[str, Group]) -> Table:
    means = [name for name in _numeric(found.all) if name != tag][:4]
    table = _table(tag, "rows", "share", *(f"{n}, words" for n in found.all.texts), *(clip(n, 18) for n in means))
    for value, group in islice(groups.items(), 30):
        words = [short(group.texts[n].lengths.mean) if n in group.texts else "" for n in found.all.texts]
        having = [group.tags.get(n) for n in means]
        told = [short(t.numbers.mean) if t and t.numbers.n else "" for t in having]
        table.add_row(clip(value, 40), count(group.rows), share(group.rows, found.all.rows), *words, *told)
    return table
