"""What a set of rows is like, before anything is chosen from it: `foveal analyse`.

Any source will do, finished runs and files of other tools alike. Counts are exact; what needs every text or picture
compared with others is taken from an even sample once there are very many, and says so.
"""

from __future__ import annotations

import heapq
import math
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from foveal.data import Broken, read
from foveal.errors import FovealError, MissingExtra
from foveal.picture import dhash, inspect
from foveal.record import Chat, Item, Pair, Record, body_to_json, digest
from foveal.steps.language import language
from foveal.steps.near import Clusters, near_by_minhash, near_hashes
from foveal.steps.table import words
from foveal.view.analysis import Numbers
from foveal.view.pairs import PairFindings
from foveal.view.texts import rooter

MOST_NAMES = 20_000
"""Different values of one tag that are told apart; the rest count as one."""
MOST_VALUES, MOST_TAGS = 12, 4
"""Values up to which a tag's are told apart without being asked for, and tags of which this is done."""
LONGEST = 60
"""Characters of a text that still is a name; a longer tag is prose and no value to count."""
TEXTS, SAMPLE, RUN = 100_000, 2_000, 5_000
"""Texts compared for near-duplicates; texts whose words are looked at for diversity; and how many of their words, so
that sets of different sizes compare."""
AT, BITS = 0.8, 4
"""Jaccard similarity of near-duplicate texts, and bits by which hashes of near-duplicate pictures differ."""
SPANS = (5, 10, 25, 30, 50, 70, 75, 90, 95)
"""Percentiles that are told of every number."""


@dataclass
class Sampled:
    """An even sample of a stream of any length: those with the smallest digests, the same in any order."""

    most: int
    seen: int = 0
    _held: list[tuple[int, int, Any]] = field(default_factory=list)

    def add(self, name: str, value: Any) -> None:
        """Consider a value by its name."""
        self.seen += 1
        place = -int(digest("sample", name)[:15], 16)
        if len(self._held) < self.most:
            heapq.heappush(self._held, (place, self.seen, value))
        elif self._held and place > self._held[0][0]:
            heapq.heapreplace(self._held, (place, self.seen, value))

    @property
    def values(self) -> list[Any]:
        """The sample, in the order it came in."""
        return [value for _, _, value in sorted(self._held, key=lambda held: held[1])]


@dataclass(frozen=True)
class Diversity:
    """How much a text repeats itself, over a run of words of one length for sets of any size.

    Attributes:
        words: looked at.
        distinct: n -> different n-grams / n-grams, n from 1 to 3 (distinct-n; Li et al., 1510.03055).
        compression: bytes / compressed bytes (zlib), higher for repetition (Shaib et al., 2403.00553).
    """

    words: int
    distinct: Mapping[int, float]
    compression: float


def diversity(texts: Sequence[str]) -> Diversity:
    """Return the diversity of the first RUN words of some texts; n-grams do not cross from one text to the next."""
    left, taken = RUN, list[list[str]]()
    for text in texts:
        taken.append(words(text)[:left])
        left -= len(taken[-1])
        if left <= 0:
            break
    distinct = {}
    for n in (1, 2, 3):
        grams = [tuple(said[i : i + n]) for said in taken for i in range(len(said) - n + 1)]
        distinct[n] = len(set(grams)) / len(grams) if grams else 0.0
    raw = "\n".join(" ".join(said) for said in taken).encode("utf-8", "replace")
    return Diversity(RUN - max(left, 0), distinct, len(raw) / len(zlib.compress(raw, 9)) if raw else 0.0)


@dataclass(frozen=True, slots=True)
class Text:
    """A text of a row, read once for all groups the row is in: `of` is "questions" or "answers"."""

    of: str
    said: str
    language: str
    beginning: str
    root: tuple[str, str] | None


@dataclass
class Texts:
    """The questions, or the answers, of a set.

    Attributes:
        lengths: in words; `letters`: in characters.
        beginnings: first three words -> how often.
        nouns: root verb -> its noun objects, of English questions.
    """

    lengths: Numbers = field(default_factory=Numbers)
    letters: Numbers = field(default_factory=Numbers)
    languages: Counter[str] = field(default_factory=Counter)
    beginnings: Counter[str] = field(default_factory=Counter)
    verbs: Counter[str] = field(default_factory=Counter)
    nouns: dict[str, Counter[str]] = field(default_factory=dict)
    sample: Sampled = field(default_factory=lambda: Sampled(SAMPLE))

    def add(self, name: str, text: Text) -> None:
        """Count a text."""
        self.lengths.add(len(text.said.split()))
        self.letters.add(len(text.said))
        self.languages[text.language] += 1
        if len(self.beginnings) < MOST_NAMES or text.beginning in self.beginnings:
            self.beginnings[text.beginning] += 1
        self.sample.add(name, text.said)
        if text.root:
            verb, noun = text.root
            self.verbs[verb] += 1
            self.nouns.setdefault(verb, Counter())[noun] += 1

    @property
    def diversity(self) -> Diversity:
        """Of an even sample."""
        return diversity(self.sample.values)


