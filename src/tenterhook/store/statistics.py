"""Figures of the whole installation, as pages of tasks of which none reads more than a moment's worth, and of one endpoint."""

from collections import defaultdict
from typing import Any

import msgspec
from msgspec import Struct

from tenterhook import ids
from tenterhook.model import OPERATIONAL, State, Task
from tenterhook.store.base import TaskPage
from tenterhook.store.queries import DeliveryCounts
from tenterhook.store.sql import Verb, listed, select, select_one

MESSAGES = 10_000
"""How many a step of counting deliveries looks at: some ten milliseconds."""
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


# of one endpoint


def count_deliveries(app: str, endpoint: str, after: str, end: str) -> Verb[tuple[DeliveryCounts, str | None]]:
    """One step, over messages with ids from `after` to `end`, both not included: the counts, and behind which message the
    next begins (None: it was the last).

    By way of the messages of the application: deliveries that have ended are in no index by endpoint.
    """
    last = yield from select_one(
        "SELECT id FROM message WHERE app = ? AND id > ? AND id < ? ORDER BY id LIMIT 1 OFFSET ?",
        app, after, end, MESSAGES - 1,
    )  # fmt: skip
    upto, compared = (end, "<") if last is None else (last[0], "<=")
    found = yield from select(
        "SELECT d.state, CASE WHEN d.attempts > 0 THEN 1 ELSE 0 END, count(*)"
        " FROM message AS m JOIN delivery AS d ON d.message = m.id AND d.endpoint = ?"
        f" WHERE m.app = ? AND m.id > ? AND m.id {compared} ? GROUP BY 1, 2",
        endpoint, app, after, upto,
    )  # fmt: skip
    counts: dict[str, int] = defaultdict(int)
    for state, tried, count in found:
        ended = _ENDED.get(state)
        counts[ended or ("retrying" if tried else "untried")] += count
    return DeliveryCounts(**counts), None if last is None else last[0]


_ENDED = {State.DELIVERED.value: "delivered", State.FAILED.value: "failed", State.CANCELLED.value: "cancelled"}


def count_attempts(app: str, endpoint: str, since: int, until: int) -> Verb[tuple[int, int, int]]:
    """How many have succeeded, failed, and been cancelled by a transformation: counts in indexes, which read no attempt."""
    if (yield from select_one("SELECT id FROM endpoint WHERE app = ? AND id = ?", app, endpoint)) is None:
        return 0, 0, 0
    every = "SELECT count(*) FROM attempt WHERE endpoint = ? AND id >= ? AND id < ?"
    other = f"{every} AND result <> 'ok'"
    values = (endpoint, ids.ceiling("atmpt_", since), ids.ceiling("atmpt_", until))
    text = f"SELECT ({every}), ({other}), ({other} AND result = 'cancelled')"
    ((total, others, cancelled),) = yield from select(text, *values, *values, *values)
    return total - others, others - cancelled, cancelled
