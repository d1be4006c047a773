"""Records out, in every format the field trains on (docs/formats.md is the contract)."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from string import ascii_uppercase
from typing import Any, TypeAlias

import orjson

from foveal import picture
from foveal.data import tables
from foveal.data.card import write_card
from foveal.data.folder import SHARD, Folder, Lines, portable
from foveal.data.turns import forbidden, marked, ordered, picked, pieces, shown, spoken
from foveal.errors import RecipeError, RecordFailed, nearest
from foveal.record import Chat, Image, Item, Pair, Record, Turn, body_to_json, digest


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export did: rows + the sum of skipped = records given.

    Attributes:
        files: the files written, pictures not included.
        rows: how many records they hold.
        skipped: records that the format could not hold, by reason.
    """

    files: tuple[Path, ...]
    rows: int
    skipped: Counter[str]


@dataclass(frozen=True, slots=True)
class Export:
    """One format.

    Attributes:
        about: one line for people.
        owns: glob patterns of the files it writes, pictures not included.
        write: writes the records into a folder, counting as it goes.
    """

    about: str
    owns: tuple[str, ...]
    write: Callable[[Iterable[Record], Folder, str, Mapping[str, Any]], object]


def export(
    records: Iterable[Record], name: str, out: Path, *, title: str = "foveal", card: Mapping[str, Any] | None = None
) -> ExportReport:
    """Write records in a format, streaming; files appear whole or not at all.

    Args:
        records: read once.
        name: one of EXPORTS.
        out: the folder; made when missing.
        title: the data set's name.
        card: facts for the `hf` format's README: license, recipe, funnel, models, prompts.

    Raises:
        RecipeError: no such format.
        SetupError: the folder cannot be written.
    """
    if name not in EXPORTS:
        raise RecipeError(f"no export {name!r}{nearest(name, EXPORTS)}")
    with Folder(Path(out)) as folder:
        EXPORTS[name].write(records, folder, title, card or {})
        return ExportReport(folder.finish(EXPORTS[name].owns), folder.rows, folder.skipped)


Writer: TypeAlias = Callable[[Record], None]


def _each(records: Iterable[Record], folder: Folder, write: Writer) -> None:
    """Write every record, counting those that the format cannot hold."""
    for record in records:
        try:
            write(record)
        except RecordFailed as error:
            folder.skipped[error.cause] += 1
        else:
            folder.rows += 1


# --- what text formats have in common --------------------------------------------------------------------------------


def check(texts: Iterable[str], also: Sequence[str] = ()) -> None:
    """Refuse text that a trainer would read as a placeholder or a special token.

    Raises:
        RecordFailed: names what was found.
    """
    for text in texts:
        if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
            raise RecordFailed("text is not Unicode")
        found = forbidden(text) or next((word for word in also if word in text), "")
        if found:
            raise RecordFailed(f"text holds {found}")


def dialogue(turns: Sequence[Turn], end: str = "assistant") -> None:
    """Refuse a conversation that trainers refuse: other than (system,) user, assistant, user, assistant ...

    Raises:
        RecordFailed: what is wrong with it.
    """
    roles = [t.role for t in turns]
    if roles[:1] == ["system"]:
        roles = roles[1:]
    if any(role != ("user", "assistant")[at % 2] for at, role in enumerate(roles)) or not roles:
        raise RecordFailed("turns do not alternate")
    if roles[-1] != end:
        raise RecordFailed(f"conversation does not end with the {end}")


def lineage(record: Record) -> dict[str, str]:
    """Return where a row comes from; tags as a JSON string, for tables want one type in a column."""
    tags = orjson.dumps(dict(record.tags), option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SORT_KEYS).decode()
    return {"id": record.id, "parent": record.parent, "step": record.step, "tags": tags}


def body_of(record: Record, *kinds: type) -> Any:
    """Return the record's body when the format has a shape for it.

    Raises:
        RecordFailed: it has none.
    """
    if isinstance(record.body, kinds):
        return record.body
    raise RecordFailed(f"no shape for {_NAMES[type(record.body)]}")


_NAMES: Mapping[type, str] = {type(None): "a bare picture", Chat: "a conversation", Pair: "a pair", Item: "an item"}


def chat_of(record: Record) -> tuple[tuple[Turn, ...], tuple[Image, ...]]:
    """Return a chat's turns, checked, and its pictures in order of appearance."""
    turns, images = ordered(record, record.body.turns)  # type: ignore[union-attr]
    dialogue(turns)
    check(t.text for t in turns)
    return turns, images


