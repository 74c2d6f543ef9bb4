"""The history on PostgreSQL in days: one part of each table for a day, so that an old day is dropped at once.

A part holds the ids of one day (UTC), as an id begins with its instant. Ids of days that have no part are in the tables
`…_rest` and go row by row; there are none, unless the days could not be made for longer than they are made ahead. A day is
its first instant (µs UTC).

Whatever locks a whole table gives up soon if it is in use, and is tried again at the next round: nobody waits behind it.
"""

import logging
import re
from collections.abc import Iterable
from datetime import UTC, datetime

from tenterhook import ids
from tenterhook.clock import DAY, SECOND
from tenterhook.store.base import Swept
from tenterhook.store.lines import PENDING_STATES
from tenterhook.store.postgres_run import BUSY, IN_THE_WAY, THERE_ALREADY, Connection, run
from tenterhook.store.retention import change_first
from tenterhook.store.sql import Verb, select_one

log = logging.getLogger(__name__)

PREFIXES = {"attempt": "atmpt_", "received": "req_", "message": "msg_"}
"""The tables in parts, with the prefixes of their ids; in the order in which a commit uses them, so that who locks them
all does not wait for one that waits for him."""

GRACE = 2 * DAY
"""How long after its time a record may stay: a day is dropped when all of it is old enough. What is there then goes alone."""

DAYS_AHEAD = 3
_ONE_AT_A_TIME = 0x7E27E2_0002
_PATIENCE = "200ms"


# names and bounds


def day_of(instant: int) -> int:
    """The first instant of its day."""
    return instant - instant % DAY


def part(table: str, day: int) -> str:
    """`message_p20261126`"""
    return f"{table}_p{datetime.fromtimestamp(day // SECOND, UTC):%Y%m%d}"


def day_in(name: str) -> int | None:
    """The day of the part with this name; None for another table."""
    found = re.fullmatch(rf"(?:{'|'.join(PREFIXES)})_p(\d{{8}})", name)
    if found is None:
        return None
    return int(datetime.strptime(found[1], "%Y%m%d").replace(tzinfo=UTC).timestamp()) * SECOND


def bounds(table: str, day: int) -> tuple[str, str]:
    """The lowest id of a day, and that of the next."""
    return ids.floor(PREFIXES[table], day), ids.floor(PREFIXES[table], day + DAY)


# making


async def add_days(connection: Connection, now: int) -> None:
    """Make the parts of today and of the next days that are not there."""
    days = range(day_of(now), day_of(now) + (DAYS_AHEAD + 1) * DAY, DAY)
    await _add_all(connection, [(table, day) for day in days for table in PREFIXES])


async def add_days_of(connection: Connection, table: str, made: Iterable[str]) -> None:
    """Make the parts for rows with these ids, which are written next."""
    days = {day_of(ids.instant_of(name)) for name in made if ids.is_id(name, PREFIXES[table])}
    await _add_all(connection, [(table, day) for day in sorted(days)])


async def _add_all(connection: Connection, wanted: Iterable[tuple[str, int]]) -> None:
    there = await parts(connection)
    for table, day in wanted:
        if part(table, day) not in there:
            await _add(connection, table, day)


async def parts(connection: Connection) -> set[str]:
    """The names of the parts of all tables."""
    found = await connection.fetch(
        "SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = ANY (SELECT to_regclass(name) FROM unnest($1::text[]) AS name)",
        [*PREFIXES],
    )
    return {row[0] for row in found if day_in(row[0]) is not None}


async def _add(connection: Connection, table: str, day: int) -> None:
    name, (low, high) = part(table, day), bounds(table, day)
    try:
        async with connection.transaction():
            await _alone(connection)
            # made apart and then attached: that locks the table only against others who change its parts
            await connection.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL)")
            await connection.execute(
                f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{low}') TO ('{high}')"
            )
    except THERE_ALREADY:
        return  # another node was faster
    except IN_THE_WAY:
        log.warning("%s_rest holds rows of the day of %s: they stay there", table, name)
    except BUSY:
        log.info("the table %s is in use: %s is made later", table, name)


async def _alone(connection: Connection) -> None:
    await connection.execute(f"SET LOCAL lock_timeout = '{_PATIENCE}'")
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _ONE_AT_A_TIME)


# dropping


async def drop_days(connection: Connection, before: int, limit: int) -> Swept:
    """One step towards dropping the oldest day that is over at `before`.

    First goes, row by row, what is not in parts: at most `limit` rows of each table. Then the day is dropped, unless a
    delivery is pending in it: that day and those after it wait.
    """
    day = min((found for name in await parts(connection) if (found := day_in(name)) is not None), default=None)
    if day is None or day + DAY > before:
        return Swept()
    async with connection.transaction():
        cleared = await run(connection, _clear(day, limit))
    if cleared:
        return Swept(after="")
    if await run(connection, _is_pending(day)) or not await _drop(connection, day):
        return Swept()
    log.info("dropped the day of %s", part("message", day))
    return Swept(after="", days=1)


def _clear(day: int, limit: int) -> Verb[int]:
    """Delete what belongs to ended messages of a day and is not in its parts; how many rows."""
    low, high = bounds("message", day)
    ended = "NOT EXISTS (SELECT 1 FROM delivery AS d WHERE d.message = {0}.message AND d.state IN ({1}))"
    later = ids.floor(PREFIXES["attempt"], day + DAY)
    count = 0
    for table, key, more in (
        ("event_id", "event_id", ""),
        ("received_key", "dedup_key", ""),
        ("attempt", "id", f" AND id >= '{later}'"),
        ("delivery", "endpoint", ""),
    ):
        where = f"message >= ? AND message < ? AND {ended.format(table, PENDING_STATES)}{more}"
        count += yield from change_first(f"DELETE FROM {table}", table, key, where, (low, high), limit)
    return count


async def _drop(connection: Connection, day: int) -> bool:
    """Whether the parts of the day are gone. What is sent again meanwhile keeps them, or is refused."""
    try:
        async with connection.transaction():
            await _alone(connection)
            for table in PREFIXES:
                await connection.execute(f"DROP TABLE IF EXISTS {part(table, day)}")
            if await run(connection, _is_pending(day)):
                raise _Pending
    except _Pending:
        return False
    except BUSY:
        log.info("the history is in use: the day of %s is dropped later", part("message", day))
        return False
    return True


class _Pending(Exception):
    """Something of the day is still owed: its parts stay."""


def _is_pending(day: int) -> Verb[bool]:
    text = "SELECT 1 FROM delivery WHERE message >= ? AND message < ? LIMIT 1"
    return (yield from select_one(text, *bounds("message", day))) is not None
