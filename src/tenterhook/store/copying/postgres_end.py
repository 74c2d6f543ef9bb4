"""A PostgreSQL database as one end of a copy."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

from tenterhook.errors import ConfigurationError, StoreUnavailable
from tenterhook.settings import BY_NAME
from tenterhook.store import postgres_nodes, postgres_partitions, postgres_schema
from tenterhook.store.copying import verbs
from tenterhook.store.copying.end import End, check_version
from tenterhook.store.copying.tables import Table, tables
from tenterhook.store.copying.verbs import Place
from tenterhook.store.postgres import COMMON, CONNECT_SECONDS
from tenterhook.store.postgres_run import Session, run, words
from tenterhook.store.sql import Row, Verb
from tenterhook.vault import Vault

T = TypeVar("T")
_FAULTS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)

_SESSION = {
    **COMMON,
    "application_name": f"{postgres_nodes.NAME} copy",
    "synchronous_commit": "on",
    # a source is read through its keys, however little the server knows of a table that was just filled
    "enable_seqscan": "off",
    "enable_sort": "off",
    # its transaction waits while the other side writes
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}


class PostgresEnd:
    """See `End`. Open it with `source` or `target`."""

    def __init__(self, url: str, connection: Session) -> None:
        self.name = BY_NAME["database"].show(url)
        self._connection = connection

    @classmethod
    async def source(cls, url: str) -> "PostgresEnd":
        """A database that nobody writes to until `close`.

        Raises ConfigurationError, SchemaMismatch, StoreUnavailable.
        """
        return await cls._open(url, _hold)

    @classmethod
    async def target(cls, url: str, vault: Vault) -> "PostgresEnd":
        """A database that gets the schema if it has none. Raises ConfigurationError, SchemaMismatch, StoreUnavailable."""
        return await cls._open(url, lambda connection: postgres_schema.prepare(connection, vault))

    @classmethod
    async def _open(cls, url: str, prepare: Callable[[Session], Awaitable[None]]) -> "PostgresEnd":
        try:
            connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS, server_settings=_SESSION)
        except ValueError as error:
            raise ConfigurationError(f"database: {error}") from None
        except _FAULTS as error:
            raise StoreUnavailable(f"cannot open the database: {words(error)}") from error
        end = cls(url, connection)
        try:
            await postgres_nodes.take_over(connection)
            await prepare(connection)
        except _FAULTS as error:
            connection.terminate()
            raise end._unusable(error) from error
        except BaseException:
            connection.terminate()
            raise
        return end

    async def run(self, verb: Verb[T]) -> T:
        return await self._transaction(lambda: run(self._connection, verb))

    async def write(self, table: Table, rows: list[Row], place: Place) -> None:
        async def written() -> None:
            if table.name in postgres_partitions.PREFIXES:
                place_of_id = table.columns.index("id")
                await postgres_partitions.add_days_of(self._connection, table.name, [row[place_of_id] for row in rows])
            await self._connection.copy_records_to_table(table.name, records=rows, columns=table.columns)
            await run(self._connection, verbs.advance(table, place))

        await self._transaction(written)

    async def _transaction(self, work: Callable[[], Awaitable[T]]) -> T:
        try:
            async with self._connection.transaction():
                return await work()
        except _FAULTS as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(f"{self.name}: {words(error)}")

    async def settle(self) -> None:
        for table in tables():
            await self._connection.execute(f"ANALYZE {table.name}")

    async def close(self) -> None:
        await self._connection.close()


async def _hold(connection: Session) -> None:
    """Let nobody write until the connection ends, not even commands that are no nodes."""
    versions = f"{postgres_schema.SCHEMA}.schema_version"
    there = await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", versions)
    check_version(await connection.fetchval(f"SELECT version FROM {versions}") if there else 0)
    await connection.transaction().start()
    await connection.execute(f"LOCK TABLE {', '.join(table.name for table in tables())} IN SHARE MODE")


_: type[End] = PostgresEnd