def pair_of(record: Record, pair: Pair) -> tuple[tuple[Turn, ...], tuple[Image, ...], tuple[Image, ...]]:
    """Return a pair's prompt, checked, the pictures of its chosen side and those of its rejected side, if others."""
    turns, images = ordered(record, pair.prompt, shown(record, pair))
    dialogue(turns, end="user")
    check(spoken(pair))
    chosen, rejected = (
        tuple(picked(record, i) for i in side or ()) for side in (pair.chosen_images, pair.rejected_images)
    )
    for side in (chosen, rejected):
        if side and len(side) != len(images):
            raise RecordFailed("sides with different numbers of pictures")
    if not rejected and pair.chosen == pair.rejected and not chosen:
        raise RecordFailed("chosen and rejected are the same")
    return turns, chosen or images, rejected if rejected or not chosen else images


# --- LLaVA -----------------------------------------------------------------------------------------------------------


def _llava(records: Iterable[Record], folder: Folder, title: str, card: Mapping[str, Any]) -> None:
    lines = Lines(folder, "llava.json", array=True)

    def write(record: Record) -> None:
        body_of(record, Chat)
        turns, images = chat_of(record)
        if turns[0].role == "system":
            raise RecordFailed("no shape for a system turn")
        check((t.text for t in turns), also=(" ASSISTANT: ", "</s>"))  # its masks are cut at these words
        paths = [folder.image(i) for i in images]
        said = [{"from": _FROM[t.role], "value": marked(t.content, newline=True)} for t in turns]
        image = {"image": paths[0] if len(paths) == 1 else paths} if paths else {}
        lines.add({**lineage(record), **image, "conversations": said})

    _each(records, folder, write)
    lines.close()


_FROM = {"user": "human", "assistant": "gpt", "system": "system"}


# --- ShareGPT, as LLaMA-Factory reads it -----------------------------------------------------------------------------


def _sharegpt(records: Iterable[Record], folder: Folder, title: str, card: Mapping[str, Any]) -> None:
    files: dict[str, Lines] = {kind: Lines(folder, f"sharegpt_{kind}.jsonl") for kind in ("sft", "dpo")}

    def write(record: Record) -> None:
        body = body_of(record, Chat, Pair)
        turns, images, rejected = (*chat_of(record), ()) if isinstance(body, Chat) else pair_of(record, body)
        if rejected:
            raise RecordFailed("no shape for sides with different pictures")
        row = _sharegpt_row(folder, record, turns, images)
        if isinstance(body, Pair):
            row |= {k: {"from": "gpt", "value": getattr(body, k)} for k in ("chosen", "rejected")}
        files["dpo" if isinstance(body, Pair) else "sft"].add(row)

    _each(records, folder, write)
    _dataset_infos(folder, title, files)


def _sharegpt_kto(records: Iterable[Record], folder: Folder, title: str, card: Mapping[str, Any]) -> None:
    lines = Lines(folder, "sharegpt_kto.jsonl")

    def add(given: Labelled, record: Record) -> None:
        turns, images, answer, label = given
        row = _sharegpt_row(folder, record, (*turns, Turn("assistant", answer)), images)
        lines.add({**row, "label": label})

    _kto(records, folder, add)
    _dataset_infos(folder, title, {"kto": lines})


def _sharegpt_row(folder: Folder, record: Record, turns: Sequence[Turn], images: Sequence[Image]) -> dict[str, Any]:
    system = turns[0].text if turns[0].role == "system" else ""
    said = [{"from": _FROM[t.role], "value": marked(t.content)} for t in turns if t.role != "system"]
    pictures = [folder.image(i) for i in images]
    return {"conversations": said, "system": system, "images": pictures, **lineage(record)}


def _dataset_infos(folder: Folder, title: str, files: Mapping[str, Lines]) -> None:
    written = {kind: lines.name for kind, lines in files.items() if lines.file is not None}
    entries = {f"{title}_{kind}": _dataset_info(kind, name) for kind, name in written.items()}
    with folder.open("dataset_info.json") as file:
        file.write(orjson.dumps(entries, option=orjson.OPT_INDENT_2))


def _dataset_info(kind: str, name: str) -> dict[str, Any]:
    columns = {"messages": "conversations", "system": "system", "images": "images"}
    if kind == "dpo":
        return {
            "file_name": name,
            "formatting": "sharegpt",
            "ranking": True,
            "columns": {**columns, "chosen": "chosen", "rejected": "rejected"},
        }
    if kind == "kto":
        columns["kto_tag"] = "label"
    return {"file_name": name, "formatting": "sharegpt", "columns": columns}


