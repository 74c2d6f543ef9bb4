"""The worker, seen from its receivers: small scenes in virtual time, on the real store."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tenterhook.clock import HOUR, MILLISECOND, MINUTE, SECOND, SystemClock
from tenterhook.engine.committer import Committer
from tenterhook.engine.worker import Worker
from tenterhook.ids import IdMaker
from tenterhook.model import Endpoint, Message, Outcome, Policy, Reason, Result, State
from tenterhook.observe import Instrument
from tenterhook.store.sqlite import SqliteStore
from tenterhook.store.work import Accept, Claim, Page
from tenterhook.vault import Vault
from tests.api import GRACE
from tests.contracts.store import new_app, new_delivery, new_endpoint, new_message
from tests.simulation.faults import Faults
from tests.simulation.invariants import broken
from tests.simulation.loop import START
from tests.simulation.play import FAILED, GONE, OK, TIMEOUT, endpoint, play, sends, starts
from tests.simulation.receivers import Receiver
from tests.simulation.scenario import Scenario, Step
from tests.simulation.world import VAULT, World, run

QUICK = (10 * MILLISECOND, OK)
NO = (10 * MILLISECOND, FAILED)
SOON = 0.1
"""Seconds within which what is due has begun."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Planted faults are logged as what they look like."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def states(world: World, number: int = 0) -> list[State]:
    return [d.state for (_, e), d in sorted(world.deliveries.items()) if e == f"ep_{number}"]


def kinds(world: World) -> list[str]:
    return [signal.kind for signal in world.signals]


def test_a_message_goes_to_every_endpoint_at_once() -> None:
    world = play([endpoint(n) for n in range(3)], [[QUICK]] * 3, [(1, "publish")])
    assert [starts(world, f"ep_{n}") for n in range(3)] == [[1.0]] * 3
    assert [states(world, n) for n in range(3)] == [[State.DELIVERED]] * 3
    assert broken(world) == []


def test_retries_come_on_the_schedule_with_jitter() -> None:
    schedule = (5 * SECOND, 5 * MINUTE, HOUR)
    world = play([endpoint()], [[NO, NO, NO, QUICK]], [(0, "publish")], retry_schedule=schedule, breaker_failures=9)
    for (a, b), wait in zip(pairwise(starts(world)), (5, 300, 3_600), strict=True):
        assert wait <= b - a <= 1.2 * wait + SOON
    assert states(world) == [State.DELIVERED]
    assert [a.number for a in world.attempts] == [1, 2, 3, 4]


def test_a_schedule_that_is_used_up_ends_the_delivery() -> None:
    world = play([endpoint(retry_schedule=(SECOND,))], [[NO]], [(0, "publish")])
    assert len(starts(world)) == 2
    assert states(world) == [State.FAILED]
    assert kinds(world) == ["message.attempt.exhausted"]


def test_retry_after_lengthens_the_wait() -> None:
    asked = (MILLISECOND, Outcome(result=Result.RETRY, status=503, retry_after=40 * SECOND))
    world = play([endpoint(retry_schedule=(SECOND,))], [[asked, QUICK]], [(0, "publish")])
    first, second = starts(world)
    assert 40 <= second - first <= 48 + SOON


def test_a_429_pauses_the_whole_endpoint() -> None:
    slow_down = (MILLISECOND, Outcome(result=Result.SLOW_DOWN, status=429, retry_after=30 * SECOND))
    world = play([endpoint(), endpoint(1)], [[slow_down, QUICK], [QUICK]], [(0, "publish"), (5, "publish")])
    assert [t >= 30 for t in starts(world)] == [False, True, True]
    assert starts(world, "ep_1") == [0.0, 5.0]
    assert states(world) == [State.DELIVERED] * 2


