"""A SQLite file as one end of a copy."""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from tenterhook.errors import ConfigurationError, StoreUnavailable
from tenterhook.store import sqlite_answers
from tenterhook.store.copying import verbs
from tenterhook.store.copying.end import End, check_version
from tenterhook.store.copying.tables import Table
from tenterhook.store.copying.verbs import Place
from tenterhook.store.sql import Row, Verb
from tenterhook.store.sqlite import claim_file, connect, migrate
from tenterhook.store.sqlite_run import run

T = TypeVar("T")


class SqliteEnd:
    """See `End`. Open it with `source` or `target`."""

    def __init__(self, path: Path, lock: int) -> None:
        self.name = f"sqlite:///{path.resolve()}"
        self._lock = lock
        self._db = connect(path)

    @classmethod
    def source(cls, path: Path) -> "SqliteEnd":
        """A file that is there: nobody writes to it until `close`.

        Raises ConfigurationError, SchemaMismatch, StoreUnavailable.
        """
        if not path.exists():
            raise ConfigurationError(f"there is no file {path}")
        return cls._open(path, _hold)

    @classmethod
    def target(cls, path: Path) -> "SqliteEnd":
        """A file that is made if it is not there. Raises SchemaMismatch, StoreUnavailable."""
        return cls._open(path, migrate)

    @classmethod
    def _open(cls, path: Path, prepare: Callable[[sqlite3.Connection], None]) -> "SqliteEnd":
        with ExitStack() as undo:
            try:
                lock = claim_file(path)
                undo.callback(os.close, lock)
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
                end = cls(path, lock)
                undo.callback(end._db.close)
                prepare(end._db)
            except (sqlite3.Error, OSError) as error:
                raise StoreUnavailable(f"cannot use the database {path}: {error}") from error
            undo.pop_all()
        return end

    async def run(self, verb: Verb[T]) -> T:
        try:
            return await asyncio.to_thread(self._run, verb)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"{self.name}: {error}") from error

    def _run(self, verb: Verb[T]) -> T:
        if self._db.in_transaction:  # a source, which is held for as long as it is read
            return run(self._db, verb)
        self._db.execute("BEGIN IMMEDIATE")
        with self._db:
            return run(self._db, verb)

    async def write(self, table: Table, rows: list[Row], place: Place) -> None:
        await self.run(verbs.write(table, rows, place))

    async def settle(self) -> None:
        """The plans of a file do not depend on what is in it."""

    async def close(self) -> None:
        self._db.close()
        os.close(self._lock)


def _hold(db: sqlite3.Connection) -> None:
    """Let nobody write, not even commands that need no server. What this changes is undone at the end."""
    db.execute("BEGIN IMMEDIATE")
    check_version(db.execute("PRAGMA user_version").fetchone()[0])
    sqlite_answers.gather(db)


_: type[End] = SqliteEnd
