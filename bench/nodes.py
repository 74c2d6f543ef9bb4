"""Three nodes on one database: each message is attempted once, whichever node took it, and nodes at rest leave it alone."""

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack

from bench.databases import Bench
from bench.harness import Database, running
from bench.kill import ID, settled
from bench.load import publish, until
from bench.peer import Client, Receiver, listen
from bench.report import Check, Found, at_most, fact

NODES = 3
ENDPOINTS = 10
PUBLISHERS = 64
"""Of each node."""
UNDER_WAY = 4_000
"""Over all nodes; more than they hold in memory, so that they claim from the database what others left there."""
REST = 1
"""Transactions per node and second (at most) with nothing to do."""


class Tally:
    """What arrived, by message, and the publishers of all nodes."""

    def __init__(self) -> None:
        self.arrived: Counter[bytes] = Counter()
        self.received = self.accepted = self.sent = 0
        self.room = asyncio.Event()

    def on_request(self, head: bytes, body: bytes) -> None:
        found = ID.search(head)
        assert found is not None
        self.arrived[found[1]] += 1
        self.received += 1
        self.room.set()

    async def publisher(self, client: Client, raws: list[bytes], end: float) -> None:
        while time.perf_counter() < end:
            if self.sent - self.received >= UNDER_WAY:
                self.room.clear()
                await self.room.wait()
                continue
            self.sent += 1
            status, answer = await client.send(raws[self.sent % len(raws)])
            if status != 202:
                raise RuntimeError(f"publishing answered {status}: {answer.decode()}")
            self.accepted += 1


async def _commits(database: Database) -> float:
    return (await database.used())["commits"]


async def _at_rest(database: Database, seconds: float) -> float:
    """Transactions per second of each node that has nothing to do."""
    await asyncio.sleep(1)  # what belongs to their start is over
    begun, before = time.perf_counter(), await _commits(database)
    await asyncio.sleep(seconds)
    own = 1  # the query itself
    return (await _commits(database) - before - own) / (time.perf_counter() - begun) / NODES


async def run(bench: Bench) -> Found:
    """30 s of rest, then 30 s of load over all nodes."""
    rest_seconds, seconds = (2, 2) if bench.quick else (30, 30)
    tally = Tally()
    sink, port = await listen(lambda: Receiver(tally.on_request))
    async with bench.fresh() as database, AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(running(database)) for _ in range(NODES)]
        app = await nodes[0][1].app(
            *({"url": f"http://127.0.0.1:{port}/{n}", "channels": [f"c{n}"]} for n in range(ENDPOINTS))
        )
        raws = [publish(app, channel=f"c{n}") for n in range(ENDPOINTS)]
        at_rest = await _at_rest(database, rest_seconds)
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _, rest in nodes:
                for _ in range(PUBLISHERS):
                    group.create_task(tally.publisher(rest.client, raws, begun + seconds))
        wall, received = time.perf_counter() - begun, tally.received
        await until(lambda: len(tally.arrived) >= tally.accepted, 60, "the rest of the deliveries")
        await until(lambda: settled(database), 60, "an end of all deliveries")
        twice = await _attempted_twice(database)
    sink.close()
    again = sum(tally.arrived.values()) - len(tally.arrived)
    return _found(received / wall, len(tally.arrived), again, twice, at_rest)


async def _attempted_twice(database: Database) -> int:
    """Deliveries with more than one attempt on record."""
    found = await database.rows(
        "SELECT count(*) FROM (SELECT 1 FROM attempt GROUP BY message, endpoint HAVING count(*) > 1) AS again"
    )
    return int(found[0][0])


def _found(per_second: float, messages: int, again: int, twice: int, at_rest: float) -> Found:
    return Found(
        (
            fact(f"messages over {NODES} nodes, end to end", per_second, "/s"),
            fact("messages", messages, ""),
            Check("received again", "0", str(again), again == 0),
            Check("attempted twice on record", "0", str(twice), twice == 0),
            at_most("transactions of a node at rest", at_rest, REST, "/s"),
        ),
        {
            "per_second": per_second,
            "messages": messages,
            "received_again": again,
            "attempted_twice": twice,
            "at_rest_per_second": at_rest,
        },
    )
