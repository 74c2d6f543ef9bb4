"""Three nodes on one database: each message is attempted once, whichever node took it, and nodes at rest leave it alone."""

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack

from bench.databases import Bench
from bench.harness import Database, Server, running
from bench.kill import ID, settled
from bench.load import publish, until
from bench.peer import Client, Receiver, listen
from bench.report import Check, Found, at_most, fact

ARRANGEMENTS = {"alike": ("all", "all", "all"), "apart": ("api", "worker", "worker")}
"""The roles of the nodes. Alike, a node mostly delivers what it has accepted; apart, every delivery is claimed."""
ENDPOINTS = 10
PUBLISHERS = 64
"""Of each node that accepts."""
UNDER_WAY = 2_000
"""Over all nodes."""
REST = 1
"""Transactions per node and second (at most) with nothing to do."""
FIRST_ROUND = 12
"""Seconds until nodes have done everything once that they do now and then, and its statements are prepared."""


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


async def loaded(database: Database, roles: tuple[str, ...], rest: float, seconds: float) -> dict[str, float]:
    """Nodes with these roles, first at `rest` for some seconds, then under load, which goes to all that accept."""
    tally = Tally()
    sink, port = await listen(lambda: Receiver(tally.on_request))
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(running(database, role=role)) for role in roles]
        hooks = ({"url": f"http://127.0.0.1:{port}/{n}", "channels": [f"c{n}"]} for n in range(ENDPOINTS))
        app = await nodes[0][1].app(*hooks)
        raws = [publish(app, channel=f"c{n}") for n in range(ENDPOINTS)]
        at_rest = await _at_rest(database, rest) / len(roles)
        accepting = [server for (server, _), role in zip(nodes, roles, strict=True) if role != "worker"]
        per_second, database_cpu = await _publish(database, accepting, tally, raws, seconds)
        await until(lambda: len(tally.arrived) >= tally.accepted, 60, "the rest of the deliveries")
        await until(lambda: settled(database), 60, "an end of all deliveries")
        twice = await _attempted_twice(database)
    sink.close()
    return {
        "per_second": per_second,
        "database_cpu_us": database_cpu,
        "messages": len(tally.arrived),
        "received_again": sum(tally.arrived.values()) - len(tally.arrived),
        "attempted_twice": twice,
        "at_rest_per_second": at_rest,
    }


async def _at_rest(database: Database, seconds: float) -> float:
    """Transactions per second of nodes that have nothing to do."""
    await asyncio.sleep(FIRST_ROUND)
    begun, before = time.perf_counter(), (await database.used())["commits"]
    await asyncio.sleep(seconds)
    own = 1
    return ((await database.used())["commits"] - before - own) / (time.perf_counter() - begun)


async def _publish(
    database: Database, servers: list[Server], tally: Tally, raws: list[bytes], seconds: float
) -> tuple[float, float]:
    """Messages per second end to end, and the database's CPU time for one (µs)."""
    clients = [await Client(server.port, PUBLISHERS).open() for server in servers]
    begun, before = time.perf_counter(), await database.used()
    async with asyncio.TaskGroup() as group:
        for client in clients * PUBLISHERS:
            group.create_task(tally.publisher(client, raws, begun + seconds))
    wall, after, received = time.perf_counter() - begun, await database.used(), tally.received
    return received / wall, (after["database_cpu_us"] - before["database_cpu_us"]) / received


async def _attempted_twice(database: Database) -> int:
    """Deliveries with more than one attempt on record."""
    found = await database.rows(
        "SELECT count(*) FROM (SELECT 1 FROM attempt GROUP BY message, endpoint HAVING count(*) > 1) AS again"
    )
    return int(found[0][0])


async def run(bench: Bench) -> Found:
    """30 s of rest and 20 s of load for each arrangement."""
    rest, seconds = (2, 2) if bench.quick else (30, 20)
    checks: list[Check] = []
    figures: dict[str, float] = {}
    for name, roles in ARRANGEMENTS.items():
        async with bench.fresh() as database:
            found = await loaded(database, roles, rest, seconds)
        checks += _checks(" + ".join(roles), found)
        figures |= {f"{name}_{key}": value for key, value in found.items()}
    return Found(tuple(checks), figures)


def _checks(roles: str, found: dict[str, float]) -> list[Check]:
    again, twice = found["received_again"], found["attempted_twice"]
    return [
        fact(f"{roles}: messages, end to end", found["per_second"], "/s"),
        fact("… database's CPU per message", found["database_cpu_us"], "µs"),
        fact("… messages", found["messages"], ""),
        Check("… received again", "0", f"{again:.0f}", again == 0),
        Check("… attempted twice on record", "0", f"{twice:.0f}", twice == 0),
        at_most("… transactions of a node at rest", found["at_rest_per_second"], REST, "/s"),
    ]
