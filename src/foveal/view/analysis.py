"""What a run's rows and calls look like in numbers: lengths, scores, languages, verbs, duplicates; in bounded memory.

Counts of rows and calls are exact. What needs every reply or text read is taken from an even sample once there are
very many, and says so (`Findings.rows_read`, `Findings.calls_read`).
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson

from foveal.models.model import BadShape, Scale, expected, read_choice, read_number
from foveal.record import digest
from foveal.steps.language import language
from foveal.view.folder import Folder
from foveal.view.history import body_turns
from foveal.view.pairs import PairFindings
from foveal.view.texts import rooter

MOST_CALLS, MOST_ROWS = 60_000, 20_000
ASKS, ANSWERS = ("user", "question"), ("assistant", "answer")


@dataclass
class Numbers:
    """How often each value came."""

    counts: Counter[float] = field(default_factory=Counter)

    def add(self, value: float) -> None:
        """Count a value, to four significant digits."""
        if math.isfinite(value):
            self.counts[float(f"{value:.4g}")] += 1

    @property
    def n(self) -> int:
        """How many values."""
        return self.counts.total()

    @property
    def mean(self) -> float:
        """Their mean."""
        return sum(v * n for v, n in self.counts.items()) / self.n if self.n else 0.0

    @property
    def std(self) -> float:
        """Their standard deviation (of the values themselves, not of their mean)."""
        mean = self.mean
        return math.sqrt(sum(n * (v - mean) ** 2 for v, n in self.counts.items()) / self.n) if self.n else 0.0

    def quantile(self, q: float) -> float:
        """Return the value that a share `q` of the values does not exceed."""
        left = q * self.n
        for value in sorted(self.counts):
            left -= self.counts[value]
            if left <= 1e-9:
                return value
        return 0.0


@dataclass
class Score:
    """One scoring prompt: what it gave to records that were kept and to those that were not, and how it was read."""

    name: str
    step: str
    low: int
    high: int
    kept: Numbers = field(default_factory=Numbers)
    other: Numbers = field(default_factory=Numbers)
    by_probs: int = 0
    parsed: int = 0
    unread: int = 0


@dataclass
class Choice:
    """One classifying prompt: how often each word was chosen, with the mean probability where it was told."""

    name: str
    step: str
    words: Counter[str] = field(default_factory=Counter)
    mass: Counter[str] = field(default_factory=Counter)
    by_probs: Counter[str] = field(default_factory=Counter)
    unread: int = 0


@dataclass(frozen=True)
class CallLine:
    """Calls of one step, role and prompt: exact sums."""

    step: str
    role: str
    prompt: str
    model: str
    calls: int
    tokens_in: int
    tokens_out: int
    cost: float
    unpriced: int
    seconds: float


@dataclass
class Findings:
    """All that the report tells in numbers."""

    rows: int = 0
    rows_read: int = 0
    calls: int = 0
    calls_read: int = 0
    lines: list[CallLine] = field(default_factory=list)
    waits: dict[tuple[str, str], Numbers] = field(default_factory=dict)
    finishes: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    scores: dict[tuple[str, str], Score] = field(default_factory=dict)
    choices: dict[tuple[str, str], Choice] = field(default_factory=dict)
    lengths: dict[str, Numbers] = field(default_factory=dict)
    letters: dict[str, Numbers] = field(default_factory=dict)
    languages: Counter[str] = field(default_factory=Counter)
    verbs: Counter[str] = field(default_factory=Counter)
    nouns: dict[str, Counter[str]] = field(default_factory=dict)
    rootless: int = 0
    verb_method: str = "rules"
    numeric: dict[str, Numbers] = field(default_factory=dict)
    words: dict[str, Counter[str]] = field(default_factory=dict)
    distinct: int = 0
    distinct_with_picture: int = 0
    pairs: PairFindings = field(default_factory=PairFindings)

    @cached_property
    def common_verbs(self) -> list[tuple[str, int, list[tuple[str, int]]]]:
        """Verbs of more than 1 % of the rooted instructions, with their three commonest nouns, as Oasis tells them."""
        least = 0.01 * self.verbs.total()
        common = [(v, n) for v, n in self.verbs.most_common() if n > least]
        return [(v, n, [(w, k) for w, k in self.nouns[v].most_common() if w][:3]) for v, n in common]


def analyse(folder: Folder) -> Findings:
    """Return what a run's rows and calls look like."""
    _ = folder.fates
    found = Findings(rows=folder.one("SELECT count(*) FROM rows"))
    _read_rows(folder, found)
    _sum_calls(folder, found)
    _read_calls(folder, found)
    return found


