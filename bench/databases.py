"""The databases of a benchmark: SQLite, a file each, or PostgreSQL, in one durable server of the benchmark's own."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg

from bench.harness import Database, Fill, folder
from bench.postgres import SUPERUSER, PostgresServer
from tenterhook.store.postgres_schema import SCHEMA
from tenterhook.store.sqlite import connect
from tenterhook.store.sqlite_run import insert

KINDS = ("sqlite", "postgres")


class SqliteDatabase:
    """See `harness.Database`. The server's own process does its work."""

    def __init__(self, where: Path) -> None:
        self.folder = where
        self.path = where / "bench.db"
        self.url = f"sqlite:///{self.path}"

    async def rows(self, text: str) -> list[tuple[Any, ...]]:
        db = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)  # leaves the file as a killed process left it
        try:
            return db.execute(text).fetchall()
        finally:
            db.close()

    async def used(self) -> dict[str, float]:
        return {"stored_bytes": sum(path.stat().st_size for path in self.folder.glob("bench.db*"))}

    @asynccontextmanager
    async def filling(self) -> AsyncIterator[Fill]:
        """Without fsync; the file is then as after a clean stop."""
        db = connect(self.path, "OFF")
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA cache_size = -262144")

        async def fill(table: str, columns: str, rows: Sequence[Sequence[Any]]) -> None:
            db.execute("BEGIN")
            insert(db, table, columns, rows)
            db.execute("COMMIT")
            await asyncio.sleep(0)  # lets Ctrl-C through

        yield fill
        db.execute("PRAGMA journal_mode = WAL")
        db.close()


class PostgresDatabase:
    """See `harness.Database`."""

    def __init__(self, server: PostgresServer, name: str, where: Path) -> None:
        self.folder = where
        self.url = server.url(name)
        self._server, self._name = server, name

    async def rows(self, text: str) -> list[tuple[Any, ...]]:
        async with connected(self.url) as connection:
            return [tuple(row) for row in await connection.fetch(text)]

    async def used(self) -> dict[str, float]:
        ((wal, commits, size),) = await self.rows(
            "SELECT (pg_current_wal_lsn() - '0/0')::float8, (SELECT xact_commit FROM pg_stat_database"
            " WHERE datname = current_database())::float8, pg_database_size(current_database())::float8"
        )
        cpu = self._server.cpu_seconds() * 1e6
        return {"database_cpu_us": cpu, "wal_bytes": wal, "commits": commits, "stored_bytes": size}

    @asynccontextmanager
    async def filling(self) -> AsyncIterator[Fill]:
        """By COPY; afterwards as autovacuum and the checkpointer leave a database that has grown over weeks."""
        async with connected(self.url) as connection:

            async def fill(table: str, columns: str, rows: Sequence[Sequence[Any]]) -> None:
                names = columns.replace('"', "").split(", ")
                await connection.copy_records_to_table(table, records=rows, columns=names)

            yield fill
            await connection.execute("VACUUM (FREEZE, ANALYZE)")
        async with connected(self._server.url(self._name, SUPERUSER)) as connection:
            await connection.execute("CHECKPOINT")


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    """A connection that finds Tenterhook's tables."""
    connection = await asyncpg.connect(url, server_settings={"search_path": SCHEMA})
    try:
        yield connection
    finally:
        await connection.close()


class Bench:
    """What the scenarios of one benchmark are given: databases of one kind, and whether to be `quick`."""

    def __init__(self, kind: str = "sqlite", *, quick: bool = False) -> None:
        self.kind, self.quick = kind, quick
        self._stack = ExitStack()
        self._server: PostgresServer | None = None
        self._count = 0

    def __enter__(self) -> "Bench":
        if self.kind == "postgres":
            self._server = self._stack.enter_context(PostgresServer.durable())
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    async def version(self) -> str:
        """Of the database."""
        if self._server is None:
            return f"SQLite {sqlite3.sqlite_version}"
        async with connected(self._server.url()) as connection:
            return f"PostgreSQL {await connection.fetchval('SHOW server_version')}"

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[Database]:
        """An empty database, gone afterwards."""
        with folder() as where:
            if self._server is None:
                yield SqliteDatabase(where)
                return
            self._count += 1
            name = f"bench_{self._count}"
            async with connected(self._server.url()) as connection:
                await connection.execute(f"CREATE DATABASE {name}")
            try:
                yield PostgresDatabase(self._server, name, where)
            finally:
                # only a superuser may throw autovacuum out
                async with connected(self._server.url(role=SUPERUSER)) as connection:
                    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