def test_a_dead_endpoint_is_probed_at_growing_distances() -> None:
    world = play(
        [endpoint(retry_schedule=(SECOND,) * 30, concurrency=1)], [[NO]], [(n / 10, "publish") for n in range(20)],
        breaker_failures=3, breaker_open=10 * SECOND, breaker_open_cap=40 * SECOND, lifetime=HOUR // 4, upkeep=MINUTE,
    )  # fmt: skip
    waits = [b - a for a, b in pairwise(starts(world)) if b - a > 5]
    assert all(low <= wait <= 1.2 * low + 1 for low, wait in zip((10, 20, 40, 40, 40), waits, strict=False))
    assert len(waits) > 5
    assert broken(world) == []


def test_gone_switches_the_endpoint_off_and_enabling_it_goes_on_where_it_was() -> None:
    script = [(0, "publish"), (1, "publish"), (100, "enable", "ep_0")]
    world = play([endpoint()], [[(MILLISECOND, GONE), QUICK]], script)
    assert [t >= 100 for t in starts(world)] == [False, True]
    assert kinds(world) == ["endpoint.disabled"]
    assert states(world) == [State.DELIVERED], "what is published while it is off is not planned for it"


def test_a_manual_attempt_goes_through_an_open_breaker() -> None:
    world = play(
        [endpoint(retry_schedule=(HOUR,))], [[NO, QUICK]], [(0, "publish"), (10, "retry", "ep_0")],
        breaker_failures=1, breaker_open=10 * MINUTE,
    )  # fmt: skip
    assert starts(world) == [pytest.approx(0), pytest.approx(10, abs=SOON)]
    assert states(world) == [State.DELIVERED]


def test_a_manual_attempt_that_fails_leaves_the_planned_one() -> None:
    script = [(0, "publish"), (10, "retry", "ep_0")]
    world = play([endpoint(retry_schedule=(MINUTE,))], [[NO, NO, QUICK]], script)
    first, manual, planned = starts(world)
    assert manual == pytest.approx(10, abs=SOON)
    assert 60 <= planned - first <= 72 + SOON


def test_a_replay_delivers_again_with_a_fresh_schedule() -> None:
    script = [(0, "publish"), (60, "replay", "ep_0")]
    world = play([endpoint(retry_schedule=(SECOND,))], [[NO, NO, NO, QUICK]], script)
    assert len(starts(world)) == 4
    assert states(world) == [State.DELIVERED]


def test_a_deleted_endpoint_gets_nothing_more() -> None:
    script = [(0, "publish"), (1, "publish"), (2, "delete", "ep_0")]
    world = play([endpoint(retry_schedule=(MINUTE,))], [[NO]], script)
    assert len(starts(world)) == 2
    assert states(world) == [State.CANCELLED] * 2


def test_a_disabled_endpoint_gets_nothing_until_it_is_enabled() -> None:
    script = [(0, "publish"), (1, "disable", "ep_0"), (50, "enable", "ep_0")]
    world = play([endpoint(retry_schedule=(5 * SECOND, SECOND))], [[NO, QUICK]], script)
    assert starts(world) == [0.0, pytest.approx(50, abs=SOON)]


def test_a_rate_limit_spaces_the_attempts_and_holds_up_nobody_else() -> None:
    world = play([endpoint(rate_limit=2), endpoint(1)], [[QUICK]] * 2, [(0, "publish")] * 10)
    assert starts(world) == [pytest.approx(n / 2, abs=0.02) for n in range(10)]
    assert starts(world, "ep_1") == [0.0] * 8 + [pytest.approx(0.01)] * 2
    assert broken(world) == []


def test_a_window_opens_with_success() -> None:
    world = play([endpoint(concurrency=32)], [[(SECOND, OK)]], [(0, "publish")] * 60)
    assert [starts(world).count(t) for t in (0.0, 1.0, 2.0)][:2] == [8, 32]
    assert broken(world) == []


