"""The store on PostgreSQL: any number of nodes on one database.

One connection commits the batches of the committer, a pool runs the other verbs, a third listens for what other nodes do.
Every node goes by the database's clock.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Concatenate, ParamSpec, TypeVar

import asyncpg

from tenterhook import ids
from tenterhook.clock import MILLISECOND, SECOND, Clock, RemoteClock, steady, until
from tenterhook.errors import ConfigurationError, OutcomeUnknown, StoreUnavailable
from tenterhook.store import postgres_nodes, postgres_partitions, postgres_schema
from tenterhook.store.base import Hint, Store, Swept
from tenterhook.store.copying.verbs import refuse_unfinished
from tenterhook.store.postgres_commit import CLOCK, UNCOMMITTED, Batch, clock_of, with_later_ids
from tenterhook.store.postgres_run import CHANNEL, Connection, Pool, Session, is_unavailable, run, words, worth_retrying
from tenterhook.store.queries import Counts
from tenterhook.store.sql import Verb, select
from tenterhook.store.verbs import SharedVerbs
from tenterhook.store.work import WRITTEN_WITHIN, Done, Work
from tenterhook.vault import Vault

log = logging.getLogger(__name__)

POOL = 8
CONNECT_SECONDS = 5.0
COMMIT_SECONDS = 5
READ_SECONDS = 10
"""For a whole verb: whoever asks for something must hear in time that the database does not answer."""

WRITE_SECONDS = 30
"""For each statement of a verb: some touch many rows."""

_GRACE_SECONDS = 1
"""The database gives a statement up by itself, and then it is known that nothing happened; when it does not answer either, so
do we."""
_TRIES = 5
_CLOCK_READINGS = 5
_HEARTBEAT = 5 * SECOND
_FIRST_WAIT = 50 * MILLISECOND

COMMON = {
    "search_path": postgres_schema.SCHEMA,
    "application_name": postgres_nodes.NAME,
    "jit": "off",
    # who has waited for a lock must see what its last holder did, whatever the database's default is
    "default_transaction_isolation": "read committed",
    # the locks and connections of a node that is gone
    "idle_in_transaction_session_timeout": "5s",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
"""What every connection sets."""

_BY_INDEX = {
    # a plan is made once and used for long: it must go by the indexes that will matter. And to plan a statement over all
    # parts of the history takes longer than to run it
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
}

_FIRST_PLANS, _MOST_PLANS = 100, 10_000
"""After so much work all plans are made anew, then after twice as much, and so on up to the second: a plan for a table that
was empty reads all of it, and the table may have grown by as much as was written since."""

P = ParamSpec("P")
T = TypeVar("T")


class PostgresStore(SharedVerbs):
    """See `store.base.Store`. Open it with `open`."""

    shared = True
    grace = postgres_partitions.GRACE

    def __init__(self, url: str, vault: Vault, tell: bool) -> None:
        self._url, self._vault, self._tell = url, vault, tell
        self._remote = RemoteClock()
        self.clock: Clock = self._remote
        self._pool: Pool
        self._committing: Session | None = None
        self._done, self._plans_end = 0, _FIRST_PLANS
        self._one_at_a_time = asyncio.Lock()
        self._durable: dict[str, str] = {}
        self._ear: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, url: str, vault: Vault, *, worker: bool = True) -> "PostgresStore":
        """Connect and bring the schema up to date. Without a `worker` this node tells the others what is due.

        Raises StoreUnavailable, SchemaMismatch, ConfigurationError; the first also while the database is being copied.
        """
        store = cls(url, vault, tell=not worker)
        try:
            await store._prepare()
            store._pool = await asyncpg.create_pool(
                url, min_size=0, max_size=POOL, timeout=CONNECT_SECONDS, command_timeout=WRITE_SECONDS + _GRACE_SECONDS,
                reset=_as_it_was,
                server_settings={**COMMON, **_BY_INDEX, **store._durable, "statement_timeout": f"{WRITE_SECONDS}s"},
            )  # fmt: skip
        except ValueError as error:
            raise ConfigurationError(f"database: {error}") from None
        except Exception as error:
            if not is_unavailable(error):
                raise
            raise StoreUnavailable(f"cannot open the database: {words(error)}") from error
        return store

    async def _prepare(self) -> None:
        connection = await self._connect({})
        try:
            await postgres_schema.prepare(connection, self._vault)
            await run(connection, refuse_unfinished())
            if await connection.fetchval("SHOW synchronous_commit") == "off":
                # an answer must not be given before the commit is on the disk, whatever the server's default is
                self._durable = {"synchronous_commit": "on"}
            for _ in range(_CLOCK_READINGS):
                await self._read_clock(connection)
        finally:
            await connection.close()

    async def _read_clock(self, connection: Session) -> None:
        asked = steady()
        instant = await connection.fetchval(CLOCK, timeout=CONNECT_SECONDS)
        self._remote.read(asked, steady(), instant)

    async def _connect(self, settings: dict[str, str]) -> Session:
        connection: Session = await asyncpg.connect(
            self._url, timeout=CONNECT_SECONDS, server_settings={**COMMON, **self._durable, **settings}
        )
        try:
            await postgres_nodes.take_part(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def close(self) -> None:
        if self._ear is not None:
            self._ear.cancel()
            await asyncio.wait([self._ear])
        if self._committing is not None:
            await _hang_up(self._committing)
        with suppress(TimeoutError):  # then the pool has ended its connections without a word
            async with asyncio.timeout(_GRACE_SECONDS):
                await self._pool.close()

    # batches

    async def commit(self, work: Sequence[Work]) -> list[Done]:
        batch = Batch(work, self._tell, replan=self._outgrows_plans(len(work)))
        doubt = False
        for tries in range(1, _TRIES + 1):
            try:
                return batch.answers(await self._fetch(batch))
            except asyncpg.UniqueViolationError:
                # an earlier commit of some of it is found to be kept, or was when this one met it
                if tries == _TRIES:
                    raise
                batch = Batch(work, self._tell, again=True)
            except asyncpg.RaiseError:
                # what tells of a settlement was planned so long ago that a reader may have passed its id
                if tries == _TRIES:
                    raise
                work = with_later_ids(work, self.clock.now())
                batch = Batch(work, self._tell, again=True)
            except _Cut as cut:
                doubt = True
                if tries == _TRIES or isinstance(cut.cause, TimeoutError):
                    raise self._meaning(cut.cause, doubt) from cut.cause
                batch = Batch(work, self._tell, again=True)
            except Exception as error:
                if tries == _TRIES or not worth_retrying(error):
                    raise self._meaning(error, doubt) from error
        raise AssertionError

    async def _fetch(self, batch: Batch) -> list[Any]:
        async with self._one_at_a_time:
            if self._committing is None or self._committing.is_closed():
                self._committing = None
                self._committing = await self._connect({**_BY_INDEX, "statement_timeout": f"{COMMIT_SECONDS}s"})
                self._done, self._plans_end = 0, _FIRST_PLANS
            return await self._round_trip(self._committing, batch)

    async def _round_trip(self, connection: Session, batch: Batch) -> list[Any]:
        asked = steady()
        try:
            found = await connection.fetch(batch.statement, *batch.values, timeout=COMMIT_SECONDS + _GRACE_SECONDS)
        except BaseException as error:
            if isinstance(error, asyncpg.PostgresError | ValueError) and not connection.is_closed():
                raise
            connection.terminate()
            self._committing = None
            if not isinstance(error, Exception) or not is_unavailable(error):
                raise
            raise _Cut(error) from error
        self._remote.read(asked, steady(), clock_of(found))
        return found

    def _outgrows_plans(self, size: int) -> bool:
        """Whether to make plans anew after so much more work."""
        self._done += size
        if self._done < self._plans_end:
            return False
        self._plans_end = self._done + min(self._done, _MOST_PLANS)
        return True

    # other verbs

    async def _read(self, verb: Callable[P, Verb[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            async with self._pool.acquire(timeout=CONNECT_SECONDS) as connection:
                return await _in_time(connection, run(connection, verb(*args, **kwargs)))
        except Exception as error:
            raise self._meaning(error) from error

    async def _write(self, verb: Callable[P, Verb[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        for tries in range(1, _TRIES + 1):
            try:
                async with self._pool.acquire(timeout=CONNECT_SECONDS) as connection, connection.transaction():
                    return await run(connection, verb(*args, **kwargs))
            except Exception as error:
                if tries < _TRIES and worth_retrying(error):
                    continue
                raise self._meaning(error) from error
        raise AssertionError

    async def add_days(self, now: int) -> None:
        await self._with_connection(postgres_partitions.add_days, now)

    async def drop_days(self, before: int, limit: int) -> Swept:
        return await self._with_connection(postgres_partitions.drop_days, before, limit)

    async def _with_connection(
        self, work: Callable[Concatenate[Connection, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        try:
            async with self._pool.acquire(timeout=CONNECT_SECONDS) as connection:
                return await work(connection, *args, **kwargs)
        except Exception as error:
            raise self._meaning(error) from error

    def _meaning(self, error: Exception, doubt: bool = False) -> Exception:
        """The same error, or StoreUnavailable for what is the database's; with a `doubt` it may have been done."""
        if not is_unavailable(error):
            return error
        log.error("database error: %s", words(error))
        if doubt:
            return OutcomeUnknown(f"the database did not answer ({words(error)}): this may have been accepted, or not")
        return StoreUnavailable(f"the database cannot be used right now ({words(error)}): nothing was accepted")

    async def recover(self, now: int) -> int:
        return 0

    async def settled_until(self) -> int | None:
        return await self._read(_settled_until)

    async def counts(self) -> Counts:
        return await self._read(_counts)

    # what other nodes do

    async def listen(self, hear: Callable[[Hint], None]) -> None:
        self._ear = asyncio.create_task(self._listen(hear), name="listener")

    async def _listen(self, hear: Callable[[Hint], None]) -> None:
        wait = _FIRST_WAIT
        while True:
            ended = asyncio.Event()
            with suppress(Exception):
                connection = await self._connect({})
                connection.add_termination_listener(lambda _, ended=ended: ended.set())
                try:
                    async with asyncio.timeout(CONNECT_SECONDS):
                        await connection.add_listener(CHANNEL, lambda _c, _p, _ch, payload: hear(_hint(str(payload))))
                    hear(Hint("all"))
                    wait = _FIRST_WAIT
                    while not await until(ended, _HEARTBEAT):
                        await self._read_clock(connection)
                finally:
                    await _hang_up(connection)
            await until(asyncio.Event(), wait)
            wait = min(2 * wait, SECOND)


