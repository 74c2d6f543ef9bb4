"""Figures of the whole installation, as pages of tasks of which none reads more than a moment's worth."""

from collections import defaultdict
from typing import Any

import msgspec
from msgspec import Struct

from tenterhook import ids
from tenterhook.model import OPERATIONAL, Task
from tenterhook.store.base import TaskPage
from tenterhook.store.sql import Verb, listed, select, select_one

_DELIVERIES = 10_000
_APPLICATIONS = 100


class Usage(Struct, frozen=True):
    """The parameters of `application.stats`: the messages created from `since` to `until` (not included), of `apps`."""

    since: int
    until: int
    apps: tuple[str, ...] | None = None


def count_messages(task: Task, now: int) -> Verb[TaskPage]:
    """How many deliveries each application's messages had: a walk through all deliveries of the time, in order."""
    asked = msgspec.convert(task.parameters, Usage)
    stats: list[dict[str, Any]] = task.data.get("appStats") or (yield from _applications(asked.apps))
    after, end = task.reached or ids.ceiling("msg_", asked.since), ids.ceiling("msg_", asked.until)
    last = yield from select_one(
        "SELECT message FROM delivery WHERE message > ? AND message < ? ORDER BY message LIMIT 1 OFFSET ?",
        after, end, _DELIVERIES - 1,
    )  # fmt: skip
    upto, compared = (end, "<") if last is None else (last[0], "<=")
    text = f"SELECT app, count(*) FROM delivery WHERE message > ? AND message {compared} ? GROUP BY app"
    counts = {row[0]: row[1] for row in (yield from select(text, after, upto))}
    for one in stats:
        one["messageDestinations"] += counts.get(one["appId"], 0)
    return TaskPage(upto, {"appStats": stats}, last is None)


def _applications(apps: tuple[str, ...] | None) -> Verb[list[dict[str, Any]]]:
    chosen = "" if apps is None else f" AND id IN ({listed(len(apps))})"
    text = f"SELECT id, uid FROM application WHERE id <> ?{chosen} ORDER BY id"
    found = yield from select(text, OPERATIONAL, *(apps or ()))
    return [{"appId": app, "appUid": uid, "messageDestinations": 0} for app, uid in found]


class _Filter(Struct):
    event_types: tuple[str, ...] | None = None


_filter = msgspec.json.Decoder(_Filter).decode


def collect_event_types(task: Task, now: int) -> Verb[TaskPage]:
    """Which event types the endpoints of each application ask for by name, and whether one takes them all."""
    found = yield from select(
        "SELECT id FROM application WHERE id > ? AND id <> ? ORDER BY id LIMIT ?",
        task.reached or "", OPERATIONAL, _APPLICATIONS,
    )  # fmt: skip
    apps = [app for (app,) in found]
    filters: dict[str, list[tuple[str, ...] | None]] = defaultdict(list)
    if apps:
        text = f"SELECT app, document FROM endpoint WHERE app IN ({listed(len(apps))})"
        for app, document in (yield from select(text, *apps)):
            filters[app].append(_filter(document).event_types)
    collected = [
        {
            "appId": app,
            "explicitlySubscribedEventTypes": sorted({name for names in filters[app] for name in names or ()}),
            "hasCatchAllEndpoint": None in filters[app],
        }
        for app in apps
    ]
    data = {"event_types": [*task.data.get("event_types", ()), *collected]}
    return TaskPage(apps[-1] if apps else task.reached, data, len(apps) < _APPLICATIONS)
