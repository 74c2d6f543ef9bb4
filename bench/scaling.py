"""What so many messages per second need, from what one message costs: arithmetic, no measurement.

    python -m bench.scaling [--node-us N] [--database-us N] [--wal BYTES] [--stored BYTES]

The costs are those that `python -m bench throughput --database postgres` prints; without options, those of the example in
docs/scaling.md. A core is planned to be busy for USED of the time, a database for CORES cores and DISK bytes of log per second.
"""

import argparse

RATES = (300, 3_000, 30_000, 100_000, 300_000, 1_000_000)
USED = 0.6
CORES, DISK = 32, 400e6
"""One PostgreSQL primary: cores that queries get, and what its disk takes of synced log (bytes per second)."""

DAY = 86_400


def row(
    rate: int, node_us: float, database_us: float, wal: float, stored: float
) -> tuple[int, float, float, int, float]:
    """Nodes (a core each), database cores, log in MB/s, databases, and what a day adds (TB)."""
    nodes = max(1, -(-int(rate * node_us) // int(1e6 * USED)))
    cores = rate * database_us / 1e6 / USED
    log = rate * wal
    databases = max(1, -(-int(cores * 1000) // (CORES * 1000)), -(-int(log) // int(DISK)))
    return nodes, cores, log / 1e6, databases, rate * stored * DAY / 1e12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node-us", type=float, default=253, help="CPU time of a node per message")
    parser.add_argument("--database-us", type=float, default=64, help="CPU time of the database per message")
    parser.add_argument("--wal", type=float, default=2_889, help="bytes of log per message")
    parser.add_argument("--stored", type=float, default=2_288, help="bytes that stay per message")
    costs = parser.parse_args()
    print(f"{'messages/s':>11} {'nodes':>6} {'db cores':>9} {'log MB/s':>9} {'databases':>10} {'TB/day':>7}")
    for rate in RATES:
        nodes, cores, log, databases, day = row(rate, costs.node_us, costs.database_us, costs.wal, costs.stored)
        print(f"{rate:>11,} {nodes:>6,} {cores:>9.1f} {log:>9.1f} {databases:>10,} {day:>7.2f}")


if __name__ == "__main__":
    main()