_PENDING = """
    SELECT (SELECT count(*) FROM delivery WHERE due_at IS NOT NULL)
        + (SELECT count(*) FROM delivery
           WHERE order_key IS NOT NULL AND state = 'waiting' AND state IN ('waiting', 'due', 'leased')),
        (SELECT min(due_at) FROM delivery WHERE due_at IS NOT NULL)
"""


def _counts() -> Verb[Counts]:
    found = yield from select(_PENDING)
    return Counts(*found[0])


_UNCOMMITTED = f"""
    SELECT min(objid::bigint) FROM pg_locks
    WHERE locktype = 'advisory' AND classid = {UNCOMMITTED} AND objsubid = 2
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_SETTLED = f"SELECT (extract(epoch FROM statement_timestamp()) * 1000000)::bigint, ({_UNCOMMITTED})"


def _settled_until() -> Verb[int]:
    """By the locks that accepting takes: see there, in `postgres_commit.sql`.

    What has an id of so long before this statement began was written before it, if ever: it is committed, or its lock is
    seen. A lock goes after its message can be seen.
    """
    ((began, oldest),) = yield from select(_SETTLED)
    settled: int = began - WRITTEN_WITHIN
    return settled if oldest is None else min(settled, (oldest + ids.EPOCH) * SECOND)


def _hint(payload: str) -> Hint:
    topic, _, about = payload.partition(" ")
    return Hint(topic, about)


async def _as_it_was(connection: Session) -> None:
    """Verbs leave nothing in a session, unless one was cut off in its transaction: to reset it costs a round trip."""
    if connection.is_in_transaction():
        await connection.reset()


class _Cut(Exception):
    """The connection ended between a statement and its answer, because of `cause`."""

    def __init__(self, cause: Exception) -> None:
        super().__init__()
        self.cause = cause


async def _in_time(connection: Connection, reading: Coroutine[Any, Any, T]) -> T:
    """What is read. Raises TimeoutError, and gives up a connection that does not answer."""
    try:
        async with asyncio.timeout(READ_SECONDS):
            return await reading
    except TimeoutError:
        connection.terminate()
        raise


async def _hang_up(connection: Session) -> None:
    with suppress(Exception):
        await connection.close(timeout=1)
    connection.terminate()


_: type[Store] = PostgresStore
