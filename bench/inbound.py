"""How fast a source acknowledges GitHub's webhooks: a real payload of 11 kB, signed, at a steady rate, each one delivered."""

import hashlib
import hmac
import json
from importlib.resources import files

from bench.databases import Bench
from bench.harness import running
from bench.load import open_loop, percentile, until
from bench.peer import Receiver, listen, request
from bench.report import Found, at_most, fact
from bench.seed import SOURCE_SECRET, SOURCE_TOKEN, seed_source

PER_SECOND = {"sqlite": 500, "postgres": 300}
P99 = {"sqlite": 10, "postgres": 40}


def delivery(payload: bytes, signature: str, n: int) -> bytes:
    """What GitHub sends, with a delivery id of its own."""
    headers = {
        "accept": "*/*",
        "content-type": "application/json",
        "user-agent": "GitHub-Hookshot/044aadd",
        "X-GitHub-Delivery": f"72d3162e-cc78-11e3-81ab-{n:012x}",
        "X-GitHub-Event": "issues",
        "X-GitHub-Hook-ID": "292430182",
        "X-Hub-Signature-256": f"sha256={signature}",
    }
    return request("POST", f"/in/{SOURCE_TOKEN}", headers, payload)


async def run(bench: Bench) -> Found:
    """15 s of webhooks, open loop; an endpoint gets each of them."""
    seconds, per_second = 2 if bench.quick else 15, PER_SECOND[bench.kind]
    payload = (files("tenterhook") / "data" / "github" / "issues.opened.payload.json").read_bytes()
    json.loads(payload)
    signature = hmac.new(SOURCE_SECRET.encode(), payload, hashlib.sha256).hexdigest()
    received = 0

    def on_request(head: bytes, body: bytes) -> None:
        nonlocal received
        received += 1

    sink, port = await listen(lambda: Receiver(on_request))
    async with bench.fresh() as database:
        await seed_source(database, f"http://127.0.0.1:{port}/hook")
        async with running(database) as (_, rest):
            sent: dict[int, float] = {}
            warm = per_second
            await open_loop(rest.client, per_second, 1, lambda n: delivery(payload, signature, n), sent)
            answered = await open_loop(
                rest.client, per_second, seconds, lambda n: delivery(payload, signature, n + warm), sent
            )
            await until(lambda: received == warm + len(answered), what="every delivery")
    sink.close()
    p50, p99 = (percentile([one * 1e3 for one in answered], share) for share in (0.5, 0.99))
    return Found(
        (fact("acknowledged, p50", p50, "ms"), at_most("acknowledged, p99", p99, P99[bench.kind], "ms")),
        {"p50_ms": p50, "p99_ms": p99, "requests": len(answered), "payload_bytes": len(payload)},
    )
