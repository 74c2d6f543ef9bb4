"""How long a page of a list takes on a long history, also with a filter that hardly anything fits."""

import time

from bench.databases import Bench
from bench.harness import Rest, running
from bench.load import percentile
from bench.report import Check, Found, at_most, fact
from bench.seed import APP, RARE, seed_rare

MESSAGES, RARE_ONES = 1_000_000, 20
TIMES = 40
BAR = 20


async def run(bench: Bench) -> Found:
    """Pages of 50 of a million messages and of their attempts at one endpoint, asked for one after the other."""
    messages, times = (20_000, 5) if bench.quick else (MESSAGES, TIMES)
    async with bench.fresh() as database:
        endpoint = await seed_rare(database, messages, RARE_ONES)
        attempts, everything = f"/api/v1/app/{APP}/attempt/endpoint/{endpoint}?", f"/api/v1/app/{APP}/msg?"
        lists = {
            "attempts": attempts,
            "attempts with their messages": f"{attempts}with_msg=true&",
            "attempts, status=2 (20 of them)": f"{attempts}status=2&",
            "attempts, event_types=rare": f"{attempts}event_types={RARE}&",
            "attempts, channel=rare": f"{attempts}channel={RARE}&",
            "messages": everything,
            "messages, event_types=rare": f"{everything}event_types={RARE}&",
            "messages, tag=rare": f"{everything}tag={RARE}&",
        }
        checks: list[Check] = []
        figures: dict[str, float] = {}
        async with running(database) as (_, rest):
            for name, path in lists.items():
                took = await _pages(rest, path, times)
                checks.append(at_most(f"{name}, p95", percentile(took, 0.95), BAR, "ms"))
                figures[name] = percentile(took, 0.95)
            pages, seconds, found = await _whole(rest, lists["attempts, channel=rare"])
            assert found == RARE_ONES, f"{found} attempts were found, not {RARE_ONES}"
            checks += [
                fact("the whole search of a channel, pages", pages, ""),
                fact("… and all of them together", seconds * 1e3, "ms"),
            ]
    return Found(tuple(checks), {**figures, "whole_pages": pages, "whole_ms": seconds * 1e3, "messages": messages})


async def _pages(rest: Rest, path: str, times: int) -> list[float]:
    """How long each page took (ms), the first one and those behind it."""
    took, iterator = [], ""
    for _ in range(times):
        begun = time.perf_counter()
        page = await rest.call("GET", f"{path}limit=50{iterator}")
        took.append((time.perf_counter() - begun) * 1e3)
        iterator = "" if page["done"] else f"&iterator={page['iterator']}"
    return took


async def _whole(rest: Rest, path: str) -> tuple[int, float, int]:
    """Every page of a list: how many there were, how long they took (s), what was found."""
    pages, found, iterator, begun = 0, 0, "", time.perf_counter()
    while True:
        page = await rest.call("GET", f"{path}limit=50{iterator}")
        pages, found = pages + 1, found + len(page["data"])
        if page["done"]:
            return pages, time.perf_counter() - begun, found
        iterator = f"&iterator={page['iterator']}"
