"""Payloads, and the loops that send them: open (so many per second, whatever happens) and closed (as fast as it goes)."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable

from bench.peer import Client, request

TOKEN = "benchmark-admin-token-benchmark-admin-token"
PAYLOAD = json.dumps(
    {
        "type": "invoice.paid",
        "timestamp": "2026-01-31T12:00:00Z",
        "data": {"id": "in_1PqR", "customer": "cus_9s6XKzkNRiz8i3", "amount": 4200, "lines": ["x" * 40] * 8},
    }
).encode()


def headers() -> dict[str, str]:
    return {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}


def numbered(n: int) -> bytes:
    """The payload with a number in front, by which `number_of` knows it again at the receiver."""
    return b'{"n":%d,' % n + PAYLOAD[1:]


def number_of(body: bytes) -> int:
    return int(body[5 : body.index(b",")])


def publish(app: str, payload: bytes = PAYLOAD, channel: str = "") -> bytes:
    """The request that publishes one message."""
    channels = b'"channels":["%b"],' % channel.encode() if channel else b""
    body = b'{"eventType":"invoice.paid",' + channels + b'"payload":' + payload + b"}"
    return request("POST", f"/api/v1/app/{app}/msg?with_content=false", headers(), body)


async def open_loop(
    client: Client, per_second: float, seconds: float, raw_of: Callable[[int], bytes], sent: dict[int, float]
) -> list[float]:
    """Send request n at its time, into `sent` when that was; how long each took to be answered (s).

    A request that finds no free connection waits for one on the clock. Raises RuntimeError for an error status.
    """
    answered: list[float] = []

    async def one(n: int) -> None:
        raw = raw_of(n)
        sent[n] = begun = time.perf_counter()
        status, answer = await client.send(raw)
        if status >= 300:
            raise RuntimeError(f"a request was answered {status}: {answer[:200].decode(errors='replace')}")
        answered.append(time.perf_counter() - begun)

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for n in range(int(per_second * seconds)):
            wait = start + n / per_second - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            group.create_task(one(n))
    return answered


async def closed_loop(client: Client, raw: bytes, seconds: float, at_once: int = 64) -> int:
    """How many requests `at_once` callers made, one after the other each."""
    count = 0
    end = time.perf_counter() + seconds

    async def caller() -> None:
        nonlocal count
        while time.perf_counter() < end:
            status, answer = await client.send(raw)
            if status >= 300:
                raise RuntimeError(f"a request was answered {status}: {answer[:200].decode(errors='replace')}")
            count += 1

    await asyncio.gather(*(caller() for _ in range(at_once)))
    return count


async def until(
    condition: Callable[[], bool | Awaitable[bool]], seconds: float = 60, what: str = "what was expected"
) -> None:
    """Wait until `condition()` is true. Raises RuntimeError when it is not after `seconds`."""
    end = time.perf_counter() + seconds
    while not await _told(condition()):
        if time.perf_counter() > end:
            raise RuntimeError(f"{what} did not come within {seconds:g} s")
        await asyncio.sleep(0.005)


async def _told(answer: bool | Awaitable[bool]) -> bool:
    return answer if isinstance(answer, bool) else await answer


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` (0–1) of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
