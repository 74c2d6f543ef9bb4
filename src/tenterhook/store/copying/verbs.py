"""The statements of a copy, for either side.

How far it is stands in the table `copying` of the target and changes with the rows, so it can go on after any end. As long
as that table has rows the copy is not complete, and no server starts on the database.
"""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from tenterhook.errors import StoreUnavailable
from tenterhook.store.copying.tables import Table, tables
from tenterhook.store.sql import Insert, Read, Row, Verb, change, listed, select, select_one

PAGE_ROWS = 2_000
PAGE_BYTES = 8 << 20
"""About how much of a table is read and written at once; one row may be larger."""


class Place(Struct, frozen=True):
    """How far the copy of one table is: so many rows, up to the one with the key `after`."""

    copied: int = 0
    after: Row | None = None


# reading


def count(table: Table) -> Verb[int]:
    """How many rows there are to copy."""
    found = yield from select_one(f"SELECT count(*) FROM {table.name}{_where(table.only)}")
    assert found is not None
    return int(found[0])


def page(table: Table, after: Row | None) -> Verb[list[Row]]:
    """The next rows in the order of the key, with all columns; none at the end."""
    columns, key = _quoted(table.columns), _quoted(table.key)
    beyond = None if after is None else f"({key}) > ({listed(len(table.key))})"
    rest = f"FROM {table.name}{_where(table.only, beyond)} ORDER BY {key} LIMIT ?"
    sizes = yield from select(f"SELECT {_size(table)} {rest}", *(after or ()), PAGE_ROWS)
    wanted = _within(PAGE_BYTES, [row[0] for row in sizes])
    return [tuple(row) for row in (yield from select(f"SELECT {columns} {rest}", *(after or ()), wanted))]


def _size(table: Table) -> str:
    """The bytes of what may be large; neither database has to read it for that."""
    return " + ".join(["0", *(f'coalesce(length("{column}"), 0)' for column in table.blobs)])


def _within(limit: int, sizes: Sequence[int]) -> int:
    """How many of the first rows are together not larger than `limit`: at least one.

    >>> _within(10, [4, 5, 6]), _within(10, [99, 1]), _within(10, [])
    (2, 1, 0)
    """
    total = 0
    for number, size in enumerate(sizes):
        total += size
        if total > limit:
            return max(1, number)
    return len(sizes)


def sealed(table: Table, after: str) -> Verb[list[Row]]:
    """The next secrets, with the ids that they are bound to."""
    return (
        yield from select(f"SELECT id, sealed FROM {table.name} WHERE id > ? ORDER BY id LIMIT ?", after, PAGE_ROWS)
    )


# writing


def begin(source: str) -> Verb[None]:
    """From now on the database, which is empty, is the target of a copy of `source`."""
    for table in tables():
        if table.besides is not None:
            yield from change(f"DELETE FROM {table.name}")
    rows = [(table.name, source, 0, None) for table in tables()]
    yield Insert("copying", "name, source, copied, after", rows)


def write(table: Table, rows: Sequence[Row], place: Place) -> Verb[None]:
    """Some rows, and how far the copy is with them."""
    yield Insert(table.name, _quoted(table.columns), rows)
    yield from advance(table, place)


def advance(table: Table, place: Place) -> Verb[None]:
    """How far the copy is; in the transaction that writes the rows."""
    text = "UPDATE copying SET copied = ?, after = ? WHERE name = ?"
    yield from change(text, place.copied, msgspec.msgpack.encode(place.after), table.name)


def finish() -> Verb[None]:
    """The copy is complete: the database is like any other."""
    yield from change("DELETE FROM copying")


# knowing


def refuse_unfinished() -> Verb[None]:
    """Raises StoreUnavailable while a copy into the database is not complete: it would be worked on without the rest."""
    source = yield from unfinished()
    if source is not None:
        raise StoreUnavailable(
            f"the copy of {source} into this database is not complete: run tenterhook copy again, it goes on where it was"
        )


def unfinished() -> Verb[str | None]:
    """The source of the copy into this database that has not been completed."""
    found = yield from select_one("SELECT source FROM copying LIMIT 1")
    return None if found is None else str(found[0])


def places() -> Verb[dict[str, Place]]:
    """How far an earlier run came, by table; empty if there was none."""
    found = yield from select("SELECT name, copied, after FROM copying")
    return {row[0]: Place(row[1], None if row[2] is None else tuple(msgspec.msgpack.decode(row[2]))) for row in found}


def occupied() -> Verb[list[str]]:
    """The tables that hold something."""
    held = []
    for table in tables():
        found: list[Row] = yield Read(f"SELECT 1 FROM {table.name}{_where(table.only, table.besides)} LIMIT 1")
        held += [table.name] if found else []
    return held


def _quoted(columns: Sequence[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


def _where(*conditions: str | None) -> str:
    given = [condition for condition in conditions if condition is not None]
    return f" WHERE {' AND '.join(given)}" if given else ""