def test_a_line_waits_for_its_head_and_lines_do_not_wait_for_each_other() -> None:
    script = [(n / 10, "publish", key) for n, key in enumerate("aabab")]
    world = play([endpoint(ordered=True, retry_schedule=(MINUTE,))], [[NO, QUICK]], script)
    order = [world.messages[s.message].order_key for s in sends(world)]
    a = [t for t, key in zip(starts(world), order, strict=True) if key == "a"]
    b = [t for t, key in zip(starts(world), order, strict=True) if key == "b"]
    assert b == [pytest.approx(0.2, abs=SOON), pytest.approx(0.4, abs=SOON)]
    assert a[0] == 0.0
    assert all(60 <= t <= 73 for t in a[1:])
    assert len(a) == 4
    assert broken(world) == []


def test_a_sender_that_raises_costs_a_try_and_leaves_the_breaker_shut() -> None:
    class Broken(Receiver):
        def answer(self, now: int, deadline: int) -> tuple[int, Outcome]:
            self.seen += 1
            return (0, OK) if self.seen > 3 else 1 / 0

    policy = Policy(breaker_failures=1, retry_schedule=(SECOND,) * 4)
    receivers = {"ep_0": Broken("", Random(1), policy)}
    world = run(Scenario(1, policy, [endpoint()], receivers, Faults(), [Step(START, "publish")], upkeep=HOUR))
    assert states(world) == [State.DELIVERED]
    assert [a.outcome.reason for a in world.attempts] == [Reason.INTERNAL] * 3 + [Reason.STATUS]
    assert len(starts(world)) == 4


def test_endpoints_that_hang_leave_slots_for_those_that_answer() -> None:
    hanging = [endpoint(n) for n in range(1, 9)]
    world = play(
        [endpoint(), *hanging], [[QUICK]] + [[(15 * SECOND, TIMEOUT)]] * 8, [(n, "publish") for n in range(1, 20)],
        global_concurrency=64, lifetime=2 * MINUTE, upkeep=10 * SECOND,
    )  # fmt: skip
    assert starts(world) == [pytest.approx(n, abs=SOON) for n in range(1, 20)]
    assert broken(world) == []


def test_a_slot_that_becomes_free_goes_to_those_who_found_none() -> None:
    world = play(
        [endpoint(n) for n in range(4)], [[(SECOND, OK)]] * 4, [(0, "publish")], global_concurrency=1,
    )  # fmt: skip
    assert sorted(t for n in range(4) for t in starts(world, f"ep_{n}")) == [0.0, 1.0, 2.0, 3.0]


def test_waiting_for_a_slot_longer_than_the_lease_is_no_attempt() -> None:
    stuck = [(200 * SECOND, OK), QUICK]  # a receiver that breaks the deadline
    world = play(
        [endpoint(), endpoint(1, retry_schedule=())], [stuck, [QUICK]], [(0, "publish")],
        global_concurrency=1, upkeep=10 * SECOND,
    )  # fmt: skip
    assert states(world, 1) == [State.DELIVERED]
    assert [a.outcome.result for a in world.attempts if a.endpoint == "ep_1"] == [Result.OK]


def test_what_waits_for_a_slot_is_handed_back_before_its_lease_ends() -> None:
    """Else another node could take it for an attempt that was never reported."""
    world = play(
        [endpoint(), endpoint(1)], [[(200 * SECOND, OK), QUICK], [QUICK]], [(0, "publish")], global_concurrency=1
    )
    assert world.written.claims >= 4
    assert starts(world, "ep_1") == [pytest.approx(200, abs=SOON)]


def test_a_backlog_that_was_handed_back_goes_on_when_a_slot_is_free() -> None:
    script = [(0, "publish")] + [(1, "replay", "ep_1")] + [(2, "publish")] * 150
    world = play(
        [endpoint(concurrency=1), endpoint(1)], [[(100 * SECOND, OK), QUICK], [QUICK]], script, global_concurrency=1
    )
    assert min(starts(world, "ep_1")) == pytest.approx(100, abs=SOON)
    assert max(starts(world, "ep_1")) < 110


