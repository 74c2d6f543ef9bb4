"""`tenterhook copy`: everything from one database into another one, proven to be the same."""

import asyncio
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenterhook.cli.output import AsJson, ConfigFile, emit, show_table

if TYPE_CHECKING:
    from rich.progress import Progress

    from tenterhook.moving import Compared, Move, Tell


def copy(
    source: Annotated[str, typer.Argument(help="The database to read, as a URL.", metavar="SOURCE")],
    target: Annotated[str, typer.Argument(help="The empty database to fill, as a URL.", metavar="TARGET")],
    verify_only: Annotated[bool, typer.Option("--verify-only", help="Copy nothing, only compare both.")] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Copy a database into another one, from SQLite to PostgreSQL or back.

    Stop all servers of both before. Ids, secrets, tokens, what is pending: everything goes with it. The source is only
    read. A copy that was interrupted goes on where it was when the same command is given again. At the end all tables are
    compared by their values; the exit code is 1 if they differ.

    The secrets stay sealed, so the target needs the master key of the source: TENTERHOOK_SECRET, or a key file beside a
    SQLite database.

    \b
    Examples:
      tenterhook copy sqlite:///tenterhook.db postgresql://user@host/database
      tenterhook copy postgresql://user@host/database sqlite:///back.db
      tenterhook copy sqlite:///tenterhook.db postgresql://user@host/database --verify-only --json
      TENTERHOOK_SECRET="$(cat a.db.key)" tenterhook copy sqlite:///a.db postgresql://user@host/database
    """
    from tenterhook.cli.loading import loaded
    from tenterhook.moving import database, move, next_steps

    settings = loaded(os.environ, {"config": config}).settings
    urls = database(source), database(target)

    async def run() -> "list[Compared]":
        async with move(*urls, settings) as both:
            return await _follow(both, verify_only)

    found = asyncio.run(run())
    same = all(each.same for each in found)
    steps = next_steps(*urls, settings) if same else []
    document = {"same": same, "tables": [_row(each) for each in found], "next": steps}
    if as_json:
        emit(document, "", True)
    else:
        _print(found, steps)
    if not same:
        raise typer.Exit(1)


async def _follow(both: "Move", verify_only: bool) -> "list[Compared]":
    """Copy and compare, with a bar on standard error for people who watch."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    counts = await both.counts()
    watched = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=watched, disable=not watched.is_terminal) as bar:
        if not verify_only:
            await both.copy(_teller(bar, "copy", counts))
        return await both.compare(_teller(bar, "compare", counts))


def _teller(bar: "Progress", step: str, counts: dict[str, int]) -> "Tell":
    task = bar.add_task(step, total=sum(counts.values()))
    done: dict[str, int] = {}

    def tell(table: Any, rows: int) -> None:
        done[table.name] = rows
        bar.update(task, description=f"{step} {table.name}", completed=sum(done.values()))

    return tell


def _row(each: "Compared") -> dict[str, Any]:
    return {
        "table": each.table,
        "same": each.same,
        "source": {"rows": each.source.rows, "checksum": each.source.checksum},
        "target": {"rows": each.target.rows, "checksum": each.target.checksum},
    }


def _print(found: "list[Compared]", steps: list[str]) -> None:
    rows = []
    for each in found:
        rows.append((each.table, f"{each.source.rows:,}", each.source.checksum, "same" if each.same else ""))
        if not each.same:
            rows.append(("  target", f"{each.target.rows:,}", each.target.checksum, "DIFFERENT"))
    show_table(("table", "rows", "checksum", ""), rows, numbers=("rows",))
    different = [each.table for each in found if not each.same]
    if different:
        typer.echo(f"the databases differ in {', '.join(different)}: empty the target, then copy again", err=True)
        return
    typer.echo(f"{sum(each.source.rows for each in found):,} rows are the same in both.")
    for step in steps:
        typer.echo(f"next: {step}")
