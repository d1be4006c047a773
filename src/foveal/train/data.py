"""Rows for the trainers, from a run folder or any data file, checked before a model is loaded.

Whatever foveal reads as records can be trained on: its own run folders and exports, and TRL, ms-swift, LLaVA and
ShareGPT files. A row for a trainer is a plain dict; its pictures are paths.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from foveal import picture
from foveal.data import Broken, open_source
from foveal.data.exports import check
from foveal.data.folder import Folder
from foveal.data.places import is_url, split
from foveal.data.turns import blocks, ordered, picked, shown
from foveal.errors import RecordFailed, SourceError
from foveal.record import Chat, Image, Item, Pair, Record, Turn, digest
from foveal.runner.folder import load_rows

Row = dict[str, Any]
VERBS = ("sft", "dpo", "kto", "grpo", "rloo")


@dataclass(frozen=True)
class Rows:
    """What a trainer takes.

    Attributes:
        rows: plain dicts in the columns of a verb (see `COLUMNS`).
        digest: of the rows' contents, pictures included; not of where they lay.
        left_out: records without a place among them, by reason.
        policies: who gave the answers, as far as the rows tell.
    """

    rows: list[Row]
    digest: str
    left_out: Counter[str] = field(default_factory=Counter)
    policies: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.rows)


COLUMNS: Mapping[str, str] = {
    "sft": "conversations (messages, or prompt + completion)",
    "dpo": "pairs (prompt, chosen, rejected)",
    "kto": "answers with a label (prompt, completion, label), or pairs",
    "grpo": "questions with what a reward needs (prompt, answer)",
    "rloo": "questions with what a reward needs (prompt, answer)",
}
"""What each verb trains on, for people."""


def read(
    data: str | Path, verb: str, pictures: Path, *, grouped: bool = False, limit: int | None = None, skip: bool = False
) -> Rows:
    """Read a data set into a verb's rows.

    Args:
        data: a run folder, or anything `foveal.data.open_source` opens.
        verb: one of VERBS.
        pictures: the folder for pictures that do not lie in plain files of their own.
        grouped: join pairs that differ only in their rejected answer into one row with several.
        limit: the most records to read.
        skip: leave broken rows out, counted, instead of stopping at the first.

    Raises:
        SourceError: nothing there, a broken row, or no row that fits the verb; in one sentence.
    """
    left_out: Counter[str] = Counter()
    rows: list[Row] = []
    policies: set[str] = set()
    with Folder(pictures) as folder:
        for where, record in _records(data, limit):
            try:
                if isinstance(record, Broken):
                    raise record.error
                made = list(MAKERS[verb](record, _paths(folder, record)))
            except RecordFailed as error:
                if not skip:
                    raise SourceError(
                        f"{where}: {error}; mend it, or leave such rows out with --skip-broken"
                    ) from error
                left_out[error.cause] += 1
                continue
            if not made:
                left_out[f"{_kind(record)}, not {COLUMNS[verb]}"] += 1
            policies |= {str(record.tags["policy"])} if record.tags.get("policy") else set()
            rows += made
    if not rows:
        why = "; ".join(f"{n} {what}" for what, n in left_out.most_common(3)) or "it is empty"
        raise SourceError(f"{data} has nothing to train on with `{verb}`, which takes {COLUMNS[verb]}: {why}")
    rows = _grouped(rows) if grouped else rows
    return Rows(rows, _digest(rows), left_out, frozenset(policies | _run_policies(data)))


def _records(data: str | Path, limit: int | None) -> Iterator[tuple[str, Record | Broken]]:
    """Yield records with words for where each came from."""
    if (Path(data) / "rows.jsonl").is_file():
        for number, record in enumerate(load_rows(Path(data)), 1):
            if limit is not None and number > limit:
                return
            yield f"{data}, row {number}", record
    else:
        beside = Path(data).is_dir() and any(Path(data).glob("*.json*"))  # pictures beside rows are the rows' own
        source = open_source(data, limit=limit)
        if source.kind == "pictures" and beside:
            source = open_source(data, limit=limit, format="jsonl")
        for item in source:
            yield (item.source if isinstance(item, Broken) else str(item.tags.get("source", data))), item


def _paths(folder: Folder, record: Record) -> Callable[[Sequence[Image]], list[str]]:
    """Return what gives pictures as paths of plain files that every reader decodes as the models saw them."""

    def path(image: Image) -> str:
        where, inner = split(image.source)
        plain = not inner and not is_url(where) and not where.startswith("blob:") and Path(where).is_file()
        if plain and picture.at_a_glance(image.data()):
            return where
        return str((folder.root / folder.image(image)).absolute())

    return lambda images: [path(i) for i in images]


def _kind(record: Record | Broken) -> str:
    body = record.body if isinstance(record, Record) else None
    return {Chat: "conversations", Pair: "pairs", Item: "questions"}.get(type(body), "bare pictures")


def _run_policies(data: str | Path) -> set[str]:
    """Return who played the role `policy` in the run that made the data, nobody when it had no such role."""
    try:
        models = orjson.loads((Path(data) / "run.json").read_bytes())["models"]
    except (OSError, ValueError, KeyError):
        return set()
    return {str(name) for role, name in models.items() if role.split(".")[-1] == "policy"}


def _digest(rows: Sequence[Row]) -> str:
    known: dict[str, str] = {}

    def pictures(paths: Iterable[str]) -> list[str]:
        for path in paths:
            if path not in known:
                known[path] = digest(Path(path).read_bytes())
        return [known[p] for p in paths]

    told = ({k: pictures(v) if k in ("images", "rejected_images") else v for k, v in row.items()} for row in rows)
    return digest(*(orjson.dumps(row, option=orjson.OPT_SORT_KEYS) for row in told))


# --- a record as rows of a verb --------------------------------------------------------------------------------------

Paths = Callable[[Sequence[Image]], list[str]]
Messages = list[dict[str, Any]]


def _messages(turns: Sequence[Turn]) -> Messages:
    # Without the None that Arrow wants in every block: chat templates take a `text` key for text.
    return [
        {"role": t.role, "content": [{k: v for k, v in b.items() if v is not None} for b in blocks(t.content)]}
        for t in turns
    ]


def _answer(text: str) -> Messages:
    check([text])
    return _messages([Turn("assistant", text)])


def _prompt(record: Record, turns: Sequence[Turn], paths: Paths, shown: Sequence[int] | None = None) -> Row:
    """Return the columns of a conversation that ends with the user.

    Raises:
        RecordFailed: it does not alternate between user and assistant.
    """
    placed, images = ordered(record, turns, shown)
    roles = [t.role for t in placed if t.role != "system"]
    if roles != [("user", "assistant")[i % 2] for i in range(len(roles))] or roles[-1:] != ["user"]:
        said = ", ".join(roles) or "none"
        raise RecordFailed("turns do not alternate", f"{said}, where the user speaks first and last")
    check(t.text for t in placed)
    return {"images": paths(images), "prompt": _messages(placed)}


def _sft(record: Record, paths: Paths) -> Iterator[Row]:
    """Every answer of a conversation is a row of its own, so that all of them count and nothing else does."""
    match record.body:
        case Chat(turns=turns):
            placed, images = ordered(record, turns)
            for at, turn in enumerate(placed):
                if turn.role == "assistant" and turn.text:
                    seen = [p for t in placed[:at] for p in t.positions]
                    prompt = _prompt(Record(tuple(images[i] for i in seen)), placed[:at], paths)
                    yield {**prompt, "completion": _answer(turn.text)}
        case Pair() as pair:
            prompt = _prompt(record, pair.prompt, paths, shown(record, pair))
            yield {**prompt, "completion": _answer(pair.chosen)}
        case Item(question=question, answer=answer) if answer:
            prompt = _prompt(record, [Turn("user", question)], paths)
            yield {**prompt, "completion": _answer(answer)}


def _dpo(record: Record, paths: Paths) -> Iterator[Row]:
    pair = record.body
    if not isinstance(pair, Pair):
        return
    chosen, rejected = (
        None if side is None else tuple(picked(record, i) for i in side)
        for side in (pair.chosen_images, pair.rejected_images)
    )
    row = _prompt(record, pair.prompt, paths, shown(record, pair))
    count = len(row["images"])
    if any(side is not None and len(side) != count for side in (chosen, rejected)):
        raise RecordFailed("sides with different numbers of pictures", f"the prompt shows {count}")
    others = paths(rejected) if rejected is not None else row["images"] if chosen is not None else None
    if chosen is not None:
        row["images"] = paths(chosen)
    sides = [pair.chosen, pair.rejected, *_negatives(record)]
    if not all(sides):
        raise RecordFailed("pair with an empty side", "chosen" if not pair.chosen else "rejected")
    if pair.chosen in sides[1:] and others in (None, row["images"]):
        raise RecordFailed("chosen and rejected are the same")
    check(sides)
    extra = {"rejected_images": others} if others is not None else {}
    known = {name: float(record.tags[name]) for name in ("margin",) if _number(record.tags.get(name))}
    group = {"group": str(record.tags["group"])} if record.tags.get("group") else {}
    for worse in dict.fromkeys(sides[1:]):
        yield {**row, "chosen": pair.chosen, "rejected": [worse], **extra, **known, **group}


def _negatives(record: Record) -> Iterator[str]:
    """Yield the further rejected answers of a row: column `negatives`, texts or lists of messages."""
    for given in record.tags.get("negatives") or ():
        last = given[-1] if isinstance(given, list) and given else given
        content = last.get("content") if isinstance(last, Mapping) else last
        if isinstance(content, list):
            content = "".join(str(b.get("text") or "") for b in content)
        yield str(content or "")


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _kto(record: Record, paths: Paths) -> Iterator[Row]:
    if isinstance(record.body, Pair):
        for row in _dpo(record, paths):
            prompt = {"images": row["images"], "prompt": row["prompt"]}
            yield {**prompt, "completion": _answer(row["chosen"]), "label": True}
            if "rejected_images" not in row:
                yield {**prompt, "completion": _answer(row["rejected"][0]), "label": False}
    elif isinstance(record.body, Chat):
        label = record.tags.get("label")
        if not isinstance(label, bool):
            raise RecordFailed("answer without a label", "column `label` must be true or false")
        *_, last = _sft(record, paths)
        yield {**last, "label": label}


def _rl(record: Record, paths: Paths) -> Iterator[Row]:
    """A question with its reference, the last answer or the tag `answer`; all tags go along for rewards."""
    tags = orjson.dumps(dict(record.tags), option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SORT_KEYS).decode()
    told = str(record.tags.get("answer", ""))
    match record.body:
        case Chat(turns=turns):
            last = turns[-1] if turns else Turn("user", "")
            answer = last.text if last.role == "assistant" else told
            row = _prompt(record, turns[:-1] if last.role == "assistant" else turns, paths)
        case Pair() as pair:
            answer, row = pair.chosen, _prompt(record, pair.prompt, paths, shown(record, pair))
        case Item() as item:
            answer, row = item.answer, _prompt(record, [Turn("user", item.question)], paths)
        case _:
            question = record.tags.get("question")
            if not question:
                return
            answer, row = told, _prompt(record, [Turn("user", str(question))], paths)
    yield {**row, "answer": answer, "tags": tags}


MAKERS: Mapping[str, Callable[[Record, Paths], Iterator[Row]]] = {
    "sft": _sft, "dpo": _dpo, "kto": _kto, "grpo": _rl, "rloo": _rl,
}  # fmt: skip


def _grouped(rows: Sequence[Row]) -> list[Row]:
    """Join pairs that share the tag `group`, or else pictures, prompt and chosen answer, keeping the order."""
    groups: dict[str, Row] = {}
    for row in rows:
        same = [row.get("group"), row["images"], row["prompt"], row["chosen"], row.get("rejected_images")]
        key = digest(orjson.dumps(same))
        if key in groups:
            groups[key]["rejected"] += [r for r in row["rejected"] if r not in groups[key]["rejected"]]
        else:
            groups[key] = {**row, "rejected": list(row["rejected"])}
    return list(groups.values())
