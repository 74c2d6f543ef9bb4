"""A copy of a SQLite file, taken while a server uses it.

The copy is of one instant: a read transaction keeps that instant for as long as it takes, and in WAL mode a reader makes no
writer wait. Without the transaction every write of the server would make SQLite begin anew.
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import NamedTemporaryFile

from tenterhook.errors import ConfigurationError, StoreUnavailable
from tenterhook.store.sqlite import BUSY_SECONDS

STEP_PAGES = 256
"""How much is copied at a time (1 MiB), and then brought to the disk: what a server commits meanwhile must not wait behind
gigabytes that the system has gathered."""

Tell = Callable[[int, int], None]
"""Is told how many bytes are copied, and how many there are."""


def back_up(source: Path, target: Path, tell: Tell) -> int:
    """Copy a database into a new file, which gets its name when it is whole, checked and on the disk; its bytes.

    It belongs to its owner alone, and needs no other file. Raises ConfigurationError for a source that is not there and
    for a target that is; StoreUnavailable.
    """
    if not source.exists():
        raise ConfigurationError(f"there is no file {source}")
    refuse_existing(target)
    try:
        with NamedTemporaryFile(dir=target.parent, prefix=f"{target.name}.", suffix=".part") as part:
            path = Path(part.name)
            _copy(source, path, tell)
            _check(path)
            publish(path, target)
            return path.stat().st_size
    except (sqlite3.Error, OSError) as error:
        raise StoreUnavailable(f"no backup was made: {error}") from error


def refuse_existing(path: Path) -> None:
    """Raises ConfigurationError for a file that is there."""
    if path.exists():
        raise ConfigurationError(f"{path} is there already, and nothing is overwritten: name another file")


def publish(part: Path, target: Path) -> None:
    """Give a file that is whole its name, on the disk. Raises ConfigurationError if the name was taken meanwhile."""
    for path in (part, part.parent):
        _flush(path)
    try:
        os.link(part, target)
    except FileExistsError:
        refuse_existing(target)
    _flush(target.parent)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _copy(source: Path, part: Path, tell: Tell) -> None:
    with (
        part.open("rb") as file,
        closing(sqlite3.connect(source, timeout=BUSY_SECONDS, isolation_level=None)) as old,
        closing(sqlite3.connect(part, isolation_level=None)) as new,
    ):
        version, size = (old.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "page_size"))
        if not version:
            raise ConfigurationError(f"{source} holds nothing of Tenterhook")

        def stepped(status: int, remaining: int, total: int) -> None:
            os.fdatasync(file.fileno())
            tell((total - remaining) * size, total * size)

        old.execute("BEGIN")
        old.execute("SELECT count(*) FROM sqlite_schema")
        new.execute("PRAGMA synchronous = OFF")
        old.backup(new, pages=STEP_PAGES, progress=stepped)
        new.execute("PRAGMA journal_mode = DELETE")


def _check(part: Path) -> None:
    with closing(sqlite3.connect(part)) as db:
        found = [row[0] for row in db.execute("PRAGMA integrity_check(10)")]
    if found != ["ok"]:
        raise StoreUnavailable("no backup was made: the copy is damaged, as the database may be: " + "; ".join(found))
