"""`python -m tests.faults.runner`: `tenterhook` on a machine whose clock is wrong, or of a version that does not exist yet.

TENTERHOOK_FAULTS_AHEAD is by how many seconds the clock is ahead, TENTERHOOK_FAULTS_MIGRATION which of MIGRATIONS is one more.
"""

import os
import time

from tenterhook.store import schema
from tenterhook.store.schema import Migration

AHEAD = "TENTERHOOK_FAULTS_AHEAD"
MIGRATION = "TENTERHOOK_FAULTS_MIGRATION"

_COLUMN = "ALTER TABLE {} ADD COLUMN later TEXT"
_CHANGED = ("message", "delivery", "endpoint", "application", "health", "attempt", "source", "idempotency")

MIGRATIONS = {
    # against the order in which commits use them, so that migration and commits meet
    "gentle": Migration("; ".join(["CREATE TABLE later (id TEXT PRIMARY KEY)", *map(_COLUMN.format, _CHANGED)])),
    "breaking": Migration("CREATE TABLE later (id TEXT PRIMARY KEY)", old_nodes=False),
}


def set_clock(ahead: int) -> None:
    """Whoever asks this machine for the time hears another one."""
    nanoseconds, seconds = time.time_ns, time.time
    time.time_ns = lambda: nanoseconds() + ahead * 1_000_000_000
    time.time = lambda: seconds() + ahead


def main() -> None:
    set_clock(int(os.environ.get(AHEAD, "0")))
    migration = os.environ.get(MIGRATION)
    if migration:
        schema.MIGRATIONS.append(MIGRATIONS[migration])
    from tenterhook.cli import main

    main()


if __name__ == "__main__":
    main()
