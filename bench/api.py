"""What the public API costs on the hot path: requests as an SDK makes them, and applications with many endpoints."""

import asyncio
import platform
import time
from collections.abc import Callable, Iterator
from itertools import count
from random import getrandbits
from statistics import mean, median

from bench.databases import Bench
from bench.harness import Rest, running
from bench.load import TOKEN, percentile, publish
from bench.peer import Receiver, listen
from bench.report import Check, Found, at_least, at_most, fact
from bench.seed import APP, seed_wide
from bench.throughput import Requests, flowing

SERVERS, PAIRS, SECONDS, SETTLING = 5, 12, 0.4, 0.1
SHARE = 90
ENDPOINTS, MATCHING = 10_000, 10
TIMES = 300
BAR = 20


async def run(bench: Bench) -> Found:
    """The pipeline with requests of an SDK against plain ones, in turn, on several servers: each has its own luck."""
    servers, pairs, seconds = (1, 2, 0.4) if bench.quick else (SERVERS, PAIRS, SECONDS)
    kinds = {"plain": plain_requests, "sdk": sdk_requests}
    runs = [pair for _ in range(servers) for pair in await _pairs(bench, kinds, pairs, seconds)]
    shares = [pair["sdk"]["per_second"] / pair["plain"]["per_second"] * 100 for pair in runs]
    figures = {
        f"{kind}_{figure}": mean(pair[kind][figure] for pair in runs)
        for kind in kinds
        for figure in ("per_second", "cpu_us")
    }
    figures["share"] = median(shares)
    return Found((*_checks(figures),), figures)


def plain_requests(app: str) -> Requests:
    """Publishing requests with as few headers as possible, all alike."""
    raw = publish(app)
    return lambda: raw


def sdk_requests(app: str) -> Requests:
    """Publishing requests with the headers of the official Python SDK, a new idempotency key in each.

    Keys are counted, not drawn: the server hashes them anyway, and what it costs to draw one is not its business.
    """
    head, _, body = publish(app).partition(b"\r\n\r\n")
    line, *_ = head.split(b"\r\n")
    agent = f"svix-libs/2.9.1/python python/{platform.python_version()} {platform.system()}/{platform.machine()}"
    fixed = (
        f"\r\nhost: 127.0.0.1:8071\r\naccept: */*\r\naccept-encoding: gzip, deflate\r\nconnection: keep-alive"
        f"\r\nuser-agent: {agent}\r\nauthorization: Bearer {TOKEN}"
        f"\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    ).encode()

    own = b"%b%b\r\nsvix-req-id: %020d\r\nidempotency-key: auto_3f2b8c1d-5a97-4e06-9b41-%012x\r\n\r\n%b"
    numbers = count(getrandbits(40))

    def make() -> bytes:
        number = next(numbers)
        return own % (line, fixed, number, number, body)

    return make


async def _pairs(
    bench: Bench, kinds: dict[str, Callable[[str], Requests]], count: int, seconds: float
) -> list[dict[str, dict[str, float]]]:
    """Of one server, rounds of each kind; every other pair goes in the other order, so that a slope is nobody's gain."""
    pairs = []
    async with bench.fresh() as database, flowing(database) as (flow, app):
        requests = {kind: make(app) for kind, make in kinds.items()}
        for number in range(count):
            found = {}
            for kind in sorted(kinds, reverse=bool(number % 2)):
                flow.requests = requests[kind]
                await asyncio.sleep(SETTLING)  # what is under way is of the other kind
                found[kind] = await flow.measured(seconds)
            pairs.append(found)
    return pairs


def _checks(figures: dict[str, float]) -> Iterator[Check]:
    yield fact("messages, plain requests", figures["plain_per_second"], "/s")
    yield fact("messages, requests of an SDK", figures["sdk_per_second"], "/s")
    yield at_least("share", figures["share"], SHARE, "%")
    yield fact("server's CPU per message, plain", figures["plain_cpu_us"], "µs")
    yield fact("… of an SDK", figures["sdk_cpu_us"], "µs")


async def wide(bench: Bench) -> Found:
    """How long publishing takes in an application with 10,000 endpoints, of which 10 want the message."""
    endpoints, times = (500, 20) if bench.quick else (ENDPOINTS, TIMES)
    sink, port = await listen(lambda: Receiver(lambda head, body: None))
    async with bench.fresh() as database:
        other = await seed_wide(database, endpoints, MATCHING, f"http://127.0.0.1:{port}/hook")
        async with running(database) as (_, rest):
            make = sdk_requests(APP)
            first = await _published(rest, make)
            took = [await _published(rest, make) for _ in range(times)]
            changed = await _after_changes(rest, make, other, times // 10)
    sink.close()
    figures = {
        "p50_ms": percentile(took, 0.5),
        "p99_ms": percentile(took, 0.99),
        "first_ms": first,
        "after_change_ms": percentile(changed, 0.5),
    }
    checks = (
        at_most("creating a message, p50", figures["p50_ms"], BAR, "ms"),
        at_most("creating a message, p99", figures["p99_ms"], BAR, "ms"),
        fact("the first one after a start", figures["first_ms"], "ms"),
        fact("the first one after a change of an endpoint, p50", figures["after_change_ms"], "ms"),
    )
    return Found(checks, figures)


async def _after_changes(rest: Rest, make: Requests, endpoint: str, times: int) -> list[float]:
    took = []
    for n in range(times):
        await rest.call("PATCH", f"/api/v1/app/{APP}/endpoint/{endpoint}", {"description": str(n)})
        took.append(await _published(rest, make))
    return took


async def _published(rest: Rest, make: Requests) -> float:
    """Until the answer (ms)."""
    raw = make()
    begun = time.perf_counter()
    status, answer = await rest.client.send(raw)
    if status != 202:
        raise RuntimeError(f"publishing answered {status}: {answer.decode()}")
    return (time.perf_counter() - begun) * 1e3
