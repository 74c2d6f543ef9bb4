"""`tenterhook backup`: a copy of the SQLite file, while the server goes on."""

import os
from pathlib import Path
from typing import Annotated

import typer

from tenterhook.cli.output import AsJson, ConfigFile, Database, emit


def backup(
    file: Annotated[Path, typer.Argument(help="The file to write. It must not exist.", metavar="FILE")],
    with_key: Annotated[
        bool, typer.Option("--with-key", help="Copy the master key too, from its file to FILE.key.")
    ] = False,
    config: ConfigFile = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Back up a SQLite database.

    Also while a server uses it, which goes on meanwhile. The backup is of one instant, and is checked before it gets its
    name. Secrets stay sealed in it: without the master key nobody can read them, whoever finds it, and neither can you.

    \b
    Examples:
      tenterhook backup tenterhook-2026-11-26.db
      tenterhook backup /var/backups/hooks.db --database sqlite:////var/lib/tenterhook/tenterhook.db
      tenterhook backup /secure/hooks.db --with-key --json
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from tenterhook.backup import back_up
    from tenterhook.cli.loading import loaded

    settings = loaded(os.environ, {"config": config, "database": database}).settings
    watched = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=watched, disable=not watched.is_terminal) as bar:
        task = bar.add_task("backup", total=None)
        done = back_up(settings, file, with_key, lambda copied, total: bar.update(task, completed=copied, total=total))
    document = {"file": str(done.file), "bytes": done.size, "key": None if done.key is None else str(done.key)}
    emit(document, f"{done.file}: {done.size:,} bytes, checked\n{done.needs}", as_json)
