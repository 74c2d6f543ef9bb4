"""Figures: `/stats` over the whole installation, collected by background tasks, and those of an endpoint at once."""

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from tenterhook.api.endpoints import find
from tenterhook.api.http import Call, Response, json_response
from tenterhook.api.idempotency import RememberFor
from tenterhook.api.query import Instant
from tenterhook.api.routes import Access, Route
from tenterhook.api.shapes import In, Out, Since, Uid, Until, instant_in
from tenterhook.api.tasks import TaskOut, begun
from tenterhook.clock import DAY, HOUR, MINUTE
from tenterhook.errors import BadRequest, Invalid
from tenterhook.model import Task, TaskKind

if TYPE_CHECKING:
    from tenterhook.api.app import Api

USUAL = 28 * DAY
LONGEST = USUAL + 5 * MINUTE
SINCE = Instant("since", "The beginning; 28 days before the end if it is absent.")
UNTIL = Instant("until", "The end, not included; now if it is absent.")


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


class EndpointStats(Out):
    """The messages of a time at an endpoint, by how they stand there."""

    success: int
    pending: int
    sending: int
    fail: int
    canceled: int


class EndpointAttemptStats(Out):
    """The attempts of a time at an endpoint; `canceled` by a transformation, before anything was sent."""

    success: int
    fail: int
    canceled: int


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


def _window(api: "Api", call: Call) -> tuple[int, int]:
    """Raises InvalidRange."""
    since, until, now = call.query[SINCE], call.query[UNTIL], api.clock.now()
    end = now if until is None else until
    begin = max(0, end - USUAL) if since is None else since
    check_range(begin, end, now)
    return begin, end


async def get_stats(api: "Api", call: Call) -> Response:
    """How the messages of a time stand at an endpoint: those that were created then."""
    endpoint = await find(api, call)
    counts = await api.store.count_deliveries(endpoint.app, endpoint.id, *_window(api, call))
    return json_response(
        200,
        EndpointStats(
            success=counts.delivered,
            pending=counts.untried,
            sending=counts.retrying,
            fail=counts.failed,
            canceled=counts.cancelled,
        ),
    )


async def get_attempt_stats(api: "Api", call: Call) -> Response:
    """How many attempts at an endpoint succeeded and failed, in whole hours around the range."""
    endpoint = await find(api, call)
    since, until = _window(api, call)
    hours = since - since % HOUR, until + -until % HOUR
    success, fail, canceled = await api.store.count_attempts(endpoint.app, endpoint.id, *hours)
    return json_response(200, EndpointAttemptStats(success=success, fail=fail, canceled=canceled))


_ENDPOINT = "/api/v1/app/{app_id}/endpoint/{endpoint_id}"
_USAGE = "/api/v1/stats/usage"
ROUTES = [
    Route("GET", _ENDPOINT + "/stats", get_stats, "v1.endpoint.get-stats", "Count the messages of an endpoint",
          {200: EndpointStats}, query=(SINCE, UNTIL)),
    Route("GET", _ENDPOINT + "/attempt-stats", get_attempt_stats, "v1.endpoint.get-attempt-stats",
          "Count the attempts at an endpoint", {200: EndpointAttemptStats}, query=(SINCE, UNTIL)),
    Route("POST", _USAGE + "/app", aggregate_app_stats, "v1.statistics.aggregate-app-stats",
          "Count the deliveries of applications", {202: AppUsageStatsOut}, Access.ORGANISATION, body=AppUsageStatsIn),
    Route("PUT", _USAGE + "/event-types", aggregate_event_types, "v1.statistics.aggregate-event-types",
          "Collect the event types that endpoints want", {202: TaskOut}, Access.ORGANISATION),
]  # fmt: skip
