"""Filters by what can be counted: language, length, ratio, size of the picture; and what benchmarks hold already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from foveal.data import Broken, open_source
from foveal.errors import ImageError, RecipeError
from foveal.picture import dhash
from foveal.record import Chat, Item, Pair, Record
from foveal.steps.constraints import words_in
from foveal.steps.language import language as language_of
from foveal.steps.near import near_hashes
from foveal.steps.table import Table, words
from foveal.steps.text import declines

By = Literal["question", "answer", "chosen", "rejected"]


def language(table: Table, by: By = "question", only: tuple[str, ...] = ("English",)) -> Table:
    """Keep rows in some languages, as far as scripts and common short words tell.

    Args:
        table: rows.
        by: which text decides.
        only: names of languages, as the report gives them ("English", "Chinese", or "not told" for too short a text).

    Raises:
        RecipeError: no language is named.
    """
    if not only:
        raise RecipeError("language: only=[] names no language")
    found = ((id_, language_of(text or "")) for id_, text in zip(table.ids, table.column(by), strict=True))
    return table.without({id_: f"language: {name}" for id_, name in found if name not in only})


def length(table: Table, by: By = "answer", least: int = 1, most: int = 0) -> Table:
    """Keep rows whose text has at least and at most so many words (of scripts without spaces, letters).

    Args:
        table: rows.
        by: which text.
        least: fewest words.
        most: most words, 0 for any number.

    Raises:
        RecipeError: the numbers contradict each other.
    """
    if least < 0 or most < 0 or (most and most < least):
        raise RecipeError(f"length: least={least} and most={most} must not be below 0, nor contradict each other")
    reasons: dict[str, str] = {}
    for id_, text in zip(table.ids, table.column(by), strict=True):
        count = max(words_in(text or ""), len(words(text or "")))
        if count < least:
            reasons[id_] = f"{by} of fewer than {least} words"
        elif most and count > most:
            reasons[id_] = f"{by} of more than {most} words"
    return table.without(reasons)


def ratio(table: Table, of: By = "answer", to: By = "question", least: float = 0.0, most: float = 0.0) -> Table:
    """Keep rows whose one text has so many times the words of the other.

    Args:
        table: rows.
        of: the one, such as the answer, or of pairs the chosen side.
        to: the other, such as the question, or the rejected side.
        least: lowest ratio.
        most: highest ratio, 0 for any.

    Raises:
        RecipeError: the numbers contradict each other.
    """
    if least < 0 or most < 0 or (most and most < least):
        raise RecipeError(f"ratio: least={least:g} and most={most:g} must not be below 0, nor contradict each other")
    reasons: dict[str, str] = {}
    for id_, one, other in zip(table.ids, table.column(of), table.column(to), strict=True):
        value = max(1, words_in(one or "")) / max(1, words_in(other or ""))
        if value < least or (most and value > most):
            reasons[id_] = f"{of} too {'short' if value < least else 'long'} beside the {to}"
    return table.without(reasons)


def refusals(table: Table, by: By = "answer") -> Table:
    """Take out rows that decline to answer: apologies, "As an AI", "I can only"; see `text.declines`.

    Args:
        table: rows.
        by: which text; of pairs, usually the chosen side.
    """
    texts = zip(table.ids, table.column(by), strict=True)
    return table.without({id_: f"{by} declines" for id_, text in texts if declines(text or "")})


def picture_size(table: Table, least: int = 0, most: int = 0, sides: float = 0.0) -> Table:
    """Keep rows whose first picture has sides of at least and at most so many pixels, and is not too long and thin.

    Args:
        table: rows with pictures.
        least: fewest pixels of the shorter side.
        most: most pixels of the longer side, 0 for any number.
        sides: most times as long the longer side may be as the shorter one, 0 for any.

    Raises:
        RecipeError: a number is out of range.
    """
    if least < 0 or most < 0 or (sides and sides < 1):
        raise RecipeError(
            f"picture_size: least={least} and most={most} must not be below 0, sides={sides:g} not below 1"
        )
    reasons: dict[str, str] = {}
    for id_, size in zip(table.ids, table.column("size"), strict=True):
        if size is None:
            reasons[id_] = "no picture that can be read"
        elif min(size) < least:
            reasons[id_] = f"picture smaller than {least} pixels"
        elif most and max(size) > most:
            reasons[id_] = f"picture larger than {most} pixels"
        elif sides and max(size) > sides * min(size):
            reasons[id_] = f"picture longer than {sides:g} times its width"
    return table.without(reasons)


# --- decontamination -----------------------------------------------------------------------------------------------


def decontaminate(table: Table, against: tuple[str, ...] = (), ngram: int = 8, bits: int = 4) -> Table:
    """Take out rows that benchmarks hold already: their pictures, by perceptual hash, and their words, by n-grams.

    Args:
        table: rows.
        against: files or folders of the benchmarks, in any form that foveal reads.
        ngram: words in a row that a benchmark's text and a row must share; shorter benchmark texts must be met as a
            whole, with at least three words. 0 for no comparison of words.
        bits: how many of the 64 bits of the pictures' hashes may differ, 0 to 16; -1 for no comparison of pictures.

    Raises:
        RecipeError: no benchmark is named, or a number is out of range.
        SourceError: a benchmark cannot be read.
    """
    if not against or ngram < 0 or not -1 <= bits <= 16:
        raise RecipeError(
            f"decontaminate: against={list(against)} must name files; ngram={ngram} >= 0, bits={bits} -1 to 16"
        )
    benchmarks = [(name, open_source(name)) for name in against]  # what is not there is told before anything is paid
    if not table.ids:
        return table
    known = [(name, record) for name, source in benchmarks for record in source if not isinstance(record, Broken)]
    pictures = _seen_pictures(table, known, bits) if bits >= 0 else {}
    said = _seen_words(table, known, ngram) if ngram else {}
    reasons = {**dict.fromkeys(pictures, "picture of a benchmark"), **dict.fromkeys(said, "words of a benchmark")}
    return table.without(reasons, {**pictures, **said})


Known = Sequence[tuple[str, Record]]
"""Records of benchmarks, and which they are of."""


def _seen_pictures(table: Table, known: Known, bits: int) -> dict[str, str]:
    """Return id -> where its picture is met."""
    place: dict[int, str] = {}
    for name, record in known:
        for code in _hashes(record):
            place.setdefault(code, f"{name}: {record.tags.get('source', '')}")
    codes = list(place)
    own = [(id_, code) for id_, code in zip(table.ids, table.column("dhash"), strict=True) if code is not None]
    joined = [*codes, *(code for _, code in own)]
    for later, earlier in list(near_hashes(joined, bits)):
        if earlier < len(codes) <= later:
            place.setdefault(joined[later], place[joined[earlier]])
    return {id_: place[code] for id_, code in own if code in place}


def _hashes(record: Record) -> Iterator[int]:
    for image in record.images:
        try:
            yield dhash(image.data())
        except ImageError:
            continue


def _texts(record: Record) -> list[str]:
    match record.body:
        case Chat(turns=turns):
            return [turn.text for turn in turns]
        case Pair(prompt=prompt, chosen=chosen, rejected=rejected):
            return [*(turn.text for turn in prompt), chosen, rejected]
        case Item(question=question, answer=answer):
            return [question, answer]
    return []


def _grams(text: str, n: int) -> set[tuple[str, ...]]:
    plain = words(text)
    if len(plain) < n:
        return {tuple(plain)} if len(plain) >= 3 else set()
    return set(_runs(plain, n))


def _seen_words(table: Table, known: Known, n: int) -> dict[str, str]:
    """Return id -> where its words are met."""
    grams: dict[tuple[str, ...], str] = {}
    for name, record in known:
        for text in _texts(record):
            grams |= dict.fromkeys(_grams(text, n) - grams.keys(), f"{name}: {record.tags.get('source', '')}")
    sizes = sorted({len(gram) for gram in grams})
    columns = [table.column(name) for name in ("question", "answer", "chosen", "rejected")]
    found: dict[str, str] = {}
    for id_, *texts in zip(table.ids, *columns, strict=True):
        if met := _met([words(text) for text in texts if text], grams, sizes):
            found[id_] = met
    return found


def _met(said: Sequence[list[str]], grams: Mapping[tuple[str, ...], str], sizes: Sequence[int]) -> str:
    """Return the first run of words that a benchmark has, and where, "" for none."""
    runs = (run for plain in said for size in sizes for run in _runs(plain, size))
    return next((f"{' '.join(run)!r} is in {grams[run]}" for run in runs if run in grams), "")


def _runs(plain: list[str], size: int) -> Iterator[tuple[str, ...]]:
    return (tuple(plain[i : i + size]) for i in range(len(plain) - size + 1))
