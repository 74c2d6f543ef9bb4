"""Load on nodes, and the books on it: what was accepted in which order, and what arrived in which order.

Each publisher has a key of order of its own and publishes one message after the other. It repeats a request, under the
same idempotency key and at whichever node, until one answers that the message is accepted; so the n-th message of a key is
accepted before the next one is published, and each is to be stored exactly once.
"""

import asyncio
import json
import math
import re
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any, NamedTuple

import asyncpg
from bench.load import headers, number_of, numbered
from bench.peer import Receiver, listen, request

from tests.faults.nodes import LEASE, PATIENCE, Answer, Connection, Node, Nodes
from tests.receiver import tick

GRACE = 20
"""How long after a lease what waits for its end may take (s)."""

FIFO, PLAIN = "/fifo", "/plain"
OUTSTANDING = 30
"""How many messages of a publisher may be on their way."""

_MOST = 1_000_000
_HEAD = re.compile(rb"POST (\S+) .*\r\nwebhook-id: *([^\r]+)", re.DOTALL | re.IGNORECASE)
_TRY_AGAIN = (423, 503)
_ANYONE = 999
"""The publisher whose messages come through the source."""


class Mark(NamedTuple):
    """Which message it is: the n-th of a publisher."""

    publisher: int
    number: int


class Traffic:
    """The publishers, the receiver, and the books. `nodes` are asked at random, those that run."""

    def __init__(self, nodes: Nodes, seed: int = 1) -> None:
        self._nodes, self._rng = nodes, Random(seed)
        self.app = self._token = ""
        self.paths: dict[str, str] = {}
        self._received = self._begun = 0
        self.allowed = math.inf
        self._publishers: list[asyncio.Task[None]] = []
        self._stopping = False
        self._moved = asyncio.Event()
        self.accepted: dict[str, Mark] = {}
        self.arrived: dict[str, dict[str, list[float]]] = {FIFO: {}, PLAIN: {}}
        self.order: dict[tuple[str, int], list[int]] = defaultdict(list)
        self.answers: Counter[int] = Counter()
        self.refused: list[Answer] = []
        self.slowest = 0.0

    async def prepare(self, node: Node, port: int) -> None:
        """An application with a source, a receiver that wants order, and one that does not."""
        url = f"http://127.0.0.1:{port}"
        self.app, endpoints = await node.app({"url": url + FIFO, "ordered": True}, {"url": url + PLAIN})
        self.paths = dict(zip(endpoints, (FIFO, PLAIN), strict=True))

    async def source(self, node: Node) -> None:
        """Give the application a source, for `receive`."""
        made = await node.call("POST", f"/app/{self.app}/source", {"name": "anyone", "provider": "none"})
        self._token = made["url"].rpartition("/")[2]

    async def receive(self, node: Node, seconds: float = PATIENCE) -> Answer:
        """What the source answers to the next request. Raises OSError, TimeoutError."""
        mark = Mark(_ANYONE, self._received)
        answer = await node.receive(self._token, numbered(mark.publisher * _MOST + mark.number), seconds)
        if answer.status == 200:
            self.accepted[answer.json["id"]] = mark
            self._received += 1
        return answer

    def on_request(self, head: bytes, body: bytes) -> None:
        """What the receiver is sent."""
        found = _HEAD.match(head)
        assert found is not None, head
        path, message = found[1].decode(), found[2].decode()
        instants = self.arrived[path].setdefault(message, [])
        if not instants:
            mark = Mark(*divmod(number_of(body), _MOST))
            self.order[path, mark.publisher].append(mark.number)
        instants.append(time.monotonic())
        self._move()

    def allow(self, count: int) -> None:
        """Publish so many more, and then wait: what the machine must do meanwhile has it for itself."""
        self.allowed = self._begun + count
        self._move()

    def begin(self, publishers: int = 8) -> None:
        """Publish, as much as is allowed: by default without end."""
        self._publishers = [asyncio.create_task(self._publish(n)) for n in range(publishers)]

    async def end(self) -> None:
        """Publish no more; what was begun is accepted when this returns."""
        self._stopping = True
        self._move()
        await asyncio.gather(*self._publishers)

    async def until(self, condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
        """Wait for a condition on the books. Raises AssertionError when it does not come, or a publisher's error."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    for publisher in self._publishers:
                        if publisher.done():
                            publisher.result()
                    moved = self._moved
                    await moved.wait()
        except TimeoutError:
            raise AssertionError(f"{what} did not come within {seconds:g} s: {self}") from None

    async def more(self, count: int) -> None:
        """Wait until so many more are accepted."""
        accepted = len(self.accepted) + count
        await self.until(lambda: len(self.accepted) >= accepted, f"{count} more")

    @property
    def arrivals(self) -> int:
        return sum(map(len, self.arrived.values()))

    def missing(self) -> set[tuple[str, str]]:
        """What was accepted and has not arrived."""
        return {(path, message) for path, seen in self.arrived.items() for message in self.accepted.keys() - seen}

    def repeated(self) -> dict[tuple[str, str], list[float]]:
        """What arrived more than once, with the instants."""
        return {
            (path, message): instants
            for path, seen in self.arrived.items()
            for message, instants in seen.items()
            if len(instants) > 1
        }

    async def verify(self, url: str) -> None:
        """`verify_in` with a look at a PostgreSQL database."""
        async with database(url) as db:
            await self.verify_in(db)

    async def verify_in(self, db: Any) -> None:
        """Nothing is lost, nothing is stuck for longer than a lease, each is stored once, and order is kept."""
        assert self.accepted
        await self.until(lambda: not self.missing(), "what was accepted", LEASE + GRACE)
        await none_pending(db, app=self.app)
        stored = {row[0] for row in await db.fetch("SELECT id FROM message WHERE app = $1", self.app)}
        assert stored == self.accepted.keys()
        assert await db.fetchval("SELECT count(*) FROM delivery WHERE state <> 'delivered' AND app = $1", self.app) == 0
        counts = Counter(mark.publisher for mark in self.accepted.values())
        for publisher, count in counts.items():
            assert self.order[FIFO, publisher] == [*range(count)]

    # publishers

    async def _publish(self, publisher: int) -> None:
        number = 0
        connections: dict[int, Connection] = {}
        try:
            while not self._stopping:
                if self._begun >= self.allowed or number - len(self.order[FIFO, publisher]) >= OUTSTANDING:
                    moved = self._moved
                    await moved.wait()
                    continue
                self._begun += 1
                raw = self._request(Mark(publisher, number))
                self.accepted[await self._insist(raw, connections)] = Mark(publisher, number)
                number += 1
                self._move()
        finally:
            for connection in connections.values():
                connection.close()

    def _request(self, mark: Mark) -> bytes:
        payload = numbered(mark.publisher * _MOST + mark.number)
        body = b'{"eventType":"invoice.paid","orderingKey":"key-%d","payload":%b}' % (mark.publisher, payload)
        fields = headers() | {"idempotency-key": f"{mark.publisher}-{mark.number}"}
        return request("POST", f"/api/v1/app/{self.app}/msg?with_content=false", fields, body)

    async def _insist(self, raw: bytes, connections: dict[int, Connection]) -> str:
        """Ask until a node says that it has accepted the message; its id."""
        async with asyncio.timeout(4 * PATIENCE):
            while True:
                answer = await self._try(raw, connections)
                if answer is not None and answer.status == 202:
                    return str(answer.json["id"])
                if answer is not None:
                    assert answer.status in _TRY_AGAIN, answer
                    self.refused.append(answer)
                await tick(0.05)

    async def _try(self, raw: bytes, connections: dict[int, Connection]) -> Answer | None:
        running = self._nodes.running
        if not running:
            return None
        port = self._rng.choice(running).port
        connection = connections.setdefault(port, Connection(port))
        begun = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await connection.ask(raw)
        except OSError:
            connections.pop(port).close()
            return None
        self.slowest = max(self.slowest, time.monotonic() - begun)
        self.answers[answer.status] += 1
        self._move()
        return answer

    def _move(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    def __str__(self) -> str:
        return (
            f"{len(self.accepted)} accepted, {self.arrivals} arrivals, {len(self.missing())} missing,"
            f" {len(self.repeated())} repeated, answers {dict(self.answers)}, slowest {self.slowest:.1f} s"
        )


@asynccontextmanager
async def through(nodes: Nodes, seed: int = 1) -> AsyncIterator[Traffic]:
    """Traffic through nodes that run; it is up to the caller to begin and end it."""
    traffic = Traffic(nodes, seed)
    receivers: list[Receiver] = []

    def connected() -> Receiver:
        receivers.append(Receiver(traffic.on_request))
        return receivers[-1]

    sink, port = await listen(connected)
    try:
        await traffic.prepare(nodes.running[0], port)
        yield traffic
    finally:
        for publisher in traffic._publishers:
            publisher.cancel()
        await asyncio.gather(*traffic._publishers, return_exceptions=True)
        sink.close()
        for receiver in receivers:
            receiver._transport.abort()
        await tick(0)


_QUERY = """
import json, sqlite3, sys
path, text, values = json.load(sys.stdin)
db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
json.dump(db.execute(text, {str(n): value for n, value in enumerate(values, start=1)}).fetchall(), sys.stdout)
"""


class SqliteLook:
    """As much of asyncpg's connection as tests use, on a SQLite file that a node is using.

    `inside` begins a command that sees the file, where this process does not.
    """

    def __init__(self, path: str, inside: Sequence[str] = ()) -> None:
        self._path, self._inside = path, inside

    async def fetch(self, text: str, *values: Any) -> list[Any]:
        process = await asyncio.create_subprocess_exec(
            *self._inside, sys.executable, "-c", _QUERY, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        found, _ = await process.communicate(json.dumps([self._path, text, values]).encode())
        return json.loads(found)

    async def fetchval(self, text: str, *values: Any) -> Any:
        return (await self.fetch(text, *values))[0][0]

    async def close(self) -> None:
        """Nothing is kept open."""


@asynccontextmanager
async def database(url: str) -> AsyncIterator[Any]:
    """A look at what nodes have stored."""
    connection = await asyncpg.connect(url, server_settings={"search_path": "tenterhook"}, timeout=PATIENCE)
    try:
        yield connection
    finally:
        await connection.close()


async def none_pending(db: Any, seconds: float = LEASE + GRACE, app: str | None = None) -> None:
    """Wait until every delivery, or every one of an application, has ended. Raises AssertionError."""
    end = time.monotonic() + seconds
    text = "SELECT * FROM delivery WHERE state IN ('due', 'leased', 'waiting') AND coalesce(app = $1, true) LIMIT 5"
    while left := await db.fetch(text, app):
        assert time.monotonic() < end, f"stuck: {left}"
        await tick(0.05)
