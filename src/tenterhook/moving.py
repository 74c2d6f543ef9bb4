"""Moving house: from two URLs to a copy that is proven to be the same, and what to do next."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from msgspec import Struct

from tenterhook.databases import is_sqlite, key_file, open_vault, postgres_driver, sqlite_path
from tenterhook.errors import ConfigurationError
from tenterhook.settings import BY_NAME, Settings
from tenterhook.store.copying import copy
from tenterhook.store.copying.copy import Compared as Compared
from tenterhook.store.copying.copy import Tell as Tell
from tenterhook.store.copying.end import End
from tenterhook.store.copying.sqlite_end import SqliteEnd
from tenterhook.vault import Vault


class Move(Struct, frozen=True):
    """Both databases, open; nobody else uses them."""

    source: End
    target: End

    async def counts(self) -> dict[str, int]:
        """How many rows there are to copy, by table."""
        return await copy.counts(self.source)

    async def copy(self, tell: Tell) -> None:
        """Copy what is not copied yet. Raises ConfigurationError, StoreUnavailable."""
        await copy.copy(self.source, self.target, tell)

    async def compare(self, tell: Tell) -> list[Compared]:
        """Both sides of every table; if all are the same, servers may start on the target."""
        return await copy.compare(self.source, self.target, tell)


@asynccontextmanager
async def move(source: str, target: str, settings: Settings) -> AsyncIterator[Move]:
    """Open two databases by their URLs, having checked that the target's key opens the secrets of the source.

    Raises Invalid, ConfigurationError, SchemaMismatch, StoreUnavailable.
    """
    if source == target or _file(source) == _file(target) is not None:
        raise ConfigurationError("source and target are the same database")
    async with AsyncExitStack() as closing:
        vault = _vault(source, target, settings)
        first = await _source(source)
        closing.push_async_callback(first.close)
        # before the target is touched: a PostgreSQL database remembers the key that it was first opened with
        locked = await copy.unreadable(first, vault)
        if locked:
            raise ConfigurationError(
                f"{locked} of the secrets in {first.name} cannot be opened with the master key that is set.\n"
                + _advice(source, target)
            )
        second = await _target(target, vault)
        closing.push_async_callback(second.close)
        yield Move(first, second)


def database(text: str) -> str:
    """The URL of a database, as settings have it. Raises Invalid."""
    return str(BY_NAME["database"].parse(text))


def _file(url: str) -> Path | None:
    return sqlite_path(url).resolve() if is_sqlite(url) else None


def _vault(source: str, target: str, settings: Settings) -> Vault:
    """The keys of the target: they must be there already, as a new one would open nothing."""
    if settings.secret is not None:
        return Vault.from_text(settings.secret)
    if _key_beside(target) is not None:
        return open_vault(settings, sqlite_path(target))
    raise ConfigurationError(f"the target has no master key yet.\n{_advice(source, target)}")


def _advice(source: str, target: str) -> str:
    """How the target gets the key of the source."""
    key = _key_beside(source)
    if key is None:
        return "Set TENTERHOOK_SECRET to the master key that the servers of the source have"
    if is_sqlite(target):
        return f"Give it that of the source: cp {key} {key_file(sqlite_path(target))}"
    return f'Set it to that of the source: export TENTERHOOK_SECRET="$(cat {key})"'


def _key_beside(url: str) -> Path | None:
    """The key file of a SQLite database, if there is one."""
    file = key_file(sqlite_path(url)) if is_sqlite(url) else None
    return file if file is not None and file.exists() else None


def next_steps(source: str, target: str, settings: Settings) -> list[str]:
    """What is left to do after a complete copy."""
    start = f"start: tenterhook serve --database {_shown(target)}"
    stay = f"start no server on {_shown(source)} again: what is pending is in both, and would be delivered twice"
    return [*_keep_key(source, target, settings), start, stay]


def _keep_key(source: str, target: str, settings: Settings) -> list[str]:
    """How the servers of the target know the key that this copy was made with."""
    if settings.secret is None:
        return []  # it lies beside the file
    key = _key_beside(source)
    if key is not None and key.read_text().strip() == settings.secret:
        given = f"the content of {key}"
    else:
        given = "as it is now"
    where = "for the server" if is_sqlite(target) else "on each node"
    return [f"set TENTERHOOK_SECRET {where}: {given}"]


def _shown(url: str) -> str:
    return BY_NAME["database"].show(url)


async def _source(url: str) -> End:
    if is_sqlite(url):
        return SqliteEnd.source(sqlite_path(url))
    with postgres_driver():
        from tenterhook.store.copying.postgres_end import PostgresEnd
    return await PostgresEnd.source(url)


async def _target(url: str, vault: Vault) -> End:
    if is_sqlite(url):
        return SqliteEnd.target(sqlite_path(url))
    with postgres_driver():
        from tenterhook.store.copying.postgres_end import PostgresEnd
    return await PostgresEnd.target(url, vault)
