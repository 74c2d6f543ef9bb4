"""Running verbs on a PostgreSQL connection, and what its errors mean."""

import re
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from tenterhook import ids
from tenterhook.clock import SECOND
from tenterhook.store.postgres_commit import UNCOMMITTED, line_key
from tenterhook.store.sql import Appear, Insert, LockLines, Read, Row, Statement, Taken, Tell, Verb, Write, tuples

T = TypeVar("T")
if TYPE_CHECKING:
    Session = asyncpg.Connection[Any]
    Connection = Session | asyncpg.pool.PoolConnectionProxy[Any]
    Pool = asyncpg.Pool[Any]
else:  # asyncpg's classes are generic for the type checker only
    Session = Connection = asyncpg.Connection
    Pool = asyncpg.Pool

CHANNEL = "tenterhook"
_MOST_VALUES = 30_000
_HOLD = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint FROM pg_advisory_xact_lock_shared($1, $2)"
_RETRIED = ("40001", "40P01", "23514")
"""Serialization failure, deadlock, a row that was on its way to `…_rest` when its day was made: nothing happened, and the
same may well succeed now."""

BUSY = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)
"""Somebody else uses what a statement wanted for itself."""

THERE_ALREADY = asyncpg.DuplicateTableError
IN_THE_WAY = asyncpg.CheckViolationError
"""A part of a table cannot be made: it is there, or there are rows of it elsewhere."""

_PASSING = ("08", "28", "3D", "53", "57", "58", "25006", "25P03", "42501", "55P03")
"""Connection, login, no such database, resources, intervention, system, a standby that does not write, a transaction that
waited too long for its client, no permission, a lock that was not free."""


def worth_retrying(error: BaseException) -> bool:
    """Whether the transaction lost against another one."""
    return isinstance(error, asyncpg.PostgresError) and error.sqlstate in _RETRIED


def is_unavailable(error: BaseException) -> bool:
    """Whether the database could not be used, through no fault of what it was asked."""
    if isinstance(error, asyncpg.PostgresError):
        return str(error.sqlstate).startswith(_PASSING) or error.sqlstate in _RETRIED
    if isinstance(error, asyncpg.InterfaceError):
        return not isinstance(error, ValueError)
    return isinstance(error, OSError | TimeoutError | asyncpg.InternalClientError)


def words(error: BaseException) -> str:
    """An error on one line; some have no text of their own."""
    return " ".join(str(error).split()) or type(error).__name__


async def run(connection: Connection, verb: Verb[T]) -> T:
    """What the verb returns. The caller opens the transaction, if the verb needs one."""
    try:
        wanted = next(verb)
        while True:
            try:
                answer = await _answer(connection, wanted)
            except asyncpg.UniqueViolationError as error:
                wanted = verb.throw(Taken(str(error)))
            else:
                wanted = verb.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


async def _answer(connection: Connection, wanted: Statement) -> Any:
    match wanted:
        case Read(text, values, lock):
            return await connection.fetch(numbered(f"{text} FOR UPDATE" if lock else text), *values)
        case Write(text, values):
            return _count(await connection.execute(numbered(text), *values))
        case Insert():
            return await insert(connection, wanted)
        case LockLines(lines):
            keys = sorted({line_key(endpoint, order_key) for endpoint, order_key in lines})
            return await connection.execute("SELECT pg_advisory_xact_lock(key) FROM unnest($1::bigint[]) AS key", keys)
        case Appear(_, message, deadline):
            return await _appear(connection, ids.instant_of(message), deadline)
        case Tell(topic, about):
            return await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, f"{topic} {about}")


async def _appear(connection: Connection, made_at: int, deadline: int) -> str | None:
    """By the rule of `accept` in `postgres_commit.sql`."""
    now = await connection.fetchval(_HOLD, UNCOMMITTED, made_at // SECOND - ids.EPOCH)
    if now <= deadline:
        return None
    await connection.fetchval(_HOLD, UNCOMMITTED, now // SECOND - ids.EPOCH)
    return ids.IdMaker().new(ids.PREFIXES["message"], now)


async def insert(connection: Connection, wanted: Insert) -> int:
    """Many rows in few statements; how many were written."""
    width = wanted.columns.count(",") + 1
    step = _MOST_VALUES // width
    count = 0
    for start in range(0, len(wanted.rows), step):
        page: list[Row] = list(wanted.rows[start : start + step])
        text = _insert_statement(wanted.table, wanted.columns, wanted.conflict, width, len(page))
        count += _count(await connection.execute(text, *(value for row in page for value in row)))
    return count


@cache
def _insert_statement(table: str, columns: str, conflict: str, width: int, count: int) -> str:
    text = f"INSERT INTO {table} ({columns}) VALUES {tuples(width, count)}"
    return numbered(f"{text} ON CONFLICT {conflict}" if conflict else text)


@cache
def numbered(text: str) -> str:
    """`?, ?` → `$1, $2`."""
    parts = re.split(r"\?", text)
    return parts[0] + "".join(f"${n}{part}" for n, part in enumerate(parts[1:], 1))


def _count(status: str) -> int:
    """`UPDATE 3` → 3; a SELECT that was executed for its effect counts too."""
    return int(status.rpartition(" ")[2])
