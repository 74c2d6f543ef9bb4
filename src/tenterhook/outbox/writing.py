"""Write an event in the caller's transaction, over whatever connection the caller has.

Connections are recognised by the names of their classes, so that no driver is imported here. Nothing is committed. A
connection on which each statement would be a transaction of its own is refused: the event would be sent although what it
tells of is rolled back, or lost although that is kept.
"""

from collections.abc import Awaitable, Callable, Collection
from functools import cache
from importlib import import_module
from random import SystemRandom
from typing import Any, Protocol, overload

import msgspec
from msgspec import Struct

from tenterhook.clock import SystemClock
from tenterhook.errors import Invalid
from tenterhook.ids import IdMaker
from tenterhook.outbox.event import Event, event_of
from tenterhook.outbox.schema import TABLE, quoted

PREFIX = "out_"
COLUMNS = ("id", "application", "event_type", "payload", "key", "event_id", "channels", "tags")

Values = tuple[str | None, ...]


class AsyncConnection(Protocol):
    """A connection of psycopg, asyncpg or SQLAlchemy whose statements are awaited."""

    def execute(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Run a statement."""


@overload
def write(  # type: ignore[overload-overlap]  # what is awaited is the more special case
    connection: AsyncConnection,
    application: str,
    event_type: str,
    payload: object,
    *,
    key: str | None = None,
    event_id: str | None = None,
    channels: Collection[str] = (),
    tags: Collection[str] = (),
    table: str = TABLE,
) -> Awaitable[str]: ...
@overload
def write(
    connection: object,
    application: str,
    event_type: str,
    payload: object,
    *,
    key: str | None = None,
    event_id: str | None = None,
    channels: Collection[str] = (),
    tags: Collection[str] = (),
    table: str = TABLE,
) -> str: ...
def write(
    connection: Any,
    application: str,
    event_type: str,
    payload: object,
    *,
    key: str | None = None,
    event_id: str | None = None,
    channels: Collection[str] = (),
    tags: Collection[str] = (),
    table: str = TABLE,
) -> str | Awaitable[str]:
    """Write an event into the outbox, in the transaction that is open on the connection; the id of its row.

    `connection` is one of psycopg, asyncpg, SQLAlchemy (a session too), Django or sqlite3; with an asynchronous one the
    result must be awaited. `application` is a uid or id of Tenterhook, `payload` a JSON object: as text or bytes, which
    are sent as they are, or as an object to encode. Events with the same `key` are sent in the order in which their
    transactions commit. `event_id` is your own id of the event, by default that of the row.

    Raises Invalid for an event that would be refused, for a connection that is none of these, and for one on which no
    transaction is open and none will be; then nothing is written. Errors of the driver are raised as they are.
    """
    event = event_of(
        payload,
        application=application,
        event_type=event_type,
        key=key,
        event_id=event_id,
        channels=channels,
        tags=tags,
    )
    kind = _kind_of(type(connection))
    # without a state of its own: a program may have threads, and fork
    row = IdMaker(SystemRandom()).new(PREFIX, SystemClock().now())
    written = kind.run(connection, _statement(kind.mark, table), _values(row, event))
    return _then(written, row) if kind.awaited else row


async def _then(written: Awaitable[None], row: str) -> str:
    await written
    return row


def _values(row: str, event: Event) -> Values:
    lists = (msgspec.json.encode(names).decode() for names in (event.channels, event.tags))
    return (row, event.application, event.event_type, event.payload, event.key, event.event_id, *lists)


@cache
def _statement(mark: str, table: str) -> str:
    marks = ", ".join(mark.format(number=number, column=column) for number, column in enumerate(COLUMNS, start=1))
    return f"INSERT INTO {quoted(table)} ({', '.join(COLUMNS)}) VALUES ({marks})"


def _demand(transaction: bool, begin: str) -> None:
    if not transaction:
        raise Invalid(
            f"no transaction is open and each statement commits by itself: first do `{begin}`, so that the event is kept if"
            " and only if what it tells of is"
        )


# how each kind of connection runs a statement


def _sqlite3(connection: Any, sql: str, values: Values) -> None:
    # the attribute `autocommit` came with Python 3.12; -1 stands for the rules of before, where isolation_level counts
    mode = getattr(connection, "autocommit", -1)
    autocommit = mode is True or (mode is not False and connection.isolation_level is None)
    _demand(not autocommit or connection.in_transaction, 'connection.execute("BEGIN")')
    connection.execute(sql, values)


def _psycopg(connection: Any, sql: str, values: Values) -> Any:
    idle = connection.info.transaction_status == 0
    _demand(not (connection.autocommit and idle), "with connection.transaction():")
    return connection.execute(sql, values)


def _asyncpg(connection: Any, sql: str, values: Values) -> Any:
    _demand(connection.is_in_transaction(), "async with connection.transaction():")
    return connection.execute(sql, *values)


def _sqlalchemy(connection: Any, sql: str, values: Values) -> Any:
    # that of an asynchronous connection is inside of it, once it is open
    inner = getattr(connection, "sync_connection", connection)
    if inner is not None:
        level = inner.get_execution_options().get(
            "isolation_level", getattr(inner.dialect, "_on_connect_isolation_level", None)
        )
        _demand(level != "AUTOCOMMIT", "with engine.begin() as connection:")
    return connection.execute(_text(sql), dict(zip(COLUMNS, values, strict=True)))


def _sqlalchemy_session(session: Any, sql: str, values: Values) -> None:
    _sqlalchemy(session.connection(), sql, values)


async def _sqlalchemy_async_session(session: Any, sql: str, values: Values) -> None:
    await _sqlalchemy(await session.connection(), sql, values)


@cache
def _text(sql: str) -> Any:
    return import_module("sqlalchemy").text(sql)  # loaded long since by whoever has a connection of it


def _django(connection: Any, sql: str, values: Values) -> None:
    _demand(connection.in_atomic_block or not connection.get_autocommit(), "with transaction.atomic():")
    with connection.cursor() as cursor:
        cursor.execute(sql, values)


# which kinds there are


class Kind(Struct, frozen=True):
    """How a kind of connection marks a parameter and runs a statement; `awaited` if that must be awaited."""

    mark: str
    run: Callable[[Any, str, Values], Any]
    awaited: bool = False


KINDS = {
    ("sqlite3", "Connection"): Kind("?", _sqlite3),
    ("psycopg", "Connection"): Kind("%s", _psycopg),
    ("psycopg", "AsyncConnection"): Kind("%s", _psycopg, awaited=True),
    ("asyncpg", "Connection"): Kind("${number}", _asyncpg, awaited=True),
    ("asyncpg", "PoolConnectionProxy"): Kind("${number}", _asyncpg, awaited=True),
    ("sqlalchemy", "Connection"): Kind(":{column}", _sqlalchemy),
    ("sqlalchemy", "Session"): Kind(":{column}", _sqlalchemy_session),
    ("sqlalchemy", "scoped_session"): Kind(":{column}", _sqlalchemy_session),
    ("sqlalchemy", "AsyncConnection"): Kind(":{column}", _sqlalchemy, awaited=True),
    ("sqlalchemy", "AsyncSession"): Kind(":{column}", _sqlalchemy_async_session, awaited=True),
    ("sqlalchemy", "async_scoped_session"): Kind(":{column}", _sqlalchemy_async_session, awaited=True),
    ("django", "BaseDatabaseWrapper"): Kind("%s", _django),
    ("django", "ConnectionProxy"): Kind("%s", _django),
}
"""By package and class; a subclass counts as what it comes from."""


def _kind_of(connection: type) -> Kind:
    """Raises Invalid for what is no connection of these."""
    for ancestor in connection.__mro__:
        kind = KINDS.get((ancestor.__module__.partition(".")[0], ancestor.__qualname__))
        if kind is not None:
            return kind
    known = ", ".join(sorted({f"{package}.{name}" for package, name in KINDS}))
    raise Invalid(
        f"{connection.__module__}.{connection.__qualname__} is no connection to write with: take one of {known}"
    )
