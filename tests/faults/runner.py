"""`python -m tests.faults.runner`: `tenterhook` on a machine that is not as it should be, or of a version that is not there yet.

TENTERHOOK_FAULTS_AHEAD is by how many seconds the clock is ahead, TENTERHOOK_FAULTS_MIGRATION which of MIGRATIONS is one more,
TENTERHOOK_FAULTS_UPKEEP how many seconds lie between the looks for what was forgotten,
TENTERHOOK_FAULTS_SMALL a folder that shall be a file system which only this process sees (for root).
"""

import ctypes
import os
import subprocess
import time
from functools import partial

from tenterhook import serve
from tenterhook.clock import SECOND
from tenterhook.store import schema
from tenterhook.store.schema import Migration

AHEAD = "TENTERHOOK_FAULTS_AHEAD"
MIGRATION = "TENTERHOOK_FAULTS_MIGRATION"
SMALL = "TENTERHOOK_FAULTS_SMALL"
UPKEEP = "TENTERHOOK_FAULTS_UPKEEP"
_NEW_MOUNTS = 0x20000  # linux/sched.h: CLONE_NEWNS

# some of these are names of variables in the functions of old nodes
_COLUMN = (
    "ALTER TABLE {0} ADD COLUMN later TEXT; ALTER TABLE {0} ADD COLUMN again TEXT; ALTER TABLE {0} ADD COLUMN kept TEXT"
)
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


def mount(folder: str) -> None:
    """A file system in memory, which ends with this process."""
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), "mounts of its own")
    for arguments in (["--make-rprivate", "/"], ["-t", "tmpfs", "-o", "size=16m", "none", folder]):
        subprocess.run(["mount", *arguments], check=True)


def main() -> None:
    if SMALL in os.environ:
        mount(os.environ[SMALL])
    set_clock(int(os.environ.get(AHEAD, "0")))
    migration = os.environ.get(MIGRATION)
    if migration:
        schema.MIGRATIONS.append(MIGRATIONS[migration])
    if UPKEEP in os.environ:
        serve.Upkeep = partial(serve.Upkeep, interval=int(os.environ[UPKEEP]) * SECOND)  # type: ignore[misc]
    from tenterhook.cli import main

    main()


if __name__ == "__main__":
    main()
