"""What is copied, read off the schema itself: a table that is added there is copied, with all its columns.

Rows are text, integers and bytes on both sides. The key is what a table's rows are told apart by; both databases order it
by its bytes, so a page of rows ends at the same row wherever it is read.
"""

import sqlite3
from functools import cache

from msgspec import Struct

from tenterhook.model import OPERATIONAL
from tenterhook.store.schema import MIGRATIONS, sqlite_statements
from tenterhook.store.sql import Row

NOT_COPIED = {
    "answered": "gathered in idempotency before",
    "answered_key": "the index of that",
    "answered_upto": "the index of that",
    "copying": "says how far this copy is",
    "pace": "when an endpoint with a rate is next called: of the past as soon as all nodes are stopped",
    "schema_version": "each database has its own",
}
"""The tables of either database that stay where they are, and why."""

_ONLY = {
    # the proof that all nodes of a PostgreSQL database have the same master key: each database makes its own
    "installation": "name <> 'master_key'",
}

_BESIDES = {"application": f"id <> '{OPERATIONAL}'"}
"""The tables in which every database has rows from the start, and what tells others from these."""


class Table(Struct, frozen=True):
    """One table; `blobs` are those of its columns that may be large, `only` says which rows count (None: all).

    `besides` tells rows from those that every database has from the start; these give way to those of the source.
    """

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    blobs: tuple[str, ...]
    only: str | None = None
    besides: str | None = None

    def key_of(self, row: Row) -> Row:
        """The key of a row that has all columns."""
        return tuple(row[self.columns.index(column)] for column in self.key)

    @property
    def seals(self) -> bool:
        """Whether rows hold secrets: in the column `sealed`, each bound to the id of its row."""
        return "sealed" in self.columns


@cache
def tables() -> tuple[Table, ...]:
    """Every table that is copied."""
    db = sqlite3.connect(":memory:")
    try:
        for migration in MIGRATIONS:
            for statement in sqlite_statements(migration):
                db.execute(statement)
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY rowid")]
        return tuple(_table(db, name) for name in names if name not in NOT_COPIED)
    finally:
        db.close()


def _table(db: sqlite3.Connection, name: str) -> Table:
    found = db.execute("SELECT name, type, pk FROM pragma_table_info(?) ORDER BY cid", (name,)).fetchall()
    primary = tuple(column for column, _, place in sorted(found, key=lambda row: row[2]) if place)
    return Table(
        name=name,
        columns=tuple(column for column, _, _ in found),
        key=primary or _unique(db, name),
        blobs=tuple(column for column, kind, _ in found if kind == "BLOB"),
        only=_ONLY.get(name),
        besides=_BESIDES.get(name),
    )


def _unique(db: sqlite3.Connection, name: str) -> tuple[str, ...]:
    """The columns of the one index that no two rows share."""
    ((index,),) = db.execute('SELECT name FROM pragma_index_list(?) WHERE "unique" AND NOT partial', (name,)).fetchall()
    found = db.execute("SELECT name FROM pragma_index_info(?) ORDER BY seqno", (index,)).fetchall()
    return tuple(column for (column,) in found)
