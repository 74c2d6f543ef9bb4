"""How much memory a server takes that finds a million due deliveries: for an endpoint that is gone, and for a hundred."""

import asyncio
import socket

from bench.databases import Bench
from bench.harness import running
from bench.peer import Receiver, listen
from bench.report import Found, at_most, fact
from bench.seed import seed_due

DELIVERIES = 1_000_000
ENDPOINTS = 100
BAR = 250


def closed_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def peak(bench: Bench, deliveries: int, urls: list[str], seconds: float) -> float:
    """The most memory (MiB) that a server had in its first `seconds` on such a backlog."""
    async with bench.fresh() as database:
        await seed_due(database, deliveries, urls)
        async with running(database) as (server, _):
            await asyncio.sleep(seconds)
            return server.peak_mib()


async def run(bench: Bench) -> Found:
    """A server for 15 s on each of the two backlogs."""
    deliveries, seconds = (10_000, 2) if bench.quick else (DELIVERIES, 15)
    received = 0

    def on_request(head: bytes, body: bytes) -> None:
        nonlocal received
        received += 1

    dead = await peak(bench, deliveries, [f"http://127.0.0.1:{closed_port()}/hook"], seconds)
    sink, port = await listen(lambda: Receiver(on_request))
    draining = await peak(bench, deliveries, [f"http://127.0.0.1:{port}/{n}" for n in range(ENDPOINTS)], seconds)
    sink.close()
    return Found(
        (
            at_most(f"{deliveries:,} due for a dead endpoint, peak", dead, BAR, "MiB"),
            at_most(f"{deliveries:,} due for {ENDPOINTS} endpoints, peak", draining, BAR, "MiB"),
            fact("delivered meanwhile", received / seconds, "/s"),
        ),
        {"dead_mib": dead, "draining_mib": draining, "drained": received},
    )
