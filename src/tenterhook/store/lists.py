"""Keyset pagination in SQL: a page of a list by an indexed, unique column, in either direction, without offset or count."""

from collections.abc import Sequence
from typing import Any

from tenterhook import ids
from tenterhook.store.queries import Cursor
from tenterhook.store.sql import Row, Verb, select, select_one

Where = tuple[str, Sequence[Any]]
"""A condition with its values."""


def page(
    fields: str, where: Sequence[Where], column: str, cursor: Cursor, prefix: str | None = None
) -> Verb[list[Row]]:
    """Rows of `SELECT {fields}` that fulfil every condition of `where`, in list order.

    Going backward reads the index the other way and turns the rows round. `prefix` (of the ids in `column`) makes the
    cursor's time window a range of ids.
    """
    rest, values = _from_cursor(where, column, cursor, prefix)
    found = yield from select(f"SELECT {fields}{rest}", *values, cursor.limit)
    return found[::-1] if cursor.backward else found


def window_end(
    table: str, where: Sequence[Where], column: str, cursor: Cursor, prefix: str, size: int
) -> Verb[str | None]:
    """The id of the last of `size` rows from the cursor on, whichever way it reads; None if there are fewer."""
    rest, values = _from_cursor(where, column, cursor, prefix)
    last = "min" if _reads_down(cursor) else "max"
    text = f"SELECT {last}(w.id), count(*) FROM (SELECT {column} AS id FROM {table}{rest}) AS w"
    found = yield from select_one(text, *values, size)
    return found[0] if found is not None and found[1] == size else None


def up_to(column: str, cursor: Cursor, end: str | None) -> list[Where]:
    """The condition that keeps a page within a window."""
    return [] if end is None else [(f"{column} {'>=' if _reads_down(cursor) else '<='} ?", (end,))]


def _reads_down(cursor: Cursor) -> bool:
    return cursor.descending != cursor.backward


def _from_cursor(where: Sequence[Where], column: str, cursor: Cursor, prefix: str | None) -> tuple[str, list[Any]]:
    """What follows the table, but for the value of the limit."""
    conditions = list(where)
    if cursor.after is not None:
        conditions.append((f"{column} {'<' if _reads_down(cursor) else '>'} ?", (cursor.after,)))
    if prefix is not None and cursor.since is not None:
        conditions.append((f"{column} >= ?", (ids.floor(prefix, cursor.since),)))
    if prefix is not None and cursor.until is not None:
        conditions.append((f"{column} < ?", (ids.floor(prefix, cursor.until),)))
    clause = " WHERE " + " AND ".join(text for text, _ in conditions) if conditions else ""
    values = [value for _, values in conditions for value in values]
    return f"{clause} ORDER BY {column} {'DESC' if _reads_down(cursor) else 'ASC'} LIMIT ?", values
