"""How many messages per second go all the way: accepted and on disk, signed, delivered, logged; and what bounds that.

Publisher and receiver share one process on the same machine. The publisher keeps a fixed number of messages under way
(accepted or not, but not yet received), so the backlog is flat by construction.

The limit is computed in the same run from the parts, each measured alone: what an accepting request costs without
database and delivery, what the two batched commits cost, what a POST costs. The pipeline's share of that limit says how
much the engine adds.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from statistics import median

from rich.table import Table

from bench.databases import Bench
from bench.harness import Child, Database, Server, running, watched
from bench.load import closed_loop, publish, until
from bench.peer import Client, Receiver, listen
from bench.report import Check, Found, at_least, fact

UNDER_WAY = 256
PUBLISHERS = 64
WARM_UP = 2.0
BAR = 60
PER_SECOND = {"postgres": 3_000}
"""A bar for the rate itself, by kind of database."""


Requests = Callable[[], bytes]
"""Makes the next request."""


class Flow:
    """Publishers and a receiver around a server: counts what arrives, and holds publishers back while too much is under way.

    `requests` may be exchanged while it runs.
    """

    def __init__(self, server: Server, database: Database, requests: Requests) -> None:
        self.server, self.requests = server, requests
        self._database = database
        self.sent = self.accepted = self.received = 0
        self.ending = False
        self._room = asyncio.Event()

    def on_request(self, head: bytes, body: bytes) -> None:
        self.received += 1
        self._room.set()

    async def publisher(self, client: Client) -> None:
        while not self.ending:
            if self.sent - self.received >= UNDER_WAY:
                self._room.clear()
                await self._room.wait()
                continue
            self.sent += 1
            status, answer = await client.send(self.requests())
            if status != 202:
                raise RuntimeError(f"publishing answered {status}: {answer.decode()}")
            self.accepted += 1

    async def measured(self, seconds: float) -> dict[str, float]:
        """Messages per second end to end, and what a message costs whom."""
        begun, received, before = time.perf_counter(), self.received, await self._used()
        await asyncio.sleep(seconds)
        wall, count, after = time.perf_counter() - begun, self.received - received, await self._used()
        return {"per_second": count / wall} | {name: (after[name] - before[name]) / count for name in after}

    async def _used(self) -> dict[str, float]:
        """What has been used by the server, by this process (publisher and receiver), and by the database."""
        own = time.process_time()
        return {"cpu_us": self.server.cpu_seconds() * 1e6, "peer_cpu_us": own * 1e6} | await self._database.used()


@asynccontextmanager
async def flowing(database: Database) -> AsyncIterator[tuple[Flow, str]]:
    """Messages flow through a server, which is warm, to one endpoint of an application (its id).

    In the end everything accepted must have arrived.
    """
    flows: list[Flow] = []
    sink, port = await listen(lambda: Receiver(lambda head, body: flows[0].on_request(head, body)))
    async with running(database) as (server, rest):
        app = await rest.app({"url": f"http://127.0.0.1:{port}/hook"})
        raw = publish(app)
        flow = Flow(server, database, lambda: raw)
        flows.append(flow)
        async with asyncio.TaskGroup() as group:
            for _ in range(PUBLISHERS):
                group.create_task(flow.publisher(rest.client))
            await asyncio.sleep(WARM_UP)
            try:
                yield flow, app
            finally:
                flow.ending = True
        await until(lambda: flow.received >= flow.accepted, 30, "the rest of the deliveries")
    sink.close()


async def pipeline(seconds: float, database: Database) -> dict[str, float]:
    """Messages per second end to end, and what a message costs whom."""
    async with flowing(database) as (flow, _):
        found = await flow.measured(seconds)
        return found | {"peak_mib": flow.server.peak_mib()}


# the parts, each alone


async def accept_alone(seconds: float, database: Database) -> dict[str, float]:
    """The publishing path up to, not including, the database."""
    child = Child(database, "bench.parts", "accept")
    async with watched(child):
        ready = await child.line()
        client = await Client(ready["port"]).open()
        raw = publish(ready["app"])
        await closed_loop(client, raw, 0.5)
        begun, used = time.perf_counter(), child.cpu_seconds()
        count = await closed_loop(client, raw, seconds)
        wall, cpu = time.perf_counter() - begun, child.cpu_seconds() - used
        client.close()
    return {"per_second": count / wall, "cpu_us": cpu / count * 1e6}


async def commits_alone(seconds: float, database: Database) -> dict[str, float]:
    """The two commits of a message, in batches of a hundred."""
    return await _measured_by_itself(database, "commits", str(seconds))


async def post_alone(seconds: float, database: Database) -> dict[str, float]:
    """Signing and posting, 64 at once."""
    sink, port = await listen(lambda: Receiver(lambda head, body: None))
    found = await _measured_by_itself(database, "post", str(seconds), str(port))
    sink.close()
    return found


async def _measured_by_itself(database: Database, *arguments: str) -> dict[str, float]:
    child = Child(database, "bench.parts", *arguments)
    try:
        found: dict[str, float] = await child.line()
    finally:
        child.kill()
    return found


PARTS = {
    "accept, without database and delivery": accept_alone,
    "two commits, in batches of 100": commits_alone,
    "sign and POST, 64 at once": post_alone,
}


async def run(bench: Bench) -> Found:
    """30 s of the pipeline between two rounds of the parts."""
    span, before, after = (0.5, 1, 0) if bench.quick else (2.0, 2, 2)
    alone: dict[str, list[dict[str, float]]] = {name: [] for name in PARTS}
    for _ in range(before):
        await _measure_parts(alone, span, bench)
    async with bench.fresh() as database:
        whole = await pipeline(2 if bench.quick else 30, database)
    for _ in range(after):
        await _measure_parts(alone, span, bench)
    parts = {
        name: {key: median(found[key] for found in runs) for key in ("per_second", "cpu_us")}
        for name, runs in alone.items()
    }
    limit = 1 / sum(1 / part["per_second"] for part in parts.values())
    share = whole["per_second"] / limit * 100
    figures = {**whole, "limit_per_second": limit, "share_of_limit": share}
    for (_, part), key in zip(parts.items(), ("accept", "commits", "post"), strict=True):
        figures |= {f"{key}_per_second": part["per_second"], f"{key}_cpu_us": part["cpu_us"]}
    return Found((*_checks(bench.kind, whole, limit, share),), figures, (_parts_table(parts, whole),))


def _checks(kind: str, whole: dict[str, float], limit: float, share: float) -> Iterator[Check]:
    yield at_least("messages, end to end", whole["per_second"], PER_SECOND.get(kind), "/s")
    yield fact("limit of the parts", limit, "/s")
    yield at_least("share of the limit", share, BAR, "%")
    yield fact("server's CPU per message", whole["cpu_us"], "µs")
    if "database_cpu_us" in whole:
        yield fact("database's CPU per message", whole["database_cpu_us"], "µs")
        yield fact("log (WAL) per message", whole["wal_bytes"], "bytes")
        yield fact("messages per commit", 1 / whole["commits"], "")
    yield fact("publisher's and receiver's CPU", whole["peer_cpu_us"], "µs")


async def _measure_parts(alone: dict[str, list[dict[str, float]]], seconds: float, bench: Bench) -> None:
    for name, measure in PARTS.items():
        async with bench.fresh() as database:
            alone[name].append(await measure(seconds, database))


def _parts_table(parts: dict[str, dict[str, float]], whole: dict[str, float]) -> Table:
    table = Table(title="What a message costs, by part")
    for column in ("part", "alone, per second", "CPU µs"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for name, part in parts.items():
        table.add_row(name, f"{part['per_second']:,.0f}", f"{part['cpu_us']:.0f}")
    rest = whole["cpu_us"] - sum(part["cpu_us"] for part in parts.values())
    table.add_row("engine: the rest of the whole", "", f"{rest:.0f}")
    table.add_section()
    table.add_row("whole", f"{whole['per_second']:,.0f}", f"{whole['cpu_us']:.0f}")
    return table
