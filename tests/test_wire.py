"""The proxy counts what a real client asks a real server, and breaks connections at the moment that it is told."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

import asyncpg
import psycopg
import pytest
from bench.postgres import PostgresServer
from hypothesis import given
from hypothesis import strategies as st

from tests.api import GRACE
from tests.wire import Message, Messages, Wire

LOST = (ConnectionError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError)


@pytest.fixture
async def wire(postgres_url: str) -> AsyncIterator[Wire]:
    async with Wire(postgres_url) as wire:
        yield wire


@pytest.fixture
async def direct(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection beside the proxy, to see what the server has."""
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("CREATE TABLE mark (n int)")
    yield connection
    await connection.close()


def opening(code: int, rest: bytes = b"") -> bytes:
    return struct.pack("!ii", 8 + len(rest), code) + rest


LETTERED = st.tuples(st.sampled_from("QPBESXd"), st.binary(max_size=40)).map(
    lambda found: Message(found[0], found[0].encode() + struct.pack("!i", 4 + len(found[1])) + found[1])
)


@given(st.integers(0, 2), st.lists(LETTERED), st.lists(st.integers(1, 30)))
def test_messages_are_found_however_they_arrive(refused: int, lettered: list[Message], sizes: list[int]) -> None:
    encrypt = Message("encrypt", opening(80877103))
    startup = Message("startup", opening(196608, b"user\0me\0\0"))
    sent = [*[encrypt] * refused, startup, *lettered]
    rest = b"".join(message.raw for message in sent)
    messages, found = Messages(opening=True), list[Message]()
    for size in [*sizes, len(rest)]:
        found += messages.feed(rest[:size])
        rest = rest[size:]
    found += messages.feed(rest)
    assert found == sent


async def test_round_trips_are_counted(wire: Wire) -> None:
    connection = await asyncpg.connect(wire.url)
    assert wire.round_trips == 1
    wire.seen.clear()
    assert await connection.fetchval("SELECT 7") == 7  # prepare, then execute
    assert wire.round_trips == 2
    assert await connection.fetchval("SELECT 7") == 7
    assert wire.round_trips == 3
    wire.seen.clear()
    async with connection.transaction():
        await connection.execute("CREATE TABLE t (n int)")
    assert wire.seen == {"Q": 3}
    await connection.close()


async def test_another_client_is_understood_too(wire: Wire) -> None:
    async with await psycopg.AsyncConnection.connect(wire.url, autocommit=True) as connection:
        cursor = await connection.execute("SELECT %s::int", [7])
        assert await cursor.fetchone() == (7,)
    assert wire.round_trips == 2


async def test_much_goes_through_unchanged(wire: Wire) -> None:
    connection = await asyncpg.connect(wire.url)
    much = bytes(range(256)) * 40_000
    assert await connection.fetchval("SELECT $1::bytea", much) == much
    await connection.close()


async def test_all_connections_are_cut(wire: Wire) -> None:
    connections = [await asyncpg.connect(wire.url) for _ in range(2)]
    both = wire.tell(kind="E", nth=2)
    waiting = [asyncio.create_task(connection.fetchval("SELECT pg_sleep(60)")) for connection in connections]
    await asyncio.wait_for(both.struck.wait(), GRACE)
    wire.cut()
    results = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), GRACE)
    assert all(isinstance(result, LOST) for result in results), results
    another = await asyncpg.connect(wire.url)
    assert await another.fetchval("SELECT 7") == 7
    await another.close()


async def test_an_answer_is_told_when_it_has_come(wire: Wire, direct: asyncpg.Connection) -> None:
    connection = await asyncpg.connect(wire.url)
    asked, answered = wire.tell(b"FOR UPDATE", kind="Q"), wire.tell_after(b"FOR UPDATE", kind="Q")
    async with direct.transaction():
        await direct.execute("LOCK TABLE mark")
        reading = asyncio.create_task(connection.execute("SELECT * FROM mark FOR UPDATE"))
        await asyncio.wait_for(asked.struck.wait(), GRACE)
        assert not answered.struck.is_set()
    await asyncio.wait_for(answered.struck.wait(), GRACE)
    await reading
    await connection.close()


async def test_a_cut_is_a_reset(wire: Wire) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(wire.url).port)
    passed = wire.tell(kind="startup")
    writer.write(opening(196608, b"user\0nobody\0\0"))
    await asyncio.wait_for(passed.struck.wait(), GRACE)
    wire.cut()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), GRACE)
    writer.close()