# --- ms-swift --------------------------------------------------------------------------------------------------------


def _swift(records: Iterable[Record], folder: Folder, title: str, card: Mapping[str, Any]) -> None:
    files = {kind: Lines(folder, f"swift_{kind}.jsonl") for kind in ("sft", "dpo")}

    def write(record: Record) -> None:
        body = body_of(record, Chat, Pair)
        turns, images, rejected = (*chat_of(record), ()) if isinstance(body, Chat) else pair_of(record, body)
        messages = [{"role": t.role, "content": marked(t.content)} for t in turns]
        row: dict[str, Any] = {"messages": messages, "images": [folder.image(i) for i in images], **lineage(record)}
        if isinstance(body, Pair):
            prompt = list(messages)
            messages.append({"role": "assistant", "content": body.chosen})
            if rejected:
                row["rejected_images"] = [folder.image(i) for i in rejected]
                row["rejected_messages"] = [*prompt, {"role": "assistant", "content": body.rejected}]
            else:
                row["rejected_response"] = body.rejected
        files["dpo" if isinstance(body, Pair) else "sft"].add(row)

    _each(records, folder, write)


# --- OpenAI ----------------------------------------------------------------------------------------------------------

OPENAI_IMAGES = 64


def _openai(records: Iterable[Record], folder: Folder, title: str, card: Mapping[str, Any]) -> None:
    files = {kind: Lines(folder, f"openai_{kind}.jsonl") for kind in ("sft", "dpo")}
    # Its checker may refuse keys that it does not know, so lineage goes beside, line for line.
    beside = {kind: Lines(folder, f"openai_{kind}.lineage.jsonl") for kind in files}

    def write(record: Record) -> None:
        body = body_of(record, Chat, Pair)
        turns, images, rejected = (*chat_of(record), ()) if isinstance(body, Chat) else pair_of(record, body)
        if rejected:
            raise RecordFailed("no shape for sides with different pictures")
        if len(images) > OPENAI_IMAGES:
            raise RecordFailed(f"more than {OPENAI_IMAGES} pictures")
        no_images_from_others(turns)
        messages = [{"role": t.role, "content": _parts(t, images)} for t in turns]
        row: dict[str, Any] = {"messages": messages}
        if isinstance(body, Pair):
            row = {
                "input": row,
                "preferred_output": [{"role": "assistant", "content": body.chosen}],
                "non_preferred_output": [{"role": "assistant", "content": body.rejected}],
            }
        kind = "dpo" if isinstance(body, Pair) else "sft"
        files[kind].add(row)
        beside[kind].add(lineage(record))

    _each(records, folder, write)


def no_images_from_others(turns: Sequence[Turn]) -> None:
    """Refuse pictures outside user turns.

    Raises:
        RecordFailed: there is one.
    """
    if any(t.positions and t.role != "user" for t in turns):
        raise RecordFailed("picture outside a user turn")


def _parts(turn: Turn, images: Sequence[Image]) -> str | list[dict[str, Any]]:
    if isinstance(turn.content, str):
        return turn.content
    return [
        {"type": "text", "text": p}
        if isinstance(p, str)
        else {"type": "image_url", "image_url": {"url": images[p].data_url(picture.encode).decode()}}
        for p in pieces(turn.content)
    ]


# --- WebDataset ------------------------------------------------------------------------------------------------------


class _Series:
    """Archives of samples with equally many pictures: readers want the same fields in every sample of a series."""

    def __init__(self, folder: Folder, name: str) -> None:
        self.folder, self.name = folder, name
        self.number, self.size = 0, 0
        self.archive: tarfile.TarFile | None = None

    def add(self, key: str, files: Mapping[str, bytes]) -> None:
        """Write a sample."""
        if self.archive is None or self.size >= SHARD:
            self.close()
            file = self.folder.open(f"{self.name}-{self.number:06}.tar")
            self.archive = tarfile.TarFile(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)
            self.number, self.size = self.number + 1, 0
        for ending, data in files.items():
            _member(self.archive, f"{key}.{ending}", data)
            self.size += len(data)

    def close(self) -> None:
        """End the archive being written."""
        if self.archive is not None:
            self.archive.close()