# --- rows ----------------------------------------------------------------------------------------------------------


def _read_rows(folder: Folder, found: Findings) -> None:
    every = max(1, math.ceil(found.rows / MOST_ROWS))
    find_root, found.verb_method = rooter()
    alone, with_picture = array("Q"), array("Q")
    sql = "SELECT r.body, r.tags, r.images, l.rowid FROM rows l JOIN records r ON r.id=l.id"
    for body, tags, images, number in folder.query(sql):
        body, tags = orjson.loads(body), orjson.loads(tags)
        turns = body_turns(body)
        asked = " ".join(text for role, text in turns if role in ASKS)
        alone.append(_hash(asked))
        with_picture.append(_hash(images + asked))
        _read_tags(tags, found)
        if number % every:
            continue
        found.rows_read += 1
        for role, text in turns:
            _read_text(role, text, found)
        if isinstance(body, dict) and body.get("kind") == "pair":
            found.pairs.add(body, tags, asked)
        _read_question(asked, find_root, found)
    found.distinct, found.distinct_with_picture = _distinct(alone), _distinct(with_picture)


def _hash(text: str) -> int:
    return int(digest(" ".join(text.casefold().split()))[:16], 16)


def _distinct(hashes: array[int]) -> int:
    return len(set(hashes))


def _read_tags(tags: Mapping[str, Any], found: Findings) -> None:
    for name, value in tags.items():
        if isinstance(value, bool) or (isinstance(value, str) and len(value) <= 40 and name not in ("source", "group")):
            words = found.words.setdefault(name, Counter())
            if len(words) < 500:
                words[str(value)] += 1
        elif isinstance(value, int | float):
            found.numeric.setdefault(name, Numbers()).add(value)


def _read_text(role: str, text: str, found: Findings) -> None:
    name = "questions" if role in ASKS else "answers" if role in ANSWERS else role
    if name in ("system", "choices"):
        return
    found.lengths.setdefault(name, Numbers()).add(len(text.split()))
    found.letters.setdefault(name, Numbers()).add(len(text))


def _read_question(asked: str, find_root: Any, found: Findings) -> None:
    if not asked:
        return
    tongue = language(asked)
    found.languages[tongue] += 1
    if tongue != "English":
        return
    rooted = find_root(asked)
    if rooted is None:
        found.rootless += 1
        return
    found.verbs[rooted[0]] += 1
    found.nouns.setdefault(rooted[0], Counter())[rooted[1]] += 1


# --- calls ---------------------------------------------------------------------------------------------------------


def _sum_calls(folder: Folder, found: Findings) -> None:
    sums = "count(*), sum(tokens_in), sum(tokens_out), coalesce(sum(cost),0.0), sum(cost IS NULL), avg(seconds)"
    sql = f"""SELECT step, role, prompt, max(model), {sums} FROM {folder.calls} c CROSS JOIN met ON met.id=c.record
              GROUP BY step, role, prompt ORDER BY step, min(c.at)"""  # noqa: S608
    found.lines = [CallLine(*row) for row in folder.query(sql)]
    found.calls = sum(line.calls for line in found.lines)


def _read_calls(folder: Folder, found: Findings) -> None:
    every = max(1, math.ceil(found.calls / MOST_CALLS))
    sql = f"""SELECT c.step, c.prompt, c.request, c.reply, c.seconds, u.status
              FROM {folder.calls} c CROSS JOIN met ON met.id=c.record
              LEFT JOIN units u ON u.step=c.step AND u.record=c.record AND +u.run=?
              WHERE c.rowid % ? = 0"""  # noqa: S608
    for step, prompt, request, reply, seconds, status in folder.query(sql, (folder.run, every)):
        found.calls_read += 1
        said = orjson.loads(reply)
        key = (step, prompt)
        found.waits.setdefault(key, Numbers()).add(seconds)
        found.finishes.setdefault(key, Counter())[str(said.get("finish", ""))] += 1
        if choices := orjson.loads(request).get("choices"):
            _read_chosen(found, key, choices, said, status == "kept")


