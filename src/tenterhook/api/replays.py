"""`/app/{app_id}/endpoint/{endpoint_id}/…`: sending again what an endpoint missed, as background tasks."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from tenterhook.api.attempts import CANCELED, FAIL, STATUS, STATUS_CODE_CLASS, SUCCESS
from tenterhook.api.http import Call, Response
from tenterhook.api.idempotency import RememberFor
from tenterhook.api.routes import Route
from tenterhook.api.shapes import Channel, In, Name, Since, Tag, Until, instant_in
from tenterhook.api.tasks import TaskOut, begun
from tenterhook.clock import DAY, MINUTE, SECOND
from tenterhook.errors import Invalid
from tenterhook.model import Replay, State, Task, TaskKind
from tenterhook.tokens import Capability

if TYPE_CHECKING:
    from tenterhook.api.app import Api

LONGEST_RECOVERY = 14 * DAY + 5 * MINUTE
MOST_EVENT_TYPES = 250
_STATES = {SUCCESS: State.DELIVERED, FAIL: State.FAILED, CANCELED: State.CANCELLED}
"""The deliveries that have ended: what is pending is going to be sent anyway."""


class ReplayIn(In):
    """A range of time; until now if it has no end."""

    since: Since
    until: Until | None = None

    def range(self, now: int) -> tuple[int, int]:
        """Raises Invalid."""
        since = instant_in(self.since, "since")
        # a second more, because ids tell instants apart only roughly and what came just now belongs to it
        until = now + SECOND if self.until is None else instant_in(self.until, "until")
        if until < since:
            raise Invalid("until must not be before since", ("body", "until"))
        return since, until


class RecoverIn(ReplayIn):
    """A range of time that begins at most 14 days before its end; until now if it has no end."""

    def range(self, now: int) -> tuple[int, int]:
        since, until = super().range(now)
        if until - since > LONGEST_RECOVERY:
            raise Invalid("since may be at most 14 days before until", ("body", "since"))
        return since, until


class BulkReplayIn(ReplayIn):
    """A range of time, and which of its messages: those to which everything applies that is given.

    `status` is that of the message at the endpoint, `status_code_class` (0, 100, … 500; 0 for no answer) of its last
    attempt.
    """

    event_types: list[Name] | None = None
    channel: Channel | None = None
    tag: Tag | None = None
    status: Annotated[int, Meta(extra_json_schema={"enum": list(STATUS.codes)})] | None = None
    status_code_class: Annotated[int, Meta(extra_json_schema={"enum": list(STATUS_CODE_CLASS.codes)})] | None = None

    def choice(self) -> dict[str, Any]:
        """Raises Invalid."""
        for name, value, codes in (
            ("status", self.status, STATUS.codes),
            ("statusCodeClass", self.status_code_class, STATUS_CODE_CLASS.codes),
        ):
            if value is not None and value not in codes:
                raise Invalid(f"{name} must be one of {', '.join(map(str, codes))}", ("body", name))
        if len(self.event_types or ()) > MOST_EVENT_TYPES:
            raise Invalid(f"at most {MOST_EVENT_TYPES} values", ("body", "eventTypes"))
        states = _STATES.values() if self.status is None else [s for code, s in _STATES.items() if code == self.status]
        return {
            "states": tuple(states),
            "event_types": tuple(self.event_types or ()),
            "channel": self.channel,
            "tag": self.tag,
            "status_class": self.status_code_class,
        }


Chosen = TypeVar("Chosen", bound=ReplayIn)


async def _replay(
    api: "Api", call: Call, kind: TaskKind, model: type[Chosen], choice: Callable[[Chosen], dict[str, Any]]
) -> Response:
    async def made(remember: RememberFor) -> Task:
        app = (await api.registry.application(call.params["app_id"])).id
        endpoint = await api.hub.endpoint(app, call.params["endpoint_id"])
        wanted = await call.json(model)
        since, until = wanted.range(api.clock.now())
        replay = Replay(
            endpoint=endpoint.id, since=since, until=until, lifetime=api.hub.lifetime(endpoint), **choice(wanted)
        )
        return await api.tasks.begin(kind, app, msgspec.to_builtins(replay), remember)

    return await api.idempotency.creating(call, 202, made, begun)


async def recover(api: "Api", call: Call) -> Response:
    """Send again what has failed for good in a range of time."""
    return await _replay(api, call, TaskKind.RECOVER, RecoverIn, lambda _: {"states": (State.FAILED,)})


async def replay_missing(api: "Api", call: Call) -> Response:
    """Send what was never sent to this endpoint, because it was disabled or did not exist yet."""
    return await _replay(api, call, TaskKind.REPLAY_MISSING, ReplayIn, lambda _: {"missing": True})


async def bulk_replay(api: "Api", call: Call) -> Response:
    """Send again all that was sent to this endpoint in a range of time, or a choice of it; also what was delivered."""
    return await _replay(api, call, TaskKind.BULK_REPLAY, BulkReplayIn, BulkReplayIn.choice)


_ONE = "/api/v1/app/{app_id}/endpoint/{endpoint_id}"
ROUTES = [
    Route("POST", _ONE + "/recover", recover, "v1.endpoint.recover", "Send failed messages again", {202: TaskOut},
          body=RecoverIn, capability=Capability.CREATE_ATTEMPTS),
    Route("POST", _ONE + "/replay-missing", replay_missing, "v1.endpoint.replay-missing",
          "Send messages that were never sent", {202: TaskOut}, body=ReplayIn, capability=Capability.CREATE_ATTEMPTS),
    Route("POST", _ONE + "/bulk-replay", bulk_replay, "v1.endpoint.bulk-replay", "Send messages again", {202: TaskOut},
          body=BulkReplayIn, capability=Capability.CREATE_ATTEMPTS),
]  # fmt: skip
