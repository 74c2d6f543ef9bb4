"""Answers to requests by idempotency key: written at the end of a table, and indexed later.

Keys are random. A table in their order would have another page to write for almost every key, which costs more than the
message that it belongs to. So the answers of a commit are kept together in one row, its page (`answered`), in the order in
which they were given, and the pages of the newest keys are in memory. When there are many, keys go into the index on disk
(`answered_key`) by a walk through them, a stretch at a time: the keys of a stretch begin with the same bits, and neighbours
share a part of the index.

What is in memory when a process ends is read again from the end of `answered`: `answered_upto` has the page up to which all
keys are in the index. Only the server remembers answers, so whatever it does not know was not given.
"""

import sqlite3
from collections.abc import Collection, Sequence
from functools import cache

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from tenterhook.clock import DAY
from tenterhook.store import rows
from tenterhook.store.objects import REMEMBER_AGAIN
from tenterhook.store.sql import listed
from tenterhook.store.sqlite_run import insert, padded
from tenterhook.store.work import Remember, Remembered

LASTING = DAY
"""What is remembered for longer goes to `idempotency` at once: in `answered`, pages are in the order of expiry."""

RECENT = 50_000
"""How many keys wait in memory before a walk begins; with their pages they take about 8 MiB."""

PAGE = 64
"""The most answers in a page: all of it is read for any of them."""

_SHIFT = 1
STRETCHES = 256 >> _SHIFT
_EVERY = 128  # so many keys in for a stretch out: at the end of a walk there is a third more in memory

Keys = dict[bytes, int]
"""The page of the answer to each key."""


class Answer(Struct, array_like=True):
    """The columns of `rows.REMEMBER`."""

    key: bytes
    body_hash: bytes
    status: int
    answer: bytes
    expires_at: int

    @property
    def remembered(self) -> Remembered:
        return Remembered(self.body_hash, self.status, self.answer)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Answer]).decode


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
        for page, answers in self._db.execute(
            "SELECT id, answers FROM answered WHERE id > ? ORDER BY id", (self._indexed,)
        ):
            for one in _decode(answers):
                recent[one.key[0] >> _SHIFT][one.key] = page
        self._recent = recent

    def known(self, keys: Collection[bytes]) -> list[Answer]:
        """What is remembered under these keys, by whatever verb, expired or not."""
        self._load()
        found: list[Answer] = []
        recent = self._recent
        pages = {page for key in keys if (page := recent[key[0] >> _SHIFT].get(key)) is not None}
        for chunk in padded(list(keys)):
            for page, *answer in self._db.execute(_looked_up(len(chunk)), chunk):
                if page is None:
                    found.append(Answer(*answer))
                else:
                    pages.add(page)
        # a key may have been used again after it expired: pages are numbered, so the answer that counts comes last
        for page in sorted(pages):
            found += [one for one in self._page(page) if one.key in keys]
        return found

    def _page(self, page: int) -> list[Answer]:
        row = self._db.execute("SELECT answers FROM answered WHERE id = ?", (page,)).fetchone()
        return [] if row is None else _decode(row[0])

    def recall(self, key: bytes, now: int) -> Remembered | None:
        """What is remembered under this key at `now`."""
        return next((one.remembered for one in reversed(self.known([key])) if one.expires_at > now), None)

    def add(self, answers: Sequence[Remember]) -> None:
        """Remember these, after `known` has told that none of them is."""
        lasting = [answer for answer in answers if answer.expires_at - answer.made_at > LASTING]
        if lasting:
            insert(self._db, "idempotency", rows.REMEMBER, [rows.remember_row(one) for one in lasting], REMEMBER_AGAIN)
            answers = [answer for answer in answers if answer.expires_at - answer.made_at <= LASTING]
        if not answers:
            return
        self._load()
        pages = [answers[start : start + PAGE] for start in range(0, len(answers), PAGE)]
        numbered = list(enumerate(pages, self._newest + 1))
        written = [
            (n, max([one.expires_at for one in page]), _encode([rows.remember_row(one) for one in page]))
            for n, page in numbered
        ]
        insert(self._db, "answered", "id, expires_at, answers", written)
        self._fresh = {one.key: n for n, page in numbered for one in page}
        self._added += len(answers)
        if self._added >= _EVERY:
            self._added = 0
            self._walk()

    def _walk(self) -> None:
        """Bring one stretch of keys into the index, if a walk is on or due."""
        if not self._upto and sum(map(len, self._recent)) > RECENT:
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
        recent = self._recent
        for key, page in self._fresh.items():
            recent[key[0] >> _SHIFT][key] = self._newest = page
        self.rolled_back()

    def rolled_back(self) -> None:
        """The transaction came to nothing."""
        self._fresh, self._stretch = {}, None

    def prune(self, now: int, limit: int) -> int:
        """Forget what has expired; how many. The newest page stays: its number must not be given again."""
        gone: list[tuple[bytes, int]] = []
        last = 0
        pages = self._db.execute(
            "SELECT id, expires_at, answers FROM answered WHERE id < (SELECT max(id) FROM answered) ORDER BY id"
        )
        for page, expires_at, answers in pages:
            if expires_at > now or len(gone) >= limit:
                break
            last = page
            gone += [(one.key, page) for one in _decode(answers)]
        pages.close()
        if not gone:
            return 0
        self._load()
        for key, page in gone:
            recent = self._recent[key[0] >> _SHIFT]
            if recent.get(key) == page:
                del recent[key]  # it has expired: nobody misses it, however the transaction ends
        for keys in padded(sorted([key for key, _ in gone])):
            # a key that has been used again since then is in the index with a higher page
            self._db.execute(f"DELETE FROM answered_key WHERE id <= ? AND key IN ({listed(len(keys))})", (last, *keys))
        self._db.execute("DELETE FROM answered WHERE id <= ?", (last,))
        return len(gone)


@cache
def _looked_up(count: int) -> str:
    # joined to the keys: lists in IN would be sorted into tables of their own first
    keys = f"(VALUES {', '.join(f'(?{n})' for n in range(1, count + 1))}) AS v"
    return (
        f"SELECT k.id, NULL, NULL, NULL, NULL, NULL FROM {keys} CROSS JOIN answered_key AS k ON k.key = v.column1"
        f" UNION ALL SELECT NULL, {rows.of('i', rows.REMEMBER)} FROM {keys}"
        " CROSS JOIN idempotency AS i ON i.key = v.column1"
    )


def gather(db: sqlite3.Connection) -> None:
    """Put every answer into `idempotency`, where both databases look, inside the transaction that is open."""
    for (answers,) in db.execute("SELECT answers FROM answered ORDER BY id"):
        # of two with the same key the later one counts
        insert(db, "idempotency", rows.REMEMBER, [astuple(one) for one in _decode(answers)], REMEMBER_AGAIN)
