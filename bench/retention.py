"""Whether publishing feels that a long history is being removed."""

import asyncio
import time

from bench.databases import Bench
from bench.harness import Database, running
from bench.load import number_of, numbered, open_loop, percentile, publish, until
from bench.peer import Receiver, listen
from bench.report import Found, at_most, fact
from bench.seed import APP, seed_history

MESSAGES = 300_000
PER_SECOND = 500
P99 = 20
_LOOK = 1.0


async def run(bench: Bench) -> Found:
    """500 messages/s for 20 s beside a history that is to be kept for a day, and whose last 29 days are too many."""
    messages, seconds = (5_000, 2.0) if bench.quick else (MESSAGES, 20.0)
    async with bench.fresh() as database:
        await seed_history(database, messages, 0)
        took, removed = await _beside(database, seconds)
    p50, p99 = percentile(took, 0.5), percentile(took, 0.99)
    return Found(
        (
            fact("published → received, p50", p50, "ms"),
            at_most("published → received, p99", p99, P99, "ms"),
            fact("messages removed meanwhile", removed, "/s"),
        ),
        {"p50_ms": p50, "p99_ms": p99, "removed_per_second": removed, "messages": len(took)},
    )


async def _beside(database: Database, seconds: float) -> tuple[list[float], float]:
    """How long each message took (ms), and how many old ones went per second."""
    sent: dict[int, float] = {}
    received: dict[int, float] = {}

    def on_request(head: bytes, body: bytes) -> None:
        received.setdefault(number_of(body), time.perf_counter())

    sink, port = await listen(lambda: Receiver(on_request))
    async with running(database, record_retention="97h") as (_, rest):
        app = await rest.app({"url": f"http://127.0.0.1:{port}/hook"})
        before = await _old(database)
        while await _old(database) == before:  # the first look comes a minute after the start
            await asyncio.sleep(_LOOK)
        before, begun = await _old(database), time.perf_counter()
        await open_loop(rest.client, PER_SECOND, seconds, lambda n: publish(app, numbered(n)), sent)
        await until(lambda: len(received) == len(sent), what="every delivery")
        removed = (before - await _old(database)) / (time.perf_counter() - begun)
    sink.close()
    return [(received[n] - begun) * 1e3 for n, begun in sent.items()], removed


async def _old(database: Database) -> int:
    ((count,),) = await database.rows(f"SELECT count(*) FROM message WHERE app = '{APP}'")
    return int(count)