def _read_chosen(
    found: Findings, key: tuple[str, str], choices: Sequence[str], said: Mapping[str, Any], kept: bool
) -> None:
    step, prompt = key
    text, probs = str(said.get("text", "")), said.get("probs") or {}
    if all(c.isdigit() for c in choices):
        numbers = sorted(map(int, choices))
        score = found.scores.setdefault(key, Score(prompt, step, numbers[0], numbers[-1]))
        _count_score(score, text, probs, kept)
    else:
        _count_choice(found.choices.setdefault(key, Choice(prompt, step)), choices, text, probs)


def _count_score(score: Score, text: str, probs: Mapping[str, float], kept: bool) -> None:
    value = expected(probs, Scale(score.low, score.high)) if probs else None
    if value is not None:
        score.by_probs += 1
    else:
        try:
            value = read_number(text, score.low, score.high)
        except BadShape:
            score.unread += 1
            return
        score.parsed += 1
    (score.kept if kept else score.other).add(value)


def _count_choice(choice: Choice, choices: Sequence[str], text: str, probs: Mapping[str, float]) -> None:
    if sum(probs.values()) >= 0.5:
        word = max(choices, key=lambda c: probs.get(c, 0.0))
        choice.mass[word] += probs[word] / sum(probs.values())  # type: ignore[assignment]
        choice.by_probs[word] += 1
    else:
        try:
            word = read_choice(text, choices)
        except BadShape:
            choice.unread += 1
            return
    choice.words[word] += 1


# --- histograms ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bin:
    """One bar: from `low` up to `high`, with a count for each series."""

    low: float
    high: float
    label: str
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """All series together."""
        return sum(self.counts)


def histogram(
    series: Sequence[Numbers], low: float | None = None, high: float | None = None, bins: int = 24
) -> list[Bin]:
    """Return the bars of several series over one axis; values beyond `high` go into the last bar, which says so."""
    values = sorted({v for s in series for v in s.counts})
    if not values:
        return []
    start, end = values[0] if low is None else low, values[-1] if high is None else high
    whole = all(float(v).is_integer() for v in values)
    width = _width(start, end, bins, whole)
    first = math.floor(start / width + 1e-9) * width
    count = max(1, math.ceil((end - first) / width - 1e-9) + (1 if whole else 0))
    edges = [first + width * k for k in range(count)]
    sums = [[0] * len(series) for _ in edges]
    for number, one in enumerate(series):
        for value, n in one.counts.items():
            sums[min(max(int((value - first) / width + 1e-9), 0), count - 1)][number] += n
    over = values[-1] > edges[-1] + width
    return [_bin(e, width, whole, over and e == edges[-1], s) for e, s in zip(edges, sums, strict=True)]


def _bin(edge: float, width: float, whole: bool, over: bool, counts: Sequence[int]) -> Bin:
    if over:
        label = f"{edge:g} or more"
    elif whole:
        label = f"{edge:g}" if width == 1 else f"{edge:g} to {edge + width - 1:g}"
    else:
        label = f"{edge:g} to {edge + width:g}"
    return Bin(edge, edge + width, label, tuple(counts))


def _width(start: float, end: float, bins: int, whole: bool) -> float:
    """Return a round bar width (1, 2 or 5 times a power of ten) that gives at most `bins` bars."""
    span = max(end - start, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / bins)) if span > 1e-6 else 1.0
    width = next((m * power for m in (1, 2, 5, 10) if span / (m * power) <= bins), 10 * power)
    return max(1.0, width) if whole else width


def top(counter: Mapping[str, int], most: int) -> Iterator[tuple[str, int]]:
    """Yield the commonest, and the rest together as "others"."""
    common = Counter(dict(counter)).most_common()
    yield from common[:most]
    if rest := sum(n for _, n in common[most:]):
        yield f"{len(common) - most} others", rest


def total(counters: Iterable[Mapping[str, int]]) -> Counter[str]:
    """Return the counters added up."""
    added: Counter[str] = Counter()
    for counter in counters:
        added.update(counter)
    return added
