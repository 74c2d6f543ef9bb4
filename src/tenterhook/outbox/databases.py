"""Which databases can hold an outbox, by the scheme of their URLs. What a kind needs is imported when it is used."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from importlib.util import find_spec
from types import ModuleType

from tenterhook.config import Configuration, ConfiguredOutbox
from tenterhook.errors import ConfigurationError
from tenterhook.outbox.base import Table


def _sqlite() -> ModuleType:
    from tenterhook.outbox import sqlite

    return sqlite


def _postgresql() -> ModuleType:
    """Raises ConfigurationError where the driver is not installed."""
    if find_spec("asyncpg") is None:
        raise ConfigurationError("PostgreSQL needs a driver that is not installed: pip install 'tenterhook[postgres]'")
    from tenterhook.outbox import postgres

    return postgres


KINDS = {"sqlite": _sqlite, "postgresql": _postgresql}


def dialect(url: str) -> str:
    """The dialect of `outbox.schema` that the database speaks."""
    return url.partition("://")[0]


def check(configuration: Configuration) -> None:
    """Whether the databases of the outboxes can be used here. Raises ConfigurationError as `config.parse` does."""
    problems = []
    for outbox in configuration.outboxes:
        try:
            KINDS[dialect(outbox.database)]()
        except ConfigurationError as missing:
            problems.append(f"{configuration.file}:{outbox.line}: outbox.database: {missing.detail}")
    if problems:
        raise ConfigurationError("\n".join(problems))


def open_table(outbox: ConfiguredOutbox, wake: Callable[[], None]) -> AbstractAsyncContextManager[Table]:
    """See `base.OpenTable`. Raises ConfigurationError."""
    opened: AbstractAsyncContextManager[Table] = KINDS[dialect(outbox.database)]().open_table(outbox, wake)
    return opened


async def create(url: str, table: str) -> None:
    """Make the table in the database. Raises ConfigurationError, base.Unavailable, Invalid."""
    made: Awaitable[None] = KINDS[dialect(url)]().create(url, table)
    await made
