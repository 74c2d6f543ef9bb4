"""Transactions that lose against others, and one whose node is gone: tried again, and nobody waits for long."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest
from bench.load import until
from bench.postgres import SUPERUSER, PostgresServer

from tenterhook.store.postgres_commit import line_key
from tests.faults.conftest import Scale
from tests.faults.nodes import ALERT, QUICK, Nodes
from tests.faults.traffic import FIFO, database, none_pending, through
from tests.receiver import OK, answering, tick
from tests.wire import Wire

Database = "asyncpg.Connection[asyncpg.Record]"
FAILING = """
    CREATE SEQUENCE tried;
    CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF nextval('tenterhook.tried') <= 3 THEN
            RAISE EXCEPTION 'could not serialize access' USING ERRCODE = 'serialization_failure';
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER fail BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION fail();
"""


@pytest.fixture
async def other(server: PostgresServer, url: str) -> AsyncIterator[Database]:
    """Somebody else's connection, whom no deadlock strikes."""
    name = urlsplit(url).path[1:]
    settings = {"search_path": "tenterhook", "deadlock_timeout": "1h"}
    connection = await asyncpg.connect(server.url(name, SUPERUSER), server_settings=settings)
    yield connection
    await connection.close()


async def waiting(db: Database, count: int = 1) -> None:
    """Wait until so many backends of this database wait for a lock."""
    text = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with asyncio.timeout(QUICK):
        while await db.fetchval(text) < count:
            await tick(0.01)


async def test_a_deadlock_costs_time_only(nodes: Nodes, other: Database, url: str) -> None:
    (node,) = await nodes.start(**ALERT)
    async with answering(OK) as receiver, database(url) as db:
        app, endpoints = await node.app(*[{"url": receiver.url(), "ordered": True}] * 2)
        first, second = sorted(line_key(endpoint, "key") for endpoint in endpoints)
        async with other.transaction():
            await other.execute("SELECT pg_advisory_xact_lock($1)", second)
            publishing = asyncio.create_task(node.message(app, orderingKey="key"))
            await waiting(db)
            await other.execute("SELECT pg_advisory_xact_lock($1)", first)
        await publishing
        await until(lambda: len(receiver.requests) == 2, QUICK, "both deliveries")
        await none_pending(db, QUICK)
        found = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        async with asyncio.timeout(QUICK):
            while await db.fetchval(found) != 1:
                await tick(0.05)


@pytest.mark.parametrize("table", ["message", "attempt", "endpoint"])
async def test_a_serialization_failure_is_retried(nodes: Nodes, url: str, table: str) -> None:
    (node,) = await nodes.start(**ALERT)
    async with answering(OK) as receiver, database(url) as db:
        app, _ = await node.app({"url": receiver.url()})
        await db.execute(FAILING.format(table=table))
        await node.call("POST", f"/app/{app}/endpoint", {"url": receiver.url()})
        await node.message(app)
        await until(lambda: len(receiver.requests) == 2, QUICK, "both deliveries")
        await none_pending(db, QUICK)
        assert await db.fetchval("SELECT last_value FROM tried") > 3


async def test_order_is_kept_whatever_isolation_the_database_has_by_default(
    nodes: Nodes, other: Database, url: str, scale: Scale
) -> None:
    """With an older picture of the database than the lock that it waited for, a node would see the end of a line wrongly."""
    name = urlsplit(url).path[1:]
    await other.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    await nodes.start(2, **ALERT)
    async with through(nodes) as traffic:
        traffic.begin()
        await traffic.more(3 * scale.load)
        await traffic.end()
        await traffic.verify(url)
        assert not traffic.refused


async def test_a_node_that_is_cut_off_in_a_transaction_lets_go_of_its_locks(
    nodes: Nodes, other: Database, url: str
) -> None:
    async with answering(OK) as receiver, database(url) as db, Wire(url) as wire:
        (node,) = await nodes.start()
        lost = await nodes.node(wire.url).start()
        app, (endpoint,) = await node.app({"url": receiver.url(FIFO), "ordered": True})
        message = await node.message(app)
        await none_pending(db, QUICK)
        resend = f"/app/{app}/msg/{message}/endpoint/{endpoint}/resend"
        async with other.transaction():
            await other.execute("SELECT FROM delivery FOR UPDATE")
            resending = asyncio.create_task(lost.try_call("POST", resend, {}))
            await waiting(db)
            wire.pause()
        # its transaction goes on in the database and holds the line: nobody will ever end it
        async with asyncio.timeout(QUICK):
            while (await node.try_call("POST", f"/app/{app}/msg", {"eventType": "a", "payload": {}})).status == 503:
                pass
        await until(lambda: len(receiver.requests) == 2, QUICK, "the message")
        wire.resume()
        assert (await resending).status == 503
        await none_pending(db)
