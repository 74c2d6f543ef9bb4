"""Answers to requests that publish, by idempotency key: written at the end of a table, and indexed later.

Keys are random. A table in their order would have another page to write for almost every key, which costs more than the
message that it belongs to. So answers are kept in the order in which they were given (`answered`), and the newest are
found through `recent`, a table in the memory of the writer's connection. When that has grown, its keys go into the index
on disk (`answered_key`) in their order, a stretch at a time: neighbours share a page.

Everything, also what is in memory, belongs to the transaction that is open, and is rolled back with it. What `recent`
held when a process ended is read again from the end of `answered`: the table `answered_upto` holds the id up to which
all keys are in the index.
"""

import sqlite3
from collections.abc import Sequence
from functools import cache

from tenterhook.store import rows
from tenterhook.store.base import Remember, Remembered
from tenterhook.store.rows import Row
from tenterhook.store.sqlite_run import insert, padded

RECENT = 50_000
"""How many keys wait in memory before any go into the index; with their ids they take about 5 MiB."""

STRETCH = 512
"""How many keys go into the index at once."""

_EVERY = STRETCH // 4  # keys in for a stretch out: a walk over `recent` ends before it has grown by a third

_OPEN = """
    CREATE TEMP TABLE recent (key BLOB PRIMARY KEY, id INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TEMP TABLE walk (seen INTEGER NOT NULL, indexed INTEGER NOT NULL, upto INTEGER, after BLOB NOT NULL);
    INSERT INTO walk SELECT id, id, NULL, x'' FROM answered_upto;
"""
"""`walk` is one row: ids up to `seen` are in `recent` or were; all up to `indexed` are in the index, and up to `upto` they
will be when the walk through the keys, which has come to `after`, is at its end.
"""

_AGAIN = "ON CONFLICT (key) DO UPDATE SET id = max(id, excluded.id)"
_CATCH_UP = f"INSERT INTO recent SELECT key, id FROM answered WHERE id > ? ORDER BY key {_AGAIN}"
_INDEX = f"INSERT INTO answered_key SELECT key, id FROM recent WHERE key > ? AND key <= ? ORDER BY key {_AGAIN}"
_LAST = "SELECT max(key) FROM (SELECT key FROM recent WHERE key > ? ORDER BY key LIMIT ?)"


def prepare(db: sqlite3.Connection) -> None:
    """Once for a connection that writes."""
    db.executescript(_OPEN)


def known(db: sqlite3.Connection, keys: Sequence[bytes]) -> list[Row]:
    """What is remembered under these keys, by whatever verb, expired or not (the columns of `rows.REMEMBER`)."""
    _catch_up(db)
    found = [row for chunk in padded(keys) for row in db.execute(_find(len(chunk)), chunk)]
    # a key may have been used again after it expired: ids grow, so the answer that counts comes last
    return [row[1:] for row in sorted(found)]


@cache
def _find(count: int) -> str:
    marks = ", ".join(f"?{n}" for n in range(1, count + 1))
    ids = f"SELECT id FROM recent WHERE key IN ({marks}) UNION ALL SELECT id FROM answered_key WHERE key IN ({marks})"
    return (
        f"SELECT id, {rows.REMEMBER} FROM answered WHERE id IN ({ids})"
        f" UNION ALL SELECT 0, {rows.REMEMBER} FROM idempotency WHERE key IN ({marks})"
    )


def _catch_up(db: sqlite3.Connection) -> None:
    """Take up what was written since, by whomever."""
    (seen, newest), = db.execute("SELECT seen, (SELECT max(id) FROM answered) FROM walk")  # fmt: skip
    if newest is None or newest == seen:
        return
    db.execute(_CATCH_UP, (seen,))
    db.execute("UPDATE walk SET seen = ?", (newest,))
    if newest // _EVERY != seen // _EVERY:
        _index_some(db, newest)


def _index_some(db: sqlite3.Connection, newest: int) -> None:
    """One step of the walk that brings keys into the index."""
    (indexed, upto, after), = db.execute("SELECT indexed, upto, after FROM walk")  # fmt: skip
    if upto is None:
        if newest - indexed <= RECENT:
            return
        upto, after = newest, b""
    (last,), = db.execute(_LAST, (after, STRETCH))  # fmt: skip
    if last is None:
        db.execute("UPDATE walk SET indexed = ?, upto = NULL", (upto,))
        db.execute("UPDATE answered_upto SET id = ?", (upto,))
        return
    db.execute(_INDEX, (after, last))
    db.execute("DELETE FROM recent WHERE key > ? AND key <= ?", (after, last))
    db.execute("UPDATE walk SET upto = ?, after = ?", (upto, last))


def recall(db: sqlite3.Connection, key: bytes, now: int) -> Remembered | None:
    """What is remembered under this key."""
    for _, *answer, expires_at in reversed(known(db, [key])):
        if expires_at > now:
            return Remembered(*answer)
    return None


def add(db: sqlite3.Connection, answers: Sequence[Remember]) -> None:
    """Remember these. The caller has made sure that none of their keys is known."""
    insert(db, "answered", rows.REMEMBER, [rows.remember_row(answer) for answer in answers])


def prune(db: sqlite3.Connection, now: int, limit: int) -> int:
    """Forget the oldest, if they have expired; how many. The newest of all stays: its id must not be given again."""
    _catch_up(db)
    oldest = db.execute(
        "SELECT id, key FROM answered WHERE expires_at <= ? AND id < (SELECT max(id) FROM answered)"
        " ORDER BY expires_at LIMIT ?",
        (now, limit),
    ).fetchall()
    pairs = sorted((key, one) for one, key in oldest)
    for table in ("recent", "answered_key"):
        db.executemany(f"DELETE FROM {table} WHERE key = ? AND id = ?", pairs)
    db.executemany("DELETE FROM answered WHERE id = ?", [(one,) for one, _ in oldest])
    return len(oldest)