def _webdataset(records: Iterable[Record], folder: Folder, title: str, card: Mapping[str, Any]) -> None:
    series: dict[int, _Series] = {}

    def write(record: Record) -> None:
        pictures = [portable(image.data())[1] for image in record.images]
        # Readers decode by content and go by fields, so every picture is called .jpg.
        files = {f"{number}.jpg": data for number, data in enumerate(pictures)}
        files = {"jpg": pictures[0]} if len(pictures) == 1 else files
        row = {**lineage(record), "body": orjson.dumps(body_to_json(record.body)).decode()}
        if len(pictures) not in series:
            series[len(pictures)] = _Series(folder, f"{title}-{len(pictures)}")
        series[len(pictures)].add(f"{folder.rows:09}_{record.id}", {**files, "json": orjson.dumps(row)})

    _each(records, folder, write)
    for one in series.values():
        one.close()


def _member(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # its time, owner and mode are constants: the same records give the same bytes
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


# --- tables ----------------------------------------------------------------------------------------------------------


def _tables(
    records: Iterable[Record], folder: Folder, title: str, card: Mapping[str, Any], kinds: Sequence[str]
) -> dict[str, int]:
    held = tables.Tables(folder, kinds)

    def write(record: Record) -> None:
        kind, row, images = _table_row(record, kinds)
        held.add(kind, {**row, **lineage(record)}, images)

    _each(records, folder, write)
    held.close()
    return {kind: table.rows for kind, table in held.held.items()}


def _table_row(record: Record, kinds: Sequence[str]) -> tuple[str, dict[str, Any], dict[str, tuple[Image, ...]]]:
    body = record.body
    if isinstance(body, Chat):
        turns, images = chat_of(record)
        no_images_from_others(turns)
        return tables.chat("completion" if "completion" in kinds else "sft", turns, images)
    if isinstance(body, Pair):
        turns, images, rejected = pair_of(record, body)
        no_images_from_others(turns)
        return tables.pair(turns, body.chosen, body.rejected, images, rejected)
    if "items" not in kinds:
        body_of(record, Chat, Pair)
    if body is None:
        return "pictures", {}, {"images": record.images}
    check((body.question, body.answer, *body.choices))
    row = {"question": body.question, "answer": body.answer, "choices": list(body.choices)}
    return "items", row, {"images": record.images}


def _hf(records: Iterable[Record], folder: Folder, title: str, card: Mapping[str, Any]) -> None:
    rows = _tables(records, folder, title, card, ("sft", "dpo", "contrast", "items", "pictures"))
    with folder.open("README.md") as file:
        write_card(file, title, card, rows)


# --- judged answers and tasks: KTO, GRPO -----------------------------------------------------------------------------

Labelled: TypeAlias = tuple[tuple[Turn, ...], tuple[Image, ...], str, bool]
"""A prompt, its pictures, an answer, and whether it is a good one."""


def labelled_of(record: Record) -> list[Labelled]:
    """Return the answers of a record with whether they are good: both of a pair; a conversation's last one.

    A conversation is good unless its tag `label` is false.
    """
    body = body_of(record, Chat, Pair)
    if isinstance(body, Chat):
        turns, images = chat_of(record)
        return [(turns[:-1], images, turns[-1].text, record.tags.get("label") is not False)]
    turns, images, rejected = pair_of(record, body)
    return [(turns, images, body.chosen, True), (turns, rejected or images, body.rejected, False)]


def task_of(record: Record) -> tuple[tuple[Turn, ...], tuple[Image, ...], str]:
    """Return a record's prompt, pictures and solution: a question's answer, the last or the chosen answer.

    Raises:
        RecordFailed: it has none.
    """
    body = body_of(record, Chat, Pair, Item)
    if isinstance(body, Chat):
        turns, images = chat_of(record)
        return turns[:-1], images, turns[-1].text
    if isinstance(body, Pair):
        turns, images, _ = pair_of(record, body)
        return turns, images, body.chosen
    if not body.answer:
        raise RecordFailed("an item without an answer")
    options = (f"{letter}. {choice}" for letter, choice in zip(ascii_uppercase, body.choices, strict=False))
    turns, images = ordered(record, [Turn("user", "\n".join([body.question, *options]))])
    check((turns[0].text, body.answer))
    return turns, images, body.answer


def _kto(records: Iterable[Record], folder: Folder, add: Callable[[Labelled, Record], None]) -> None:
    seen: set[int] = set()  # the chosen answer of a group comes with each of its rejected ones

    def write(record: Record) -> None:
        for row in labelled_of(record):
            said = (f"{t.role} {t.content}" for t in row[0])
            key = int(digest(*said, *(i.digest for i in row[1]), row[2], str(row[3]))[:16], 16)
            if key not in seen:
                seen.add(key)
                add(row, record)

    _each(records, folder, write)


def _trl_kto(records: Iterable[Record], folder: Folder, title: str, card: Mapping[str, Any]) -> None:
    held = tables.Tables(folder, ("kto",))

    def add(given: Labelled, record: Record) -> None:
        turns, images, answer, label = given
        no_images_from_others(turns)
        kind, row, pictures = tables.labelled(turns, answer, label, images)
        held.add(kind, {**row, **lineage(record)}, pictures)

    _kto(records, folder, add)
    held.close()


def _trl_grpo(records: Iterable[Record], folder: Folder, title: str, card: Mapping[str, Any]) -> None:
    held = tables.Tables(folder, ("grpo",))

    def write(record: Record) -> None:
        turns, images, solution = task_of(record)
        no_images_from_others(turns)
        kind, row, pictures = tables.task(turns, solution, images)
        held.add(kind, {**row, **lineage(record)}, pictures)

    _each(records, folder, write)
    held.close()


def _swift_row(folder: Folder, record: Record, turns: Sequence[Turn], images: Sequence[Image]) -> dict[str, Any]:
    messages = [{"role": t.role, "content": marked(t.content)} for t in turns]
    return {"messages": messages, "images": [folder.image(i) for i in images], **lineage(record)}


def _swift_kto(records: Iterable[Record], folder: Folder, title: str, card: Mapping[str, Any]) -> None:
    lines = Lines(folder, "swift_kto.jsonl")

    def add(given: Labelled, record: Record) -> None:
        turns, images, answer, label = given
        row = _swift_row(folder, record, (*turns, Turn("assistant", answer)), images)
        lines.add({**row, "label": label})

    _kto(records, folder, add)


def _swift_grpo(records: Iterable[Record], folder: Folder, title: str, card: Mapping[str, Any]) -> None:
    lines = Lines(folder, "swift_grpo.jsonl")

    def write(record: Record) -> None:
        turns, images, solution = task_of(record)
        lines.add({**_swift_row(folder, record, turns, images), "solution": solution})

    _each(records, folder, write)


EXPORTS: Mapping[str, Export] = {
    "llava": Export("LLaVA JSON, pictures beside it", ("llava.json",), _llava),
    "sharegpt": Export(
        "ShareGPT as LLaMA-Factory reads it, with dataset_info.json",
        ("sharegpt_*.jsonl", "dataset_info.json"),
        _sharegpt,
    ),
    "sharegpt-kto": Export(
        "the same with label; a pair is two rows", ("sharegpt_kto.jsonl", "dataset_info.json"), _sharegpt_kto
    ),
    "ms-swift": Export("ms-swift JSONL: messages, rejected_response", ("swift_*.jsonl",), _swift),
    "trl": Export(
        "TRL parquet with Image features: messages; prompt, chosen, rejected",
        tuple(f"{kind}/*.parquet" for kind in ("sft", "dpo", "contrast")),
        partial(_tables, kinds=("sft", "dpo", "contrast")),
    ),
    "trl-completion": Export(
        "as trl, chats as prompt + completion (loss on the last answer only)",
        tuple(f"{kind}/*.parquet" for kind in ("completion", "dpo", "contrast")),
        partial(_tables, kinds=("completion", "dpo", "contrast")),
    ),
    "ms-swift-kto": Export("ms-swift JSONL: messages, label; a pair is two rows", ("swift_kto.jsonl",), _swift_kto),
    "ms-swift-grpo": Export("ms-swift JSONL: messages up to the answer, solution", ("swift_grpo.jsonl",), _swift_grpo),
    "trl-kto": Export("TRL parquet: prompt, completion, label; a pair is two rows", ("kto/*.parquet",), _trl_kto),
    "trl-grpo": Export("TRL parquet: prompt, solution (passed to reward functions)", ("grpo/*.parquet",), _trl_grpo),
    "openai": Export("OpenAI fine-tuning JSONL with data URLs", ("openai_*.jsonl",), _openai),
    "webdataset": Export("WebDataset tar archives; holds every record", ("*.tar",), _webdataset),
    "hf": Export(
        "Hugging Face data set: parquet and README.md card; holds every record",
        ("README.md", *(f"{kind}/*.parquet" for kind in ("sft", "dpo", "contrast", "items", "pictures"))),
        _hf,
    ),
}