@dataclass
class Tag:
    """The values of one tag.

    Attributes:
        having: rows that have a value: no empty text or list, nor None.
        numbers: those that are numbers.
        names: those that are short texts, yes or no, or lists of short texts, each of a list counted.
        prose: rows whose value is too long for a name, or of another shape.
    """

    having: int = 0
    numbers: Numbers = field(default_factory=Numbers)
    names: Counter[str] = field(default_factory=Counter)
    prose: int = 0

    def add(self, value: Any) -> None:
        """Count a row's value."""
        if value is None or value in ("", [], {}):
            return
        self.having += 1
        if isinstance(value, int | float) and not isinstance(value, bool):
            self.numbers.add(value)
            return
        named = [name for one in (value if isinstance(value, list) else [value]) if (name := _name(one))]
        if not named:
            self.prose += 1
        for name in dict.fromkeys(named):
            if len(self.names) < MOST_NAMES or name in self.names:
                self.names[name] += 1

    @property
    def effective(self) -> float:
        """How many equally common values would be as diverse: the exponential of the entropy (Hill, order 1)."""
        total = self.names.total()
        return math.exp(-sum(n / total * math.log(n / total) for n in self.names.values())) if total else 0.0


def _name(value: Any) -> str:
    if isinstance(value, Mapping):  # such as a constraint: {"family": ..., "name": ...}
        value = value.get("family") or value.get("name") or value.get("label") or ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) and len(value) <= LONGEST else ""


@dataclass
class Group:
    """Rows that belong together: a whole set, or those with one value of a tag.

    Attributes:
        kinds: bare, chat, pair or item -> rows.
        turns: exchanges of a conversation.
        texts: "questions", "answers" -> what they are like.
        tags: name -> its values.
    """

    rows: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    turns: Numbers = field(default_factory=Numbers)
    texts: dict[str, Texts] = field(default_factory=dict)
    tags: dict[str, Tag] = field(default_factory=dict)
    pairs: PairFindings = field(default_factory=PairFindings)

    def add(self, record: Record, texts: Sequence[Text]) -> None:
        """Count a row."""
        self.rows += 1
        self.kinds[type(record.body).__name__.lower() if record.body else "bare"] += 1
        for number, text in enumerate(texts):
            self.texts.setdefault(text.of, Texts()).add(f"{record.id} {number}", text)
        if isinstance(record.body, Chat):
            self.turns.add(sum(t.role == "user" for t in record.body.turns))
        if isinstance(record.body, Pair):
            self.pairs.add(body_to_json(record.body) or {}, record.tags, record.body.question)
        for name, value in record.tags.items():
            if name not in ("source", "origin", "group"):
                self.tags.setdefault(name, Tag()).add(value)


def said(record: Record) -> Iterator[tuple[str, str]]:
    """Yield ("questions" or "answers", text) of a row; of a pair both sides are answers."""
    match record.body:
        case Chat(turns=turns):
            sides = {"user": "questions", "assistant": "answers"}
            yield from ((sides[t.role], t.text) for t in turns if t.role in sides and t.text)
        case Pair(chosen=chosen, rejected=rejected):
            yield from (("questions", record.body.question), ("answers", chosen), ("answers", rejected))
        case Item(question=question, answer=answer):
            yield from ((name, text) for name, text in (("questions", question), ("answers", answer)) if text)


@dataclass
class Pictures:
    """The pictures of a set.

    Attributes:
        rows: with at least one picture.
        distinct: different files.
        looked_at: files that were opened for their size and their hash; `unreadable`: of those.
        near: of those, how many are like an earlier one: crops and mirrored ones do not count.
        sizes: longer side in pixels; `ratios`: longer side / shorter side.
    """

    rows: int = 0
    distinct: int = 0
    looked_at: int = 0
    unreadable: int = 0
    near: int = 0
    sizes: Numbers = field(default_factory=Numbers)
    ratios: Numbers = field(default_factory=Numbers)


@dataclass
class Repeats:
    """How many rows say what an earlier one says.

    Attributes:
        of: rows with a question.
        exact: the same words, capitals and spaces aside; `same_picture`: about the same first picture too.
        compared: rows compared for near-duplicates; `near`: of those, like an earlier one; None without numpy.
    """

    of: int = 0
    exact: int = 0
    same_picture: int = 0
    compared: int = 0
    near: int | None = None


@dataclass
class Survey:
    """What `foveal analyse` tells.

    Attributes:
        where: what was read.
        unreadable: reason -> rows that were none.
        all: every row.
        by: tag -> value -> the rows with it, for tags with few values, or those that were asked for.
        verb_method: how root verbs were found.
    """

    where: str
    unreadable: Counter[str] = field(default_factory=Counter)
    all: Group = field(default_factory=Group)
    pictures: Pictures = field(default_factory=Pictures)
    repeats: Repeats = field(default_factory=Repeats)
    by: dict[str, dict[str, Group]] = field(default_factory=dict)
    verb_method: str = "rules"


