"""Measures servers against what they promise: default settings, database, publisher and receiver on this machine.

    python -m bench [NAME …] [--database sqlite|postgres] [--quick] [--json FILE]

Without names every scenario of the database runs. The table says what falls short; the exit code is 1 only for an error.
"""

import argparse
import asyncio
import gc
import signal
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import uvloop
from rich.console import Console
from rich.table import Table

from bench import (
    api,
    comparison,
    growth,
    inbound,
    isolation,
    kill,
    latency,
    listing,
    memory,
    nodes,
    report,
    retention,
    throughput,
)
from bench.databases import KINDS, Bench
from bench.harness import ROOT, Failed, disk, filesystem


class Scenario(NamedTuple):
    """`longest` is what it may take (s), `kinds` the databases it is for."""

    run: Callable[[Bench], Awaitable[report.Found]]
    longest: int = 300
    kinds: tuple[str, ...] = KINDS


SCENARIOS: dict[str, Scenario] = {
    "throughput": Scenario(throughput.run),
    "latency": Scenario(latency.run),
    "api": Scenario(api.run),
    "wide": Scenario(api.wide),
    "inbound": Scenario(inbound.run),
    "isolation": Scenario(isolation.run),
    "growth": Scenario(growth.run, longest=1_800),
    "listing": Scenario(listing.run, longest=1_800),
    "retention": Scenario(retention.run, longest=1_800),
    "memory": Scenario(memory.run, longest=600),
    "kill": Scenario(kill.run, longest=600),
    "nodes": Scenario(nodes.run, kinds=("postgres",)),
    "clients": Scenario(comparison.run, kinds=("sqlite",)),
}
WIDTH = 100


async def measure(name: str, bench: Bench, console: Console) -> tuple[report.Outcome, tuple[Table, ...]]:
    """One scenario; whatever goes wrong in it is its outcome."""
    begun = time.perf_counter()
    try:
        async with asyncio.timeout(SCENARIOS[name].longest):
            found = await SCENARIOS[name].run(bench)
    except Exception as error:
        error = _innermost(error)
        console.print(
            str(error) if isinstance(error, Failed) else "".join(traceback.format_exception(error)), markup=False
        )
        text = f"{type(error).__name__}: {error}"
        return report.Outcome(name, time.perf_counter() - begun, error=text), ()
    return report.Outcome(name, time.perf_counter() - begun, found.checks, found.figures), found.tables


def _innermost(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


async def run(names: list[str], bench: Bench, results: Path) -> int:
    """The exit code."""
    progress, out = Console(stderr=True, highlight=False), Console(highlight=False)
    if not out.is_terminal:
        out.width = WIDTH
    where = disk()
    about = report.machine(where, filesystem(where), await bench.version())
    progress.print(*(f"{name} {value}" for name, value in about.items()), sep=", ", markup=False)
    outcomes: list[report.Outcome] = []
    tables: list[Table] = []
    for number, name in enumerate(names, 1):
        progress.print(f"[{number}/{len(names)}] {name} …", markup=False)
        gc.collect()
        outcome, more = await measure(name, bench, progress)
        progress.print(f"    {outcome.seconds:.0f} s", markup=False)
        outcomes.append(outcome)
        tables += more
        report.write(results, about, bench.quick, outcomes)
    report.show(out, outcomes)
    for table in tables:
        out.print(table)
    return 1 if any(outcome.error for outcome in outcomes) else 0


def _interrupt(number: int, frame: object) -> None:
    signal.raise_signal(signal.SIGINT)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SCENARIOS)}; all without one")
    parser.add_argument(
        "--database", choices=KINDS, default=KINDS[0], help=f"what servers store in; {KINDS[0]} without"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a second or two of each: shows that it runs, not how fast"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", default=ROOT / "bench" / "results.json", help="the results"
    )
    options = parser.parse_args()
    scenarios = [name for name, scenario in SCENARIOS.items() if options.database in scenario.kinds]
    unknown = [name for name in options.names if name not in scenarios]
    if unknown:
        parser.error(f"on {options.database} there is no scenario {unknown[0]!r}: take {', '.join(scenarios)}")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell started this in the background
    signal.signal(signal.SIGTERM, _interrupt)
    gc.disable()  # a pause of this process would be measured as one of the server
    try:
        with Bench(options.database, quick=options.quick) as bench:
            return uvloop.run(run(options.names or scenarios, bench, options.json))
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
