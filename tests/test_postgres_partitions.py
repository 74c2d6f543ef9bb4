"""The history on PostgreSQL in days: made ahead, dropped at once, and nobody is hindered."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenterhook.clock import DAY, HOUR, MINUTE, SECOND
from tenterhook.ids import EPOCH, IdMaker
from tenterhook.model import Application, Endpoint
from tenterhook.store import postgres_partitions
from tenterhook.store.base import Swept
from tenterhook.store.postgres import PostgresStore
from tenterhook.store.postgres_partitions import DAYS_AHEAD, PREFIXES, bounds, day_in, day_of, part
from tenterhook.store.queries import Cursor
from tenterhook.store.work import Accept, Accepted
from tenterhook.vault import Vault
from tests.contracts.replays import replay
from tests.contracts.retention import ALL, aged, ended
from tests.contracts.store import NOW, new_app, new_delivery, new_endpoint, new_message, new_received, new_source

INSTANTS = st.integers(EPOCH * SECOND + DAY, (EPOCH + 2**32 - 1) * SECOND - 2 * DAY)
TODAY = day_of(NOW)
OLD = TODAY - 10 * DAY
"""A day in the past."""


@given(INSTANTS, st.sampled_from([*PREFIXES]))
def test_an_id_is_in_the_part_of_its_day_and_in_no_other(instant: int, table: str) -> None:
    made = IdMaker().new(PREFIXES[table], instant)
    day = day_of(instant)
    low, high = bounds(table, day)
    assert low <= made < high
    assert bounds(table, day - DAY)[1] == low
    assert bounds(table, day + DAY)[0] == high
    assert day_in(part(table, day)) == day


def test_names() -> None:
    day = int(datetime(2026, 11, 26, tzinfo=UTC).timestamp()) * SECOND
    assert part("message", day) == "message_p20261126"
    assert [day_in(name) for name in ("message_rest", "message_p2026112", "other_p20261126", "message")] == [None] * 4


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(postgres_url, Vault([b"0" * 32]))
    yield store
    await store.close()


@pytest.fixture
async def db(store: PostgresStore, postgres_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(postgres_url, server_settings={"search_path": "tenterhook"})
    yield connection
    await connection.close()


@pytest.fixture
async def app(store: PostgresStore) -> Application:
    app = new_app()
    await store.create_application(app)
    return app


@pytest.fixture
async def endpoint(store: PostgresStore, app: Application) -> Endpoint:
    endpoint = new_endpoint(app)
    await store.create_endpoint(app.id, endpoint)
    return endpoint


async def dropped(store: PostgresStore, before: int, limit: int = 100) -> int:
    """How many days went, until there was nothing more to do."""
    days = 0
    while (step := await store.drop_days(before, limit)).after is not None:
        days += step.days
    return days


async def places(db: Any, table: str) -> dict[str, str]:
    """Which part each row is in."""
    return {row[0]: row[1] for row in await db.fetch(f"SELECT id, tableoid::regclass::text FROM {table}")}


# making


async def test_today_and_the_next_days_are_made(store: PostgresStore, db: Any) -> None:
    await store.add_days(NOW)
    expected = {part(table, TODAY + n * DAY) for table in PREFIXES for n in range(DAYS_AHEAD + 1)}
    assert await postgres_partitions.parts(db) == expected
    await store.add_days(NOW + DAY)
    expected |= {part(table, TODAY + (DAYS_AHEAD + 1) * DAY) for table in PREFIXES}
    assert await postgres_partitions.parts(db) == expected


async def test_what_comes_in_is_in_the_part_of_its_day(
    store: PostgresStore, db: Any, app: Application, endpoint: Endpoint
) -> None:
    await store.add_days(NOW)
    source = new_source(app)
    await store.create_source(app.id, source)
    message, late = aged(app, NOW, source=source.id), aged(app, TODAY - HOUR)
    request = new_received(source, message)
    (attempt,) = await ended(store, endpoint, message, received=request)
    await store.commit([Accept(late)])
    assert await places(db, "message") == {message.id: part("message", TODAY), late.id: "message_rest"}
    assert await places(db, "attempt") == {attempt.id: part("attempt", TODAY)}
    assert await places(db, "received") == {request.id: part("received", TODAY)}
    assert await store.list_messages(app.id, ALL) == [late, message]


async def test_nodes_make_the_same_days_at_once(store: PostgresStore, db: Any) -> None:
    await asyncio.gather(*(store.add_days(NOW) for _ in range(5)))
    assert len(await postgres_partitions.parts(db)) == len(PREFIXES) * (DAYS_AHEAD + 1)
    await store.add_days(NOW)


async def test_rows_without_a_part_stay_where_they_are(
    store: PostgresStore, db: Any, app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    message = aged(app, NOW)
    await store.commit([Accept(message)])
    with caplog.at_level(logging.WARNING):
        await store.add_days(NOW)
    assert f"message_rest holds rows of the day of {part('message', TODAY)}" in caplog.text
    there = await postgres_partitions.parts(db)
    assert part("message", TODAY) not in there
    assert {part("message", TODAY + DAY), part("attempt", TODAY)} <= there
    assert await store.list_messages(app.id, ALL) == [message]
    await store.commit([Accept(aged(app, NOW + SECOND))])


# dropping


async def test_an_old_day_goes_with_all_that_belongs_to_it(
    store: PostgresStore, db: Any, app: Application, endpoint: Endpoint
) -> None:
    await store.add_days(OLD)
    source = new_source(app)
    await store.create_source(app.id, source)
    for n in range(7):
        message = aged(app, OLD + n * HOUR, event_id=str(n), source=source.id)
        request = new_received(source, message, dedup_key=str(n), id=IdMaker().new("req_", OLD + n * HOUR))
        await ended(store, endpoint, message, received=request)
    # its retry came on the next day
    await ended(store, endpoint, aged(app, OLD + DAY - MINUTE), attempts=3)
    young = aged(app, OLD + DAY, event_id="young")
    await ended(store, endpoint, young)
    assert await store.drop_days(OLD + DAY - 1, 100) == Swept()
    assert await dropped(store, OLD + DAY, limit=3) == 1
    assert await store.list_messages(app.id, ALL) == [young]
    assert await store.list_received(app.id, source.id, ALL) == []
    assert {a.message for a in await store.list_attempts(app.id, ALL, endpoint=endpoint.id)} == {young.id}
    for table in ("delivery", "event_id", "received_key"):
        assert {row[0] for row in await db.fetch(f"SELECT message FROM {table}")} <= {young.id}
    assert not any(name.endswith(part("", OLD)) for name in await postgres_partitions.parts(db))
    again = new_message(app, event_id="3")
    assert await store.commit([Accept(again)]) == [Accepted(again.id)]
    assert await store.drop_days(OLD + DAY, 100) == Swept()


async def test_days_go_oldest_first_and_wait_for_what_is_pending(
    store: PostgresStore, db: Any, app: Application, endpoint: Endpoint
) -> None:
    await store.add_days(OLD)
    owed, done = aged(app, OLD + DAY + HOUR, event_id="owed"), aged(app, OLD + DAY)
    await store.commit([Accept(owed, (new_delivery(owed, endpoint),))])
    for message in (aged(app, OLD), done, aged(app, OLD + 2 * DAY)):
        await ended(store, endpoint, message)
    assert await dropped(store, OLD + 3 * DAY) == 1
    assert [m.id for m in await store.list_messages(app.id, Cursor(limit=2))] == [done.id, owed.id]
    assert await store.get_message(app.id, "owed") == owed
    await store.cancel_delivery(app.id, owed.id, endpoint.id, NOW)
    assert await dropped(store, OLD + 3 * DAY) == 2
    assert await store.list_messages(app.id, ALL) == []


async def test_who_reads_for_long_is_not_disturbed(store: PostgresStore, db: Any, app: Application) -> None:
    await store.add_days(OLD)
    await store.commit([Accept(aged(app, OLD))])
    reading = db.transaction()
    await reading.start()
    await db.fetch("SELECT id FROM message")
    assert await dropped(store, OLD + DAY) == 0
    assert len(await db.fetch("SELECT id FROM message")) == 1
    await reading.rollback()
    assert await dropped(store, OLD + DAY) == 1


async def test_who_writes_meanwhile_loses_nothing(store: PostgresStore, app: Application, endpoint: Endpoint) -> None:
    stop, more, sent = asyncio.Event(), asyncio.Event(), list[str]()

    async def write() -> None:
        while not stop.is_set():
            message = aged(app, NOW)
            await ended(store, endpoint, message)
            sent.append(message.id)
            more.set()

    writers = [asyncio.create_task(write()) for _ in range(3)]
    await store.add_days(OLD)
    for n in range(DAYS_AHEAD):
        await store.add_days(NOW + n * DAY)
        await dropped(store, OLD + (n + 1) * DAY)
        more.clear()
        await asyncio.wait([*writers, asyncio.ensure_future(more.wait())], return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    await asyncio.gather(*writers)
    assert len(sent) > DAYS_AHEAD
    assert {m.id for m in await store.list_messages(app.id, ALL)} == set(sent)


async def test_what_is_sent_again_meanwhile_keeps_its_day_or_is_refused(
    store: PostgresStore, app: Application, endpoint: Endpoint
) -> None:
    await store.add_days(OLD)
    for n in range(DAYS_AHEAD):
        day = OLD + n * DAY
        message = aged(app, day)
        await store.commit([Accept(message)])

        replaying = replay(store, endpoint, since=day, until=day + DAY, missing=True)
        days, replayed = await asyncio.gather(dropped(store, day + DAY), replaying)
        stored = await store.get_message(app.id, message.id)
        assert (days, replayed, stored is None) in ((1, 0, True), (0, 1, False))
        await store.cancel_delivery(app.id, message.id, endpoint.id, NOW)
        await dropped(store, day + DAY)
    assert await store.list_messages(app.id, ALL) == []
