"""The clocks of two machines are two hours off, one ahead and one behind: nodes go by the clock of the database."""

import asyncio
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest
from bench.load import until
from bench.postgres import PostgresServer

from tenterhook.clock import SECOND
from tenterhook.ids import instant_of
from tests.faults.conftest import Scale, for_a_module
from tests.faults.nodes import PATIENT, Node, Nodes
from tests.faults.traffic import database, none_pending, through
from tests.receiver import OK, Peer, answering, receiving

HOURS = 2
CLOSE = 30
"""How far apart two instants of one scene may be (s); the clocks are off by much more."""

PATIENT_LEASE = int(PATIENT["lease"].removesuffix("s"))
RUNNER = "tests.faults.runner"
FAILED = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"


async def start(nodes: Nodes) -> None:
    """One node that is ahead, and one that is behind."""
    made = [nodes.node(module=RUNNER, faults_ahead=str(sign * HOURS * 3_600), **PATIENT) for sign in (1, -1)]
    await asyncio.gather(*(node.start() for node in made))


@pytest.fixture(scope="module")
def nodes(server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with for_a_module(server, tmp_path_factory, start) as nodes:
        yield nodes


@pytest.fixture
def pair(nodes: Nodes) -> list[Node]:
    return nodes.all


@pytest.fixture
def url(nodes: Nodes) -> str:
    return nodes.url


def now() -> float:
    return time.time()


async def test_the_clocks_are_wrong(pair: list[Node]) -> None:
    for node, ahead in zip(pair, (HOURS, -HOURS), strict=True):
        shown = (await node.try_call("GET", "/health")).headers["date"]
        assert abs(parsedate_to_datetime(shown).timestamp() - now() - ahead * 3_600) < CLOSE


async def test_what_a_node_writes_down_has_the_right_time(pair: list[Node], url: str) -> None:
    async with answering(OK) as receiver, database(url) as db:
        app, _ = await pair[0].app({"url": receiver.url()})
        for n, node in enumerate(pair, start=1):
            message = await node.message(app)
            await until(lambda n=n: len(receiver.requests) == n, CLOSE, "the delivery")
            stamp = re.search(rb"webhook-timestamp: (\d+)", receiver.requests[-1][0])
            assert stamp is not None
            shown = datetime.fromisoformat((await node.call("GET", f"/app/{app}/msg/{message}"))["timestamp"])
            for instant in (instant_of(message) / SECOND, int(stamp[1]), shown.timestamp()):
                assert abs(instant - now()) < CLOSE
        await none_pending(db, app=app)
        minute = timedelta(minutes=1)
        window = f"after={time_of(-minute)}&before={time_of(minute)}"
        for node in pair:
            for what in (f"/app/{app}/msg", f"/app/{app}/attempt/msg/{message}"):
                assert len((await node.call("GET", f"{what}?{window}"))["data"]) == (2 if what.endswith("msg") else 1)


def time_of(offset: timedelta) -> str:
    return (datetime.now(UTC) + offset).strftime("%Y-%m-%dT%H:%M:%SZ")


async def test_leases_and_retries_are_as_long_as_they_should_be(pair: list[Node], url: str) -> None:
    ready = asyncio.Event()

    async def fail_when_ready(peer: Peer) -> None:
        while True:
            receiver.requests.append(await peer.request())
            times.append(now())
            await ready.wait()
            peer.send(FAILED if len(times) <= len(pair) else OK)

    times: list[float] = []
    async with receiving(fail_when_ready) as receiver, database(url) as db:
        app, _ = await pair[0].app({"url": receiver.url(), "retrySchedule": [1]})
        for node in pair:
            await node.message(app)
        await until(lambda: len(times) == 2, CLOSE, "the attempts")
        found = await db.fetch("SELECT due_at FROM delivery WHERE state = 'leased' AND app = $1", app)
        ends = [row[0] / SECOND for row in found]
        assert len(ends) == 2
        assert all(PATIENT_LEASE - CLOSE < end - now() <= PATIENT_LEASE for end in ends)
        failed = now()
        ready.set()
        await until(lambda: len(times) == 4, CLOSE, "the retries")
        assert all(1 <= again - failed < CLOSE for again in times[2:])
        await none_pending(db, app=app)


async def test_nothing_is_lost_or_sent_twice(nodes: Nodes, url: str, scale: Scale) -> None:
    async with through(nodes) as traffic:
        traffic.begin()
        await traffic.more(3 * scale.load)
        await traffic.end()
        await traffic.verify(url)
        assert not traffic.repeated()
