"""Whether a message that was accepted can be lost: `kill -9` at 200 random moments under load, on one database.

The publisher counts what was answered 202, the receiver what arrived, by message id. A duplicate must have been in
flight at a kill: received, but its result not on the disk. What was in flight is read from the database as the killed
process left it.
"""

import asyncio
import contextlib
import json
import re
import time
from itertools import pairwise
from random import Random
from statistics import median

from bench.databases import Bench
from bench.harness import Database, Rest, Server, watched
from bench.load import publish, until
from bench.peer import Client, Receiver, listen
from bench.report import Check, Found, fact

KILLS = 200
SEED = 20260131
PUBLISHERS = 16
LIFE = (0.05, 0.35)
"""How long a server lives once it answers (s)."""

SETTINGS = {"retry_schedule": ",".join(["200ms"] * 100), "log_level": "warning"}
LEASES = {"sqlite": {}, "postgres": {"delivery_timeout": "1s", "lease": "11s"}}
"""On PostgreSQL what a killed server had in flight waits for the end of its lease: here for not longer than needed."""

ID = re.compile(rb"\r\nwebhook-id: *([^\r]+)", re.IGNORECASE)


class Ledger:
    """What was accepted, what arrived in which life of the server, what was in flight at each kill."""

    def __init__(self) -> None:
        self.life = 0
        self.accepted: set[str] = set()
        self.arrived: dict[str, list[int]] = {}
        self.in_flight: list[set[str]] = []
        self.client: Client | None = None
        self.up = asyncio.Event()
        self.closing = False
        self.connections = 0

    def on_request(self, head: bytes, body: bytes) -> None:
        found = ID.search(head)
        assert found is not None
        self.arrived.setdefault(found[1].decode(), []).append(self.life)

    async def publisher(self, raw: bytes) -> None:
        """Publish one after the other; a request that a kill cuts off was not accepted."""
        while not self.closing:
            await self.up.wait()
            if self.client is None:
                continue
            with contextlib.suppress(ConnectionError):
                status, answer = await self.client.send(raw)
                if status != 202:
                    raise RuntimeError(f"publishing answered {status}: {answer.decode()}")
                self.accepted.add(json.loads(answer)["id"])

    @property
    def lost(self) -> int:
        return len(self.accepted - self.arrived.keys())

    def duplicates(self) -> tuple[int, int]:
        """How many deliveries came again, and how many of those were not in flight at a kill in between."""
        count = unexplained = 0
        for message, lives in self.arrived.items():
            for before, after in pairwise(lives):
                count += 1
                unexplained += not any(message in self.in_flight[life] for life in range(before, after))
        return count, unexplained


class Counted(Receiver):
    """A receiver that knows when everything that a killed process had sent is read."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger.on_request)
        self._ledger = ledger

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._ledger.connections += 1

    def connection_lost(self, error: Exception | None) -> None:
        self._ledger.connections -= 1


async def leased(database: Database) -> set[str]:
    """The messages that killed processes had in flight."""
    found = await database.rows("SELECT message FROM delivery WHERE state = 'leased' AND due_at IS NOT NULL")
    return {message for (message,) in found}


async def settled(database: Database) -> bool:
    """Whether every delivery has ended, and is on record."""
    return not (await database.rows("SELECT 1 FROM delivery WHERE due_at IS NOT NULL LIMIT 1"))


async def one_life(database: Database, settings: dict[str, str], ledger: Ledger, raw: bytes, span: float) -> float:
    """Start, serve for `span` seconds under load, kill; how long the start took."""
    begun = time.perf_counter()
    server = await Server.start(database, **settings)
    took = time.perf_counter() - begun
    try:
        ledger.client = await Client(server.port, PUBLISHERS).open()
        ledger.up.set()
        await asyncio.sleep(span)
        if not server.alive:
            raise server.failure()
    finally:
        ledger.up.clear()
        server.kill()
    ledger.in_flight.append(await leased(database))
    await until(lambda: not ledger.connections, 5, "the end of the killed server's connections")
    ledger.life += 1
    return took


async def run(bench: Bench) -> Found:
    """200 lives of a server, and a last one in which everything must arrive."""
    kills, rng, ledger = 3 if bench.quick else KILLS, Random(SEED), Ledger()
    settings = SETTINGS | LEASES[bench.kind]
    sink, port = await listen(lambda: Counted(ledger))
    async with bench.fresh() as database:
        raw = publish(await _prepare(database, settings, port))
        publishers = [asyncio.create_task(ledger.publisher(raw)) for _ in range(PUBLISHERS)]
        starts = [await one_life(database, settings, ledger, raw, rng.uniform(*LIFE)) for _ in range(kills)]
        ledger.closing = True
        ledger.up.set()
        await asyncio.wait(publishers, timeout=5)
        for publisher in publishers:
            publisher.result()
        server = await Server.start(database, **settings)
        async with watched(server):
            with contextlib.suppress(RuntimeError):
                await until(lambda: not ledger.lost, 30)
            await until(lambda: settled(database), 30, "an end of all deliveries")
    sink.close()
    return _found(ledger, kills, starts)


async def _prepare(database: Database, settings: dict[str, str], port: int) -> str:
    server = await Server.start(database, **settings)
    async with watched(server):
        client = await Client(server.port, 1).open()
        app = await Rest(client).app({"url": f"http://127.0.0.1:{port}/hook"})
        client.close()
    return app


def _found(ledger: Ledger, kills: int, starts: list[float]) -> Found:
    duplicates, unexplained = ledger.duplicates()
    in_flight = sum(map(len, ledger.in_flight))
    return Found(
        (
            fact("kill -9 under load", kills, "times"),
            fact("accepted messages", len(ledger.accepted), ""),
            Check("lost", "0", str(ledger.lost), ledger.lost == 0 and bool(ledger.accepted)),
            fact("in flight at the kills", in_flight, ""),
            fact("delivered twice", duplicates, ""),
            Check("… and not in flight at a kill", "0", str(unexplained), unexplained == 0),
            fact("start, median", median(starts) * 1e3, "ms"),
        ),
        {
            "kills": kills,
            "accepted": len(ledger.accepted),
            "lost": ledger.lost,
            "in_flight": in_flight,
            "duplicates": duplicates,
            "unexplained_duplicates": unexplained,
            "start_ms": median(starts) * 1e3,
        },
    )
