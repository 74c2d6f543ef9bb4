"""An outbox in SQLite: a connection in a thread of its own, so that a busy database stops nobody else.

SQLite tells nobody of a commit, so the relay looks by itself only. Nothing keeps two servers from one file: they would
disturb each other, and lose and repeat nothing.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tenterhook.config import ConfiguredOutbox
from tenterhook.outbox.base import Kept, Reading, Row, Table, Unavailable, Waiting
from tenterhook.outbox.schema import ddl
from tenterhook.outbox.statements import keep_values, statements, take_values, waiting_of

BUSY_SECONDS = 5
T = TypeVar("T")


def _connect(url: str) -> sqlite3.Connection:
    """Raises Unavailable; a file that is not there is not made."""
    path = Path(url.removeprefix("sqlite:///")).absolute()
    if not path.is_file():
        raise Unavailable(f"there is no database {path}")
    try:
        return sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise Unavailable(f"{path}: {error}") from error


async def create(url: str, table: str) -> None:
    """Make the table. Raises Unavailable."""
    try:
        with closing(_connect(url)) as connection:
            connection.executescript(f"BEGIN IMMEDIATE;\n{ddl('sqlite', table)}COMMIT;")
    except sqlite3.Error as error:
        raise Unavailable(str(error)) from error


@asynccontextmanager
async def open_table(outbox: ConfiguredOutbox, wake: Callable[[], None]) -> AsyncIterator["SqliteTable"]:
    """Raises Unavailable."""
    thread = ThreadPoolExecutor(1, f"outbox {outbox.name}")
    table: SqliteTable | None = None
    try:
        table = await asyncio.get_running_loop().run_in_executor(thread, SqliteTable, outbox, thread)
        yield table
    finally:
        if table is not None:
            thread.submit(table.connection.close)
        thread.shutdown(wait=False)


class SqliteTable:
    """See `base.Table`."""

    def __init__(self, outbox: ConfiguredOutbox, thread: ThreadPoolExecutor) -> None:
        self._thread, self._statements = thread, statements("sqlite", outbox.table)
        self.connection = _connect(outbox.database)
        # a text that is not UTF-8 must not keep the rows beside it from being read
        self.connection.text_factory = bytes

    async def lead(self) -> bool:
        return True

    async def take(self, reading: Reading, now: int) -> list[Row]:
        found = await self._call(lambda db: db.execute(self._statements.take, take_values(reading, now)).fetchall())
        return [Row(**{n: _text(n, v) for n, v in zip(Row.__struct_fields__, row, strict=True)}) for row in found]

    async def rest(self, poll: int) -> int:
        return poll

    async def settle(self, published: Sequence[str], kept: Sequence[Kept]) -> None:
        await self._call(partial(self._settle, published, kept))

    async def waiting(self) -> Waiting:
        return waiting_of(await self._call(lambda db: db.execute(self._statements.waiting).fetchone()))

    def _settle(self, published: Sequence[str], kept: Sequence[Kept], db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        try:
            db.execute(self._statements.delete, (msgspec.json.encode(published).decode(),))
            db.executemany(self._statements.keep, keep_values(kept))
            db.execute("COMMIT")
        except BaseException:
            db.rollback()
            raise

    async def _call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, self.connection)
        except sqlite3.Error as error:
            raise Unavailable(str(error)) from error


def _text(name: str, value: Any) -> Any:
    """What is not UTF-8 becomes text that no check lets pass; the payload is checked as bytes."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) and name != "payload" else value


_: type[Table] = SqliteTable
