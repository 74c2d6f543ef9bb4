"""Attempts and deliveries: what was sent, what came back, when the next try is; and trying again."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace

from tenterhook import ids
from tenterhook.api import endpoints, lists, messages
from tenterhook.api.http import NO_CONTENT, Call, Response, json_response
from tenterhook.api.lists import PAGE, WINDOW_PAGE, ListResponse
from tenterhook.api.messages import CHANNEL, EVENT_TYPES, TAG, WITH_CONTENT
from tenterhook.api.query import Flag, OneCode, Query, Text
from tenterhook.api.routes import Route
from tenterhook.api.shapes import Encoding, Metadata, Out, Time, instant, text_of
from tenterhook.clock import MILLISECOND
from tenterhook.errors import Conflict, NotFound
from tenterhook.model import Attempt, Delivery, Endpoint, Result, State, Timing, Trigger
from tenterhook.store.queries import ANY_ATTEMPT, AttemptFilter, Cursor, Found
from tenterhook.tokens import Capability

if TYPE_CHECKING:
    from tenterhook.api.app import Api

PREFIX = "atmpt_"
SUCCESS, PENDING, FAIL, SENDING, CANCELED = range(5)
TEXTS = ("success", "pending", "fail", "sending", "canceled")
Status = Annotated[
    int,
    Meta(
        description=", ".join(f"{code} {text}" for code, text in enumerate(TEXTS)),
        extra_json_schema={"enum": list(range(len(TEXTS)))},
    ),
]
StatusText = Annotated[str, Meta(extra_json_schema={"enum": list(TEXTS)})]
Triggered = Annotated[int, Meta(description="0 by the schedule, 1 by hand", extra_json_schema={"enum": [0, 1]})]
_OLD = {SENDING: PENDING, CANCELED: FAIL}
"""What clients see that know only 0, 1 and 2."""
STATUS = OneCode("status", "Only attempts with this status.", codes=(SUCCESS, PENDING, FAIL, SENDING, CANCELED))
STATUS_CODE_CLASS = OneCode(
    "status_code_class",
    "Only attempts that were answered in this class of statuses; 0 is for no answer.",
    codes=(0, 100, 200, 300, 400, 500),
)
WITH_MSG = Flag("with_msg", "Show the message with each attempt.")
ENDPOINT_ID = Text("endpoint_id", "Only attempts at this endpoint, given by id or uid.")
EXPANDED_STATUSES = Flag("expanded_statuses", "Show the status 4; without it, what is canceled failed.")
_MEANINGS = {
    SUCCESS: AttemptFilter(ok=True),
    FAIL: AttemptFilter(ok=False, cancelled=False),
    CANCELED: AttemptFilter(ok=False, cancelled=True),
}
"""The other statuses are those of a delivery."""
_OLD_MEANINGS = _MEANINGS | {FAIL: AttemptFilter(ok=False)}
_RESULTS = {Result.OK: SUCCESS, Result.CANCELLED: CANCELED}
_OF_ATTEMPTS = (*WINDOW_PAGE, STATUS, STATUS_CODE_CLASS, CHANNEL, TAG, EVENT_TYPES, WITH_CONTENT, EXPANDED_STATUSES)
_EXPIRED = "EXPUNGED"
"""In place of an answer that was removed, as the wire API has it."""
_ENDED = {State.DELIVERED: SUCCESS, State.FAILED: FAIL, State.CANCELLED: CANCELED}


class AttemptTimingOut(Out):
    """How long the phases took (ms); null for one that did not happen."""

    dns_ms: float | None
    connect_ms: float | None
    tls_ms: float | None
    first_byte_ms: float | None
    total_ms: float | None


class AttemptRequestOut(Out, kw_only=True):
    """What was sent: the head as text, the body where it is not the payload as it is."""

    headers: str
    body: str | None
    body_encoding: Encoding | UnsetType = UNSET


class MessageAttemptOut(Out, kw_only=True):
    """An attempt as the wire API shows it; the fields of our own behind `reason` only when one attempt is read."""

    id: str
    url: str
    response: str
    response_status_code: int
    response_duration_ms: int
    status: Status
    status_text: StatusText
    trigger_type: Triggered
    msg_id: str
    endpoint_id: str
    timestamp: Time
    msg: messages.MessageOut | UnsetType = UNSET
    reason: str
    number: int | UnsetType = UNSET
    detail: str | UnsetType = UNSET
    request: AttemptRequestOut | UnsetType = UNSET
    response_headers: str | UnsetType = UNSET
    response_cut: bool | UnsetType = UNSET
    timing: AttemptTimingOut | UnsetType = UNSET


class EmptyResponse(Out):
    """An object without fields: clients read one where something was accepted."""


class MessageEndpointOut(Out, kw_only=True):
    """An endpoint that a message is owed to, and how that stands."""

    id: str
    url: str
    description: str
    uid: str | UnsetType = UNSET
    disabled: bool
    event_types: tuple[str, ...] | None
    channels: tuple[str, ...] | None
    throttle_rate: int | None
    metadata: Metadata
    version: int
    created_at: Time
    updated_at: Time
    status: Status
    status_text: StatusText
    next_attempt: Time | None
    attempts: int
    deleted: bool


def _ms(span: int | None) -> float | None:
    return None if span is None else span / MILLISECOND


def shown(
    attempt: Attempt, *, expanded: bool, with_content: bool = True, msg: messages.MessageOut | UnsetType = UNSET
) -> MessageAttemptOut:
    """An attempt has succeeded or failed, or was cancelled by a transformation; other states are those of a delivery."""
    outcome = attempt.outcome
    status = _RESULTS.get(outcome.result, FAIL)
    if not expanded:
        status = _OLD.get(status, status)
    answer = "{}"
    if with_content:
        answer = _answer(attempt)
    return MessageAttemptOut(
        id=attempt.id,
        url=outcome.url,
        response=answer,
        response_status_code=outcome.status,
        response_duration_ms=outcome.timing.total // MILLISECOND,
        status=status,
        status_text=TEXTS[status],
        trigger_type=1 if attempt.trigger is Trigger.MANUAL else 0,
        msg_id=attempt.message,
        endpoint_id=attempt.endpoint,
        timestamp=instant(attempt.started_at),
        msg=msg,
        reason=outcome.reason.value,
    )


def _answer(attempt: Attempt) -> str:
    outcome = attempt.outcome
    if not (outcome.status or outcome.response_body):
        return outcome.detail
    return _EXPIRED if attempt.expired else text_of(outcome.response_body)[0]


def _detailed(attempt: Attempt, expanded: bool) -> MessageAttemptOut:
    outcome = attempt.outcome
    body, encoding = (None, UNSET) if outcome.request_body is None else text_of(outcome.request_body)
    out = shown(attempt, expanded=expanded)
    out.number, out.detail = attempt.number, outcome.detail
    out.request = AttemptRequestOut(headers=outcome.request_head.decode("latin-1"), body=body, body_encoding=encoding)
    out.response_headers, out.response_cut = outcome.response_head.decode("latin-1"), outcome.response_cut
    out.timing = _timing(outcome.timing)
    return out


def _timing(timing: Timing) -> AttemptTimingOut:
    return AttemptTimingOut(
        dns_ms=_ms(timing.dns),
        connect_ms=_ms(timing.connect),
        tls_ms=_ms(timing.tls),
        first_byte_ms=_ms(timing.first_byte),
        total_ms=_ms(timing.total),
    )


def filter_of(query: Query) -> AttemptFilter | None:
    """What a list says of attempts; None for what no attempt is."""
    status, lowest = query[STATUS], query[STATUS_CODE_CLASS]
    meaning = ANY_ATTEMPT
    if status is not None:
        meanings = _MEANINGS if query[EXPANDED_STATUSES] else _OLD_MEANINGS
        if status not in meanings:
            return None
        meaning = meanings[status]
    statuses = None if lowest is None else (lowest, lowest + 100)
    return replace(meaning, statuses=statuses, of=messages.filter_of(query))


async def _search(
    api: "Api", app: str, cursor: Cursor, wanted: AttemptFilter | None, message: str | None, endpoint: str | None
) -> Found[Attempt]:
    if wanted is None:
        return Found([])
    if wanted == ANY_ATTEMPT:
        return Found(await api.store.list_attempts(app, cursor, message=message, endpoint=endpoint))
    return await api.store.search_attempts(app, cursor, wanted, message=message, endpoint=endpoint)


async def by_endpoint(api: "Api", call: Call) -> Response:
    """Attempts at an endpoint, newest first."""
    endpoint = await endpoints.find(api, call)
    with_content, with_msg = call.query[WITH_CONTENT], call.query[WITH_MSG]
    expanded = call.query[EXPANDED_STATUSES]
    wanted = filter_of(call.query)
    shown_messages: dict[str, messages.MessageOut] = {}

    async def search(page: Cursor) -> Found[Attempt]:
        found = await _search(api, endpoint.app, page, wanted, None, endpoint.id)
        if with_msg:
            named = {attempt.message for attempt in found.items}
            for message in await api.store.get_messages(endpoint.app, sorted(named)):
                shown_messages[message.id] = messages.shown(message, with_content)
        return found

    def render(attempt: Attempt) -> MessageAttemptOut:
        msg = shown_messages.get(attempt.message, UNSET)
        return shown(attempt, expanded=expanded, with_content=with_content, msg=msg)

    return await lists.answer_search(lists.cursor_of(call, PREFIX, descending=True), search, render, _id)


async def by_message(api: "Api", call: Call) -> Response:
    """Attempts at delivering a message, newest first."""
    message = await messages.find(api, call)
    with_content, ref = call.query[WITH_CONTENT], call.query[ENDPOINT_ID]
    expanded = call.query[EXPANDED_STATUSES]
    endpoint = None if ref is None else await endpoints.find_or_ref(api, message.app, ref)
    wanted = filter_of(call.query)
    return await lists.answer_search(
        lists.cursor_of(call, PREFIX, descending=True),
        lambda page: _search(api, message.app, page, wanted, message.id, endpoint),
        lambda attempt: shown(attempt, expanded=expanded, with_content=with_content),
        _id,
    )


def _id(attempt: Attempt) -> str:
    return attempt.id


async def get(api: "Api", call: Call) -> Response:
    """One attempt with all that is known of it."""
    message = await messages.find(api, call)
    found = await api.store.get_attempt(message.app, message.id, call.params["attempt_id"])
    if found is None:
        raise NotFound
    return json_response(200, _detailed(found, call.query[EXPANDED_STATUSES]))


def status_of(delivery: Delivery, *, expanded: bool = True) -> int:
    """The status of a message at an endpoint; `expanded` False for clients that know only the first three."""
    status = _ENDED.get(delivery.state)
    if status is None:
        status = SENDING if delivery.attempts else PENDING
    return status if expanded else _OLD.get(status, status)


def next_attempt_of(delivery: Delivery) -> Time | None:
    """When a message is to be tried again at an endpoint, if that is planned."""
    return instant(delivery.due_at) if delivery.state is State.DUE and delivery.due_at is not None else None


def _destination(delivery: Delivery, endpoint: Endpoint | None) -> MessageEndpointOut:
    deleted = endpoint is None
    if endpoint is None:
        made = ids.instant_of(delivery.endpoint)
        endpoint = Endpoint(
            id=delivery.endpoint, app=delivery.app, url="", disabled=True, created_at=made, updated_at=made
        )
    status = status_of(delivery)
    return MessageEndpointOut(
        id=endpoint.id,
        url="" if deleted else endpoints.shown_url(endpoint),
        description=endpoint.description,
        uid=UNSET if endpoint.uid is None else endpoint.uid,
        disabled=endpoint.disabled,
        event_types=endpoint.event_types,
        channels=endpoint.channels,
        throttle_rate=endpoint.rate_limit,
        metadata=endpoint.metadata,
        version=1,
        created_at=instant(endpoint.created_at),
        updated_at=instant(endpoint.updated_at),
        status=status,
        status_text=TEXTS[status],
        next_attempt=next_attempt_of(delivery),
        attempts=delivery.attempts,
        deleted=deleted,
    )


async def destinations(api: "Api", call: Call) -> Response:
    """The endpoints that a message is owed to, deleted ones too, by id."""
    message = await messages.find(api, call)
    cursor = lists.cursor_of(call, endpoints.PREFIX, descending=False)

    async def fetch(page: Cursor) -> Sequence[MessageEndpointOut]:
        chosen = _page(await api.store.list_deliveries(message.app, message.id), page)
        return [
            _destination(delivery, await api.store.get_endpoint(message.app, delivery.endpoint)) for delivery in chosen
        ]

    return await lists.answer(cursor, fetch, lambda out: out, lambda out: out.id)


def _page(deliveries: list[Delivery], cursor: Cursor) -> list[Delivery]:
    after = cursor.after
    if cursor.backward:
        return [d for d in deliveries if after is None or d.endpoint < after][-cursor.limit :]
    return [d for d in deliveries if after is None or d.endpoint > after][: cursor.limit]


async def resend(api: "Api", call: Call) -> Response:
    """One more attempt at once, beside the schedule."""
    message, endpoint = await messages.find(api, call), await endpoints.find(api, call)

    async def act() -> Response:
        await api.hub.retry(message.app, message.id, endpoint.id)
        return json_response(202, EmptyResponse())

    return await api.idempotency.once(call, act)


async def cancel(api: "Api", call: Call) -> Response:
    """End a pending delivery; what is on its way already may still arrive."""
    message, endpoint = await messages.find(api, call), await endpoints.find(api, call)

    async def act() -> Response:
        now = api.clock.now()
        if await api.store.get_delivery(message.app, message.id, endpoint.id) is None:
            raise NotFound("this message is not owed to this endpoint")
        if not await api.store.cancel_delivery(message.app, message.id, endpoint.id, now):
            raise Conflict("this delivery has ended already")
        if endpoint.ordered:
            api.hub.worker.note_due(endpoint.id, now)
        return NO_CONTENT

    return await api.idempotency.once(call, act)


_APP = "/api/v1/app/{app_id}"
_MSG = _APP + "/msg/{msg_id}"
ROUTES = [
    Route("GET", _APP + "/attempt/endpoint/{endpoint_id}", by_endpoint, "v1.message-attempt.list-by-endpoint",
          "List attempts at an endpoint", {200: ListResponse[MessageAttemptOut]}, query=(*_OF_ATTEMPTS, WITH_MSG)),
    Route("GET", _APP + "/attempt/msg/{msg_id}", by_message, "v1.message-attempt.list-by-msg",
          "List attempts of a message", {200: ListResponse[MessageAttemptOut]}, query=(*_OF_ATTEMPTS, ENDPOINT_ID)),
    Route("GET", _MSG + "/attempt/{attempt_id}", get, "v1.message-attempt.get", "Read an attempt",
          {200: MessageAttemptOut}, query=(EXPANDED_STATUSES,)),
    Route("GET", _MSG + "/endpoint", destinations, "v1.message-attempt.list-attempted-destinations",
          "List the endpoints of a message", {200: ListResponse[MessageEndpointOut]}, query=PAGE),
    Route("POST", _MSG + "/endpoint/{endpoint_id}/resend", resend, "v1.message-attempt.resend", "Send a message again",
          {202: EmptyResponse}, capability=Capability.CREATE_ATTEMPTS),
    Route("POST", _MSG + "/endpoint/{endpoint_id}/cancel", cancel, "v1.message-attempt.cancel",
          "Cancel a pending delivery", {204: None}, capability=Capability.CREATE_ATTEMPTS),
]  # fmt: skip
