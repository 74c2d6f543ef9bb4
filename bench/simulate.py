"""Many seeds of the engine in virtual time: `python -m bench.simulate --seeds 10000`.

Exit code 1 and the lowest broken seed when an invariant does not hold; docs/engine.md lists the invariants.
"""

import argparse
import logging
import os
import sys
import time
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.synchronize import Event

from tests.simulation.check import check, check_isolation, check_repeats, show

CHUNK = 25
REPEATS_EVERY, ISOLATION_EVERY = 100, 500
_stop: Event | None = None


def checked(seeds: range) -> tuple[int, int, list[str]]:
    """The first broken seed of a chunk, the size of the chunk, and what does not hold (nothing: all is well)."""
    for seed in seeds if _stop is None or not _stop.is_set() else ():
        wrong = check(seed)
        if seed % REPEATS_EVERY == 0:
            wrong += check_repeats(seed)
        if seed % ISOLATION_EVERY == 0:
            wrong += check_isolation(seed)
        if wrong:
            return seed, len(seeds), wrong
    return seeds[0], len(seeds), []


def begin(stop: Event) -> None:
    """What each process of the pool does first."""
    logging.disable(logging.CRITICAL)
    global _stop
    _stop = stop


def chunks(first: int, count: int) -> Iterator[range]:
    """The seeds, a few at a time."""
    for start in range(first, first + count, CHUNK):
        yield range(start, min(start + CHUNK, first + count))


def simulate(first: int, count: int, jobs: int) -> int:
    """Run the seeds; the exit code."""
    began, done = time.monotonic(), 0
    context = get_context("spawn")
    stop = context.Event()
    with context.Pool(jobs, begin, (stop,)) as pool:
        for seed, size, wrong in pool.imap(checked, chunks(first, count)):
            if wrong:
                print(f"\nseed {seed} is broken:", *wrong[:20], sep="\n  ")
                print(f"run it again: python -m bench.simulate --from {seed} --seeds 1 --trace")
                stop.set()
                pool.close()
                pool.join()
                return 1
            done += size
            if sys.stderr.isatty() or done % 1_000 < size:
                print(
                    f"\r{done} of {count} seeds, {time.monotonic() - began:.0f} s", end="", file=sys.stderr, flush=True
                )
    print(f"\n{count} seeds from {first} hold, {(time.monotonic() - began) / count * 1_000:.0f} ms each")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.simulate", description="the engine in virtual time, by seeds"
    )
    parser.add_argument("--seeds", type=int, default=10_000, help="how many (default 10000)")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed (default 0)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    parser.add_argument("--trace", action="store_true", help="print the trace of the first seed instead")
    options = parser.parse_args()
    if options.trace:
        logging.disable(logging.CRITICAL)
        print(show(options.first), *check(options.first), sep="\n")
        return 0
    return simulate(options.first, options.seeds, max(1, options.jobs))


if __name__ == "__main__":
    raise SystemExit(main())