def survey(rows: Iterable[Record | Broken], where: str, by: Sequence[str] = (), look: int = SAMPLE) -> Survey:
    """Read a set once and return what it is like; memory is bounded but for hashes of rows and pictures.

    Args:
        rows: from `open_source`.
        where: how the set is called.
        by: tags whose values are told apart.
        look: how many different pictures are opened.
    """
    found = Survey(where)
    find_root, found.verb_method = rooter()
    apart = _Apart(by)
    hashes, pictures = _Hashes(), Sampled(look)
    for record in rows:
        if isinstance(record, Broken):
            found.unreadable[record.error.cause] += 1
            continue
        texts = [_read(name, text, find_root) for name, text in said(record)]
        found.all.add(record, texts)
        apart.add(record, texts)
        hashes.add(record)
        found.pictures.rows += bool(record.images)
        for image in record.images:
            if hashes.is_new(image.digest):
                pictures.add(image.digest, image.source)
    found.by = apart.groups()
    found.pictures.distinct = len(hashes.files)
    found.repeats = hashes.repeats()
    _look(found.pictures, pictures.values)
    return found


def _read(name: str, text: str, find_root: Callable[[str], tuple[str, str] | None]) -> Text:
    tongue = language(text)
    root = find_root(text) if name == "questions" and tongue == "English" else None
    return Text(name, text, tongue, " ".join(words(text)[:3]), root)


class _Apart:
    """Groups of rows by the values of tags: of those asked for, else of those that turn out to have few values."""

    def __init__(self, by: Sequence[str]) -> None:
        self.by = by
        self.found: dict[str, dict[str, Group]] = {name: {} for name in by}
        self.too_many: set[str] = set()

    def add(self, record: Record, texts: Sequence[Text]) -> None:
        """Put a row into its groups."""
        for name in self.by or self._candidates(record):
            groups = self.found.setdefault(name, {})
            groups.setdefault(_value(record, name), Group()).add(record, texts)
            if not self.by and len(groups) > MOST_VALUES:
                self.too_many.add(name)
                del self.found[name]

    def _candidates(self, record: Record) -> Iterator[str]:
        for name, value in record.tags.items():
            known = name not in self.too_many and name not in ("source", "origin", "group")
            if known and (isinstance(value, bool) or (isinstance(value, str) and 0 < len(value) <= LONGEST)):
                yield name

    def groups(self) -> dict[str, dict[str, Group]]:
        """Return tag -> value -> rows, the commonest value first."""
        several = {name: groups for name, groups in self.found.items() if self.by or len(groups) > 1}
        most = sorted(several, key=lambda name: -sum(g.rows for g in several[name].values()))
        kept = most if self.by else most[:MOST_TAGS]
        return {n: dict(sorted(several[n].items(), key=lambda item: (-item[1].rows, item[0]))) for n in kept}


def _value(record: Record, name: str) -> str:
    value = record.tags.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:g}"
    return _name(value) or ("none" if value in (None, "", []) else "other")


class _Hashes:
    """What tells rows and pictures from each other: numbers of 8 bytes, and an even sample of questions."""

    def __init__(self) -> None:
        self.files: set[int] = set()
        self.alone, self.with_picture = array("Q"), array("Q")
        self.questions = Sampled(TEXTS)

    def is_new(self, picture: str) -> bool:
        """Whether a picture, by its digest, comes for the first time."""
        before = len(self.files)
        self.files.add(int(picture[:16], 16))
        return len(self.files) > before

    def add(self, record: Record) -> None:
        """Take a row in."""
        asked = " ".join(text for name, text in said(record) if name == "questions")
        if asked:
            plain = " ".join(asked.casefold().split())
            self.alone.append(_number(plain))
            self.with_picture.append(_number(plain, record.images[0].digest if record.images else ""))
            self.questions.add(record.id, asked)

    def repeats(self) -> Repeats:
        """Return how many rows repeat others."""
        n = len(self.alone)
        told = Repeats(n, n - len(set(self.alone)), n - len(set(self.with_picture)), len(self.questions.values))
        try:
            clusters = Clusters(told.compared)
            for later, earlier in near_by_minhash(self.questions.values, AT):
                clusters.join(later, earlier)
            told.near = len(clusters.later())
        except MissingExtra:  # numpy
            told.near = None
        return told


def _number(*parts: str) -> int:
    return int(digest(*parts)[:16], 16)


def _look(found: Pictures, sources: Sequence[str]) -> None:
    """Open pictures one after the other; a file that cannot be read is counted."""
    codes = []
    for source in sources:
        found.looked_at += 1
        try:
            data = read(source)
            info = inspect(data)
            codes.append(dhash(data))
        except (FovealError, OSError):
            found.unreadable += 1
            continue
        long, short = max(info.width, info.height), min(info.width, info.height)
        found.sizes.add(long)
        found.ratios.add(long / short)
    clusters = Clusters(len(codes))
    for later, earlier in near_hashes(codes, BITS):
        clusters.join(later, earlier)
    found.near = len(clusters.later())
