"""Opening the database that the settings name, with the master key that goes with it."""

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile
from urllib.parse import urlsplit

from tenterhook.errors import ConfigurationError, StoreUnavailable
from tenterhook.settings import Settings
from tenterhook.store.base import Store
from tenterhook.store.sqlite import SqliteStore
from tenterhook.vault import Vault

log = logging.getLogger("tenterhook")


def is_sqlite(url: str) -> bool:
    """Whether the URL names a file; else it is a PostgreSQL database."""
    return urlsplit(url).scheme == "sqlite"


def sqlite_path(url: str) -> Path:
    """The file of a `sqlite:///` URL."""
    return Path(url.partition("://")[2].removeprefix("/") or "tenterhook.db")


def key_file(path: Path) -> Path:
    """Where the master key of a SQLite file is, if no setting says it."""
    return path.with_name(path.name + ".key")


def open_vault(settings: Settings, path: Path) -> Vault:
    """The master key: the setting `secret`, else a key file beside the database, made when it is not there."""
    if settings.secret is not None:
        return Vault.from_text(settings.secret)
    file = key_file(path)
    try:
        if not file.exists():
            _make_key(file)
        return Vault.from_text(file.read_text().strip())
    except (OSError, UnicodeDecodeError) as error:
        raise StoreUnavailable(f"cannot use the key file {file}: {error}") from error
    except ConfigurationError as wrong:
        raise ConfigurationError(f"the key file {file} holds no master key: {wrong.detail}") from None


def _make_key(path: Path) -> None:
    """It gets its name when it is whole and on the disk: what is sealed with it must never outlast it."""
    with NamedTemporaryFile(dir=path.parent, prefix=path.name) as file:
        file.write(secrets.token_urlsafe(48).encode())
        file.flush()
        os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another process was faster: its key counts
            os.link(file.name, path)
            log.info(
                "made a master key: %s (keep it with your backups; without it stored secrets cannot be read)", path
            )
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


async def open_store(settings: Settings, *, exclusive: bool) -> Store:
    """`exclusive` is for a server. Raises ConfigurationError, StoreUnavailable, SchemaMismatch."""
    if is_sqlite(settings.database):
        path = sqlite_path(settings.database)
        return SqliteStore.open(path, open_vault(settings, path), exclusive=exclusive)
    if settings.secret is None:
        raise ConfigurationError(
            "secret: all nodes on a PostgreSQL database need the same master key; set TENTERHOOK_SECRET on each of them"
            " (make one with: openssl rand -base64 32)"
        )
    with postgres_driver():
        from tenterhook.store.postgres import PostgresStore
    return await PostgresStore.open(settings.database, Vault.from_text(settings.secret), worker=settings.role != "api")


@contextlib.contextmanager
def postgres_driver() -> Iterator[None]:
    """Around imports that need it, as it is an extra. Raises ConfigurationError if it is not there."""
    try:
        yield
    except ImportError as error:
        raise ConfigurationError(
            f"database: PostgreSQL needs a driver: pip install 'tenterhook[postgres]' ({error})"
        ) from None
