"""No verb of the store reads a whole table: what SQLite says of how it runs each statement."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tenterhook import ids
from tenterhook.clock import DAY, MINUTE
from tenterhook.engine.lifecycle import step
from tenterhook.ids import IdMaker
from tenterhook.model import State, TaskKind
from tenterhook.store import erasure, history, lines, replays, retention, search, statistics, tasks, usage
from tenterhook.store.base import Cutoff
from tenterhook.store.queries import AttemptFilter, Cursor, DeliveryFilter, MessageFilter
from tenterhook.store.sql import Read, Verb, Write
from tenterhook.store.sqlite import SqliteStore
from tenterhook.store.sqlite_run import _answer
from tenterhook.store.work import Accept, Claim, Settlement, Work
from tests.contracts.replays import EVERY, new_replay
from tests.contracts.retention import OLD, YOUNG, aged, ended
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
from tests.contracts.tasks import new_task
from tests.simulation.world import VAULT

BIG = (
    "message",
    "attempt",
    "delivery",
    "received",
    "event_id",
    "received_key",
    "idempotency",
    "a",
    "m",
    "r",
    "d",
    "x",
    "task",
)
"""Tables that grow, and what statements call them."""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore.open(tmp_path / "t.db", VAULT, inline=True, synchronous="OFF")
    yield store
    await store.close()


def steps(db: sqlite3.Connection, verb: Verb[Any]) -> list[str]:
    """The plan of every statement that a verb asks for, while it runs."""
    found, wanted = [], next(verb)
    try:
        while True:
            if isinstance(wanted, Read | Write):
                found += [row[3] for row in db.execute("EXPLAIN QUERY PLAN " + wanted.text, wanted.values)]
            wanted = verb.send(_answer(db, wanted))
    except StopIteration:
        return found


async def test_nothing_is_scanned_or_sorted(store: SqliteStore) -> None:
    app = new_app()
    endpoint, source = new_endpoint(app), new_source(app)
    await store.create_application(app)
    await store.create_endpoint(app.id, endpoint)
    await store.create_source(app.id, source)
    for n in range(4):
        request = new_received(source, None, id=IdMaker().new("req_", OLD + n * MINUTE))
        await store.commit([Accept(None, (), request)])
        await ended(store, endpoint, aged(app, OLD + n * MINUTE, event_id=str(n)), 2)
    await store.commit([Accept(aged(app, YOUNG, payload_until=5))])
    page = Cursor(limit=3, descending=True, after="zzz", since=OLD - DAY, until=NOW)
    named = MessageFilter(event_types=("a", "b"), channel="c", tag="t")
    expiring, forgetting = Cutoff(app.id, NOW - 5 * DAY, 0), Cutoff(app.id, 0, NOW - 5 * DAY)
    message = (await store.list_messages(app.id, Cursor(limit=1)))[0].id
    attempt = (await store.list_attempts(app.id, Cursor(limit=1), message=message))[0]
    waiting = [aged(app, OLD + n * MINUTE) for n in range(2)]
    over = [new_delivery(one, endpoint, expires_at=OLD + MINUTE) for one in waiting]
    await store.commit([Accept(one, (delivery,)) for one, delivery in zip(waiting, over, strict=True)])
    asked = {"states": EVERY, "missing": True, "since": OLD - DAY, "event_types": ("a", "b")}
    once, lined = new_endpoint(app), new_endpoint(app, ordered=True)
    for one in (once, lined):
        await store.create_endpoint(app.id, one)
    counting = new_task(kind=TaskKind.APP_STATS, parameters={"since": OLD, "until": NOW})
    await store.create_task(counting)
    verbs: list[Verb[Any]] = [
        history.list_lapsing(NOW, 9),
        lines.promoted_by(Settlement(new_delivery(waiting[0], lined, lease=7), 7, next_lease=8)),
        history.lapse(NOW, [(one, ()) for one in over]),
        replays.replay(new_replay(endpoint, status_class=500, **asked), NOW),
        replays.replay(new_replay(once, **asked), NOW),
        replays.replay(new_replay(lined, **asked), NOW),
        usage.count_messages(counting, NOW),
        usage.collect_event_types(new_task(), NOW),
        statistics.count_deliveries(app.id, endpoint.id, ids.ceiling("msg_", OLD), ids.ceiling("msg_", NOW)),
        statistics.count_attempts(app.id, endpoint.id, OLD, NOW),
        tasks.list_tasks(page, None, None),
        tasks.claim_task(NOW, 1, NOW),
        tasks.advance_task(counting.id, 1, NOW, NOW),
        tasks.end_task(counting.id, 1, NOW, None, ()),
        history.list_messages(app.id, page),
        history.list_attempts(app.id, page, None, endpoint.id),
        history.list_attempts(app.id, page, message, None),
        history.list_attempts(app.id, page, message, endpoint.id),
        history.list_received(app.id, source.id, page, None),
        history.list_received(app.id, source.id, page, "ping"),
        search.search_messages(app.id, page, named),
        search.search_attempts(app.id, page, AttemptFilter(ok=True, statuses=(0, 100)), None, endpoint.id),
        search.search_attempts(app.id, page, AttemptFilter(ok=False, of=named), None, endpoint.id),
        search.search_attempts(app.id, page, AttemptFilter(of=named), message, endpoint.id),
        search.search_deliveries(
            app.id, endpoint.id, page, DeliveryFilter(states=(State.FAILED,), tried=True, of=named)
        ),
        erasure.expunge_messages(app.id, [message, "3"]),
        erasure.expunge_attempt(app.id, message, attempt.id),
        erasure.purge(new_task(kind=TaskKind.PURGE, app=app.id), NOW),
        retention.overdue([expiring, forgetting]),
        retention.expire(expiring, "", 9, False),
        retention.expire(expiring, "req_", 9, False),
        retention.expire_due(NOW, 9),
        *[retention.forget(forgetting, "", 100, dry) for dry in (True, False)],
        retention.forget(forgetting, "req_", 9, False),
        retention.prune(NOW, 2, 9),
    ]
    for verb in verbs:
        plan = steps(store._db, verb)
        assert plan, verb
        for row in plan:
            words = row.split()
            assert words[0] != "SCAN" or words[1] not in BIG, (verb, plan)
            assert "ORDER BY" not in row or "GROUP" in row, (verb, plan)
    assert await store.list_messages(app.id, Cursor(limit=9, until=OLD + DAY)) == []


async def test_no_batch_scans(store: SqliteStore) -> None:
    """Two of each kind: for one, SQLite may do what it does not do for several."""
    app = new_app()
    endpoint, lined, source = new_endpoint(app), new_endpoint(app, ordered=True), new_source(app)
    await store.create_application(app)
    for one in (endpoint, lined):
        await store.create_endpoint(app.id, one)
    await store.create_source(app.id, source)
    messages = [new_message(app, event_id=str(n)) for n in range(2)]
    leased = [
        [new_delivery(m, e, state=State.LEASED, due_at=NOW + MINUTE, lease=3) for e in (endpoint, lined)]
        for m in messages
    ]
    work: list[Work] = [
        Accept(m, tuple(owed), new_received(source, m, dedup_key=m.id))
        for m, owed in zip(messages, leased, strict=True)
    ]
    work += [Settlement(step(d, "delivered"), 3, new_attempt(d), now=NOW) for d in leased[0]]
    work += [Claim(one.id, 9, NOW, 4, NOW + MINUTE) for one in (endpoint, lined)]
    ran: list[str] = []
    store._db.set_trace_callback(ran.append)
    await store.commit(work)
    await store.commit(work[2:])  # looks at each, since their leases are over
    store._db.set_trace_callback(None)
    reading = [text for text in ran if text.startswith(("SELECT", "UPDATE"))]
    assert any("received_key" in text for text in reading)
    for text in reading:
        for row in store._db.execute("EXPLAIN QUERY PLAN " + text).fetchall():
            words = row[3].split()
            assert words[0] != "SCAN" or words[1] not in BIG, (text, row[3])


async def test_a_start_reads_only_what_is_pending(store: SqliteStore) -> None:
    plan = steps(store._db, history.recover(NOW))
    assert [row for row in plan if "delivery" in row] == ["SCAN delivery USING INDEX delivery_due"]


async def test_failed_attempts_are_found_by_their_own_index(store: SqliteStore) -> None:
    plan = steps(store._db, search.search_attempts("app", Cursor(limit=3), AttemptFilter(ok=False), None, "ep"))
    assert [row for row in plan if "attempt_failed" in row] == [row for row in plan if "SEARCH" in row] != []


async def test_unusual_requests_are_found_by_their_own_index(store: SqliteStore) -> None:
    (row,) = steps(store._db, history.list_received("app", "src", Cursor(limit=3), "duplicate"))[:1]
    assert "received_unusual (source=? AND verdict=?)" in row
