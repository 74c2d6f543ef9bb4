"""Whether a database with a history is as fast as an empty one."""

from statistics import mean

from bench.harness import folder
from bench.report import Found, at_least, fact
from bench.seed import seed_history
from bench.throughput import pipeline

MESSAGES, RETRIES = 1_000_000, 200_000
BAR = 85


async def run(quick: bool) -> Found:
    """Throughput on an empty database and on one with a million messages and 200,000 pending retries, in turn, twice."""
    messages, retries = (20_000, 4_000) if quick else (MESSAGES, RETRIES)
    seconds, rounds = (1, 1) if quick else (10, 2)
    empty: list[dict[str, float]] = []
    full: list[dict[str, float]] = []
    with folder() as where:
        await seed_history(where, messages, retries)
        size = (where / "bench.db").stat().st_size / 2**20
        for _ in range(rounds):
            empty.append(await pipeline(seconds))
            full.append(await pipeline(seconds, where))
    before, after = (mean(one["per_second"] for one in runs) for runs in (empty, full))
    cpu_before, cpu_after = (mean(one["cpu_us"] for one in runs) for runs in (empty, full))
    return Found(
        (
            fact("on an empty database", before, "/s"),
            fact(f"with {messages:,} messages, {retries:,} retries", after, "/s"),
            at_least("share", after / before * 100, BAR, "%"),
            fact("server's CPU per message, empty", cpu_before, "µs"),
            fact("… with the history", cpu_after, "µs"),
        ),
        {
            "empty_per_second": before,
            "full_per_second": after,
            "share": after / before * 100,
            "empty_cpu_us": cpu_before,
            "full_cpu_us": cpu_after,
            "database_mib": size,
        },
    )
