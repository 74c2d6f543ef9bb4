"""What commands print: for people by default, JSON where a script asks for it."""

from importlib.metadata import version
from typing import Annotated, Any

import msgspec
import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
ConfigFile = Annotated[
    str | None, typer.Option("--config", help="The configuration file.", metavar="FILE", show_default="tenterhook.toml")
]
Database = Annotated[
    str | None,
    typer.Option("--database", help="The database, as a URL.", metavar="URL", show_default="sqlite:///tenterhook.db"),
]


def emit(document: Any, text: str, as_json: bool) -> None:
    """One of the two on standard output."""
    typer.echo(msgspec.json.encode(document).decode() if as_json else text)


def installed_version() -> str:
    """The version of Tenterhook."""
    return version("tenterhook")
