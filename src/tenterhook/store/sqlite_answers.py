"""Answers to requests by idempotency key: written at the end of a table, and indexed later.

Keys are random. A table in their order would have another page to write for almost every key, which costs more than the
message that it belongs to. So answers are kept in the order in which they were given (`answered`), and the newest are
found through `recent`, a table in the memory of the connection. When that has grown, its keys go into the index on disk
(`answered_key`) in their order, a stretch at a time: neighbours share a page.

All of it, also what is in memory, belongs to the transaction that is open, and is rolled back with it. What `recent` held
when a process ended is read again from the end of `answered`: `answered_upto` has the id up to which all keys are in the
index. Only the server remembers answers, so whatever it does not know was not given.
"""

import sqlite3
from collections.abc import Sequence
from functools import cache

from tenterhook.store import rows
from tenterhook.store.base import Remember, Remembered
from tenterhook.store.objects import REMEMBER_AGAIN
from tenterhook.store.rows import Row
from tenterhook.store.sqlite_run import insert, padded

RECENT = 50_000
"""How many keys wait in memory before any go into the index; with their ids they take about 3 MiB."""

STRETCH = 512
"""How many keys go into the index at once."""

_EVERY = STRETCH // 4  # keys in for a stretch out: a walk through `recent` ends before it has grown by a third

_PREPARE = """
    CREATE TEMP TABLE recent (key BLOB PRIMARY KEY, id INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TEMP TABLE walk (indexed INTEGER NOT NULL, upto INTEGER, after BLOB NOT NULL);
    CREATE TEMP TRIGGER answer AFTER INSERT ON answered BEGIN INSERT OR REPLACE INTO recent VALUES (new.key, new.id); END;
    INSERT INTO walk SELECT id, NULL, x'' FROM answered_upto;
    INSERT OR REPLACE INTO recent SELECT key, id FROM answered WHERE id > (SELECT id FROM answered_upto) ORDER BY id;
"""
"""`walk` is one row: the keys of all ids up to `indexed` are in the index, and those up to `upto` will be when the walk
through the keys of `recent`, which has come to `after`, is at its end. Without `upto` nobody walks.
"""

_LAST = "SELECT max(key) FROM (SELECT key FROM recent WHERE key > ? ORDER BY key LIMIT ?)"
_INDEX = (
    "INSERT INTO answered_key SELECT key, id FROM recent WHERE key > ? AND key <= ? ORDER BY key"
    " ON CONFLICT (key) DO UPDATE SET id = excluded.id"
)


class Answers:
    """What a connection that writes remembers; every method is called inside its transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db, self._added = db, 0
        db.executescript(_PREPARE)

    def known(self, keys: Sequence[bytes]) -> list[Row]:
        """What is remembered under these keys, by whatever verb, expired or not (the columns of `rows.REMEMBER`)."""
        found = [row for chunk in padded(keys) for row in self._db.execute(_find(len(chunk)), chunk)]
        # a key may have been used again after it expired: ids grow, so the answer that counts comes last
        return [row[1:] for row in sorted(found)]

    def recall(self, key: bytes, now: int) -> Remembered | None:
        """What is remembered under this key at `now`."""
        for _, *answer, expires_at in reversed(self.known([key])):
            if expires_at > now:
                return Remembered(*answer)
        return None

    def add(self, answers: Sequence[Remember]) -> None:
        """Remember these. The caller has made sure that none of their keys is known."""
        insert(self._db, "answered", rows.REMEMBER, [rows.remember_row(answer) for answer in answers])
        self._added += len(answers)
        if self._added >= _EVERY:
            self._added = 0
            self._index_some()

    def _index_some(self) -> None:
        """One step of the walk that brings keys into the index."""
        indexed, upto, after, newest = self._db.execute(
            "SELECT indexed, upto, after, (SELECT max(id) FROM answered) FROM walk"
        ).fetchone()
        if upto is None:
            if newest - indexed <= RECENT:
                return
            upto, after = newest, b""
        (last,) = self._db.execute(_LAST, (after, STRETCH)).fetchone()
        if last is None:
            self._db.execute("UPDATE walk SET indexed = ?, upto = NULL", (upto,))
            self._db.execute("UPDATE answered_upto SET id = ?", (upto,))
            return
        self._db.execute(_INDEX, (after, last))
        self._db.execute("DELETE FROM recent WHERE key > ? AND key <= ?", (after, last))
        self._db.execute("UPDATE walk SET upto = ?, after = ?", (upto, last))

    def prune(self, now: int, limit: int) -> int:
        """Forget what has expired; how many. The newest of all stays: its id must not be given again."""
        gone = self._db.execute(
            "SELECT key, id FROM answered WHERE expires_at <= ? AND id < (SELECT max(id) FROM answered)"
            " ORDER BY expires_at LIMIT ?",
            (now, limit),
        ).fetchall()
        for table in ("recent", "answered_key", "answered"):
            self._db.executemany(f"DELETE FROM {table} WHERE key = ? AND id = ?", sorted(gone))
        return len(gone)


@cache
def _find(count: int) -> str:
    marks = ", ".join(f"?{n}" for n in range(1, count + 1))
    ids = f"SELECT id FROM recent WHERE key IN ({marks}) UNION ALL SELECT id FROM answered_key WHERE key IN ({marks})"
    return (
        f"SELECT id, {rows.REMEMBER} FROM answered WHERE id IN ({ids}) AND key IN ({marks})"
        f" UNION ALL SELECT 0, {rows.REMEMBER} FROM idempotency WHERE key IN ({marks})"
    )


def gather(db: sqlite3.Connection) -> None:
    """Put every answer into `idempotency`, where both databases look, inside the transaction that is open."""
    text = f"INSERT INTO idempotency ({rows.REMEMBER}) SELECT {rows.REMEMBER} FROM answered"
    newest = "id IN (SELECT max(id) FROM answered GROUP BY key)"
    db.execute(f"{text} WHERE {newest} ON CONFLICT {REMEMBER_AGAIN}")
