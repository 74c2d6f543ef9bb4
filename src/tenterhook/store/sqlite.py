"""The store on SQLite: one file, WAL, `synchronous=FULL`; one writer thread, a few readers that never wait for it."""

import asyncio
import fcntl
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from tenterhook.clock import Clock, SystemClock
from tenterhook.errors import SchemaMismatch, StoreUnavailable
from tenterhook.store import batch, history
from tenterhook.store.base import Hint, Store, Swept
from tenterhook.store.checkpoints import FALLBACK_PAGES, Checkpointer
from tenterhook.store.copying.verbs import refuse_unfinished
from tenterhook.store.queries import Counts
from tenterhook.store.schema import MIGRATIONS, sqlite_statements
from tenterhook.store.sql import Verb
from tenterhook.store.sqlite_answers import Answers
from tenterhook.store.sqlite_run import run
from tenterhook.store.verbs import SharedVerbs
from tenterhook.store.work import Done, Remembered, Work
from tenterhook.vault import Vault

log = logging.getLogger(__name__)

READERS = 4
WRITER_CACHE_KIB = 32 * 1024
READER_CACHE_KIB = 8 * 1024
BUSY_SECONDS = 10
_STATEMENTS = 1024
_DEFECTS = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.NotSupportedError)

P = ParamSpec("P")
T = TypeVar("T")
DB = sqlite3.Connection


class InlineExecutor(Executor):
    """Runs the work where it is asked for: makes a simulation deterministic."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


def connect(path: Path, synchronous: str = "FULL", cache_kib: int = READER_CACHE_KIB) -> DB:
    """A connection in autocommit mode, with the settings that durability and speed need."""
    db = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, cached_statements=_STATEMENTS, check_same_thread=False
    )
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA synchronous = {synchronous}")
    db.execute(f"PRAGMA cache_size = -{cache_kib}")
    db.execute("PRAGMA temp_store = MEMORY")
    return db


def migrate(db: DB) -> None:
    """Bring the schema up to date. Raises SchemaMismatch for a database that a newer Tenterhook made."""
    while True:
        db.execute("BEGIN IMMEDIATE")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            db.execute("ROLLBACK")
            raise SchemaMismatch(
                f"the database has schema version {version}, this Tenterhook knows {len(MIGRATIONS)}: run a newer one"
            )
        if version == len(MIGRATIONS):
            db.execute("ROLLBACK")
            return
        for statement in sqlite_statements(MIGRATIONS[version]):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {version + 1}")
        db.execute("COMMIT")


_COUNTS = """
    SELECT (SELECT count(*) FROM delivery WHERE due_at IS NOT NULL)
        + (SELECT count(*) FROM delivery INDEXED BY delivery_line
           WHERE order_key IS NOT NULL AND state = 'waiting' AND state IN ('waiting', 'due', 'leased')),
        (SELECT min(due_at) FROM delivery WHERE due_at IS NOT NULL)
