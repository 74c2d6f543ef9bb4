"""An outbox in PostgreSQL: commit order per key, late commits, hints, and one relay among several servers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import msgspec
import psycopg
import pytest
from bench.postgres import SUPERUSER, PostgresServer

from tenterhook import outbox
from tenterhook.clock import HOUR
from tenterhook.outbox.postgres import LEADER
from tenterhook.outbox.schema import CHANNEL, RESTING
from tenterhook.store.postgres import PostgresStore
from tests import api, outboxes
from tests.api import GRACE
from tests.outboxes import query
from tests.relaying import VAULT, Place, placed
from tests.wire import Wire

HERE = "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
LOCKED = f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = $1 AND granted AND {HERE}"
WAITS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = $1 AND NOT granted"


@pytest.fixture
async def place(tmp_path: Path, postgres_url: str) -> AsyncIterator[Place]:
    async with placed(tmp_path, outboxes.make_in_postgres(postgres_url)) as place:
        yield place


@pytest.fixture
async def connect(postgres_url: str) -> AsyncIterator[Callable[[], Any]]:
    """Makes connections that end with the test."""
    made: list[asyncpg.Connection] = []

    async def connection() -> asyncpg.Connection:
        made.append(await asyncpg.connect(postgres_url))
        return made[-1]

    yield connection
    for one in made:
        await one.close()


async def holds(connection: asyncpg.Connection, sql: str, value: int, count: int = 1) -> None:
    """Wait until so many locks are held, or waited for: the database tells nobody, so it is asked."""
    async with asyncio.timeout(GRACE):
        while await connection.fetchval(sql, value) != count:
            pass


# order


async def test_a_transaction_that_commits_late_is_not_skipped(place: Place, connect: Callable[[], Any]) -> None:
    """It has drawn its position first, and commits when later ones are messages and gone."""
    early, late = await connect(), await connect()
    opened = early.transaction()
    await opened.start()
    await outbox.write(early, "acme", "written.first", {}, key="one")
    async with late.transaction():
        await outbox.write(late, "acme", "written.second", {}, key="two")
    await place.relay()
    await place.server.watch.settled(1)
    await wait_for_rows(late, 0)
    await opened.commit()
    assert [message.event_type for message in await place.relayed(2)] == ["written.second", "written.first"]


async def test_writers_of_a_key_take_turns(place: Place, connect: Callable[[], Any]) -> None:
    first, second, watcher = await connect(), await connect(), await connect()
    opened = first.transaction()
    await opened.start()
    await outbox.write(first, "acme", "of.the.first", {}, key="k")

    async def write() -> None:
        async with second.transaction():
            await outbox.write(second, "acme", "of.the.second", {}, key="k")

    writing = asyncio.create_task(write())
    await holds(watcher, WAITS, second.get_server_pid())
    await outbox.write(first, "acme", "of.the.first.again", {}, key="k")
    await opened.commit()
    await asyncio.wait_for(writing, GRACE)
    await place.relay()
    assert [message.event_type for message in await place.relayed(3)] == [
        "of.the.first",
        "of.the.first.again",
        "of.the.second",
    ]


@pytest.mark.parametrize("other", [{"key": "other"}, {"key": None}, {"application": "other"}])
async def test_nobody_else_waits(other: dict[str, Any], place: Place, connect: Callable[[], Any]) -> None:
    first, second = await connect(), await connect()
    await second.execute("SET lock_timeout = '1s'")
    async with first.transaction():
        await outbox.write(first, application="acme", event_type="a", payload={}, key="k")
        async with second.transaction():
            await outbox.write(second, **{"application": "acme", "event_type": "b", "payload": {}, "key": "k"} | other)


@pytest.mark.parametrize("seed", range(3))
async def test_each_key_is_in_the_order_of_its_commits(
    seed: int, tmp_path: Path, private_postgres: Callable[..., PostgresServer]
) -> None:
    """Many writers at once, each with one or two keys in a transaction; the database says when each has committed."""
    url = private_postgres(track_commit_timestamp="on").url()
    outboxes.make_in_postgres(url)
    query(url, "CREATE TABLE written (writer int, n int, key text)")
    writers, each = 12, 15

    async def writer(number: int) -> None:
        random = Random(seed * 1_000 + number)
        connection = await asyncpg.connect(url)
        for n in range(each):
            async with connection.transaction():
                # in one order, or two transactions could wait for each other
                for key in sorted(random.sample(["a", "b", "c", "d"], random.choice([1, 1, 2]))):
                    await outbox.write(connection, "acme", "a.b", {"writer": number, "n": n}, key=key)
                    await connection.execute("INSERT INTO written VALUES ($1, $2, $3)", number, n, key)
                for _ in range(random.randrange(6)):
                    await connection.execute("SELECT 1")
        await connection.close()

    async with placed(tmp_path, url) as place:
        await place.relay(batch=10)
        await asyncio.gather(*(writer(number) for number in range(writers)))
        committed = query(url, "SELECT key, writer, n FROM written ORDER BY pg_xact_commit_timestamp(xmin)")
        messages = await place.relayed(len(committed))
    published = [(m.order_key, *msgspec.json.decode(m.payload).values()) for m in messages]
    assert len(published) == len(committed)
    for key in "abcd":
        assert [row for row in published if row[0] == key] == [row for row in committed if row[0] == key]


# hints


async def test_a_relay_that_rests_is_told(place: Place, connect: Callable[[], Any]) -> None:
    """It would look by itself in an hour."""
    watcher = await connect()
    await place.relay(poll=HOUR)
    for count in range(1, 4):
        await holds(watcher, LOCKED, RESTING)
        place.write({})
        await place.server.watch.settled(count)


async def test_who_wrote_before_it_rested_is_waited_for(place: Place, connect: Callable[[], Any]) -> None:
    """A transaction that was given no chance to tell: the relay does not rest until it has ended."""
    writer, watcher = await connect(), await connect()
    opened = writer.transaction()
    await opened.start()
    await outbox.write(writer, "acme", "early", {})
    await place.relay(poll=HOUR)
    await holds(watcher, LOCKED, LEADER)
    place.write({"event_type": "marker"})
    await place.server.watch.settled(1)
    assert await watcher.fetchval(f"{LOCKED} AND mode = 'ExclusiveLock'", RESTING) == 0
    await opened.commit()
    assert [message.event_type for message in await place.relayed(2)] == ["marker", "early"]


async def test_commits_are_not_held_up_by_hints_that_nobody_waits_for(place: Place, connect: Callable[[], Any]) -> None:
    listener = await connect()
    heard: asyncio.Queue[str] = asyncio.Queue()
    await listener.add_listener(CHANNEL, lambda *given: heard.put_nowait(given[-1]))
    place.write({}, {"key": "k"})
    await listener.execute(f"NOTIFY {CHANNEL}, 'marker'")
    assert await asyncio.wait_for(heard.get(), GRACE) == "marker"
    await place.relay()
    await place.server.watch.settled(2)
    await holds(await connect(), LOCKED, RESTING)
    place.write({})
    assert await asyncio.wait_for(heard.get(), GRACE) == ""


async def test_without_the_trigger_it_looks_by_itself(place: Place, connect: Callable[[], Any]) -> None:
    query(place.url, "DROP TRIGGER tenterhook_outbox_hint ON tenterhook_outbox")
    await place.relay()
    await holds(await connect(), LOCKED, RESTING)
    place.write({})
    assert len(await place.relayed(1)) == 1


# several servers


async def test_one_server_relays_and_another_takes_over(tmp_path: Path, postgres_url: str) -> None:
    url = outboxes.make_in_postgres(postgres_url)
    async with (
        Wire(url) as wire,
        placed(tmp_path, url, await PostgresStore.open(url, VAULT)) as first,
        api.running(tmp_path, await PostgresStore.open(url, VAULT)) as server,
    ):
        second = Place(server, url, first.app)
        connection = await asyncpg.connect(url)
        await first.relay(database=wire.url)
        await holds(connection, LOCKED, LEADER)
        await second.relay()
        first.write(*({"payload": {"n": n}, "key": "k"} for n in range(20)))
        await wait_for_rows(connection, 0)
        assert first.server.node.stats.accepted == 20
        assert second.server.node.stats.accepted == 0

        first.write(*({"payload": {"n": n}, "key": "k"} for n in range(20, 40)))
        wire.refuse()
        wire.cut()
        first.write(*({"payload": {"n": n}, "key": "k"} for n in range(40, 60)))
        await wait_for_rows(connection, 0)
        await connection.close()
        assert second.server.node.stats.accepted > 0
        messages = await second.messages()
        assert [msgspec.json.decode(message.payload)["n"] for message in messages] == list(range(60))


async def wait_for_rows(connection: asyncpg.Connection, count: int) -> None:
    async with asyncio.timeout(GRACE):
        while await connection.fetchval("SELECT count(*) FROM tenterhook_outbox") != count:
            pass


async def test_a_node_that_only_answers_leaves_it_to_others(tmp_path: Path, postgres_url: str) -> None:
    url = outboxes.make_in_postgres(postgres_url)
    store = await PostgresStore.open(url, VAULT, worker=False)
    async with api.running(tmp_path, store, role="api") as server:
        place = Place(server, url, await server.app(uid="acme"))
        place.write({})
        await place.relay()
        assert not server.node.relays.names
        assert len(query(url, "SELECT * FROM tenterhook_outbox")) == 1


# the table


async def test_a_table_in_a_schema_serves_whatever_the_search_path(tmp_path: Path, postgres_url: str) -> None:
    query(postgres_url, "CREATE SCHEMA app")
    for _ in range(2):
        query(postgres_url, outbox.ddl("postgresql", "app.events"))
    async with placed(tmp_path, postgres_url) as place:
        with psycopg.connect(postgres_url) as connection:
            connection.execute("SET search_path = ''")
            outbox.write(connection, "acme", "a.b", {}, key="k", table="app.events")
        await place.relay(table="app.events")
        assert len(await place.relayed(1)) == 1


async def test_few_rights_are_enough(tmp_path: Path, private_postgres: Callable[..., PostgresServer]) -> None:
    """Those that docs/outbox.md names for who writes and for the relay."""
    server = private_postgres()
    admin = server.url(role=SUPERUSER)
    with psycopg.connect(admin) as connection:
        connection.execute(outbox.ddl("postgresql").encode())
        for role in ("app", "tenterhook_relay"):
            connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{server.password}'".encode())
        connection.execute("GRANT INSERT ON tenterhook_outbox TO app")
        connection.execute("GRANT USAGE ON SEQUENCE tenterhook_outbox_sequence TO app")
        connection.execute("GRANT SELECT, UPDATE, DELETE ON tenterhook_outbox TO tenterhook_relay")
    with psycopg.connect(server.url(role="app")) as connection:
        outbox.write(connection, "acme", "good", {}, key="k")
        outbox.write(connection, "nobody", "bad", {})
    async with placed(tmp_path, server.url(role="tenterhook_relay")) as place:
        await place.relay()
        assert len(await place.relayed(1)) == 1
    assert query(admin, "SELECT event_type, attempts FROM tenterhook_outbox") == [("bad", 1)]
