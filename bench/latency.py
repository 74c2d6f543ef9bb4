"""How long a message takes from its publishing request to its receiver, at a steady 500 per second."""

import time

from bench.harness import running
from bench.load import number_of, numbered, open_loop, percentile, publish, until
from bench.peer import Receiver, listen
from bench.report import Found, at_most, fact

PER_SECOND = 500
P50, P99 = 5, 20


async def run(quick: bool) -> Found:
    """500 messages/s, open loop, for 15 s."""
    seconds = 2 if quick else 15
    sent: dict[int, float] = {}
    received: dict[int, float] = {}

    def on_request(head: bytes, body: bytes) -> None:
        received.setdefault(number_of(body), time.perf_counter())

    sink, port = await listen(lambda: Receiver(on_request))
    async with running() as (_, rest):
        app = await rest.app({"url": f"http://127.0.0.1:{port}/hook"})
        await open_loop(rest.client, PER_SECOND, 1, lambda n: publish(app, numbered(n)), sent)
        await until(lambda: len(received) == len(sent), what="the warm-up's deliveries")
        sent.clear()
        received.clear()
        answered = await open_loop(rest.client, PER_SECOND, seconds, lambda n: publish(app, numbered(n)), sent)
        await until(lambda: len(received) == len(sent), what="every delivery")
    sink.close()
    took = [(received[n] - begun) * 1e3 for n, begun in sent.items()]
    p50, p99 = percentile(took, 0.5), percentile(took, 0.99)
    acknowledged = percentile([one * 1e3 for one in answered], 0.99)
    return Found(
        (
            at_most("published → received, p50", p50, P50, "ms"),
            at_most("published → received, p99", p99, P99, "ms"),
            fact("published → accepted, p99", acknowledged, "ms"),
        ),
        {"p50_ms": p50, "p99_ms": p99, "accepted_p99_ms": acknowledged, "messages": len(took)},
    )
