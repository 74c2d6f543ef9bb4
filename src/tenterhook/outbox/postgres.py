"""An outbox in PostgreSQL: a session that listens for hints, and holds the lock of the one server that relays."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import asyncpg

from tenterhook.clock import MILLISECOND
from tenterhook.config import ConfiguredOutbox
from tenterhook.outbox.base import Kept, Reading, Row, Table, Unavailable, Waiting
from tenterhook.outbox.schema import CHANNEL, RESTING, ddl, quoted
from tenterhook.outbox.statements import keep_values, statements, take_values, waiting_of

CONNECT_SECONDS = 10
COMMAND_SECONDS = 30
LEADER = 7_465_100
"""The first half of the advisory locks by which servers agree on who relays; the second is the table."""
RESTLESS = 50 * MILLISECOND
SESSION = {
    # the lock of a server that is gone without a word shall be free within half a minute
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "25000",
    # the table may be empty now and full a minute later, with or without statistics: it is read by its indexes
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "plan_cache_mode": "force_custom_plan",
    "jit": "off",
}
REFUSALS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


@contextmanager
def _mapped() -> Iterator[None]:
    """Raises Unavailable for what the database, the driver or the network has to say."""
    try:
        yield
    except TimeoutError:
        raise Unavailable("the database does not answer") from None
    except REFUSALS as error:
        raise Unavailable(f"{type(error).__name__}: {error}") from error


async def _connect(url: str, name: str) -> asyncpg.Connection:
    with _mapped():
        try:
            return await asyncpg.connect(
                url,
                timeout=CONNECT_SECONDS,
                command_timeout=COMMAND_SECONDS,
                server_settings={"application_name": name, **SESSION},
            )
        except ValueError:
            raise Unavailable("the URL of the database cannot be understood") from None  # it may hold a password


async def create(url: str, table: str) -> None:
    """Make the table. Raises Unavailable."""
    statements = ddl("postgresql", table)
    connection = await _connect(url, "tenterhook outbox create")
    try:
        with _mapped():
            async with connection.transaction():
                await connection.execute(statements)
    finally:
        await _close(connection)


async def _close(connection: asyncpg.Connection) -> None:
    """A connection that cannot even say good-bye is cut off."""
    try:
        await connection.close(timeout=1)
    except REFUSALS:
        connection.terminate()


@asynccontextmanager
async def open_table(outbox: ConfiguredOutbox, wake: Callable[[], None]) -> AsyncIterator["PostgresTable"]:
    """Raises Unavailable."""
    connection = await _connect(outbox.database, f"tenterhook outbox {outbox.name}")
    try:
        with _mapped():
            found = await connection.fetchrow(
                "SELECT to_regclass($1)::oid AS number, current_setting('server_encoding') AS encoding",
                quoted(outbox.table),
            )
            if found is None or found["number"] is None:
                raise Unavailable(f"there is no table {outbox.table}: make it with `tenterhook outbox create`")
            if found["encoding"] == "SQL_ASCII":
                raise Unavailable("the encoding of the database is SQL_ASCII, so its texts are of no known encoding")
            await connection.add_listener(CHANNEL, lambda *_: wake())
            connection.add_termination_listener(lambda _: wake())
        yield PostgresTable(connection, outbox.table, found["number"])
    finally:
        await _close(connection)


class PostgresTable:
    """See `base.Table`."""

    def __init__(self, connection: asyncpg.Connection, table: str, number: int) -> None:
        self._connection, self._number = connection, number
        self._statements = statements("postgresql", table)
        self._leads = self._rests = False

    async def lead(self) -> bool:
        self._leads = self._leads or await self._locked(LEADER)
        return self._leads

    async def take(self, reading: Reading, now: int) -> list[Row]:
        with _mapped():
            found = await self._connection.fetch(self._statements.take, *take_values(reading, now))
            if found and self._rests:
                await self._connection.execute(
                    "SELECT pg_advisory_unlock($1::int, $2::oid::int)", RESTING, self._number
                )
                self._rests = False
        return [Row(**record) for record in found]

    async def rest(self, poll: int) -> int:
        """Writers give hints while this session holds the lock; it looks once more after taking it.

        It cannot have it while a transaction is open that has written without a hint, and looks often then.
        """
        if self._rests:
            return poll
        self._rests = await self._locked(RESTING)
        return 0 if self._rests else min(poll, RESTLESS)

    async def _locked(self, lock: int) -> bool:
        with _mapped():
            return bool(
                await self._connection.fetchval(
                    "SELECT pg_try_advisory_lock($1::int, $2::oid::int)", lock, self._number
                )
            )

    async def settle(self, published: Sequence[str], kept: Sequence[Kept]) -> None:
        with _mapped():
            async with self._connection.transaction():
                if published:
                    await self._connection.execute(self._statements.delete, published)
                if kept:
                    await self._connection.executemany(self._statements.keep, keep_values(kept))

    async def waiting(self) -> Waiting:
        with _mapped():
            (found,) = await self._connection.fetch(self._statements.waiting)
        return waiting_of(tuple(found))


_: type[Table] = PostgresTable
