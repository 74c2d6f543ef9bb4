"""A backup of the database that the settings name, and what belongs to it."""

from pathlib import Path
from tempfile import NamedTemporaryFile

from msgspec import Struct

from tenterhook.databases import is_sqlite, key_file, sqlite_path
from tenterhook.errors import ConfigurationError
from tenterhook.settings import Settings
from tenterhook.store import sqlite_backup
from tenterhook.store.sqlite_backup import Tell as Tell

ELSEWHERE = """backup is for SQLite. PostgreSQL has its own, which work while nodes run:
  pg_dump --format=custom --schema=tenterhook --file=FILE URL   (back with: pg_restore --dbname=URL FILE)
  pg_basebackup, with an archive of its log, for any instant
Keep TENTERHOOK_SECRET too: without it the secrets in a backup cannot be read"""


class Backup(Struct, frozen=True):
    """What was written; `key` is the copy of the master key, if one was asked for, and `needs` what restoring needs."""

    file: Path
    size: int
    key: Path | None
    needs: str


def back_up(settings: Settings, target: Path, with_key: bool, tell: Tell) -> Backup:
    """Back a SQLite database up, also while a server uses it. Raises ConfigurationError, StoreUnavailable."""
    if not is_sqlite(settings.database):
        raise ConfigurationError(ELSEWHERE)
    source = sqlite_path(settings.database)
    key = _key(settings, source, target) if with_key else None
    size = sqlite_backup.back_up(source, target, tell)
    if key is not None:
        _copy_key(key_file(source), key)
    return Backup(target, size, key, _needs(settings, source, key))


def _key(settings: Settings, source: Path, target: Path) -> Path:
    """Where the copy of the key goes. Raises ConfigurationError."""
    if settings.secret is not None:
        raise ConfigurationError("--with-key: the master key is in the setting secret, not in a file: keep that")
    if not key_file(source).exists():
        raise ConfigurationError(f"--with-key: there is no key file {key_file(source)}")
    sqlite_backup.refuse_existing(key_file(target))
    return key_file(target)


def _copy_key(source: Path, target: Path) -> None:
    with NamedTemporaryFile(dir=target.parent, prefix=f"{target.name}.") as part:
        part.write(source.read_bytes())
        part.flush()
        sqlite_backup.publish(Path(part.name), target)


def _needs(settings: Settings, source: Path, key: Path | None) -> str:
    if key is not None:
        return f"the master key is in {key}: whoever has both files can read the secrets"
    if settings.secret is not None:
        return "the secrets in it need TENTERHOOK_SECRET: keep that too, in another place"
    return f"the secrets in it need the master key {key_file(source)}: keep a copy of that too, in another place"