"""


def _counts(db: DB) -> Counts:
    return Counts(*db.execute(_COUNTS).fetchone())


def claim_file(path: Path) -> int:
    """One server per file: two would deliver everything twice. The lock ends with the process, however that ends.

    Returns the handle that keeps it. Raises StoreUnavailable, OSError.
    """
    handle = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise StoreUnavailable(
            f"another Tenterhook server is using {path}: stop it, or name another database"
        ) from None
    return handle


class SqliteStore(SharedVerbs):
    """See `store.base.Store`. Open it with `open`."""

    shared = False
    grace = 0

    def __init__(self, path: Path, vault: Vault, synchronous: str, inline: bool) -> None:
        self._path, self._vault, self._synchronous = path, vault, synchronous
        self.clock: Clock = SystemClock()
        self._db = connect(path, synchronous, WRITER_CACHE_KIB)
        self._answers = Answers(self._db)
        self._checkpointer: Checkpointer | None = None
        self._local = threading.local()
        self._readers: list[DB] = []
        self._lock: int | None = None
        self._writing: Executor = InlineExecutor() if inline else ThreadPoolExecutor(1, "sqlite-writer")
        self._reading: Executor = InlineExecutor() if inline else ThreadPoolExecutor(READERS, "sqlite-reader")

    @classmethod
    def open(
        cls, path: str | Path, vault: Vault, *, exclusive: bool = False, synchronous: str = "FULL", inline: bool = False
    ) -> "SqliteStore":
        """Open or create the file and bring its schema up to date.

        `exclusive` claims it for a server. `inline` runs everything on the caller's thread (for simulations). Raises
        SchemaMismatch, StoreUnavailable; that also while a copy into it is not complete.
        """
        path = Path(path)
        with ExitStack() as undo:
            try:
                lock = None
                if exclusive:
                    lock = claim_file(path)
                    undo.callback(os.close, lock)
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
                store = cls(path, vault, synchronous, inline)
                undo.callback(store._db.close)
                store._lock = lock
                migrate(store._db)
                run(store._db, refuse_unfinished())
                if exclusive and not inline:
                    store._checkpoint_beside()
            except (sqlite3.Error, OSError) as error:
                raise StoreUnavailable(f"cannot open the database {path}: {error}") from error
            undo.pop_all()
        return store

    def _checkpoint_beside(self) -> None:
        self._db.execute(f"PRAGMA wal_autocheckpoint = {FALLBACK_PAGES}")
        self._checkpointer = Checkpointer(lambda: connect(self._path, self._synchronous))

    async def _on(self, executor: Executor, run: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(executor, run)
        except _DEFECTS:
            raise  # not the database's fault: the committer finds the piece of work that it is
        except sqlite3.Error as error:
            log.error("database error: %s", error)
            raise StoreUnavailable(f"the database cannot be used right now ({error}): nothing was accepted") from error
        except RuntimeError as error:  # the executor refuses work after close
            raise StoreUnavailable("the database is closed") from error

    async def _write(self, verb: Callable[P, Verb[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._transaction(lambda db: run(db, verb(*args, **kwargs)))

    async def _transaction(self, work: Callable[Concatenate[DB, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        def transaction() -> T:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                result = work(self._db, *args, **kwargs)
                self._db.execute("COMMIT")
            except BaseException:
                self._answers.rolled_back()
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._answers.committed()
            if self._checkpointer is not None:
                self._checkpointer.committed(self._db)
            return result

        return await self._on(self._writing, transaction)

    async def _read(self, verb: Callable[P, Verb[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._on(self._reading, lambda: run(self._reader(), verb(*args, **kwargs)))

    def _reader(self) -> DB:
        db: DB | None = getattr(self._local, "db", None)
        if db is None:
            db = self._local.db = connect(self._path, self._synchronous)
            db.execute("PRAGMA query_only = ON")
            self._readers.append(db)
        return db

    async def close(self) -> None:
        for executor in (self._writing, self._reading):
            await asyncio.to_thread(executor.shutdown) if isinstance(executor, ThreadPoolExecutor) else None
        if self._checkpointer is not None:
            await asyncio.to_thread(self._checkpointer.close)
        for db in (*self._readers, self._db):
            db.close()
        if self._lock is not None:
            os.close(self._lock)

    async def commit(self, work: Sequence[Work]) -> list[Done]:
        return await self._transaction(batch.commit, work, self._answers)

    async def recall(self, key: bytes, now: int) -> Remembered | None:
        """By the writer: only it knows what was answered lately."""
        return await self._transaction(lambda _: self._answers.recall(key, now))

    async def prune(self, now: int, rejections_kept: int, limit: int) -> int:
        answers = await self._transaction(lambda _: self._answers.prune(now, limit))
        return answers + await super().prune(now, rejections_kept, limit)

    async def recover(self, now: int) -> int:
        return await self._write(history.recover, now)

    async def settled_until(self) -> int | None:
        """One process writes, batch after batch, and makes its ids in that order."""
        return None

    async def counts(self) -> Counts:
        return await self._on(self._reading, lambda: _counts(self._reader()))

    async def add_days(self, now: int) -> None:
        """The history is one table: it goes row by row."""

    async def drop_days(self, before: int, limit: int) -> Swept:
        return Swept()

    async def listen(self, hear: Callable[[Hint], None]) -> None:
        """There is nobody else."""


_: type[Store] = SqliteStore
