"""Retention in the background: what is too old in which application, and small steps with rests between."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tenterhook.clock import DAY, HOUR, MILLISECOND, SECOND
from tenterhook.engine.retention import Pace, Removed, Sweeper, cutoffs, sweep
from tenterhook.errors import StoreUnavailable
from tenterhook.model import Application, Retention
from tenterhook.observe import Instrument
from tenterhook.store.base import Cutoff, Swept
from tenterhook.store.sqlite import SqliteStore
from tenterhook.store.work import Accept
from tests.api import GRACE
from tests.contracts.retention import ALL, aged
from tests.contracts.store import NOW, new_app
from tests.simulation.world import VAULT

KEEP = Retention(payloads=7 * DAY, records=30 * DAY)


class FixedClock:
    def __init__(self, now: int = NOW) -> None:
        self.instant = now

    def now(self) -> int:
        return self.instant


class Seen(Instrument):
    def __init__(self) -> None:
        self.removals: list[tuple[str, int, int]] = []
        self.more = asyncio.Event()

    def removed(self, what: str, messages: int, requests: int) -> None:
        if messages or requests:
            self.removals.append((what, messages, requests))
            self.more.set()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore.open(tmp_path / "t.db", VAULT, inline=True, synchronous="OFF")
    yield store
    await store.close()


def test_every_application_has_its_own_cutoffs() -> None:
    apps = [
        new_app(),
        new_app(payload_retention=DAY),
        new_app(record_retention=60 * DAY),
        new_app(record_retention=5 * DAY),
        new_app(payload_retention=90 * DAY),
    ]
    assert cutoffs(KEEP, apps, NOW, grace=2 * DAY) == [
        Cutoff(apps[0].id, NOW - 7 * DAY, NOW - 30 * DAY),
        Cutoff(apps[1].id, NOW - DAY, NOW - 30 * DAY),
        # the longest of all: its day is dropped, so it has grace
        Cutoff(apps[2].id, NOW - 7 * DAY, NOW - 62 * DAY),
        # payloads go with their records
        Cutoff(apps[3].id, 0, NOW - 5 * DAY),
        Cutoff(apps[4].id, 0, NOW - 30 * DAY),
    ]
    assert cutoffs(KEEP, apps[:1], NOW, grace=2 * DAY) == [Cutoff(apps[0].id, NOW - 7 * DAY, NOW - 32 * DAY)]
    assert cutoffs(KEEP, [new_app(record_retention=36_500 * DAY)], NOW)[0].records == 0


async def test_each_application_by_its_own_retention(store: SqliteStore) -> None:
    apps = [new_app(), new_app(record_retention=20 * DAY), new_app(payload_retention=20 * DAY)]
    for app in apps:
        await store.create_application(app)
        await store.commit([Accept(aged(app, NOW - days * DAY)) for days in (1, 10, 25, 40)])
    seen = Seen()
    await Sweeper(store, FixedClock(), seen, KEEP).round()
    left = [[(NOW - m.created_at) // DAY for m in await store.list_messages(app.id, ALL)] for app in apps]
    assert left == [[25, 10, 1], [10, 1], [25, 10, 1]]
    expired = [[m.expired for m in await store.list_messages(app.id, ALL)] for app in apps]
    assert expired == [[True, True, False], [True, False], [True, False, False]]
    assert sorted(seen.removals) == [
        ("payloads", 1, 0), ("payloads", 1, 0), ("payloads", 2, 0), ("records", 1, 0), ("records", 1, 0), ("records", 2, 0)
    ]  # fmt: skip


async def test_a_step_is_as_large_as_its_time_allows() -> None:
    clock, limits = FixedClock(), list[int]()
    pace = Pace(clock)

    async def work(limit: int) -> Swept:
        limits.append(limit)
        clock.instant += limit * 20  # µs
        return Swept()

    for _ in range(4):
        await pace.step(work)
    assert limits[1:] == [5 * MILLISECOND // 20] * 3
    assert pace.rest == 9 * 5 * MILLISECOND

    async def idle(limit: int) -> Swept:
        limits.append(limit)
        return Swept()

    async def slow(limit: int) -> Swept:
        limits.append(limit)
        clock.instant += SECOND
        return Swept()

    for _ in range(20):
        await pace.step(idle)
    assert limits[-1] == 2_000
    for _ in range(20):
        await pace.step(slow)
    assert limits[-1] == 100


async def test_others_get_their_turn_between_steps_and_stopping_is_prompt(store: SqliteStore) -> None:
    app = new_app()
    await store.create_application(app)
    await store.commit([Accept(aged(app, NOW - 40 * DAY + n)) for n in range(500)])
    seen = Seen()
    sweeper = Sweeper(store, FixedClock(), seen, KEEP, interval=1)
    sweeper.start()
    async with asyncio.timeout(GRACE):
        await seen.more.wait()
        await sweeper.stop()
    left = len(await store.list_messages(app.id, ALL))
    assert 0 < left < 500
    await Sweeper(store, FixedClock(), seen, KEEP).round()
    assert await store.list_messages(app.id, ALL) == []


class Failing(SqliteStore):
    """The real store; the next sweeps fail."""

    failures: list[Exception]

    async def expire_due(self, now: int, limit: int) -> Swept:
        if self.failures:
            raise self.failures.pop()
        return await super().expire_due(now, limit)


async def test_a_round_that_fails_is_followed_by_the_next(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Failing.open(tmp_path / "t.db", VAULT, inline=True, synchronous="OFF")
    assert isinstance(store, Failing)
    store.failures = [StoreUnavailable("gone"), KeyError("defect")]
    app = new_app()
    await store.create_application(app)
    await store.commit([Accept(aged(app, NOW - 40 * DAY))])
    seen = Seen()
    sweeper = Sweeper(store, FixedClock(), seen, KEEP, interval=1)
    with caplog.at_level(logging.WARNING):
        sweeper.start()
        async with asyncio.timeout(GRACE):
            await seen.more.wait()
        await sweeper.stop()
    assert "retention waits for the database: gone" in caplog.text
    assert "a round of retention failed" in caplog.text
    await store.close()


async def test_many_applications_with_little_in_them(store: SqliteStore) -> None:
    apps: list[Application] = []
    for n in range(300):
        apps.append(new_app())
        await store.create_application(apps[-1])
        if n % 10 == 0:
            await store.commit([Accept(aged(apps[-1], NOW - 40 * DAY))])
    wanted = cutoffs(KEEP, apps, NOW)
    found = [removed async for removed in sweep(store, Pace(FixedClock()), wanted, dry=True)]
    assert sum(removed.messages for removed in found if removed.what == "records") == 30
    assert [r async for r in sweep(store, Pace(FixedClock()), wanted)].count(Removed("records", 1, 0)) == 30
    assert sum([r.messages async for r in sweep(store, Pace(FixedClock()), wanted)]) == 0


async def test_stopping_what_was_never_started(store: SqliteStore) -> None:
    await Sweeper(store, FixedClock(), Instrument(), KEEP, interval=HOUR).stop()