def test_who_has_nothing_to_claim_any_more_passes_its_turn_on() -> None:
    off = [(5, "disable", f"ep_{n}") for n in range(1, 5)]
    world = play(
        [endpoint(n) for n in range(6)],
        [[(10 * SECOND, OK)]] + [[QUICK]] * 5,
        [(0, "publish"), *off],
        memory_deliveries=1,
        lifetime=MINUTE,
        upkeep=MINUTE,
    )
    assert starts(world, "ep_5") == [pytest.approx(10, abs=SOON)]


def test_an_enabled_endpoint_begins_with_a_clean_record() -> None:
    script = [(0, "publish"), (1, "disable", "ep_0"), (2, "enable", "ep_0"), (3, "publish")]
    world = play(
        [endpoint(retry_schedule=(HOUR,))], [[NO, QUICK]], script, breaker_failures=1, breaker_open=10 * MINUTE
    )
    assert starts(world)[:2] == [0.0, pytest.approx(3, abs=SOON)]


def test_a_result_that_cannot_be_stored_costs_its_delivery_a_lease_and_nobody_anything_else() -> None:
    poison = (MILLISECOND, Outcome(result=Result.OK, status=200, url="\ud800"))
    world = play([endpoint(), endpoint(1)], [[poison, QUICK], [QUICK]], [(0, "publish")] * 2, upkeep=10 * SECOND)
    assert states(world, 0) == states(world, 1) == [State.DELIVERED] * 2
    assert [a.outcome.result for a in world.attempts if a.endpoint == "ep_1"] == [Result.OK] * 2
    assert world.defects == []


def test_what_finds_no_room_in_memory_is_claimed_as_soon_as_there_is_some() -> None:
    world = play([endpoint(), endpoint(1)], [[(SECOND, OK)]] * 2, [(0, "publish")] * 3, memory_deliveries=2)
    every = sorted(starts(world) + starts(world, "ep_1"))
    assert every == [pytest.approx(t, abs=SOON) for t in (0, 0, 1, 1, 2, 2)]
    assert broken(world) == []


def test_a_process_that_stops_in_order_waits_for_what_is_in_flight() -> None:
    world = play([endpoint(concurrency=1)], [[(SECOND, OK)]], [(0, "publish")] * 3 + [(0.5, "restart")])
    assert [s.cut for s in sends(world)] == [False] * 3
    assert [a.outcome.result for a in world.attempts] == [Result.OK] * 3
    assert [s.process for s in sends(world)] == [0, 1, 1]


def test_a_process_that_stops_does_not_wait_for_ever() -> None:
    world = play([endpoint()], [[(10 * SECOND, OK), QUICK]], [(0, "publish"), (0.5, "restart")])
    assert [s.cut for s in sends(world)] == [True, False]
    assert sorted(a.outcome.result for a in world.attempts) == [Result.OK, Result.UNKNOWN]
    assert states(world) == [State.DELIVERED]


@pytest.mark.parametrize(("recovers", "earliest"), [(True, 2.0), (False, 60.0)])
def test_a_death_costs_an_attempt_of_unknown_outcome(recovers: bool, earliest: float) -> None:
    world = play(
        [endpoint(retry_schedule=(SECOND,))],
        [[(5 * SECOND, OK), QUICK]],
        [(0, "publish"), (1, "die")],
        recovers=recovers,
    )
    first, second = starts(world)
    assert first == 0.0
    assert earliest < second < earliest + 2
    assert [a.outcome.result for a in world.attempts] == [Result.UNKNOWN, Result.OK]
    assert broken(world) == []