async def test_cut_before_a_commit_nothing_is_kept(wire: Wire, direct: asyncpg.Connection) -> None:
    connection = await asyncpg.connect(wire.url)
    trap = wire.cut_before(b"COMMIT")
    with pytest.raises(LOST):
        async with connection.transaction():
            await connection.execute("INSERT INTO mark VALUES (7)")
    assert trap.struck.is_set()
    assert await direct.fetchval("SELECT count(*) FROM mark") == 0


async def test_cut_after_a_commit_it_is_kept(wire: Wire, direct: asyncpg.Connection) -> None:
    connection = await asyncpg.connect(wire.url)
    trap = wire.cut_after(b"COMMIT")
    with pytest.raises(LOST):
        async with connection.transaction():
            await connection.execute("INSERT INTO mark VALUES (7)")
    assert trap.struck.is_set()
    assert await direct.fetchval("SELECT count(*) FROM mark") == 1


async def test_a_pipeline_is_carried_out_up_to_its_sync(wire: Wire, direct: asyncpg.Connection) -> None:
    """The number is in the Bind message; the Execute and the Sync behind it count too."""
    connection = await asyncpg.connect(wire.url)
    trap = wire.cut_after(struct.pack("!i", 77), kind="B")
    with pytest.raises(LOST):
        await asyncio.wait_for(connection.execute("INSERT INTO mark VALUES ($1)", 77), GRACE)
    assert trap.struck.is_set()
    assert await direct.fetchval("SELECT count(*) FROM mark") == 1


async def test_a_long_answer_is_awaited_to_its_end(wire: Wire, direct: asyncpg.Connection) -> None:
    connection = await asyncpg.connect(wire.url)
    wire.cut_after(b"INSERT")
    with pytest.raises(LOST):
        await connection.execute("SELECT generate_series(1, 100000); INSERT INTO mark VALUES (7)")
    assert await direct.fetchval("SELECT count(*) FROM mark") == 1


async def test_cut_at_the_nth_of_a_kind(wire: Wire, direct: asyncpg.Connection) -> None:
    connection = await asyncpg.connect(wire.url)
    wire.cut_before(kind="E", nth=3)
    with pytest.raises(LOST):
        for n in range(5):
            await connection.execute("INSERT INTO mark VALUES ($1)", n)
    assert await direct.fetch("SELECT n FROM mark ORDER BY n") == [(0,), (1,)]


async def test_a_trap_strikes_once_and_one_connection(wire: Wire) -> None:
    one, other = await asyncpg.connect(wire.url), await asyncpg.connect(wire.url)
    wire.cut_before(b"'mark'")
    with pytest.raises(LOST):
        await one.execute("SELECT 'mark'")
    assert await other.execute("SELECT 'mark'") == "SELECT 1"
    await other.close()


async def test_paused_bytes_arrive_later(wire: Wire) -> None:
    connection = await asyncpg.connect(wire.url)
    wire.pause()
    answer = asyncio.create_task(connection.fetchval("SELECT 7"))
    done, _ = await asyncio.wait([answer], timeout=0.1)
    assert not done
    wire.resume()
    assert await asyncio.wait_for(answer, GRACE) == 7
    await connection.close()


async def test_a_server_does_not_see_a_client_leave_behind_a_pause(wire: Wire, direct: asyncpg.Connection) -> None:
    """So its locks stay, as when a machine vanishes from the network."""
    async with Wire(wire.url) as near:
        connection = await asyncpg.connect(near.url)
        await connection.execute("BEGIN; LOCK TABLE mark")
        wire.pause()
        near.cut()
    with pytest.raises(asyncpg.LockNotAvailableError):
        await direct.execute("SET lock_timeout = 200; SELECT * FROM mark")
    wire.resume()
    await direct.execute("SET lock_timeout = 0; SELECT * FROM mark")


async def test_new_connections_are_refused_and_old_ones_stay(wire: Wire) -> None:
    connection = await asyncpg.connect(wire.url)
    wire.refuse()
    with pytest.raises(ConnectionRefusedError):
        await asyncpg.connect(wire.url)
    assert await connection.fetchval("SELECT 7") == 7
    await wire.accept()
    another = await asyncpg.connect(wire.url)
    await another.close()
    await connection.close()


async def test_a_server_that_is_down_is_a_lost_connection(private_postgres: Callable[..., PostgresServer]) -> None:
    server = private_postgres()
    async with Wire(server.url()) as wire:
        connection = await asyncpg.connect(wire.url)
        server.kill()
        with pytest.raises(LOST):
            await connection.execute("SELECT 7")
        with pytest.raises(LOST):
            await asyncpg.connect(wire.url)
        server.start()
        connection = await asyncpg.connect(wire.url)
        assert await connection.fetchval("SELECT 7") == 7
        await connection.close()
