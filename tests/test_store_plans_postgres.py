"""No verb of the store reads a whole table, or all of an application: what PostgreSQL does with statistics that tempt it to."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tenterhook.clock import DAY, HOUR, MINUTE
from tenterhook.ids import IdMaker
from tenterhook.model import Application, Endpoint, Source, State
from tenterhook.store import history, retention, rows, search
from tenterhook.store.base import Cutoff
from tenterhook.store.postgres import _BY_INDEX, PostgresStore
from tenterhook.store.postgres_run import Session, _answer, numbered
from tenterhook.store.queries import AttemptFilter, Cursor, MessageFilter
from tenterhook.store.sql import Read, Verb, Write
from tests.contracts.store import (
    NOW,
    new_app,
    new_attempt,
    new_delivery,
    new_endpoint,
    new_message,
    new_received,
    new_source,
)
from tests.test_store_postgres import VAULT

COUNT = 4_000
HISTORY = ("message_", "attempt_", "received_", "delivery", "event_id", "received_key", "idempotency")


class World:
    """A database with some history, and a connection to it as verbs have it."""

    def __init__(self, db: Session) -> None:
        self.db = db
        self.app: Application = new_app()
        self.endpoint: Endpoint = new_endpoint(self.app)
        self.source: Source = new_source(self.app)
        self.messages: list[str] = []

    async def fill(self, store: PostgresStore) -> None:
        """One message each half a minute, of which every second was received, and every fourth of those rejected."""
        await store.create_application(self.app)
        await store.create_endpoint(self.app.id, self.endpoint)
        await store.create_source(self.app.id, self.source)
        ids, work = IdMaker(), list[tuple[str, str, Any]]()
        for n in range(COUNT):
            at = NOW - DAY + n * MINUTE // 2
            message = new_message(self.app, id=ids.new("msg_", at), created_at=at, event_id=str(n))
            delivery = new_delivery(message, self.endpoint, state=State.DELIVERED, due_at=None)
            attempt = new_attempt(delivery, id=ids.new("atmpt_", at))
            self.messages.append(message.id)
            work += [
                ("message", rows.MESSAGE, rows.message_row(message)),
                ("delivery", rows.DELIVERY, rows.delivery_row(delivery)),
                ("event_id", rows.EVENT_ID, (message.app, message.event_id, message.id)),
                ("attempt", rows.ATTEMPT, rows.attempt_row(attempt)),
            ]
            request = new_received(self.source, None if n % 4 else message, id=ids.new("req_", at))
            work += [("received", rows.RECEIVED, rows.received_row(request))] if n % 2 else []
        for table, columns in {(table, columns) for table, columns, _ in work}:
            names = [name.strip('"') for name in columns.split(", ")]
            await self.db.copy_records_to_table(table, records=[r for t, _, r in work if t == table], columns=names)
        await self.db.execute("ANALYZE")

    async def plans(self, verb: Verb[Any]) -> list[str]:
        """How each statement of the verb is run."""
        found, wanted = [], next(verb)
        try:
            while True:
                if isinstance(wanted, Read | Write):
                    lines = await self.db.fetch("EXPLAIN " + numbered(wanted.text), *wanted.values)
                    found.append("\n".join(row[0] for row in lines))
                wanted = verb.send(await _answer(self.db, wanted))
        except StopIteration:
            return found


@pytest.fixture
async def world(postgres_url: str) -> AsyncIterator[World]:
    store = await PostgresStore.open(postgres_url, VAULT)
    await store.add_days(NOW - DAY)
    connection = await store._connect(_BY_INDEX)
    try:
        world = World(connection)
        await world.fill(store)
        async with connection.transaction():
            yield world
    finally:
        await connection.close()
        await store.close()


NAMED = MessageFilter(event_types=("a", "b"), channel="c", tag="t")


async def test_nothing_is_read_from_end_to_end(world: World) -> None:
    app, endpoint, source, page = world.app.id, world.endpoint.id, world.source.id, Cursor(limit=51, descending=True)
    old = NOW - DAY + COUNT * MINUTE // 4
    verbs: list[Verb[Any]] = [
        history.next_dues(None, 1_000),
        history.list_lapsing(NOW + 99 * DAY, 1_000),
        history.list_messages(app, page),
        history.list_attempts(app, page, None, endpoint),
        history.list_attempts(app, page, world.messages[7], endpoint),
        history.list_received(app, source, page, "rejected"),
        search.search_messages(app, page, NAMED),
        search.search_attempts(app, page, AttemptFilter(of=NAMED), None, endpoint),
        retention.overdue([Cutoff(app, old, 0)]),
        retention.prune(NOW + HOUR, 100, 1_000),
        retention.expire(Cutoff(app, old, 0), "", 1_000, False),
        retention.forget(Cutoff(app, 0, old), "", 1_000, False),
    ]
    for verb in verbs:
        for plan in await world.plans(verb):
            assert not any(f"Seq Scan on {table}" in plan for table in HISTORY), plan


async def test_a_search_in_attempts_looks_up_the_message_of_each(world: World) -> None:
    """And does not begin with all messages that fit, of which there may be any number."""
    wanted = AttemptFilter(of=NAMED)
    found = search.search_attempts(world.app.id, Cursor(limit=51, descending=True), wanted, None, world.endpoint.id)
    plan = (await world.plans(found))[-1]
    conditions = [line for line in plan.splitlines() if "Index Cond" in line and "app" in line]
    assert conditions, plan
    assert all("id = a" in line for line in conditions), plan
