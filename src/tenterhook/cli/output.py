"""What commands print: for people by default, JSON where a script asks for it."""

import os
from collections.abc import Collection, Iterable, Sequence
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


def show_table(headings: Sequence[str], rows: Iterable[Sequence[object]], numbers: Collection[str] = ()) -> None:
    """A table on standard output: as wide as the terminal, or as what reads it instead can take; None is empty.

    `numbers` are the headings over numbers.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold", justify="right" if heading in numbers else "left")
    for row in rows:
        # as Text, because a name may look like markup
        table.add_row(*(Text("" if value is None else printable(str(value))) for value in row))
    Console(width=None if os.isatty(1) else 200, soft_wrap=not os.isatty(1)).print(table)


def printable(text: str) -> str:
    """The text with what a terminal would obey written as an escape: `\\x1b`."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def installed_version() -> str:
    """The version of Tenterhook."""
    return version("tenterhook")
