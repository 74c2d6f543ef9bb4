"""`tenterhook prune`: retention by hand."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable
from typing import TYPE_CHECKING, Annotated

import typer

from tenterhook.cli.output import AsJson, ConfigFile, Database, emit
from tenterhook.errors import Invalid
from tenterhook.units import parse_duration

if TYPE_CHECKING:
    from tenterhook.engine.retention import Pace, Removed
    from tenterhook.settings import Settings
    from tenterhook.store.base import Store

_RESTS = 2
"""Somebody waits for this: less patient than a server."""

Counts = dict[str, Counter[str]]
"""What went: records, payloads → messages, requests, days."""


def prune(
    older_than: Annotated[
        str | None, typer.Option(help="Remove messages and received requests older than this.", metavar="DURATION")
    ] = None,
    payloads_older_than: Annotated[
        str | None, typer.Option(help="Remove payloads older than this.", metavar="DURATION")
    ] = None,
    application: Annotated[
        str | None, typer.Option("--app", help="Only in this application, by uid or id.", metavar="APP")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would go, and remove nothing.")] = False,
    config: ConfigFile = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Remove old records and payloads now.

    Without a limit it does what the server does by itself, by the retention in force. With one or both it goes by that
    alone, whatever the retention of an application is. What a pending delivery needs stays. A server may be running.

    \b
    Examples:
      tenterhook prune --dry-run
      tenterhook prune --older-than 30d
      tenterhook prune --payloads-older-than 7d --app acme --json
    """
    from tenterhook.cli.loading import loaded, with_store

    records, payloads = (None if text is None else parse_duration(text) for text in (older_than, payloads_older_than))
    settings = loaded(os.environ, {"config": config, "database": database}).settings

    def work(store: "Store") -> Awaitable[Counts]:
        return _prune(store, settings, records, payloads, application, dry_run)

    found = asyncio.run(with_store(settings, work))
    emit({"dry_run": dry_run, **found}, _sentence(found, dry_run), as_json)


async def _prune(
    store: "Store", settings: "Settings", records: int | None, payloads: int | None, application: str | None, dry: bool
) -> Counts:
    """By the retention in force, or else by limits (µs). Raises Invalid for an application that is not there."""
    from tenterhook.engine.retention import Pace, all_applications, cutoffs, sweep, sweep_all
    from tenterhook.store.base import Cutoff

    pace, now, retention = Pace(store.clock, rests=_RESTS), store.clock.now(), settings.retention()
    apps, everywhere = await all_applications(store), application is None
    if not everywhere:
        apps = [app for app in apps if application in (app.id, app.uid)]
        if not apps:
            raise Invalid(f"there is no application {application!r}")
    if records is not None or payloads is not None:
        older, old = (0 if span is None else max(0, now - span) for span in (records, payloads))
        wanted = [Cutoff(app.id, payloads=old, records=older) for app in apps]
        steps = sweep(store, pace, wanted, days_before=older if everywhere else 0, dry=dry)
    elif everywhere:
        steps = sweep_all(store, pace, retention, apps, now, dry=dry)
    else:
        steps = sweep(store, pace, cutoffs(retention, apps, now), dry=dry)
    return await _counted(steps, pace, dry)


async def _counted(steps: "AsyncGenerator[Removed, None]", pace: "Pace", dry: bool) -> Counts:
    """Take the steps, with a rest after each, and show on a terminal how far they are."""
    from rich.console import Console

    from tenterhook.clock import until

    counts: Counts = {"records": Counter(messages=0, requests=0, days=0), "payloads": Counter(messages=0, requests=0)}
    with Console(stderr=True).status("looking for what is old") as status:
        async for step in steps:
            counts[step.what].update(messages=step.messages, requests=step.requests)
            counts["records"].update(days=step.days)
            status.update(_sentence(counts, dry))
            if not dry:
                await until(asyncio.Event(), pace.rest)
    return counts


def _sentence(counts: Counts, dry: bool) -> str:
    parts = [
        ("", counts["records"]["days"], "day"),
        ("", counts["records"]["messages"], "message"),
        ("", counts["records"]["requests"], "received request"),
        ("payloads of ", counts["payloads"]["messages"], "message"),
        ("bodies of ", counts["payloads"]["requests"], "received request"),
    ]
    listed = [f"{of}{count:,} {noun}{'' if count == 1 else 's'}" for of, count, noun in parts if count]
    if not listed:
        return "there is nothing to remove"
    return f"{'would remove' if dry else 'removed'} {', '.join(listed)}"
