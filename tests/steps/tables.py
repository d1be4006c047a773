"""Tables made of columns, and the plainest clustering."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from foveal.steps.table import Table


def table(seed: int = 0, **columns: Sequence[Any]) -> Table:
    """A table of these columns; of tags write `tag_kind=`."""
    ids = tuple(f"r{n}" for n in range(len(next(iter(columns.values())))))
    place = {id_: n for n, id_ in enumerate(ids)}
    known = {name.replace("tag_", "tags.", 1) if name.startswith("tag_") else name: c for name, c in columns.items()}
    return Table(ids, lambda name, wanted: [known[name][place[i]] for i in wanted], {}, seed)


def components(n: int, near: Callable[[int, int], bool]) -> list[int]:
    """Each number's smallest one that it is connected with."""
    first = list(range(n))
    for i in range(n):
        for j in range(i):
            if near(i, j):
                a, b = sorted((first[i], first[j]))
                first = [a if f == b else f for f in first]
    return first


def whole(before: Table, after: Table) -> None:
    """Nothing is lost, nothing added, the order stays."""
    assert set(after.ids) | set(after.dropped) == set(before.ids)
    assert not set(after.ids) & set(after.dropped)
    assert list(after.ids) == [i for i in before.ids if i in set(after.ids)]
    assert all(after.dropped.values())
    assert set(after.details) <= set(after.dropped)
