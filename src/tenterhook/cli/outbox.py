"""`tenterhook outbox`: the table that events are written to, in a database of yours."""

import asyncio
import os
from enum import StrEnum
from typing import Annotated

import typer

from tenterhook.errors import Invalid, StoreUnavailable

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Outboxes: tables in your databases that the server relays from."
)


@app.callback()
def outbox() -> None:
    """Outboxes: tables in your databases that the server relays from."""


class Dialect(StrEnum):
    """Those of `tenterhook.outbox.ddl`."""

    POSTGRESQL = "postgresql"
    SQLITE = "sqlite"


@app.command()
def create(
    database: Annotated[
        str | None,
        typer.Option(help="The database, as a URL or as env:NAME: the variable that holds the URL.", metavar="URL"),
    ] = None,
    dialect: Annotated[
        Dialect | None,
        typer.Option(help="For which kind of database.", show_default="that of --database, or postgresql"),
    ] = None,
    table: Annotated[str, typer.Option(help="The name of the table.", metavar="NAME")] = "tenterhook_outbox",
    apply: Annotated[
        bool, typer.Option("--apply", help="Make the table in the database, instead of printing.")
    ] = False,
) -> None:
    """Print what makes the table of an outbox, or make it.

    What is printed goes into a migration of your application. Making a table that is there changes nothing.

    \b
    Examples:
      tenterhook outbox create > migrations/0042_outbox.sql
      tenterhook outbox create --dialect sqlite --table events
      tenterhook outbox create --database env:APP_DATABASE_URL --apply
    """
    from tenterhook.outbox import ddl
    from tenterhook.setting_kinds import DATABASE

    url = None if database is None else _url(database)
    spoken = None if url is None else Dialect(url.partition("://")[0])
    if spoken is not None and dialect not in (None, spoken):
        raise Invalid(f"--database is of the dialect {spoken.value}, so --dialect cannot be {dialect}")
    statements = ddl((spoken or dialect or Dialect.POSTGRESQL).value, table)
    if not apply:
        typer.echo(statements, nl=False)
        return
    if url is None:
        raise Invalid("--apply needs --database")
    asyncio.run(_make(url, table))
    typer.echo(f"{table} is in {DATABASE.show(url)}")


async def _make(url: str, table: str) -> None:
    from tenterhook.outbox import databases
    from tenterhook.outbox.base import Unavailable

    try:
        await databases.create(url, table)
    except Unavailable as error:
        raise StoreUnavailable(str(error)) from None


def _url(given: str) -> str:
    """Raises Invalid."""
    from tenterhook.config_keys import looked_up
    from tenterhook.setting_kinds import DATABASE

    return str(DATABASE.parse(looked_up(given, os.environ) if given.startswith("env:") else given))
