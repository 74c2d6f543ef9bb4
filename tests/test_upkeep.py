"""What happens now and then: lifetimes end, rejections and old keys go, forgotten work is found again."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from tenterhook.clock import HOUR, MILLISECOND
from tenterhook.engine import pending
from tenterhook.engine.committer import Committer
from tenterhook.engine.upkeep import Upkeep
from tenterhook.engine.worker import Worker
from tenterhook.errors import StoreUnavailable
from tenterhook.ids import IdMaker
from tenterhook.model import Application, Health, Policy, Signal, State
from tenterhook.observe import Instrument
from tenterhook.store.base import Lapsing
from tenterhook.store.queries import Cursor
from tenterhook.store.sqlite import SqliteStore
from tenterhook.store.work import Accept, Remember
from tests.api import GRACE
from tests.contracts.store import NOW, new_app, new_delivery, new_endpoint, new_message, new_received, new_source
from tests.simulation.world import VAULT


class Signals(Instrument):
    def __init__(self) -> None:
        self.seen: list[Signal] = []

    def signalled(self, signal: Signal) -> None:
        self.seen.append(signal)


class FixedClock:
    def now(self) -> int:
        return NOW


class RefusingStore(SqliteStore):
    """The real store; its next `refusals` lapses fail, and each one says so."""

    refusals = 0
    lapsed = asyncio.Event()

    async def list_lapsing(self, now: int, limit: int) -> list[Lapsing]:
        if self.refusals:
            self.refusals -= 1
            raise StoreUnavailable
        self.lapsed.set()
        return await super().list_lapsing(now, limit)


@dataclass
class Engine:
    store: RefusingStore
    worker: Worker
    upkeep: Upkeep
    signals: Signals
    app: Application


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    store = RefusingStore.open(tmp_path / "t.db", VAULT, inline=True, synchronous="OFF")
    assert isinstance(store, RefusingStore)
    store.lapsed = asyncio.Event()
    signals = Signals()
    committer = Committer(store, signals)

    def senders(kind: str) -> None:
        raise KeyError(kind)

    worker = Worker(store, committer, senders, FixedClock(), IdMaker(), Random(1), signals, Policy())
    app = new_app()
    await store.create_application(app)
    upkeep = Upkeep(store, worker, FixedClock(), signals, rejections_kept=2, interval=1)
    yield Engine(store, worker, upkeep, signals, app)
    await store.close()


async def test_deliveries_whose_lifetime_is_over_end_and_say_so(engine: Engine) -> None:
    endpoint = new_endpoint(engine.app)
    await engine.store.create_endpoint(engine.app.id, endpoint)
    over, living = new_message(engine.app), new_message(engine.app)
    await engine.store.commit(
        [
            Accept(over, (new_delivery(over, endpoint, expires_at=NOW),)),
            Accept(living, (new_delivery(living, endpoint, expires_at=NOW + 1),)),
        ]
    )
    await engine.upkeep.round()
    found = [await engine.store.get_delivery(engine.app.id, m.id, endpoint.id) for m in (over, living)]
    assert [d.state for d in found if d is not None] == [State.FAILED, State.DUE]
    assert engine.signals.seen == [
        Signal("message.attempt.exhausted", engine.app.id, endpoint.id, over.id, "lapsed"),
    ]
    await engine.upkeep.round()
    assert len(engine.signals.seen) == 1


async def test_a_round_goes_on_while_pages_are_full(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenterhook.engine.upkeep._PAGE", 2)
    endpoint, source = new_endpoint(engine.app), new_source(engine.app)
    await engine.store.create_endpoint(engine.app.id, endpoint)
    await engine.store.create_source(engine.app.id, source)
    messages = [new_message(engine.app) for _ in range(5)]
    await engine.store.commit([Accept(m, (new_delivery(m, endpoint, expires_at=NOW),)) for m in messages])
    rejected = [new_received(source, None) for _ in range(9)]
    await engine.store.commit([Accept(None, (), r) for r in rejected])
    await engine.upkeep.round()
    assert len(engine.signals.seen) == 5
    left = await engine.store.list_received(engine.app.id, source.id, Cursor(limit=99))
    assert left == rejected[-2:]


async def test_expired_answers_are_forgotten(engine: Engine) -> None:
    for key, expires_at in ((b"old", NOW), (b"new", NOW + 1)):
        await engine.store.create_application(new_app(), Remember(key, b"h", 201, b"1", expires_at))
    await engine.upkeep.round()
    assert await engine.store.recall(b"old", 0) is None
    assert await engine.store.recall(b"new", 0) is not None


async def test_what_the_worker_does_not_know_of_is_found(engine: Engine) -> None:
    endpoint, message = new_endpoint(engine.app), new_message(engine.app)
    await engine.store.create_endpoint(engine.app.id, endpoint)
    await engine.store.commit([Accept(message, (new_delivery(message, endpoint, due_at=NOW + HOUR),))])
    assert engine.worker.next_wakeup() is None
    await engine.upkeep.round()
    assert engine.worker.next_wakeup() == NOW + HOUR


async def test_idle_endpoints_are_forgotten_once_there_are_many(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending, "_IDLE_LANES", 3)
    endpoints = [new_endpoint(engine.app) for _ in range(5)]
    message = new_message(engine.app)
    for one in endpoints:
        engine.worker.adopt(one, Health())
    kept = endpoints[2]
    engine.worker.note_due(kept.id, NOW + HOUR)
    await engine.upkeep.round()
    planned = engine.worker.plan(message, endpoints, NOW)
    assert [d.state is State.LEASED for d in planned] == [one is kept for one in endpoints]


async def test_rates_of_applications_without_work_are_forgotten_once_there_are_many(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending, "_IDLE_THROTTLES", 3)
    engine.worker.adopt(new_endpoint(engine.app), Health())
    apps = [engine.app.id, "app_a", "app_b"]
    for app in apps:
        engine.worker.throttle(app, 5)
    await engine.upkeep.round()
    assert list(engine.worker.throttles) == apps
    engine.worker.throttle("app_c", 5)
    await engine.upkeep.round()
    assert list(engine.worker.throttles) == [engine.app.id]


async def test_a_database_that_is_gone_is_asked_again(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    engine.store.refusals = 2
    with caplog.at_level(logging.WARNING):
        engine.upkeep.start()
        async with asyncio.timeout(GRACE):
            await engine.store.lapsed.wait()
        await engine.upkeep.stop()
    assert caplog.text.count("upkeep waits for the database") == 2


class SlowClock:
    """A clock by which everything takes a few milliseconds."""

    def __init__(self) -> None:
        self.instant = NOW

    def now(self) -> int:
        self.instant += 3 * MILLISECOND
        return self.instant


async def test_a_round_that_takes_long_is_followed_by_a_longer_rest(engine: Engine) -> None:
    upkeep = Upkeep(engine.store, engine.worker, SlowClock(), engine.signals, interval=1)
    loop, begun = asyncio.get_running_loop(), []
    upkeep.start()
    async with asyncio.timeout(GRACE):
        for _ in range(3):
            await engine.store.lapsed.wait()
            begun.append(loop.time())
            engine.store.lapsed.clear()
    await upkeep.stop()
    assert all(later - earlier >= 0.03 for earlier, later in pairwise(begun))


async def test_stopping_what_was_never_started(engine: Engine) -> None:
    await engine.upkeep.stop()
