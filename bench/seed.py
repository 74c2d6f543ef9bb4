"""Databases that took weeks to grow, in minutes.

Objects are created through the store. History goes straight into the tables, by the package's own row functions and in
the order of its ids, as it would have grown.
"""

import sys
from collections.abc import Iterator, Sequence
from itertools import islice

from msgspec import Struct
from msgspec.structs import replace

from bench.harness import Database, environment
from bench.load import PAYLOAD
from bench.parts import REQUEST_HEAD, RESPONSE_HEAD
from tenterhook import databases
from tenterhook.clock import DAY, HOUR, SystemClock
from tenterhook.ids import PREFIXES, IdMaker
from tenterhook.model import (
    Application,
    Attempt,
    Delivery,
    Endpoint,
    Message,
    Outcome,
    Reason,
    Result,
    Secret,
    Source,
    State,
    Timing,
    Trigger,
)
from tenterhook.settings import load
from tenterhook.store import rows
from tenterhook.store.base import Store

APP = "app_benchseed"
RARE = "rare.event"
SOURCE_TOKEN = "benchmarkbenchmarkbenchmark00000"
SOURCE_SECRET = "It's a Secret to Everybody"
SIGNING = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
DAYS = 30
"""How far a history goes back."""

_AT_ONCE = 1_280
_TOLD_EVERY = 500_000


class Stored(Struct):
    """A message with its deliveries, and the attempts made so far."""

    message: Message
    deliveries: list[Delivery]
    attempts: list[Attempt]


async def _store(database: Database) -> Store:
    return await databases.open_store(load({}, environment(database), {}), exclusive=True)


async def _application(store: Store, urls: Sequence[str]) -> list[str]:
    """The application of the seeds with an endpoint for each URL; their ids."""
    now, ids = SystemClock().now(), IdMaker()
    await store.create_application(Application(id=APP, name="seed", created_at=now, updated_at=now))
    endpoints = [
        Endpoint(
            id=ids.new(PREFIXES["endpoint"], now), app=APP, url=url, secrets=(SIGNING,), created_at=now, updated_at=now
        )
        for url in urls
    ]
    for endpoint in endpoints:
        await store.create_endpoint(APP, endpoint)
    return [endpoint.id for endpoint in endpoints]


async def seed_wide(database: Database, endpoints: int, matching: int, url: str) -> str:
    """An application with many endpoints at one URL, of which `matching` want the event type of `load.publish`; one of
    the others.
    """
    now, ids, given = SystemClock().now(), IdMaker(), load({}, environment(database), {})
    store = await databases.open_store(given, exclusive=True)
    await _application(store, [])
    await store.close()
    vault = databases.open_vault(given, database.folder / "bench.db")
    every = endpoints // matching
    made = [
        Endpoint(
            id=ids.new(PREFIXES["endpoint"], now), app=APP, url=url, secrets=(SIGNING,), created_at=now, updated_at=now,
            event_types=("invoice.paid" if n % every == 0 else f"other.{n % every}",),
        )
        for n in range(endpoints)
    ]  # fmt: skip
    async with database.filling() as fill:
        for n in range(0, endpoints, _AT_ONCE):
            page = [rows.endpoint_row(endpoint, vault) for endpoint in made[n : n + _AT_ONCE]]
            await fill("endpoint", f"id, app, uid, {rows.ENDPOINT}", page)
    return made[-1].id


async def seed_source(database: Database, url: str) -> None:
    """A GitHub source whose webhooks go to one endpoint."""
    store = await _store(database)
    await _application(store, [url])
    now = SystemClock().now()
    source = Source(
        id=IdMaker().new(PREFIXES["source"], now), app=APP, name="github", token=SOURCE_TOKEN, provider="github",
        secrets=(SOURCE_SECRET,), created_at=now, updated_at=now,
    )  # fmt: skip
    await store.create_source(APP, source)
    await store.close()


async def seed_history(database: Database, delivered: int, retries: int, endpoints: int = 100) -> None:
    """`delivered` messages of the last `DAYS`, and `retries` that failed once and are due in the next 24 hours."""
    store = await _store(database)
    known = await _application(store, [f"http://127.0.0.1:8000/{n}" for n in range(endpoints)])
    await _past_days(store)
    await store.close()
    await _write(database, _history(known, delivered, retries))


