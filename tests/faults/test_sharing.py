"""What two nodes share of an endpoint: its order, its rate, its breaker, its state, its configuration."""

import asyncio
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from statistics import median

import pytest
from bench.load import until
from bench.peer import request
from bench.postgres import PostgresServer

from tests.faults.conftest import for_a_module
from tests.faults.nodes import ALERT, QUICK, Node, Nodes
from tests.faults.traffic import database, none_pending
from tests.receiver import OK, Peer, Receiver, answering, receiving, tick
from tests.wire import Wire

SETTINGS = {**ALERT, "breaker_failures": "4", "breaker_open": "1s", "breaker_open_cap": "1s"}
FAILED = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
LISTEN = b'LISTEN "'
OPENED = "SELECT opened FROM health WHERE endpoint = $1"
GONE = b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture(scope="module")
def nodes(server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with for_a_module(server, tmp_path_factory, lambda nodes: nodes.start(2, **SETTINGS)) as nodes:
        yield nodes


@pytest.fixture
def url(nodes: Nodes) -> str:
    return nodes.url


@pytest.fixture
def pair(nodes: Nodes) -> tuple[Node, Node]:
    return nodes.all[0], nodes.all[1]


class Watched(Receiver):
    """A receiver that can hold its answers back, and knows when requests came and how many were under way at once."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = OK
        self.open = asyncio.Event()
        self.open.set()
        self.instants: list[float] = []
        self.bodies: list[bytes] = []
        self.under_way = self.most = 0

    async def serve(self, peer: Peer) -> None:
        while True:
            _, body = await peer.request()
            self.instants.append(time.monotonic())
            self.bodies.append(body)
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            try:
                await self.open.wait()
                peer.send(self.answer)
            finally:
                self.under_way -= 1

    async def count(self, count: int, seconds: float = QUICK) -> None:
        """Wait for so many requests."""
        await until(lambda: len(self.bodies) >= count, seconds, f"request {count}")

    def kept_to(self, rate: int, begun: float) -> None:
        """The requests came at this rate; a busy machine sends some of them late, and then the next ones seem early."""
        window = median(b - a for a, b in zip(self.instants, self.instants[rate + 1 :]))
        assert window > 0.9, f"{rate + 2} requests in {window} s"
        expected = (len(self.instants) - 1) / rate
        assert expected - 0.2 < self.instants[-1] - begun < 3 * expected


@asynccontextmanager
async def watching() -> AsyncIterator[Watched]:
    watched = Watched()
    async with receiving(watched.serve) as receiver:
        watched.port = receiver.port
        yield watched


async def test_order_holds_whichever_node_accepts(pair: tuple[Node, Node]) -> None:
    """The next message of a line is accepted elsewhere a moment later: clocks must not put it first."""
    async with watching() as receiver:
        receiver.open.clear()
        app, _ = await pair[0].app({"url": receiver.url(), "ordered": True})
        await pair[1].message(app)
        accepted = [await pair[n % 2].message(app, payload={"n": n}) for n in range(60)]
        assert accepted == sorted(accepted)
        receiver.open.set()
        await receiver.count(61)
        assert receiver.bodies[1:] == [b'{"n": %d}' % n for n in range(60)]


async def test_the_rate_is_that_of_all_nodes(pair: tuple[Node, Node], url: str) -> None:
    """With a rate each they would send twice as many."""
    rate, count = 20, 50
    async with watching() as receiver:
        app, _ = await pair[0].app({"url": receiver.url(), "throttleRate": rate})
        begun = time.monotonic()
        await asyncio.gather(*(pair[n % 2].message(app) for n in range(count)))
        await receiver.count(count)
        receiver.kept_to(rate, begun)


async def test_an_application_has_one_rate_on_all_nodes(pair: tuple[Node, Node], url: str) -> None:
    rate, count = 20, 20
    async with watching() as receiver:
        app, _ = await pair[0].app(*[{"url": receiver.url()}] * 3)
        await pair[0].call("PATCH", f"/app/{app}", {"throttleRate": rate})
        begun = time.monotonic()
        await asyncio.gather(*(pair[n % 2].message(app) for n in range(count)))
        await receiver.count(3 * count)
        receiver.kept_to(rate, begun)


async def test_nodes_open_the_breaker_together_and_probe_one_at_a_time(pair: tuple[Node, Node], url: str) -> None:
    async with watching() as receiver, database(url) as db:
        receiver.answer = FAILED
        app, (endpoint,) = await pair[0].app({"url": receiver.url(), "concurrency": 2})

        async def opened(times: int) -> None:
            async with asyncio.timeout(QUICK):
                while ((await db.fetchval(OPENED, endpoint)) or 0) < times:
                    await tick(0.01)

        await asyncio.gather(*(pair[n % 2].message(app) for n in range(30)))
        await opened(1)
        # four failures open it; each node has two at a time, and hears of it a moment later
        assert 4 <= len(receiver.bodies) <= 20
        await opened(2)
        before, receiver.most = len(receiver.bodies), 0
        receiver.open.clear()
        await receiver.count(before + 1)
        # a second probe would come now, with so much that is due
        await tick(0.3)
        assert receiver.most == 1
        receiver.open.set()
        await receiver.count(before + 2)
        assert receiver.instants[before + 1] - receiver.instants[before] > 1
        receiver.answer = OK
        await none_pending(db, app=app)


async def test_a_manual_attempt_goes_through_an_open_breaker(pair: tuple[Node, Node], url: str) -> None:
    async with watching() as receiver, database(url) as db:
        receiver.answer = FAILED
        schedule = {"retrySchedule": [600]}
        app, (endpoint,) = await pair[0].app({"url": receiver.url(), **schedule})
        await asyncio.gather(*(pair[n % 2].message(app) for n in range(8)))
        await receiver.count(8)
        await db.execute("UPDATE health SET open_until = open_until + 600000000 WHERE endpoint = $1", endpoint)
        await db.execute("SELECT pg_notify('tenterhook', 'health ' || $1)", endpoint)
        receiver.answer = OK
        message = await db.fetchval("SELECT message FROM delivery WHERE endpoint = $1 LIMIT 1", endpoint)
        await pair[1].call("POST", f"/app/{app}/msg/{message}/endpoint/{endpoint}/resend", {})
        await receiver.count(9)


async def test_what_one_node_disables_the_other_leaves_alone(pair: tuple[Node, Node], url: str) -> None:
    async with watching() as receiver, database(url) as db:
        app, (endpoint,) = await pair[0].app({"url": receiver.url(), "concurrency": 1})
        receiver.open.clear()
        # each node sends one and has others in memory
        await asyncio.gather(*(pair[n % 2].message(app) for n in range(20)))
        await receiver.count(2)
        receiver.answer = GONE
        receiver.open.set()
        async with asyncio.timeout(QUICK):
            while not await db.fetchval("SELECT disabled FROM endpoint WHERE id = $1", endpoint):
                await tick(0.005)
        await asyncio.gather(*(node.message(app) for node in pair))
        assert len(receiver.bodies) <= 4
        before, receiver.answer = len(receiver.bodies), OK
        await pair[1].call("PATCH", f"/app/{app}/endpoint/{endpoint}", {"disabled": False})
        await asyncio.gather(*(node.message(app) for node in pair))
        # all but those whose attempts were answered 410 before go on at once; these wait for their retry
        await receiver.count(22, QUICK)
        assert before <= 4
        await none_pending(db, app=app)


async def test_a_changed_url_counts_from_the_next_attempt(pair: tuple[Node, Node]) -> None:
    async with watching() as old, answering(OK) as new:
        app, (endpoint,) = await pair[0].app({"url": old.url(), "concurrency": 1})
        old.open.clear()
        for _ in range(5):
            await pair[1].message(app)
        await old.count(1)
        await pair[0].call("PATCH", f"/app/{app}/endpoint/{endpoint}", {"url": new.url()})
        await pair[1].message(app)  # which it cannot plan before it knows
        old.open.set()
        await until(lambda: len(new.requests) >= 5, QUICK, "the attempts at the new URL")
        assert len(old.bodies) == 1


async def test_a_new_endpoint_gets_what_another_node_accepts_next(pair: tuple[Node, Node]) -> None:
    async with answering(OK) as receiver:
        app, _ = await pair[0].app()
        for n in range(5):
            await pair[1].message(app)
            await pair[0].call("POST", f"/app/{app}/endpoint", {"url": receiver.url(f"/{n}")})
        await pair[1].message(app)
        await until(lambda: len(receiver.requests) == 4 + 3 + 2 + 1 + 5, QUICK, "every delivery")


async def test_a_changed_secret_of_a_source_counts_everywhere(pair: tuple[Node, Node]) -> None:
    app, _ = await pair[0].app()
    made = await pair[0].call(
        "POST", f"/app/{app}/source", {"name": "github", "provider": "github", "secrets": ["old secret"]}
    )
    path = f"/in/{made['url'].rpartition('/')[2]}"
    assert await signed(pair[1], path, "old secret") == 200
    await pair[0].call("PATCH", f"/app/{app}/source/{made['id']}", {"secrets": ["new secret"]})
    await pair[1].message(app)  # for which it learns what is new of the application
    assert await signed(pair[1], path, "old secret") == 401
    assert await signed(pair[1], path, "new secret") == 200
    await pair[0].call("DELETE", f"/app/{app}/source/{made['id']}")
    assert await signed(pair[1], path, "new secret") == 404


async def signed(node: Node, path: str, secret: str) -> int:
    """The status that a webhook of GitHub's gets."""
    body = b'{"action":"opened"}'
    fields = {
        "content-type": "application/json",
        "x-github-event": "issues",
        "x-github-delivery": hashlib.sha256(secret.encode() + path.encode()).hexdigest(),
        "x-hub-signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
    }
    return (await node._ask(request("POST", path, fields, body), QUICK)).status


async def test_a_node_that_hears_nothing_goes_by_what_is_stored(nodes: Nodes, url: str) -> None:
    """Hints only make things quick: whatever is planned, claimed or judged is compared with the database."""
    async with Wire(url) as wire, watching() as old, answering(OK) as new, database(url) as db:
        deafness = [wire.cut_before(LISTEN, nth=nth) for nth in range(1, 100)]
        deaf = await nodes.node(wire.url, **SETTINGS).start()
        node = nodes.all[0]
        app, (endpoint,) = await node.app({"url": old.url(), "concurrency": 1})
        old.open.clear()
        for _ in range(3):
            await deaf.message(app)
        await old.count(1)
        await node.call("PATCH", f"/app/{app}/endpoint/{endpoint}", {"url": new.url("/moved")})
        await node.call("POST", f"/app/{app}/endpoint", {"url": new.url("/added")})
        await deaf.message(app)
        old.open.set()
        await until(lambda: len(new.requests) >= 4, QUICK, "the attempts at the new URLs")
        await none_pending(db, app=app)
        assert len(old.bodies) == 1
        await node.call("PATCH", f"/app/{app}/endpoint/{endpoint}", {"disabled": True})
        await deaf.message(app)
        await node.call("DELETE", f"/app/{app}")
        assert (await deaf.try_call("POST", f"/app/{app}/msg", {"eventType": "a", "payload": {}})).status == 404
        paths = sorted(head.split(b" ")[1] for head, _ in new.requests)
        assert paths == [b"/added"] * 2 + [b"/moved"] * 3
        assert deafness[0].struck.is_set()
        deaf.kill()


async def test_a_node_that_has_heard_nothing_for_a_while_looks_again(nodes: Nodes, url: str) -> None:
    async with Wire(url) as wire, watching() as old, answering(OK) as new:
        late = await nodes.node(wire.url, **ALERT).start()
        app, (endpoint,) = await late.app({"url": old.url(), "concurrency": 1})
        old.open.clear()
        for _ in range(3):
            await late.message(app)
        await old.count(1)
        deafness = [wire.cut_before(LISTEN, nth=nth) for nth in range(1, 5)]
        wire.cut()
        await nodes.all[0].call("PATCH", f"/app/{app}/endpoint/{endpoint}", {"url": new.url()})
        looked = wire.tell_after(endpoint.encode(), kind="B")
        await asyncio.wait_for(looked.struck.wait(), QUICK)
        assert deafness[-1].struck.is_set()
        for _ in range(3):  # when it has the answers to these, it has read the one before
            await late.call("GET", f"/app/{app}/msg")
        old.open.set()
        await until(lambda: len(new.requests) >= 2, QUICK, "the attempts at the new URL")
        assert len(old.bodies) == 1
        late.kill()
