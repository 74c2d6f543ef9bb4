"""What ninety endpoints that never answer do to ten healthy ones in the same application."""

import asyncio
import time
from collections.abc import Iterator

from bench.databases import Bench
from bench.harness import Database, running
from bench.load import number_of, numbered, open_loop, percentile, publish, until
from bench.peer import Hanging, Receiver, listen
from bench.report import Found, at_most, fact

HEALTHY, HANGING = 10, 90
PER_SECOND = 400
"""Over all endpoints, in turn."""
TIMES = 2


async def latency(bench: Bench, hanging: int, seconds: float) -> tuple[list[float], dict[str, float]]:
    """How long messages took to the healthy endpoints (ms), and what became of the others.

    The healthy ones get the same number of messages whether there are others or not.
    """
    sent: dict[int, float] = {}
    received: dict[int, float] = {}
    endpoints = HEALTHY + hanging

    def on_request(head: bytes, body: bytes) -> None:
        received.setdefault(number_of(body), time.perf_counter())

    sink, port = await listen(lambda: Receiver(on_request))
    hole, deaf = await listen(Hanging)
    async with bench.fresh() as database, running(database) as (server, rest):
        wanted: Iterator[dict[str, object]] = (
            {"url": f"http://127.0.0.1:{port if n < HEALTHY else deaf}/hook", "channels": [f"c{n}"]}
            for n in range(endpoints)
        )
        app = await rest.app(*wanted)
        rate = PER_SECOND * endpoints / (HEALTHY + HANGING)
        await open_loop(rest.client, rate, seconds, lambda n: publish(app, numbered(n), f"c{n % endpoints}"), sent)
        healthy = [n for n in sent if n % endpoints < HEALTHY]
        await until(lambda: len(received) >= len(healthy), what="every delivery to a healthy endpoint")
        await asyncio.sleep(0.2)
        about = {"peak_mib": server.peak_mib()} | await _hanging(database)
    sink.close()
    hole.close()
    return [(received[n] - sent[n]) * 1e3 for n in healthy], about


async def _hanging(database: Database) -> dict[str, float]:
    found = await database.rows(
        "SELECT (SELECT count(*) FROM attempt WHERE result <> 'ok'),"
        " (SELECT count(*) FROM delivery WHERE due_at IS NOT NULL AND state = 'leased'),"
        " (SELECT count(*) FROM delivery WHERE due_at IS NOT NULL), (SELECT count(*) FROM health WHERE opened > 0)"
    )
    names = ("hanging_attempts", "hanging_leased", "hanging_pending", "breakers_open")
    return dict(zip(names, found[0], strict=True))


async def run(bench: Bench) -> Found:
    """The same load on the healthy endpoints twice: alone, then beside the hanging ones, beyond their second timeout."""
    alone, _ = await latency(bench, 0, 2 if bench.quick else 15)
    beside, about = await latency(bench, HANGING, 2 if bench.quick else 35)
    before, after = percentile(alone, 0.99), percentile(beside, 0.99)
    return Found(
        (
            fact("published → received, p99, 10 healthy alone", before, "ms"),
            fact("… beside 90 that hang", after, "ms"),
            at_most("times as long", after / before, TIMES, "×"),
            fact("attempts that timed out", about["hanging_attempts"], ""),
            fact("breakers open at the end", about["breakers_open"], f"of {HANGING}"),
        ),
        {"alone_p99_ms": before, "beside_p99_ms": after, "ratio": after / before, "messages": len(beside), **about},
    )
