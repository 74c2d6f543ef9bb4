"""Whether publishing feels that a long history is being removed."""

import asyncio
import time

from bench.databases import Bench
from bench.harness import Database, Failed, running
from bench.load import number_of, numbered, open_loop, percentile, publish, until
from bench.peer import Receiver, listen
from bench.report import Found, at_most, fact
from bench.seed import APP, seed_history

MESSAGES = 300_000
PER_SECOND = 500
P99 = 20
_PATIENCE = 120


async def run(bench: Bench) -> Found:
    """500 messages/s for 15 s on a history of 30 days, first when all of it is kept, then while most of it goes."""
    messages, seconds = (5_000, 2.0) if bench.quick else (MESSAGES, 15.0)
    async with bench.fresh() as database:
        await seed_history(database, messages, 0)
        alone, _ = await _published(database, seconds, keep=True)
        beside, removed = await _published(database, seconds, keep=False)
    before, after = percentile(alone, 0.99), percentile(beside, 0.99)
    return Found(
        (
            fact("published → received, p99, nothing to remove", before, "ms"),
            at_most("… while it is removed", after, P99, "ms"),
            fact("messages removed", removed, "/s"),
        ),
        {"alone_p99_ms": before, "beside_p99_ms": after, "removed_per_second": removed, "messages": len(beside)},
    )


async def _published(database: Database, seconds: float, *, keep: bool) -> tuple[list[float], float]:
    """How long each message took (ms), and how many old ones went per second."""
    sent: dict[int, float] = {}
    received: dict[int, float] = {}

    def on_request(head: bytes, body: bytes) -> None:
        received.setdefault(number_of(body), time.perf_counter())

    sink, port = await listen(lambda: Receiver(on_request))
    async with running(database, record_retention="90d" if keep else "97h") as (_, rest):
        app = await rest.app({"url": f"http://127.0.0.1:{port}/hook"})
        before, begun = await (_old if keep else _first_gone)(database), time.perf_counter()
        await open_loop(rest.client, PER_SECOND, seconds, lambda n: publish(app, numbered(n)), sent)
        await until(lambda: len(received) == len(sent), what="every delivery")
        removed = (before - await _old(database)) / (time.perf_counter() - begun)
    sink.close()
    return [(received[n] - at) * 1e3 for n, at in sent.items()], removed


async def _first_gone(database: Database) -> int:
    """How many old messages are there when the first have gone: a server looks some seconds after its start."""
    before = await _old(database)
    for _ in range(_PATIENCE):
        await asyncio.sleep(1)
        now = await _old(database)
        if now < before:
            return now
    raise Failed("the server has removed nothing")


async def _old(database: Database) -> int:
    ((count,),) = await database.rows(f"SELECT count(*) FROM message WHERE app = '{APP}'")
    return int(count)