async def seed_rare(database: Database, messages: int, rare: int) -> str:
    """Messages of the last 30 days to one endpoint, `rare` of them spread evenly: failed, of another event type, with a
    channel and a tag. The endpoint's id."""
    store = await _store(database)
    (endpoint,) = await _application(store, ["http://127.0.0.1:8000/hook"])
    await _past_days(store)
    await store.close()
    await _write(database, _rare(endpoint, messages, messages // rare))
    return endpoint


async def _past_days(store: Store) -> None:
    """Where the history is kept in days, as if a server had run in them."""
    now = SystemClock().now()
    for days in range(31, 0, -1):
        await store.add_days(now - days * DAY)


async def seed_due(database: Database, deliveries: int, urls: Sequence[str]) -> None:
    """A backlog: `deliveries` spread over endpoints with these URLs, all due for an hour; each message goes to all."""
    store = await _store(database)
    known = await _application(store, urls)
    await store.close()
    await _write(database, _backlog(known, deliveries))


def _message(ids: IdMaker, created_at: int) -> Message:
    return Message(
        id=ids.new("msg_", created_at), app=APP, event_type="invoice.paid", payload=PAYLOAD, created_at=created_at
    )


def _history(endpoints: list[str], delivered: int, retries: int) -> Iterator[Stored]:
    now, ids = SystemClock().now(), IdMaker()
    start, count = now - DAYS * DAY, delivered + retries
    for n in range(count):
        created_at = start + n * (DAYS * DAY - HOUR) // count
        message, endpoint, failed = _message(ids, created_at), endpoints[n % len(endpoints)], n >= delivered
        attempt = Attempt(
            id=ids.new(PREFIXES["attempt"], created_at), app=APP, message=message.id, endpoint=endpoint, number=1,
            trigger=Trigger.SCHEDULED, started_at=created_at, outcome=_FAILED if failed else _OK,
        )  # fmt: skip
        delivery = Delivery(
            message=message.id, endpoint=endpoint, app=APP, state=State.DUE if failed else State.DELIVERED,
            due_at=now + HOUR + (n - delivered) * 23 * HOUR // retries if failed else None, attempts=1,
            step=1 if failed else 0, created_at=created_at, expires_at=now + 4 * DAY,
        )  # fmt: skip
        yield Stored(message, [delivery], [attempt])


def _rare(endpoint: str, count: int, every: int) -> Iterator[Stored]:
    for n, stored in enumerate(_history([endpoint], count, 0)):
        if n % every == every // 2:
            message, (delivery,), (attempt,) = stored.message, stored.deliveries, stored.attempts
            message = replace(message, event_type=RARE, channels=(RARE,), tags=(RARE,))
            stored = Stored(message, [replace(delivery, state=State.FAILED)], [replace(attempt, outcome=_FAILED)])
        yield stored


def _backlog(endpoints: list[str], deliveries: int) -> Iterator[Stored]:
    ids = IdMaker()
    due_at = SystemClock().now() - HOUR
    for _ in range(deliveries // len(endpoints)):
        message = _message(ids, due_at)
        owed = [
            Delivery(
                message=message.id,
                endpoint=endpoint,
                app=APP,
                due_at=due_at,
                created_at=due_at,
                expires_at=due_at + 4 * DAY,
            )
            for endpoint in endpoints
        ]
        yield Stored(message, owed, [])


def _outcome(result: Result, status: int) -> Outcome:
    return Outcome(
        result=result, reason=Reason.STATUS, status=status, url="http://127.0.0.1:8000/hook", request_head=REQUEST_HEAD,
        response_head=RESPONSE_HEAD, response_body=b"ok", timing=Timing(total=900, first_byte=800),
    )  # fmt: skip


_OK, _FAILED = _outcome(Result.OK, 200), _outcome(Result.RETRY, 500)


async def _write(database: Database, stored: Iterator[Stored]) -> None:
    count = 0
    async with database.filling() as fill:
        while page := list(islice(stored, _AT_ONCE)):
            await fill("message", rows.MESSAGE, [rows.message_row(one.message) for one in page])
            await fill("delivery", rows.DELIVERY, [rows.delivery_row(d) for one in page for d in one.deliveries])
            await fill("attempt", rows.ATTEMPT, [rows.attempt_row(a) for one in page for a in one.attempts])
            count += len(page)
            if count % _TOLD_EVERY < len(page):
                print(f"    {count:,} messages stored", file=sys.stderr)
