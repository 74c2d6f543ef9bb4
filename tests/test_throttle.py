"""The rate of an application: how its endpoints share it, alone and inside a worker."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenterhook import AsyncTenterhook
from tenterhook.clock import MILLISECOND, MINUTE, SECOND
from tenterhook.engine.throttle import PACED_SECONDS, Throttle
from tenterhook.model import State
from tests import api
from tests.api import Server
from tests.receiver import OK as ANSWER
from tests.receiver import Peer, receiving
from tests.simulation.invariants import broken
from tests.simulation.play import FAILED, OK, TIMEOUT, all_starts, endpoint, play, starts

NOW = 1_800_000_000 * SECOND
TOLERANCE = 5 * MILLISECOND
QUICK = (10 * MILLISECOND, OK)
NO = (10 * MILLISECOND, FAILED)
RATES = st.integers(1, 400)


# the rule


@given(RATES, st.lists(st.tuples(st.integers(0, 9), st.integers(0, 300_000)), min_size=1, max_size=300))
def test_whoever_asks_starts_keep_to_the_rate(rate: int, asked: list[tuple[int, int]]) -> None:
    throttle, now, begun = Throttle(rate), NOW, []
    for who, later in asked:
        now += later
        throttle.take_turn(f"ep_{who}", now)
        asking = (f"ep_{who}", "ep_0", *throttle.starting)
        begun += [now for one in asking if throttle.take_turn(one, now) is None]
    for first, last in zip(begun, begun[rate:]):
        assert last - first >= rate * (SECOND // rate) - TOLERANCE


@given(st.integers(1, 100), st.integers(1, 20), st.integers(1, 200))
def test_those_that_wait_start_in_turn(rate: int, endpoints: int, attempts: int) -> None:
    throttle, count = Throttle(rate), Counter({f"ep_{n}": 0 for n in range(endpoints)})
    throttle.take_turn("first", NOW)
    for one in count:
        assert throttle.take_turn(one, NOW) is not None
    for _ in range(attempts):
        turn = throttle.next_turn()
        assert turn is not None
        now, one = turn
        assert throttle.take_turn(one, now) is None
        assert throttle.take_turn(one, now) is not None, "it has more, and comes behind the others"
        count[one] += 1
        assert max(count.values()) - min(count.values()) <= 1


def test_one_that_leaves_passes_its_turn_on() -> None:
    throttle = Throttle(1)
    assert [throttle.take_turn(one, NOW) is None for one in "abc"] == [True, False, False]
    throttle.leave("b")
    assert throttle.next_turn() == (NOW + SECOND - TOLERANCE, "c")
    assert throttle.take_turn("b", NOW + SECOND) == NOW + 2 * SECOND - TOLERANCE, "behind the others"
    assert throttle.take_turn("c", NOW + SECOND) is None


def test_another_rate_counts_from_the_last_attempt_on() -> None:
    throttle = Throttle(1)
    throttle.take_turn("a", NOW)
    throttle.change(10)
    assert throttle.take_turn("a", NOW + SECOND // 10) is None
    throttle.change(2)
    assert throttle.take_turn("a", NOW + SECOND // 2) is not None
    assert throttle.take_turn("a", NOW + SECOND // 10 + SECOND // 2) is None


@given(RATES, st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=300))
def test_memory_holds_no_more_than_can_be_sent_in_time(rate: int, moves: list[tuple[int, bool]]) -> None:
    """Whoever brings in what `room` says, and sends some of it: all together stay below, and each below a second's worth."""
    throttle, held = Throttle(rate), Counter[int]()
    for who, brings in moves:
        change = throttle.room(held[who]) if brings else -min(held[who], 3)
        held[who] += change
        throttle.held += change
        assert held.total() <= rate * PACED_SECONDS
        assert held[who] <= rate


@given(RATES, st.integers(1, 30))
def test_a_newcomer_finds_room_beside_others_that_took_what_they_could(rate: int, others: int) -> None:
    throttle = Throttle(rate)
    for _ in range(others):
        throttle.held += throttle.room(0)
    assert throttle.room(0) >= 1 or throttle.held == rate * PACED_SECONDS


# inside a worker, in virtual time


