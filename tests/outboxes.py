"""Databases with an outbox in them, and the drivers that write there: real ones, each in a transaction that ends one way."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import django
import django.conf
import psycopg
import sqlalchemy
from django.db import connections, transaction
from django.utils.connection import ConnectionProxy
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from tenterhook.outbox import ddl

Work = Callable[[Any], Any]
"""What is done with a connection; with an asynchronous one its result is awaited."""
Driver = Callable[[str, Work, bool], None]


class RolledBack(Exception):
    """Raised inside of a transaction to end it without a commit."""


def new_sqlite(path: Path) -> str:
    """The URL of a new database with an outbox."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(ddl("sqlite"))
    return f"sqlite:///{path}"


def make_in_postgres(url: str) -> str:
    """Make an outbox in the database; its URL."""
    with psycopg.connect(url) as connection:
        connection.execute(ddl("postgresql").encode())
    return url


def path_of(url: str) -> str:
    return url.removeprefix("sqlite:///")


def query(url: str, sql: str) -> list[tuple[Any, ...]]:
    """Rows, read over a connection of its own."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(path_of(url))) as connection:
            found = connection.execute(sql).fetchall()
            connection.commit()
            return found
    with psycopg.connect(url) as connection:
        cursor = connection.execute(sql.encode())
        return cursor.fetchall() if cursor.description else []


def _sqlite3(url: str, work: Work, commit: bool) -> None:
    with closing(sqlite3.connect(path_of(url))) as connection:
        work(connection)
        connection.commit() if commit else connection.rollback()


def _sqlite3_by_hand(url: str, work: Work, commit: bool) -> None:
    with closing(sqlite3.connect(path_of(url), isolation_level=None)) as connection:
        connection.execute("BEGIN")
        work(connection)
        connection.execute("COMMIT" if commit else "ROLLBACK")


def _psycopg(url: str, work: Work, commit: bool) -> None:
    with closing(psycopg.connect(url)) as connection:
        work(connection)
        connection.commit() if commit else connection.rollback()


def _psycopg_autocommit(url: str, work: Work, commit: bool) -> None:
    with psycopg.connect(url, autocommit=True) as connection, connection.transaction(force_rollback=not commit):
        work(connection)


def _psycopg_async(url: str, work: Work, commit: bool) -> None:
    async def run() -> None:
        async with await psycopg.AsyncConnection.connect(url) as connection:
            await work(connection)
            await (connection.commit() if commit else connection.rollback())

    asyncio.run(run())


def _asyncpg(url: str, work: Work, commit: bool) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(url)
        with suppress(RolledBack):
            async with connection.transaction():
                await work(connection)
                if not commit:
                    raise RolledBack
        await connection.close()

    asyncio.run(run())


def _asyncpg_pool(url: str, work: Work, commit: bool) -> None:
    async def run() -> None:
        async with asyncpg.create_pool(url, min_size=1) as pool, pool.acquire() as connection:
            running = connection.transaction()
            await running.start()
            await work(connection)
            await (running.commit() if commit else running.rollback())

    asyncio.run(run())


def _engine(url: str) -> sqlalchemy.Engine:
    driver = "" if url.startswith("sqlite") else "+psycopg"
    return sqlalchemy.create_engine(url.replace("://", f"{driver}://", 1), poolclass=sqlalchemy.NullPool)


def _sqlalchemy(url: str, work: Work, commit: bool) -> None:
    with _engine(url).connect() as connection:
        work(connection)
        connection.commit() if commit else connection.rollback()


def _sqlalchemy_session(url: str, work: Work, commit: bool) -> None:
    with Session(_engine(url)) as session:
        work(session)
        session.commit() if commit else session.rollback()


def _sqlalchemy_scoped(url: str, work: Work, commit: bool) -> None:
    session = scoped_session(sessionmaker(_engine(url)))
    work(session)
    session.commit() if commit else session.rollback()
    session.remove()


def _async_engine(url: str, driver: str) -> AsyncEngine:
    return create_async_engine(url.replace("://", f"+{driver}://", 1), poolclass=sqlalchemy.NullPool)


def _sqlalchemy_async(url: str, work: Work, commit: bool) -> None:
    async def run() -> None:
        async with _async_engine(url, "asyncpg").connect() as connection:
            await work(connection)
            await (connection.commit() if commit else connection.rollback())

    asyncio.run(run())


def _sqlalchemy_async_session(url: str, work: Work, commit: bool) -> None:
    async def run() -> None:
        async with AsyncSession(_async_engine(url, "psycopg")) as session:
            await work(session)
            await (session.commit() if commit else session.rollback())

    asyncio.run(run())


def _sqlalchemy_async_scoped(url: str, work: Work, commit: bool) -> None:
    async def run() -> None:
        session = async_scoped_session(async_sessionmaker(_async_engine(url, "asyncpg")), asyncio.current_task)
        await work(session)
        await (session.commit() if commit else session.rollback())
        await session.remove()

    asyncio.run(run())


ALIAS = "outbox-of-a-test"


@contextmanager
def django_connection(url: str, proxy: bool = False) -> Iterator[Any]:
    """What `django.db.connections[ALIAS]` is in a project with this database."""
    if not django.conf.settings.configured:
        django.conf.settings.configure()
        django.setup()
    info = {"dbname": path_of(url)} if url.startswith("sqlite") else conninfo_to_dict(url)
    database = {"ENGINE": f"django.db.backends.{'sqlite3' if url.startswith('sqlite') else 'postgresql'}"}
    database["NAME"] = str(info.pop("dbname"))
    database.update({name.upper(): str(value) for name, value in info.items()})
    connections.settings[ALIAS] = connections.configure_settings({"default": {}, ALIAS: database})[ALIAS]
    try:
        yield ConnectionProxy(connections, ALIAS) if proxy else connections[ALIAS]
    finally:
        connections[ALIAS].close()
        del connections[ALIAS], connections.settings[ALIAS]


def _django(proxy: bool) -> Driver:
    def driven(url: str, work: Work, commit: bool) -> None:
        with django_connection(url, proxy) as connection, suppress(RolledBack), transaction.atomic(using=ALIAS):
            work(connection)
            if not commit:
                raise RolledBack

    return driven


ON_SQLITE: dict[str, Driver] = {
    "sqlite3": _sqlite3,
    "sqlite3 by hand": _sqlite3_by_hand,
    "SQLAlchemy connection": _sqlalchemy,
    "SQLAlchemy session": _sqlalchemy_session,
    "Django": _django(proxy=False),
}
ON_POSTGRES: dict[str, Driver] = {
    "psycopg": _psycopg,
    "psycopg in autocommit mode": _psycopg_autocommit,
    "psycopg async": _psycopg_async,
    "asyncpg": _asyncpg,
    "asyncpg pool": _asyncpg_pool,
    "SQLAlchemy connection": _sqlalchemy,
    "SQLAlchemy session": _sqlalchemy_session,
    "SQLAlchemy scoped session": _sqlalchemy_scoped,
    "SQLAlchemy async connection": _sqlalchemy_async,
    "SQLAlchemy async session": _sqlalchemy_async_session,
    "SQLAlchemy async scoped session": _sqlalchemy_async_scoped,
    "Django": _django(proxy=False),
    "Django, the default connection": _django(proxy=True),
}
"""`driver(url, work, commit)` does the work in a transaction, which is committed or rolled back then."""
