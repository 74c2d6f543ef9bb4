"""Whether a database with a history is as fast as an empty one."""

from statistics import mean

from bench.databases import Bench
from bench.report import Found, at_least, fact
from bench.seed import seed_history
from bench.throughput import pipeline

MESSAGES = {"sqlite": 1_000_000, "postgres": 5_000_000}
RETRIES = 200_000
BAR = {"sqlite": 85, "postgres": 80}


async def run(bench: Bench) -> Found:
    """Throughput on an empty database and on one with a long history and 200,000 pending retries, in turn, twice."""
    messages, retries = (20_000, 4_000) if bench.quick else (MESSAGES[bench.kind], RETRIES)
    seconds, rounds = (1, 1) if bench.quick else (10, 2)
    empty: list[dict[str, float]] = []
    full: list[dict[str, float]] = []
    async with bench.fresh() as grown:
        await seed_history(grown, messages, retries)
        size = (await grown.used())["stored_bytes"]
        for _ in range(rounds):
            async with bench.fresh() as fresh:
                empty.append(await pipeline(seconds, fresh))
            full.append(await pipeline(seconds, grown))
    before, after = (mean(one["per_second"] for one in runs) for runs in (empty, full))
    figures = {
        "empty_per_second": before,
        "full_per_second": after,
        "share": after / before * 100,
        "database_mib": size / 2**20,
    }
    checks = [
        fact("on an empty database", before, "/s"),
        fact(f"with {messages:,} messages, {retries:,} retries", after, "/s"),
        at_least("share", after / before * 100, BAR[bench.kind], "%"),
    ]
    for key, what in (("cpu_us", "server's CPU per message"), ("database_cpu_us", "database's CPU per message")):
        if key in empty[0]:
            figures[f"empty_{key}"], figures[f"full_{key}"] = (mean(one[key] for one in runs) for runs in (empty, full))
            checks += [
                fact(f"{what}, empty", figures[f"empty_{key}"], "µs"),
                fact("… with the history", figures[f"full_{key}"], "µs"),
            ]
    return Found(tuple(checks), figures)
