"""Attempts and deliveries: what was sent, what came back, when the next try is; and trying again."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from tenterhook import ids
from tenterhook.api import endpoints, lists, messages
from tenterhook.api.http import NO_CONTENT, Call, Query, Response, json_response
from tenterhook.api.routes import Route
from tenterhook.api.shapes import Metadata, Out, instant, text_of
from tenterhook.clock import MILLISECOND
from tenterhook.errors import Conflict, Invalid, NotFound
from tenterhook.model import Attempt, Delivery, Endpoint, Message, Result, State, Timing, Trigger
from tenterhook.store.base import Cursor

if TYPE_CHECKING:
    from tenterhook.api.app import Api

PREFIX = "atmpt_"
SUCCESS, PENDING, FAIL, SENDING, CANCELED = range(5)
TEXTS = ("success", "pending", "fail", "sending", "canceled")
_OLD = {SENDING: PENDING, CANCELED: FAIL}
"""What clients see that know only 0, 1 and 2."""
_ENDED = {State.DELIVERED: SUCCESS, State.FAILED: FAIL, State.CANCELLED: CANCELED}


class TimingOut(Out):
    """How long the phases took (ms); null for one that did not happen."""

    dns_ms: float | None
    connect_ms: float | None
    tls_ms: float | None
    first_byte_ms: float | None
    total_ms: float | None


class RequestOut(Out):
    """What was sent: the head as text, the body where it is not the payload as it is."""

    headers: str
    body: str | None
    body_encoding: str | UnsetType


class AttemptOut(Out):
    """An attempt as the wire API shows it; the fields of our own only when one attempt is read."""

    id: str
    url: str
    response: str
    response_status_code: int
    response_duration_ms: int
    status: int
    status_text: str
    trigger_type: int
    msg_id: str
    endpoint_id: str
    timestamp: str
    msg: messages.MessageOut | UnsetType = UNSET
    number: int | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET
    request: RequestOut | UnsetType = UNSET
    response_headers: str | UnsetType = UNSET
    response_cut: bool | UnsetType = UNSET
    timing: TimingOut | UnsetType = UNSET


class MessageEndpointOut(Out):
    """An endpoint that a message is owed to, and how that stands."""

    id: str
    url: str
    description: str
    uid: str | UnsetType
    disabled: bool
    event_types: tuple[str, ...] | None
    channels: tuple[str, ...] | None
    throttle_rate: int | None
    metadata: Metadata
    version: int
    created_at: str
    updated_at: str
    status: int
    status_text: str
    next_attempt: str | None
    attempts: int
    deleted: bool


def _ms(span: int | None) -> float | None:
    return None if span is None else span / MILLISECOND


def shown(attempt: Attempt, *, with_content: bool = True, msg: messages.MessageOut | UnsetType = UNSET) -> AttemptOut:
    """An attempt has succeeded or failed; other states are those of a delivery."""
    outcome = attempt.outcome
    status = SUCCESS if outcome.result is Result.OK else FAIL
    answer = "{}"
    if with_content:
        answer = text_of(outcome.response_body)[0] if outcome.status else outcome.detail
    return AttemptOut(
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
    )


def _detailed(attempt: Attempt) -> AttemptOut:
    outcome = attempt.outcome
    body, encoding = (None, UNSET) if outcome.request_body is None else text_of(outcome.request_body)
    out = shown(attempt)
    out.number, out.reason, out.detail = attempt.number, outcome.reason.value, outcome.detail
    out.request = RequestOut(headers=outcome.request_head.decode("latin-1"), body=body, body_encoding=encoding)
    out.response_headers, out.response_cut = outcome.response_head.decode("latin-1"), outcome.response_cut
    out.timing = _timing(outcome.timing)
    return out


def _timing(timing: Timing) -> TimingOut:
    return TimingOut(
        dns_ms=_ms(timing.dns),
        connect_ms=_ms(timing.connect),
        tls_ms=_ms(timing.tls),
        first_byte_ms=_ms(timing.first_byte),
        total_ms=_ms(timing.total),
    )


class Filter:
    """The conditions of a list of attempts. Raises Invalid, BadRequest."""

    def __init__(self, api: "Api", app: str, query: Query) -> None:
        self._api, self._app = api, app
        self._status = None if query.one("status") is None else query.number("status", 0, SUCCESS, CANCELED)
        self._class = None if query.one("status_code_class") is None else query.number("status_code_class", 0, 0, 500)
        if self._class is not None and self._class % 100:
            raise Invalid("one of 0, 100, 200, 300, 400, 500", ("query", "status_code_class"))
        self._of_message = messages.Filter(query, event_types=True)
        self._messages: dict[str, Message | None] = {}

    @property
    def empty(self) -> bool:
        """Whether everything passes."""
        return self._status is None and self._class is None and self._of_message.empty

    async def passes(self, attempt: Attempt) -> bool:
        code, ok = attempt.outcome.status, attempt.outcome.result is Result.OK
        if self._status is not None and self._status != (SUCCESS if ok else FAIL):
            return False
        if self._class is not None and not self._class <= code < self._class + 100:
            return False
        if self._of_message.empty:
            return True
        message = await self.message(attempt.message)
        return message is not None and self._of_message.passes(message)

    async def message(self, message: str) -> Message | None:
        """A message, asked for once."""
        if message not in self._messages:
            self._messages[message] = await self._api.store.get_message(self._app, message)
        return self._messages[message]


async def _attempts(
    api: "Api", app: str, cursor: Cursor, conditions: Filter, message: str | None, endpoint: str | None
) -> Sequence[Attempt]:
    async def fetch(page: Cursor) -> Sequence[Attempt]:
        return await api.store.list_attempts(app, page, message=message, endpoint=endpoint)

    if conditions.empty:
        return await fetch(cursor)
    return await lists.sifted(cursor, fetch, lambda attempt: attempt.id, conditions.passes)


async def by_endpoint(api: "Api", call: Call) -> Response:
    """Attempts at an endpoint, newest first."""
    endpoint = await endpoints.find(api, call)
    query = call.query()
    with_content, with_msg = query.flag("with_content", True), query.flag("with_msg", False)
    query.flag("expanded_statuses", False)
    conditions = Filter(api, endpoint.app, query)
    cursor = lists.cursor_of(query, PREFIX, descending=True)
    shown_messages: dict[str, messages.MessageOut] = {}

    async def fetch(page: Cursor) -> Sequence[Attempt]:
        found = await _attempts(api, endpoint.app, page, conditions, None, endpoint.id)
        for message in {attempt.message for attempt in found} if with_msg else ():
            there = await conditions.message(message)
            if there is not None:
                shown_messages[message] = messages.shown(there, with_content)
        return found

    def render(attempt: Attempt) -> AttemptOut:
        msg = shown_messages.get(attempt.message, UNSET)
        return shown(attempt, with_content=with_content, msg=msg)

    return await lists.answer(call, cursor, fetch, render, lambda attempt: attempt.id)


async def by_message(api: "Api", call: Call) -> Response:
    """Attempts at delivering a message, newest first."""
    message = await messages.find(api, call)
    query = call.query()
    with_content, ref = query.flag("with_content", True), query.one("endpoint_id")
    query.flag("expanded_statuses", False)
    endpoint = None if ref is None else await endpoints.find_or_ref(api, message.app, ref)
    conditions = Filter(api, message.app, query)
    return await lists.answer(
        call,
        lists.cursor_of(query, PREFIX, descending=True),
        lambda page: _attempts(api, message.app, page, conditions, message.id, endpoint),
        lambda attempt: shown(attempt, with_content=with_content),
        lambda attempt: attempt.id,
    )


async def get(api: "Api", call: Call) -> Response:
    """One attempt with all that is known of it."""
    call.query().flag("expanded_statuses", False)
    message = await messages.find(api, call)
    found = await api.store.get_attempt(message.app, message.id, call.params["attempt"])
    if found is None:
        raise NotFound
    return json_response(200, _detailed(found))


def status_of(delivery: Delivery, *, expanded: bool = True) -> int:
    """The status of a message at an endpoint; `expanded` False for clients that know only the first three."""
    status = _ENDED.get(delivery.state)
    if status is None:
        status = SENDING if delivery.attempts else PENDING
    return status if expanded else _OLD.get(status, status)


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
        next_attempt=instant(delivery.due_at) if delivery.state is State.DUE and delivery.due_at is not None else None,
        attempts=delivery.attempts,
        deleted=deleted,
    )


async def destinations(api: "Api", call: Call) -> Response:
    """The endpoints that a message is owed to, deleted ones too, by id."""
    message = await messages.find(api, call)
    cursor = lists.cursor_of(call.query(), endpoints.PREFIX, descending=False)
    cursor = replace(cursor, since=None, until=None)

    async def fetch(page: Cursor) -> Sequence[MessageEndpointOut]:
        chosen = _page(await api.store.list_deliveries(message.app, message.id), page)
        return [
            _destination(delivery, await api.store.get_endpoint(message.app, delivery.endpoint)) for delivery in chosen
        ]

    return await lists.answer(call, cursor, fetch, lambda out: out, lambda out: out.id)


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
        return json_response(202, _NOTHING)

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


_NOTHING: dict[str, Any] = {}
_APP = "/api/v1/app/{app}"
_MSG = _APP + "/msg/{msg}"
ROUTES = [
    Route("GET", _APP + "/attempt/endpoint/{endpoint}", by_endpoint, summary="List attempts at an endpoint"),
    Route("GET", _APP + "/attempt/msg/{msg}", by_message, summary="List attempts of a message"),
    Route("GET", _MSG + "/attempt/{attempt}", get, summary="Read an attempt"),
    Route("GET", _MSG + "/endpoint", destinations, summary="List the endpoints of a message"),
    Route("POST", _MSG + "/endpoint/{endpoint}/resend", resend, write=True, summary="Send a message again"),
    Route("POST", _MSG + "/endpoint/{endpoint}/cancel", cancel, write=True, summary="Cancel a pending delivery"),
]
