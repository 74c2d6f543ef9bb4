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

from tenterhook.errors import SchemaMismatch, StoreUnavailable
from tenterhook.model import (
    Application,
    Attempt,
    Delivery,
    Endpoint,
    EventType,
    Health,
    Message,
    Received,
    Source,
    Token,
)
from tenterhook.store import batch, history, objects
from tenterhook.store.base import Counts, Cursor, Done, Remember, Remembered, Store, Work
from tenterhook.store.checkpoints import FALLBACK_PAGES, Checkpointer
from tenterhook.store.schema import MIGRATIONS
from tenterhook.vault import Vault

log = logging.getLogger(__name__)

READERS = 4
WRITER_CACHE_KIB = 32 * 1024
READER_CACHE_KIB = 8 * 1024
BUSY_SECONDS = 10
_STATEMENTS = 512
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
        for statement in MIGRATIONS[version].split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {version + 1}")
        db.execute("COMMIT")


def _lock(path: Path) -> int:
    """One server per file: two would deliver everything twice. The lock ends with the process, however that ends."""
    handle = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise StoreUnavailable(
            f"another Tenterhook server is using {path}: stop it, or name another database"
        ) from None
    return handle


class SqliteStore:
    """See `store.base.Store`. Open it with `open`."""

    def __init__(self, path: Path, vault: Vault, synchronous: str, inline: bool) -> None:
        self._path, self._vault, self._synchronous = path, vault, synchronous
        self._db = connect(path, synchronous, WRITER_CACHE_KIB)
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
        SchemaMismatch, StoreUnavailable.
        """
        path = Path(path)
        with ExitStack() as undo:
            try:
                lock = None
                if exclusive:
                    lock = _lock(path)
                    undo.callback(os.close, lock)
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
                store = cls(path, vault, synchronous, inline)
                undo.callback(store._db.close)
                store._lock = lock
                migrate(store._db)
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

    async def _write(self, verb: Callable[Concatenate[DB, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        def transaction() -> T:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                result = verb(self._db, *args, **kwargs)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            if self._checkpointer is not None:
                self._checkpointer.committed(self._db)
            return result

        return await self._on(self._writing, transaction)

    async def _read(self, verb: Callable[Concatenate[DB, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._on(self._reading, lambda: verb(self._reader(), *args, **kwargs))

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
        return await self._write(batch.commit, work)

    async def recover(self, now: int) -> int:
        return await self._write(history.recover, now)

    async def next_dues(self, after: str | None, limit: int) -> list[tuple[str, int]]:
        return await self._read(history.next_dues, after, limit)

    async def lapse(self, now: int, limit: int) -> list[Delivery]:
        return await self._write(history.lapse, now, limit)

    async def load_endpoint(self, endpoint: str) -> tuple[Endpoint, Health] | None:
        return await self._read(objects.load_endpoint, self._vault, endpoint)

    async def prune(self, now: int, rejections_kept: int, limit: int) -> int:
        return await self._write(history.prune, now, rejections_kept, limit)

    async def counts(self) -> Counts:
        return await self._read(history.counts)

    async def create_application(self, app: Application, remember: Remember | None = None) -> None:
        await self._write(objects.create_application, app, remember)

    async def save_application(self, app: Application) -> None:
        await self._write(objects.save_application, app)

    async def delete_application(self, app: str) -> None:
        await self._write(objects.delete_application, app)

    async def get_application(self, app: str) -> Application | None:
        return await self._read(objects.get_application, app)

    async def list_applications(self, cursor: Cursor) -> list[Application]:
        return await self._read(objects.list_applications, cursor)

    async def create_event_type(self, event_type: EventType, remember: Remember | None = None) -> None:
        await self._write(objects.create_event_type, event_type, remember)

    async def save_event_type(self, event_type: EventType) -> None:
        await self._write(objects.save_event_type, event_type)

    async def delete_event_type(self, name: str) -> None:
        await self._write(objects.delete_event_type, name)

    async def get_event_type(self, name: str) -> EventType | None:
        return await self._read(objects.get_event_type, name)

    async def list_event_types(self, cursor: Cursor, archived: bool) -> list[EventType]:
        return await self._read(objects.list_event_types, cursor, archived)

    async def create_endpoint(self, app: str, endpoint: Endpoint, remember: Remember | None = None) -> None:
        assert endpoint.app == app
        await self._write(objects.create_endpoint, self._vault, endpoint, remember)

    async def save_endpoint(self, app: str, endpoint: Endpoint, clean: bool = False) -> None:
        await self._write(objects.save_endpoint, self._vault, app, endpoint, clean)

    async def delete_endpoint(self, app: str, endpoint: str) -> None:
        await self._write(objects.delete_endpoint, app, endpoint)

    async def get_endpoint(self, app: str, endpoint: str) -> Endpoint | None:
        return await self._read(objects.get_endpoint, self._vault, app, endpoint)

    async def list_endpoints(self, app: str, cursor: Cursor) -> list[Endpoint]:
        return await self._read(objects.list_endpoints, self._vault, app, cursor)

    async def load_endpoints(self, app: str) -> list[tuple[Endpoint, Health]]:
        return await self._read(objects.load_endpoints, self._vault, app)

    async def get_message(self, app: str, message: str) -> Message | None:
        return await self._read(history.get_message, app, message)

    async def list_messages(self, app: str, cursor: Cursor, event_types: Sequence[str] = ()) -> list[Message]:
        return await self._read(history.list_messages, app, cursor, event_types)

    async def get_delivery(self, app: str, message: str, endpoint: str) -> Delivery | None:
        return await self._read(history.get_delivery, app, message, endpoint)

    async def list_deliveries(self, app: str, message: str) -> list[Delivery]:
        return await self._read(history.list_deliveries, app, message)

    async def request_attempt(self, app: str, message: str, endpoint: str, now: int, lifetime: int) -> Delivery:
        return await self._write(history.request_attempt, app, message, endpoint, now, lifetime)

    async def replay(
        self, app: str, endpoint: str, message_ids: Sequence[str], now: int, lifetime: int, order: bool
    ) -> int:
        return await self._write(history.replay, app, endpoint, message_ids, now, lifetime, order)

    async def cancel_delivery(self, app: str, message: str, endpoint: str, now: int) -> bool:
        return await self._write(history.cancel_delivery, app, message, endpoint, now)

    async def get_attempt(self, app: str, message: str, attempt: str) -> Attempt | None:
        return await self._read(history.get_attempt, app, message, attempt)

    async def list_attempts(
        self, app: str, cursor: Cursor, *, message: str | None = None, endpoint: str | None = None
    ) -> list[Attempt]:
        return await self._read(history.list_attempts, app, cursor, message, endpoint)

    async def create_source(self, app: str, source: Source, remember: Remember | None = None) -> None:
        assert source.app == app
        await self._write(objects.create_source, self._vault, source, remember)

    async def save_source(self, app: str, source: Source) -> None:
        await self._write(objects.save_source, self._vault, app, source)

    async def delete_source(self, app: str, source: str) -> None:
        await self._write(objects.delete_source, app, source)

    async def get_source(self, app: str, source: str) -> Source | None:
        return await self._read(objects.get_source, self._vault, app, source)

    async def list_sources(self, app: str, cursor: Cursor) -> list[Source]:
        return await self._read(objects.list_sources, self._vault, app, cursor)

    async def find_source(self, token: str) -> Source | None:
        return await self._read(objects.find_source, self._vault, token)

    async def list_received(self, app: str, source: str, cursor: Cursor, verdict: str | None = None) -> list[Received]:
        return await self._read(history.list_received, app, source, cursor, verdict)

    async def get_received(self, app: str, source: str, request: str) -> Received | None:
        return await self._read(history.get_received, app, source, request)

    async def create_token(self, token: Token, token_hash: bytes) -> None:
        await self._write(objects.create_token, token, token_hash)

    async def find_token(self, token_hash: bytes) -> Token | None:
        return await self._read(objects.find_token, token_hash)

    async def list_tokens(self) -> list[Token]:
        return await self._read(objects.list_tokens)

    async def revoke_token(self, token: str, now: int) -> None:
        await self._write(objects.revoke_token, token, now)

    async def recall(self, key: bytes, now: int) -> Remembered | None:
        return await self._read(objects.recall, key, now)


_: type[Store] = SqliteStore
