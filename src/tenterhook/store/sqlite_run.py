"""Running verbs on a SQLite connection, and writing many rows in few statements.

Python's sqlite3 gives the interpreter lock away and takes it back for every statement it steps, and a busy event loop
returns it late. A hundred rows in three statements wait three times; a hundred rows one by one wait a hundred times.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, TypeVar

from tenterhook.store.sql import Appear, Insert, Read, Row, Statement, Taken, Verb, Write, tuples

_SIZES = (1024, 512, 256, 128, 112, 96, 80, 64, 56, 48, 40, *range(32, 0, -1))
_LONGEST_LIST = 128
NEWEST = "SELECT max(id) FROM message WHERE app = ?"
T = TypeVar("T")
V = TypeVar("V")


def run(db: sqlite3.Connection, verb: Verb[T]) -> T:
    """What the verb returns. The caller opens the transaction, if the verb needs one."""
    try:
        wanted = next(verb)
        while True:
            try:
                answer = _answer(db, wanted)
            except sqlite3.IntegrityError as error:
                wanted = verb.throw(Taken(str(error)))
            else:
                wanted = verb.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


def _answer(db: sqlite3.Connection, wanted: Statement) -> Any:
    match wanted:
        case Read(text, values):
            return db.execute(text, values).fetchall()
        case Write(text, values):
            return db.execute(text, values).rowcount
        case Insert(table, columns, rows, conflict):
            return insert(db, table, columns, rows, conflict)
        case Appear(app, message):
            newest = db.execute(NEWEST, (app,)).fetchone()[0]
            return newest if newest is not None and newest > message else None
        case _:
            return None  # one process writes: there is nobody to lock out, and nobody to tell


def insert(db: sqlite3.Connection, table: str, columns: str, rows: Sequence[Row], conflict: str = "") -> int:
    """Insert many rows in few statements; how many were written."""
    return sum(
        db.execute(_insert_statement(table, columns, conflict, len(chunk)), [v for row in chunk for v in row]).rowcount
        for chunk in chunks(rows)
    )


def chunks(values: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Pieces of a few fixed sizes, so that few statements are ever prepared."""
    start = 0
    for size in _SIZES:
        while len(values) - start >= size:
            yield values[start : start + size]
            start += size


def padded(values: Sequence[V]) -> Iterator[Sequence[V]]:
    """Pieces of the same few sizes, for lists of values: the last value is repeated instead of taking one more statement."""
    for start in range(0, len(values), _LONGEST_LIST):
        chunk = values[start : start + _LONGEST_LIST]
        size = min(size for size in _SIZES if size >= len(chunk))
        yield [*chunk, *[chunk[-1]] * (size - len(chunk))]


@cache
def _insert_statement(table: str, columns: str, conflict: str, count: int) -> str:
    text = f"INSERT INTO {table} ({columns}) VALUES {tuples(columns.count(',') + 1, count)}"
    return f"{text} ON CONFLICT {conflict}" if conflict else text
