"""What a POST costs with our client, with pyreqwest and with aiohttp: `bench.clients`, as a scenario."""

import argparse
import asyncio
from importlib.util import find_spec

from rich.console import Console

from bench import clients
from bench.databases import Bench
from bench.report import Found, at_most, fact

BAR = 1


async def run(bench: Bench) -> Found:
    """A few seconds for each client that is installed; the bar: no more CPU than the best of the others."""
    for name in ("pyreqwest", "aiohttp"):
        if find_spec(name) is None:
            clients.CLIENTS.pop(name, None)
    options = argparse.Namespace(seconds=1 if bench.quick else 4, concurrency=64, size=1024)
    results = await asyncio.to_thread(clients.run, options, Console(stderr=True, quiet=True))
    cost = {result.client: result.cpu_micros for result in results}
    checks = [fact(f"POST with {name}", micros, "µs of CPU") for name, micros in cost.items()]
    others = [cost[name] for name in ("pyreqwest", "aiohttp") if name in cost]
    if others:
        checks.append(at_most("ours to the best other", cost["tenterhook"] / min(others), BAR, "×"))
    return Found(tuple(checks), {f"{name}_cpu_us": micros for name, micros in cost.items()})
