"""The seam of a copy: one of its two databases, with nobody else on it."""

from typing import Protocol, TypeVar

from tenterhook.errors import ConfigurationError, SchemaMismatch
from tenterhook.store.copying.tables import Table
from tenterhook.store.copying.verbs import Place
from tenterhook.store.schema import MIGRATIONS
from tenterhook.store.sql import Row, Verb

T = TypeVar("T")


class End(Protocol):
    """A database that no server uses until `close`."""

    name: str
    """Its URL, without a password."""

    async def run(self, verb: Verb[T]) -> T:
        """What the verb returns, in one transaction. Raises StoreUnavailable."""

    async def write(self, table: Table, rows: list[Row], place: Place) -> None:
        """Some rows, and how far the copy is with them, in one transaction. Raises StoreUnavailable."""

    async def settle(self) -> None:
        """Everything is written: bring what the database knows of its tables up to date."""

    async def close(self) -> None:
        """Let others use it again."""


def check_version(found: int) -> None:
    """A source is only read, so its schema must be ours already. Raises ConfigurationError, SchemaMismatch."""
    if not found:
        raise ConfigurationError("the source holds nothing of Tenterhook")
    if found != len(MIGRATIONS):
        raise SchemaMismatch(
            f"the source has schema version {found}, this Tenterhook knows {len(MIGRATIONS)}: copy it with the version that"
            " its server has, or start this one on it before"
        )
