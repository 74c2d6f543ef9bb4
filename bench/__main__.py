"""Measures a server against what it promises: one node, SQLite, default settings, everything on this machine.

    python -m bench [NAME …] [--quick] [--json FILE]

Without names every scenario runs. The table says what falls short; the exit code is 1 only for an error.
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

import uvloop
from rich.console import Console
from rich.table import Table

from bench import comparison, growth, inbound, isolation, kill, latency, memory, report, throughput
from bench.harness import ROOT, Failed, disk, filesystem

SCENARIOS: dict[str, Callable[[bool], Awaitable[report.Found]]] = {
    "throughput": throughput.run,
    "latency": latency.run,
    "inbound": inbound.run,
    "isolation": isolation.run,
    "growth": growth.run,
    "memory": memory.run,
    "kill": kill.run,
    "clients": comparison.run,
}
WIDTH = 100
LONGEST = 300
"""What one scenario may take (s)."""


async def measure(name: str, quick: bool, console: Console) -> tuple[report.Outcome, tuple[Table, ...]]:
    """One scenario; whatever goes wrong in it is its outcome."""
    begun = time.perf_counter()
    try:
        async with asyncio.timeout(LONGEST):
            found = await SCENARIOS[name](quick)
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


async def run(names: list[str], quick: bool, results: Path) -> int:
    """The exit code."""
    progress, out = Console(stderr=True, highlight=False), Console(highlight=False)
    if not out.is_terminal:
        out.width = WIDTH
    where = disk()
    about = report.machine(where, filesystem(where))
    progress.print(*(f"{name} {value}" for name, value in about.items()), sep=", ", markup=False)
    outcomes: list[report.Outcome] = []
    tables: list[Table] = []
    for number, name in enumerate(names, 1):
        progress.print(f"[{number}/{len(names)}] {name} …", markup=False)
        gc.collect()
        outcome, more = await measure(name, quick, progress)
        progress.print(f"    {outcome.seconds:.0f} s", markup=False)
        outcomes.append(outcome)
        tables += more
        report.write(results, about, quick, outcomes)
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
        "--quick", action="store_true", help="a second or two of each: shows that it runs, not how fast"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", default=ROOT / "bench" / "results.json", help="the results"
    )
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in SCENARIOS]
    if unknown:
        parser.error(f"there is no scenario {unknown[0]!r}: take {', '.join(SCENARIOS)}")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell started this in the background
    signal.signal(signal.SIGTERM, _interrupt)
    gc.disable()  # a pause of this process would be measured as one of the server
    try:
        return uvloop.run(run(options.names or list(SCENARIOS), options.quick, options.json))
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
