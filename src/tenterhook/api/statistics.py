"""`/stats`: figures over the whole installation, collected by background tasks."""

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from tenterhook.api.http import Call, Response, json_response
from tenterhook.api.idempotency import RememberFor
from tenterhook.api.routes import Access, Route
from tenterhook.api.shapes import In, Since, Uid, Until, instant_in
from tenterhook.api.tasks import TaskOut, begun
from tenterhook.clock import DAY, MINUTE
from tenterhook.errors import BadRequest, Invalid
from tenterhook.model import Task, TaskKind

if TYPE_CHECKING:
    from tenterhook.api.app import Api

LONGEST = 28 * DAY + 5 * MINUTE


class InvalidRange(BadRequest):
    """The range of time ends in the future, or is longer than 28 days."""

    code = "invalid_range"


class AppUsageStatsIn(In):
    """A range of time, and of which applications (by id or uid) the figures shall be; of all if they are absent."""

    since: Since
    until: Until
    app_ids: Annotated[list[Uid], Meta(max_length=1_000)] | None = None


class AppUsageStatsOut(TaskOut):
    """The task that was begun, and which applications there are not."""

    unresolved_app_ids: list[str]


def check_range(since: int, until: int, now: int) -> None:
    """Raises InvalidRange."""
    if until > now or until - since > LONGEST:
        raise InvalidRange
    if until < since:
        raise InvalidRange("until must not be before since")


async def aggregate_app_stats(api: "Api", call: Call) -> Response:
    """Count the deliveries of each application's messages. The task's `data` has `messageDestinations` for each."""
    unresolved: list[str] = []

    async def made(remember: RememberFor) -> Task:
        wanted = await call.json(AppUsageStatsIn)
        since, until = instant_in(wanted.since, "since"), instant_in(wanted.until, "until")
        check_range(since, until, api.clock.now())
        known = None if wanted.app_ids is None else [await _resolved(api, ref, unresolved) for ref in wanted.app_ids]
        apps = None if known is None else sorted({app for app in known if app is not None})
        if known and not apps:
            raise Invalid("none of these applications exists", ("body", "appIds"))
        return await api.tasks.begin(TaskKind.APP_STATS, None, {"since": since, "until": until, "apps": apps}, remember)

    def shown(task: Task) -> AppUsageStatsOut:
        return AppUsageStatsOut(**msgspec.structs.asdict(begun(task)), unresolved_app_ids=unresolved)

    return await api.idempotency.creating(call, 202, made, shown)


async def _resolved(api: "Api", ref: str, unresolved: list[str]) -> str | None:
    found = await api.store.get_application(ref)
    if found is None:
        unresolved.append(ref)
    return None if found is None else found.id


async def aggregate_event_types(api: "Api", call: Call) -> Response:
    """Collect which event types the endpoints of each application ask for by name, and whether one takes them all."""
    return json_response(202, begun(await api.tasks.begin(TaskKind.EVENT_TYPES, None, {})))


_USAGE = "/api/v1/stats/usage"
ROUTES = [
    Route("POST", _USAGE + "/app", aggregate_app_stats, "v1.statistics.aggregate-app-stats",
          "Count the deliveries of applications", {202: AppUsageStatsOut}, Access.ORGANISATION, body=AppUsageStatsIn),
    Route("PUT", _USAGE + "/event-types", aggregate_event_types, "v1.statistics.aggregate-event-types",
          "Collect the event types that endpoints want", {202: TaskOut}, Access.ORGANISATION),
]  # fmt: skip
