"""How long a message takes from its publishing request to its receiver, at a steady rate."""

import time

from bench.databases import Bench
from bench.harness import running
from bench.load import number_of, numbered, open_loop, percentile, publish, until
from bench.peer import Receiver, listen
from bench.report import Found, at_most, fact

PER_SECOND = {"sqlite": 500, "postgres": 300}
P50, P99 = {"sqlite": 5}, {"sqlite": 20, "postgres": 40}


async def run(bench: Bench) -> Found:
    """15 s of messages, open loop."""
    seconds, per_second = 2 if bench.quick else 15, PER_SECOND[bench.kind]
    sent: dict[int, float] = {}
    received: dict[int, float] = {}

    def on_request(head: bytes, body: bytes) -> None:
        received.setdefault(number_of(body), time.perf_counter())

    sink, port = await listen(lambda: Receiver(on_request))
    async with bench.fresh() as database, running(database) as (_, rest):
        app = await rest.app({"url": f"http://127.0.0.1:{port}/hook"})
        await open_loop(rest.client, per_second, 1, lambda n: publish(app, numbered(n)), sent)
        await until(lambda: len(received) == len(sent), what="the warm-up's deliveries")
        sent.clear()
        received.clear()
        answered = await open_loop(rest.client, per_second, seconds, lambda n: publish(app, numbered(n)), sent)
        await until(lambda: len(received) == len(sent), what="every delivery")
    sink.close()
    took = [(received[n] - begun) * 1e3 for n, begun in sent.items()]
    p50, p99 = percentile(took, 0.5), percentile(took, 0.99)
    acknowledged = percentile([one * 1e3 for one in answered], 0.99)
    return Found(
        (
            at_most("published → received, p50", p50, P50.get(bench.kind), "ms"),
            at_most("published → received, p99", p99, P99[bench.kind], "ms"),
            fact("published → accepted, p99", acknowledged, "ms"),
        ),
        {"p50_ms": p50, "p99_ms": p99, "accepted_p99_ms": acknowledged, "messages": len(took)},
    )