def test_an_application_has_one_rate_for_all_its_endpoints_in_turn() -> None:
    world = play([endpoint(n) for n in range(4)], [[QUICK]] * 4, [(0, "publish")] * 5, throttle=2)
    assert all_starts(world) == [pytest.approx(n / 2, abs=0.02) for n in range(20)]
    order = [send.endpoint for send in world.ledger.sends]
    assert all(set(order[n : n + 4]) == {f"ep_{n}" for n in range(4)} for n in range(4, 20, 4))
    assert broken(world) == []


def test_an_endpoint_keeps_to_its_own_rate_too_and_costs_the_others_nothing() -> None:
    world = play(
        [endpoint(0, rate_limit=1), endpoint(1)], [[QUICK]] * 2, [(0, "publish")] * 20, throttle=10, lifetime=MINUTE
    )
    own = starts(world)
    assert all(b - a >= 0.99 for a, b in pairwise(own))
    assert own[-1] == pytest.approx(19, abs=0.5)
    assert starts(world, "ep_1")[-1] == pytest.approx(2.2, abs=0.3), "nine of ten turns a second are the other's"
    assert broken(world) == []


def test_retries_replays_and_lines_count_too() -> None:
    world = play(
        [endpoint(0, ordered=True), endpoint(1, retry_schedule=(SECOND, SECOND))], [[QUICK], [NO, NO, NO, QUICK]],
        [(0, "publish", "a")] * 6 + [(3, "retry", "ep_0"), (4, "replay", "ep_0"), (9, "retry", "ep_1")],
        throttle=3, upkeep=MINUTE, breaker_failures=99,
    )  # fmt: skip
    begun = all_starts(world)
    assert len(begun) > 20
    assert all(b - a >= 1 / 3 - 0.006 for a, b in pairwise(begun))
    assert {delivery.state for delivery in world.deliveries.values()} <= {State.DELIVERED, State.FAILED}
    assert broken(world) == []


def test_one_that_hangs_keeps_nobody_from_their_turns() -> None:
    world = play(
        [endpoint(0, concurrency=1, retry_schedule=()), endpoint(1)], [[(15 * SECOND, TIMEOUT)], [QUICK]],
        [(0, "publish")] * 30, throttle=5, lifetime=5 * MINUTE, upkeep=MINUTE,
    )  # fmt: skip
    assert starts(world, "ep_1")[-1] == pytest.approx(30 / 5, abs=0.5)
    assert broken(world) == []


def test_many_that_hang_take_no_memory_from_one_that_answers() -> None:
    """Each of them has had its turn after six seconds, then they only wait for answers."""
    count = 60
    hanging = [endpoint(n, concurrency=1, retry_schedule=()) for n in range(count)]
    world = play(
        [*hanging, endpoint(count)], [[(15 * SECOND, TIMEOUT)]] * count + [[QUICK]], [(0, "publish")] * 40,
        throttle=10, lifetime=2 * MINUTE,
    )  # fmt: skip
    assert starts(world, f"ep_{count}")[-1] == pytest.approx(count / 10 + 40 / 10, abs=1)
    assert broken(world) == []


@pytest.mark.parametrize("memory", [10_000, 3])
def test_many_endpoints_with_a_backlog_are_all_served(memory: int) -> None:
    """More endpoints than the rate leaves room for in memory: they take turns there too."""
    count, rate = 30, 2
    world = play(
        [endpoint(n) for n in range(count)], [[QUICK]] * count, [(0, "publish")] * 4, throttle=rate,
        memory_deliveries=memory, lifetime=10 * MINUTE,
    )  # fmt: skip
    assert len(world.ledger.sends) == 4 * count
    assert all_starts(world)[-1] == pytest.approx((4 * count - 1) / rate, abs=2)
    seen = Counter[str]()
    for send in world.ledger.sends:
        seen[send.endpoint] += 1
        assert seen[send.endpoint] <= 2 + min(seen[f"ep_{n}"] for n in range(count))
    assert broken(world) == []


def test_a_change_takes_effect_on_the_next_attempt() -> None:
    script = [(0, "publish")] * 20 + [(2.5, "throttle", "10"), (2.85, "throttle", "2"), (4.9, "throttle", "")]
    world = play([endpoint(0), endpoint(1)], [[QUICK]] * 2, script, throttle=1)
    begun = all_starts(world)
    assert begun[:3] == [pytest.approx(n, abs=0.02) for n in range(3)]
    assert begun[3:6] == [pytest.approx(at, abs=0.02) for at in (2.5, 2.6, 2.7)]
    assert begun[6:12] == [pytest.approx(at, abs=0.02) for at in (2.8, 3.3, 3.8, 4.3, 4.8, 4.9)]
    assert begun[-1] < 5.2, "without a rate the rest goes at once"
    assert broken(world) == []


