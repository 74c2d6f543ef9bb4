"""What so many messages per second need, from what one message costs: arithmetic, no measurement.

    python -m bench.scaling [--results FILE] [--node-us N] [--database-us N] [--log BYTES] [--stored BYTES]

The costs are those of a message with one delivery and one attempt, as `python -m bench throughput --database postgres`
measures them: with --results they are read from its results file, without it they are those of the example in
docs/scaling.md.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from math import ceil
from pathlib import Path
from typing import NamedTuple

RATES = (300, 3_000, 30_000, 100_000, 300_000, 1_000_000)
USED = 0.6
"""How much of its time a core is planned to be busy."""

CORES, DISK = 32, 400e6
"""One PostgreSQL primary: its cores, and the log (bytes per second) that its disk takes and its standbys follow."""

CONNECTIONS = 10
"""Of one node, at most: one that commits, one that listens, and those that read."""

_DAY = 86_400


class Costs(NamedTuple):
    """Of one message: CPU time of a node and of the database (µs), log and what stays (bytes)."""

    node: float = 208.6
    database: float = 62.6
    log: float = 2_732
    stored: float = 2_274


class Need(NamedTuple):
    """For a rate: nodes of a core each, cores of all databases, log (bytes/s), databases, connections to each of them,
    and what a day adds (bytes)."""

    rate: int
    nodes: int
    cores: float
    log: float
    databases: int
    connections: int
    day: float


def need(rate: int, costs: Costs) -> Need:
    """What `rate` messages per second need."""
    nodes = ceil(rate * costs.node / 1e6 / USED)
    cores = rate * costs.database / 1e6 / USED
    log = rate * costs.log
    databases = max(1, ceil(cores / CORES), ceil(log / DISK))
    connections = ceil(nodes / databases) * CONNECTIONS
    return Need(rate, nodes, cores, log, databases, connections, rate * costs.stored * _DAY)


def table(costs: Costs) -> Iterator[str]:
    """Lines of text."""
    yield (
        f"one message: {costs.node:.0f} µs of a node, {costs.database:.0f} µs of the database,"
        f" {costs.log:,.0f} bytes of log, {costs.stored:,.0f} bytes stay"
    )
    names = ("messages/s", "nodes", "db cores", "log MB/s", "databases", "conn. each", "TB/day")
    yield "{:>11} {:>6} {:>9} {:>9} {:>10} {:>11} {:>8}".format(*names)
    for rate in RATES:
        n = need(rate, costs)
        yield (
            f"{n.rate:>11,} {n.nodes:>6,} {n.cores:>9.1f} {n.log / 1e6:>9.1f} {n.databases:>10,} {n.connections:>11,}"
            f" {n.day / 1e12:>8.2f}"
        )


def measured(results: Path) -> Costs:
    """From a results file. Raises SystemExit where it has no throughput on PostgreSQL."""
    for scenario in json.loads(results.read_text())["scenarios"]:
        figures = scenario.get("figures", {})
        if scenario["scenario"] == "throughput" and "database_cpu_us" in figures:
            return Costs(*(figures[key] for key in ("cpu_us", "database_cpu_us", "wal_bytes", "stored_bytes")))
    raise SystemExit(f"{results} has no throughput on PostgreSQL: python -m bench throughput --database postgres")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.scaling", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, metavar="FILE", help="a results file of `python -m bench`")
    parser.add_argument("--node-us", type=float, metavar="N", help="CPU time of a node per message")
    parser.add_argument("--database-us", type=float, metavar="N", help="CPU time of the database per message")
    parser.add_argument("--log", type=float, metavar="BYTES", help="log (WAL) per message")
    parser.add_argument("--stored", type=float, metavar="BYTES", help="what stays of a message")
    options = parser.parse_args(arguments)
    costs = Costs() if options.results is None else measured(options.results)
    given = {"node": options.node_us, "database": options.database_us, "log": options.log, "stored": options.stored}
    costs = costs._replace(**{name: value for name, value in given.items() if value is not None})
    print(*table(costs), sep="\n")


if __name__ == "__main__":
    main()
