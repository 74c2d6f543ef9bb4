"""Keyset pagination in SQL: a page of a list by an indexed, unique column, in either direction, without offset or count."""

from collections.abc import Sequence
from typing import Any

from tenterhook import ids
from tenterhook.store.base import Cursor
from tenterhook.store.sql import Row, Verb, select


def page(
    fields: str,
    where: Sequence[tuple[str, Sequence[Any]]],
    column: str,
    cursor: Cursor,
    prefix: str | None = None,
) -> Verb[list[Row]]:
    """Rows of `SELECT {fields}` that fulfil every condition of `where`, in list order.

    Going backward reads the index the other way and turns the rows round. `prefix` (of the ids in `column`) makes the
    cursor's time window a range of ids.
    """
    conditions = list(where)
    reads_down = cursor.descending != cursor.backward
    if cursor.after is not None:
        conditions.append((f"{column} {'<' if reads_down else '>'} ?", (cursor.after,)))
    if prefix is not None and cursor.since is not None:
        conditions.append((f"{column} >= ?", (ids.floor(prefix, cursor.since),)))
    if prefix is not None and cursor.until is not None:
        conditions.append((f"{column} < ?", (ids.floor(prefix, cursor.until),)))
    clause = " WHERE " + " AND ".join(text for text, _ in conditions) if conditions else ""
    text = f"SELECT {fields}{clause} ORDER BY {column} {'DESC' if reads_down else 'ASC'} LIMIT ?"
    values = [value for _, values in conditions for value in values]
    found = yield from select(text, *values, cursor.limit)
    return found[::-1] if cursor.backward else found
