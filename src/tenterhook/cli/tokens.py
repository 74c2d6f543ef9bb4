"""`tenterhook token`: API tokens, written to the database directly, so that the first one needs no token."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from tenterhook.cli.output import AsJson, ConfigFile, Database, emit, show_table
from tenterhook.clock import SystemClock, to_rfc3339
from tenterhook.errors import Invalid, NotFound
from tenterhook.model import Token
from tenterhook.tokens import TokenScope
from tenterhook.units import parse_duration

if TYPE_CHECKING:
    from tenterhook.store.base import Store

T = TypeVar("T")

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="API tokens: make, list and revoke them in the database."
)


@app.command()
def create(
    name: Annotated[str, typer.Option(help="What it is for, shown in lists.", metavar="NAME")] = "command line",
    scope: Annotated[
        TokenScope | None,
        typer.Option(
            help="admin may do everything, application everything below one application, read-only look at everything.",
            show_default="application with --app, else admin",
        ),
    ] = None,
    application: Annotated[
        str | None, typer.Option("--app", help="The one application that it is for, by uid or id.", metavar="APP")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="How long it is valid, such as 90d.", metavar="DURATION", show_default="for ever")
    ] = None,
    config: ConfigFile = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Make a token. Its text is printed once and stored nowhere.

    \b
    Examples:
      tenterhook token create --name ci
      tenterhook token create --app acme --expires 90d
      TENTERHOOK_TOKEN=$(tenterhook token create --scope read-only)
    """
    chosen = scope or (TokenScope.ADMIN if application is None else TokenScope.APPLICATION)
    if chosen is TokenScope.APPLICATION and application is None:
        raise Invalid("a token of scope application needs --app")
    if chosen is TokenScope.ADMIN and application is not None:
        raise Invalid("an admin token is not limited to an application: leave out --app, or take --scope application")
    span = None if expires is None else parse_duration(expires)
    if span == 0:
        raise Invalid("--expires must be longer than 0s")

    async def make(store: "Store") -> str:
        from tenterhook.registry import create_token

        clock, app_id = store.clock, None
        if application is not None:
            found = await store.get_application(application)
            if found is None:
                raise Invalid(f"there is no application {application!r}")
            app_id = found.id
        expires_at = None if span is None else clock.now() + span
        return (await create_token(store, clock, name=name, scope=chosen.value, app=app_id, expires_at=expires_at))[1]

    text = _with_store(config, database, make)
    emit({"token": text, "scope": chosen.value, "name": name}, text, as_json)


@app.command("list")
def listing(config: ConfigFile = None, database: Database = None, as_json: AsJson = False) -> None:
    """List the tokens, without their texts.

    \b
    Examples:
      tenterhook token list
      tenterhook token list --json
    """
    now = SystemClock().now()
    rows = [_shown(token, now) for token in _with_store(config, database, lambda store: store.list_tokens())]
    if as_json:
        emit(rows, "", True)
        return
    show_table(("id", "name", "scope", "app", "created", "expires", "state"), [tuple(row.values()) for row in rows])


@app.command()
def revoke(
    token: Annotated[str, typer.Argument(help="The id of the token (tok_…), from `tenterhook token list`.")],
    config: ConfigFile = None,
    database: Database = None,
) -> None:
    """Refuse a token from now on.

    A running server follows within five seconds.

    \b
    Examples:
      tenterhook token revoke tok_2vN5Yr9sYkQ0bW1fXc8eTzL3aGh
    """
    if token.startswith("thk_"):
        raise Invalid("this is the text of a token: give its id (tok_…), from `tenterhook token list`")

    async def end(store: "Store") -> None:
        try:
            await store.revoke_token(token, SystemClock().now())
        except NotFound:
            raise NotFound(f"there is no token {token!r}") from None

    _with_store(config, database, end)
    typer.echo(f"revoked {token}")


def _with_store(config: str | None, database: str | None, work: "Callable[[Store], Awaitable[T]]") -> T:
    from tenterhook.cli.loading import loaded, with_store

    settings = loaded(os.environ, {"config": config, "database": database}).settings
    return asyncio.run(with_store(settings, work))


def _shown(token: Token, now: int) -> dict[str, Any]:
    state = "valid"
    if token.revoked_at is not None:
        state = "revoked"
    elif token.expires_at is not None and token.expires_at <= now:
        state = "expired"
    return {
        "id": token.id,
        "name": token.name,
        "scope": token.scope,
        "app": token.app,
        "created": to_rfc3339(token.created_at),
        "expires": None if token.expires_at is None else to_rfc3339(token.expires_at),
        "state": state,
    }