def test_an_outage_longer_than_the_lease_loses_no_outcome() -> None:
    begin = 1_800_000_001 * SECOND
    world = play([endpoint()], [[(2 * SECOND, OK)]], [(0, "publish")], faults=Faults(outages=[(begin, begin + HOUR)]))
    assert len(starts(world)) == 1
    assert [a.outcome.result for a in world.attempts] == [Result.OK]
    assert states(world) == [State.DELIVERED]


def test_an_idle_worker_sleeps() -> None:
    world = play([endpoint()], [[NO, QUICK]], [(0, "publish")], retry_schedule=(HOUR,))
    assert sum(node.worker.rests for node in world.nodes) <= 5
    assert world.written.empty_claims == 0


def test_without_memory_deliveries_go_one_by_one_through_the_database() -> None:
    world = play([endpoint(), endpoint(1)], [[(SECOND, OK)]] * 2, [(0, "publish")] * 2, memory_deliveries=0)
    assert sorted(starts(world) + starts(world, "ep_1")) == [pytest.approx(t, abs=SOON) for t in range(4)]
    assert broken(world) == []


def test_a_deadline_longer_than_the_lease_is_cut_to_what_fits() -> None:
    class Hanging(Receiver):
        def answer(self, now: int, deadline: int) -> tuple[int, Outcome]:
            self.seen += 1
            return (deadline, TIMEOUT) if self.seen < 3 else QUICK

    policy = Policy(lease=20 * SECOND, retry_schedule=(SECOND,) * 3)
    slow = endpoint(timeout=HOUR)
    world = run(
        Scenario(
            1, policy, [slow], {"ep_0": Hanging("", Random(1), policy)}, Faults(), [Step(START, "publish")], upkeep=HOUR
        )
    )
    assert [(s.ended or 0) - s.started for s in sends(world)] == [16 * SECOND] * 2 + [10 * MILLISECOND]
    assert states(world) == [State.DELIVERED]
    assert world.written.claims < 10