def test_a_rate_that_comes_later_holds_for_what_is_in_memory() -> None:
    world = play(
        [endpoint(concurrency=1)], [[(SECOND, OK)]], [(0, "publish")] * 8 + [(0.5, "throttle", "1"), (4.5, "die")]
    )
    assert len(starts(world)) >= 8
    assert broken(world) == []
    script = [(0, "publish")] * 8 + [(0.5, "throttle", "1")]
    world = play([endpoint(n, concurrency=2) for n in range(2)], [[(SECOND, OK)]] * 2, script)
    assert all_starts(world)[:4] == [0.0] * 4
    rest = all_starts(world)[4:]
    assert all(b - a >= 0.99 for a, b in pairwise(rest))
    assert broken(world) == []


def test_a_new_process_knows_the_rate() -> None:
    world = play([endpoint(n) for n in range(3)], [[QUICK]] * 3, [(0, "publish")] * 10 + [(2.2, "restart")], throttle=3)
    assert broken(world) == []
    assert len(world.ledger.sends) == 30
    assert all_starts(world)[-1] >= 9


# over the API


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with api.running(tmp_path, memory_deliveries=40) as server:
        yield server


async def held(server: Server, app: str) -> int:
    endpoints = (await server.get(f"/app/{app}/endpoint")).json["data"]
    lanes = server.node.worker.lanes
    return sum(lanes[one["id"]].held for one in endpoints if one["id"] in lanes)


async def test_a_throttled_application_takes_memory_and_time_from_nobody(server: Server) -> None:
    began = time.monotonic()
    slow, quick = await server.app(throttleRate=1), await server.app()
    for _ in range(20):
        await server.endpoint(slow)
    await server.endpoint(quick)
    for _ in range(10):
        await server.message(slow)
        assert await held(server, slow) <= PACED_SECONDS
    wanted = [await server.message(quick) for _ in range(100)]
    await server.watch.until(lambda: {a.message for a in server.watch.attempts} >= set(wanted))
    assert sum(a.app == slow for a in server.watch.attempts) <= time.monotonic() - began + 2


async def test_changing_and_removing_the_throttle_over_the_api(server: Server) -> None:
    began = time.monotonic()
    app = await server.app(throttleRate=1)
    for _ in range(2):
        await server.endpoint(app)
    for _ in range(30):
        await server.message(app)
    await server.watch.settled(2)
    assert len(server.watch.attempts) <= time.monotonic() - began + 2
    assert (await server.patch(f"/app/{app}", {"throttleRate": 1_000})).status == 200
    await server.watch.settled(20)
    assert (await server.patch(f"/app/{app}", {"throttleRate": None})).status == 200
    await server.watch.settled(60)


async def test_receivers_see_no_more_requests_than_that(tmp_path: Path) -> None:
    """Over real sockets; a busy machine sends some of them late, and then the next ones seem early."""
    rate, endpoints, messages, instants, done = 20, 3, 20, list[float](), asyncio.Event()

    async def noting(peer: Peer) -> None:
        while True:
            await peer.request()
            instants.append(time.monotonic())
            peer.send(ANSWER)
            if len(instants) == endpoints * messages:
                done.set()

    settings = {"allow_networks": "127.0.0.0/8", "retry_schedule": "none"}
    async with receiving(noting) as receiver, AsyncTenterhook(f"sqlite:///{tmp_path}/t.db", **settings) as hooks:
        await hooks.application.create("Acme", uid="acme", throttle_rate=rate)
        for _ in range(endpoints):
            await hooks.endpoint.create("acme", receiver.url())
        for n in range(messages):
            await hooks.message.create("acme", "invoice.paid", {"n": n})
        async with asyncio.timeout(api.GRACE):
            await done.wait()
    assert median(b - a for a, b in zip(instants, instants[rate + 1 :])) > 0.9
    assert (endpoints * messages - rate // 2) / rate < instants[-1] - instants[0] < 3 * endpoints * messages / rate
