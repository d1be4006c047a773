"""Records: what they are, what they make, how they come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveal.errors import Dropped, ImageError, ModelFailed
from foveal.record import (
    Body,
    Chat,
    Image,
    Item,
    Pair,
    Record,
    Scope,
    Turn,
    body_from_json,
    body_to_json,
    branches,
    digest,
    gather,
    keep,
    notes,
    once,
    placed,
    scope,
)

ONE, TWO = Image.of(b"one"), Image.of(b"two")
CHAT = Chat([("user", "q"), ("assistant", "a")])
BASE = Record((ONE,), CHAT, {"score": 4}, "parent", "step")

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
CONTENT = WORDS | st.lists(WORDS | st.integers(0, 3), max_size=4).map(tuple)
TURNS = st.lists(st.builds(Turn, st.sampled_from(["system", "user", "assistant"]), CONTENT), max_size=4).map(tuple)
SIDE = st.none() | st.lists(st.integers(0, 3), max_size=2)
BODIES = (
    st.none()
    | st.builds(Chat, TURNS)
    | st.builds(Pair, TURNS, WORDS, WORDS, SIDE, SIDE)
    | st.builds(Item, WORDS, WORDS, st.lists(WORDS, max_size=3).map(tuple))
)

# --- what a record is ----------------------------------------------------------------------------------------------

SAME = {
    "path": replace(BASE, images=(Image(ONE.digest, "elsewhere.png", lambda: b"one"),)),
    "tags": replace(BASE, tags={"score": 5, "source": "x"}),
}
OTHER = {
    "bytes": replace(BASE, images=(TWO,)),
    "pictures": replace(BASE, images=(ONE, TWO)),
    "body": replace(BASE, body=Chat([("user", "q"), ("assistant", "b")])),
    "kind": replace(BASE, body=None),
    "parent": replace(BASE, parent="other"),
    "step": replace(BASE, step="other"),
}


@pytest.mark.parametrize("record", SAME.values(), ids=list(SAME))
def test_what_the_id_does_not_tell(record: Record) -> None:
    assert record.id == BASE.id


@pytest.mark.parametrize("record", OTHER.values(), ids=list(OTHER))
def test_what_the_id_tells(record: Record) -> None:
    assert record.id != BASE.id


def test_the_order_of_pictures_is_part_of_a_record() -> None:
    assert Record((ONE, TWO)).id != Record((TWO, ONE)).id


def test_ids_are_what_they_were() -> None:
    # Change this and every store of every user is paid for again.
    assert (ONE.digest, Record((ONE,)).id, BASE.id) == (
        "9f53f347331267e2f8dca6d9354522d9",
        "a89fe130ee96569d0d0bb31bbc099368",
        "402268ddfa24069bde1fccebd7d5b8b4",
    )


@given(st.lists(st.binary(max_size=3), max_size=4), st.lists(st.binary(max_size=3), max_size=4))
def test_borders_of_a_digest_cannot_shift(a: list[bytes], b: list[bytes]) -> None:
    assert (digest(*a) == digest(*b)) == (a == b)


# --- JSON ----------------------------------------------------------------------------------------------------------


@given(BODIES)
def test_a_body_comes_back(body: Body) -> None:
    assert body_from_json(orjson.loads(orjson.dumps(body_to_json(body)))) == body


@given(BODIES)
def test_a_body_that_came_back_is_the_same_record(body: Body) -> None:
    back = body_from_json(orjson.loads(orjson.dumps(body_to_json(body))))
    assert Record((ONE,), back).id == Record((ONE,), body).id


@pytest.mark.parametrize("data", [{"kind": "poem"}, {"kind": ""}])
def test_what_is_no_body(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not a body"):
        body_from_json(data)


def test_questions_and_answers() -> None:
    chat = Chat([("system", "s"), ("user", (0, "q", "1")), ("assistant", "a"), ("user", "r"), ("assistant", "b")])
    assert (chat.question, chat.answer) == ("q1", "b")
    assert Pair([("user", "q"), ("assistant", "a"), ("user", "r")], "c", "d").question == "r"
    assert (Chat([]).question, Chat([]).answer) == ("", "")


# --- placing pictures ----------------------------------------------------------------------------------------------


def test_pictures_without_a_place_come_first_in_the_first_user_turn() -> None:
    turns = (Turn("system", "s"), Turn("user", "q"), Turn("assistant", "a"), Turn("user", "r"))
    assert placed(turns, 2) == (turns[0], Turn("user", (0, 1, "q")), *turns[2:])


@given(TURNS, st.integers(0, 3))
def test_placing_changes_no_word_and_is_done_once(turns: tuple[Turn, ...], images: int) -> None:
    after = placed(turns, images)
    assert [(t.role, t.text) for t in after] == [(t.role, t.text) for t in turns]
    assert placed(after, images) == after
    if any(t.positions for t in turns):
        assert after == turns
    elif any(t.role == "user" for t in turns):
        assert [p for t in after for p in t.positions] == list(range(images))


# --- making, chance, ending ----------------------------------------------------------------------------------------


def test_a_child_carries_tags_pictures_and_lineage() -> None:
    token = scope.set(Scope("oasis"))
    child = BASE.make(None, kind="x", score=5)
    other = BASE.make(None, images=[TWO])
    scope.reset(token)
    assert (child.images, child.tags, child.parent, child.step) == ((ONE,), {"score": 5, "kind": "x"}, BASE.id, "oasis")
    assert other.images == (TWO,)
    assert BASE.tags == {"score": 4}


def test_chance_is_seeded_by_record_label_and_run() -> None:
    def draw(record: Record, *label: str | int, seed: int = 0) -> float:
        token = scope.set(Scope("any step", seed))
        try:
            return record.rng(*label).random()
        finally:
            scope.reset(token)

    assert draw(BASE, "a", 1) == draw(BASE, "a", 1)
    assert len({draw(BASE, "a", 1), draw(BASE, "a", 2), draw(BASE, "b", 1), draw(OTHER["body"], "a", 1),
                draw(BASE, "a", 1, seed=1), draw(BASE, "a1"), draw(BASE)}) == 7  # fmt: skip


def test_keep() -> None:
    keep(True, "fine")
    keep([0], "fine")
    for nothing in (False, 0, "", [], None):
        with pytest.raises(Dropped) as end:
            keep(nothing, "too bad")
        assert end.value.reason == "too bad"


def test_a_picture_that_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"one")
    image = Image(ONE.digest, str(path), path.read_bytes)
    path.write_bytes(b"two")
    with pytest.raises(ImageError, match="changed during the run"):
        image.data()
    path.unlink()
    with pytest.raises(ImageError, match="unreadable"):
        Image(ONE.digest, str(path), path.read_bytes).data()


def test_a_picture_is_encoded_once() -> None:
    image, seen = Image.of(b"one"), []
    for _ in range(3):
        assert image.data_url(lambda data: (seen.append(data), ("image/png", data))[1]) == b"data:image/png;base64,b25l"
    assert seen == [b"one"]


# --- gather --------------------------------------------------------------------------------------------------------


async def after(seconds: float, value: Any) -> Any:
    await asyncio.sleep(seconds)
    if isinstance(value, Exception):
        raise value
    return value


def test_gather_keeps_order_and_names() -> None:
    async def go() -> Any:
        return await gather(after(0.02, 1), after(0, 2)), await gather(a=after(0.01, 1), b=after(0, 2)), await gather()

    assert asyncio.run(go()) == ((1, 2), {"a": 1, "b": 2}, ())


@pytest.mark.parametrize("error", [Dropped("x"), ModelFailed("cause", raw="r"), ValueError("v")])
def test_the_first_failure_is_raised_as_itself_and_cancels_the_others(error: Exception) -> None:
    cancelled: list[bool] = []

    async def long() -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def go() -> None:
        await gather(long(), after(0, error), long())

    with pytest.raises(type(error)) as raised:
        asyncio.run(go())
    assert raised.value is error
    assert cancelled == [True, True]


def test_a_gather_that_is_cancelled_is_cancelled() -> None:
    async def go() -> None:
        task = asyncio.create_task(gather(after(30, 1), after(30, 2)))  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(go())


# --- branches ------------------------------------------------------------------------------------------------------


async def branch(*steps: Record | str | Exception) -> AsyncIterator[Record]:
    for step in steps:
        if isinstance(step, str):
            keep(False, step)
        elif isinstance(step, Exception):
            raise step
        else:
            yield step


async def collected(*several: AsyncIterator[Record]) -> tuple[list[Record], list[str]]:
    noted: list[str] = []
    token = notes.set(noted)
    try:
        return [r async for r in branches(several)], noted
    finally:
        notes.reset(token)


A, B = Record((ONE,)), Record((TWO,))


def test_a_branch_that_ends_does_not_end_the_others() -> None:
    made, noted = asyncio.run(collected(branch("bad"), branch(A, "late"), once(after(0, B))))
    assert (made, noted) == ([A, B], ["bad", "late"])


def test_branches_that_all_end_are_the_first_ones_drop() -> None:
    with pytest.raises(Dropped, match="one"):
        asyncio.run(collected(branch("one"), branch("two")))


def test_a_branch_that_fails_fails() -> None:
    with pytest.raises(ModelFailed):
        asyncio.run(collected(branch(A), branch(ModelFailed("x"))))


def test_no_branches_make_nothing() -> None:
    assert asyncio.run(collected()) == ([], [])