class Recorder:
    """A sender that tells which message it would have sent where."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    async def send(self, message: Message, endpoint: Endpoint, *, deadline: int, now: int) -> Outcome:
        self.sent.put_nowait((message.id, endpoint.id))
        return Outcome(result=Result.OK, status=200)

    async def close(self) -> None:
        """Nothing is pooled."""


class Watched(Committer):
    """Remembers what was claimed; `meanwhile` happens between the commit of a claim and its answer."""

    def __init__(self, store: SqliteStore) -> None:
        super().__init__(store, Instrument())
        self.claims: list[Claim] = []
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    async def claim(self, work: Claim) -> Page:
        self.claims.append(work)
        page = await super().claim(work)
        if self.meanwhile is not None:
            await self.meanwhile()
        return page


class Bench:
    """A store with an endpoint, and workers on it."""

    def __init__(self, store: SqliteStore) -> None:
        self.store, self.clock, self.recorder = store, SystemClock(), Recorder()
        self.app = new_app()
        self.endpoint = new_endpoint(self.app)
        self.committer = Watched(store)
        self.workers: list[Worker] = []

    def worker(self, store: Any) -> Worker:
        worker = Worker(
            store, self.committer, lambda _: self.recorder, self.clock, IdMaker(), Random(1), Instrument(), Policy()
        )
        self.workers.append(worker)
        return worker

    async def stored(self, endpoint: Endpoint, due_at: int) -> str:
        """A new message that is due at an endpoint."""
        message = new_message(self.app)
        await self.store.commit([Accept(message, (new_delivery(message, endpoint, due_at=due_at),))])
        return message.id

    async def next_sent(self) -> tuple[str, str]:
        return await asyncio.wait_for(self.recorder.sent.get(), GRACE)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    store = SqliteStore.open(tmp_path / "t.db", VAULT)
    bench = Bench(store)
    await store.create_application(bench.app)
    await store.create_endpoint(bench.app.id, bench.endpoint)
    bench.committer.start()
    yield bench
    for worker in bench.workers:
        await worker.stop(SECOND)
    await bench.committer.close()
    await store.close()


async def test_claims_look_back_no_further_than_the_last_one_and_what_comes_late_is_found_anyway(bench: Bench) -> None:
    worker, target = bench.worker(bench.store), bench.endpoint.id
    await worker.start()
    one = await bench.stored(bench.endpoint, bench.clock.now())
    worker.note_due(target, bench.clock.now())
    assert await bench.next_sent() == (one, target)
    long_ago = bench.clock.now() - MINUTE
    late = await bench.stored(bench.endpoint, long_ago)
    await worker.refresh()
    assert await bench.next_sent() == (late, target)
    worker.note_due(target, bench.clock.now())
    async with asyncio.timeout(GRACE):
        while len(bench.committer.claims) < 3:
            await bench.store.counts()
    assert [claim.since > long_ago for claim in bench.committer.claims[:3]] == [False, False, True]


async def test_an_endpoint_that_cannot_be_read_stops_no_other(tmp_path: Path) -> None:
    """One row was sealed with a master key that is gone; the worker meets it at its start."""
    app = new_app()
    lost, fine = new_endpoint(app), new_endpoint(app)
    for vault, one in ((Vault([b"1" * 32]), lost), (VAULT, fine)):
        before = SqliteStore.open(tmp_path / "t.db", vault)
        if one is lost:
            await before.create_application(app)
        await before.create_endpoint(app.id, one)
        message = new_message(app)
        await before.commit([Accept(message, (new_delivery(message, one, due_at=1),))])
        await before.close()
    store = SqliteStore.open(tmp_path / "t.db", VAULT)
    recorder = Recorder()
    committer = Committer(store, Instrument())
    committer.start()
    worker = Worker(
        store, committer, lambda _: recorder, SystemClock(), IdMaker(), Random(1), Instrument(), Policy()
    )  # fmt: skip
    await worker.start()
    _, endpoint_id = await asyncio.wait_for(recorder.sent.get(), GRACE)
    assert endpoint_id == fine.id
    assert worker.alive
    await worker.stop(SECOND)
    assert not worker.alive
    await committer.close()
    await store.close()


class Unreadable:
    """A store that has a defect in what it loads of one endpoint."""

    def __init__(self, store: SqliteStore, endpoint: str) -> None:
        self._store, self._endpoint = store, endpoint

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._store, verb)

    async def load_endpoint(self, endpoint: str) -> Any:
        if endpoint == self._endpoint:
            raise ZeroDivisionError
        return await self._store.load_endpoint(endpoint)


async def test_a_defect_that_one_endpoint_brings_out_stops_no_other(bench: Bench) -> None:
    """Those that were to be claimed in the same round go on, and are claimed again."""
    fine, broken = bench.endpoint, new_endpoint(bench.app)
    await bench.store.create_endpoint(bench.app.id, broken)
    sent = await bench.stored(fine, 1)
    await bench.stored(broken, 2)
    worker = bench.worker(Unreadable(bench.store, broken.id))
    await worker.start()
    assert await bench.next_sent() == (sent, fine.id)
    later = await bench.stored(fine, bench.clock.now())
    worker.note_due(fine.id, bench.clock.now())
    assert await bench.next_sent() == (later, fine.id)


async def test_what_is_noted_while_a_claim_runs_is_claimed_after_it(bench: Bench) -> None:
    """The claim has left nothing, so it would be found by the next refresh only."""
    first, second = await bench.stored(bench.endpoint, 1), ""

    async def meanwhile() -> None:
        nonlocal second
        if not second:
            second = await bench.stored(bench.endpoint, bench.clock.now())
            worker.note_due(bench.endpoint.id, bench.clock.now())

    bench.committer.meanwhile = meanwhile
    worker = bench.worker(bench.store)
    await worker.start()
    assert [await bench.next_sent() for _ in range(2)] == [(one, bench.endpoint.id) for one in (first, second)]
