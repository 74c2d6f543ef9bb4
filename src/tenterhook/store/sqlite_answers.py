"""Answers to requests by idempotency key: written at the end of a table, and indexed later.

Keys are random. A table in their order would have another page to write for almost every key, which costs more than the
message that it belongs to. So answers are kept in the order in which they were given (`answered`), and the ids of the
newest are in memory. When there are many, they go into the index on disk (`answered_key`) by a walk through the keys, a
stretch at a time: the keys of a stretch begin with the same bits, and neighbours share a page.

What is in memory when a process ends is read again from the end of `answered`: `answered_upto` has the id up to which all
keys are in the index. Only the server remembers answers, so whatever it does not know was not given.
"""

import sqlite3
from collections.abc import Sequence
from functools import cache
from itertools import takewhile

from tenterhook.clock import DAY
from tenterhook.store import rows
from tenterhook.store.objects import REMEMBER_AGAIN
from tenterhook.store.rows import Row
from tenterhook.store.sql import listed
from tenterhook.store.sqlite_run import insert, padded
from tenterhook.store.work import Remember, Remembered

LASTING = DAY
"""What is remembered for longer goes to `idempotency` at once: in `answered`, ids are in the order of expiry."""

RECENT = 50_000
"""How many keys wait in memory before a walk begins; with their ids they take about 8 MiB."""

STRETCHES = 128
_EVERY = 128  # so many keys in for a stretch out: at the end of a walk there is a third more in memory

Keys = dict[bytes, int]
"""The id of the answer to each key."""


class Answers:
    """What the connection that writes remembers: call within its transaction, then tell how that ended."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._recent: list[Keys] = []  # by the stretch of the key
        self._newest = self._indexed = 0
        self._upto = 0  # what the walk will have indexed; 0: there is none
        self._at = 0  # the stretch that comes next
        self._added = 0  # since the last stretch
        # of the open transaction
        self._fresh: Keys = {}
        self._stretch: Keys | None = None

    def _load(self) -> None:
        if self._recent:
            return
        recent: list[Keys] = [{} for _ in range(STRETCHES)]
        (self._indexed,) = self._db.execute("SELECT id FROM answered_upto").fetchone()
        (self._newest,) = self._db.execute("SELECT coalesce(max(id), 0) FROM answered").fetchone()
        for key, one in self._db.execute("SELECT key, id FROM answered WHERE id > ? ORDER BY id", (self._indexed,)):
            recent[_stretch_of(key)][key] = one
        self._recent = recent

    def known(self, keys: Sequence[bytes]) -> list[Row]:
        """What is remembered under these keys, by whatever verb, expired or not (the columns of `rows.REMEMBER`)."""
        self._load()
        found = [row for chunk in padded(keys) for row in self._db.execute(_indexed(len(chunk)), chunk)]
        for key in keys:
            one = self._recent[_stretch_of(key)].get(key)
            if one is not None:
                found += self._db.execute(_RECENT, (one,))
        # a key may have been used again after it expired: ids grow, so the answer that counts comes last
        return [row[1:] for row in sorted(found)]

    def recall(self, key: bytes, now: int) -> Remembered | None:
        """What is remembered under this key at `now`."""
        for _, *answer, expires_at in reversed(self.known([key])):
            if expires_at > now:
                return Remembered(*answer)
        return None

    def add(self, answers: Sequence[Remember]) -> None:
        """Remember these, after `known` has told that none of them is."""
        lasting = [answer for answer in answers if answer.expires_at - answer.made_at > LASTING]
        if lasting:
            insert(self._db, "idempotency", rows.REMEMBER, [rows.remember_row(one) for one in lasting], REMEMBER_AGAIN)
            answers = [answer for answer in answers if answer.expires_at - answer.made_at <= LASTING]
        if not answers:
            return
        self._load()
        numbered = list(enumerate(answers, self._newest + 1))
        insert(
            self._db, "answered", f"id, {rows.REMEMBER}", [(n, *rows.remember_row(answer)) for n, answer in numbered]
        )
        self._fresh = {answer.key: n for n, answer in numbered}
        self._added += len(answers)
        if self._added >= _EVERY:
            self._added = 0
            self._walk()

    def _walk(self) -> None:
        """Bring one stretch of keys into the index, if a walk is on or due."""
        if not self._upto and self._newest - self._indexed > RECENT:
            self._upto, self._at = self._newest, 0
        if not self._upto:
            return
        self._stretch = dict(self._recent[self._at])
        again = "(key) DO UPDATE SET id = excluded.id"
        insert(self._db, "answered_key", "key, id", sorted(self._stretch.items()), again)
        if self._at == STRETCHES - 1:
            self._db.execute("UPDATE answered_upto SET id = ?", (self._upto,))

    def committed(self) -> None:
        """The transaction is on the disk."""
        if self._stretch is not None:
            for key in self._stretch:
                self._recent[self._at].pop(key, None)
            self._at += 1
            if self._at == STRETCHES:
                self._indexed, self._upto = self._upto, 0
        for key, one in self._fresh.items():
            self._recent[_stretch_of(key)][key] = self._newest = one
        self.rolled_back()

    def rolled_back(self) -> None:
        """The transaction came to nothing."""
        self._fresh, self._stretch = {}, None

    def prune(self, now: int, limit: int) -> int:
        """Forget what has expired; how many. The newest of all stays: its id must not be given again."""
        oldest = self._db.execute(
            "SELECT expires_at, key, id FROM answered WHERE id < (SELECT max(id) FROM answered) ORDER BY id LIMIT ?",
            (limit,),
        )
        gone = [(key, one) for _, key, one in takewhile(lambda row: row[0] <= now, oldest)]
        oldest.close()
        if not gone:
            return 0
        self._load()
        for key, one in gone:
            recent = self._recent[_stretch_of(key)]
            if recent.get(key) == one:
                del recent[key]  # it has expired: nobody misses it, however the transaction ends
        last = gone[-1][1]
        for keys in padded(sorted([key for key, _ in gone])):
            # a key that has been used again since then is in the index with a higher id
            self._db.execute(f"DELETE FROM answered_key WHERE id <= ? AND key IN ({listed(len(keys))})", (last, *keys))
        self._db.execute("DELETE FROM answered WHERE id <= ?", (last,))
        return len(gone)


def _stretch_of(key: bytes) -> int:
    return key[0] * STRETCHES // 256


_RECENT = f"SELECT id, {rows.REMEMBER} FROM answered WHERE id = ?"


@cache
def _indexed(count: int) -> str:
    # joined to the keys: lists in IN would be sorted into tables of their own first
    keys = f"(VALUES {', '.join(f'(?{n})' for n in range(1, count + 1))}) AS v"
    return (
        f"SELECT a.id, {rows.of('a', rows.REMEMBER)} FROM {keys} CROSS JOIN answered_key AS k ON k.key = v.column1"
        " CROSS JOIN answered AS a ON a.id = k.id AND a.key = k.key"
        f" UNION ALL SELECT 0, {rows.of('i', rows.REMEMBER)} FROM {keys} CROSS JOIN idempotency AS i ON i.key = v.column1"
    )


def gather(db: sqlite3.Connection) -> None:
    """Put every answer into `idempotency`, where both databases look, inside the transaction that is open."""
    text = f"INSERT INTO idempotency ({rows.REMEMBER}) SELECT {rows.REMEMBER} FROM answered"
    newest = "id IN (SELECT max(id) FROM answered GROUP BY key)"
    db.execute(f"{text} WHERE {newest} ON CONFLICT {REMEMBER_AGAIN}")
