"""`/app/{app_id}/msg`: publish, list and read messages."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from tenterhook.api import applications, lists
from tenterhook.api.applications import ApplicationIn
from tenterhook.api.http import Call, Response, json_response
from tenterhook.api.idempotency import RememberFor, matching, replayed
from tenterhook.api.lists import WINDOW_PAGE, ListResponse
from tenterhook.api.query import Flag, Query, Text, Words
from tenterhook.api.routes import Access, Route
from tenterhook.api.shapes import Channel, In, Name, Out, Payload, Tag, Time, Uid, instant, instant_in, unset
from tenterhook.clock import DAY, HOUR, MINUTE
from tenterhook.errors import Invalid, NotFound, StoreUnavailable, TenterhookError
from tenterhook.hub import Draft, Published
from tenterhook.model import Message
from tenterhook.store.queries import ANY_MESSAGE, MessageFilter
from tenterhook.tokens import Capability

if TYPE_CHECKING:
    from tenterhook.api.app import Api

WITH_CONTENT = Flag("with_content", "Show the payload; without it, it is `{}`.", True)
CHANNEL = Text("channel", "Only messages with this channel.")
TAG = Text("tag", "Only messages with this tag.")
EVENT_TYPES = Words("event_types", "Only messages of one of these event types.")


class RawBody(In):
    """`transformationsParams`: a body that is sent as it is, instead of JSON."""

    raw_payload: str | None = None
    headers: dict[str, str] | None = None


class MessageIn(In):
    """A message to publish. `payload` keeps its bytes: spacing and order of keys are sent as they came."""

    event_type: Name
    payload: Payload | UnsetType = UNSET
    data: Payload | UnsetType = UNSET  # an alias that old clients send
    event_id: Uid | None = None
    channels: Annotated[list[Channel], Meta(min_length=1, max_length=10)] | None = None
    tags: Annotated[list[Tag], Meta(max_length=5)] | None = None
    ordering_key: Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[^\x00-\x08]*\Z")] | None = None
    transformations_params: RawBody | None = None
    application: ApplicationIn | None = None
    deliver_at: Time | None = None
    payload_retention_period: Annotated[int, Meta(ge=1, le=90, description="In days.")] | None = None
    payload_retention_hours: Annotated[int, Meta(ge=1, le=2_160)] | None = None


class MessageOut(Out):
    """A message as the wire API shows it."""

    id: str
    event_type: str
    payload: Payload
    timestamp: Time
    event_id: str | UnsetType = UNSET
    channels: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    ordering_key: str | UnsetType = UNSET
    deliver_at: Time | UnsetType = UNSET


_raw = msgspec.json.Decoder(Raw)
_EMPTY, _GONE = Raw(b"{}"), Raw(b'{"expired":true}')
SOONEST, LATEST = MINUTE, 24 * HOUR
"""How far ahead `deliverAt` may be."""


def draft_of(given: MessageIn, now: int) -> Draft:
    """Raises Invalid."""
    params = given.transformations_params
    if params is not None and params.raw_payload is not None:
        payload = params.raw_payload.encode()
        headers = {name.lower(): value for name, value in (params.headers or {}).items()}
        content_type = headers.get("content-type", "application/json")
        if not content_type.isprintable() or not content_type.isascii():
            raise Invalid("this is no content type", ("body", "transformationsParams", "headers"))
    else:
        raw = given.payload if isinstance(given.payload, Raw) else given.data
        if not isinstance(raw, Raw):
            raise Invalid("a message needs a payload", ("body", "payload"), "value_error.missing")
        payload, content_type = object_of(raw), "application/json"
    if given.event_id is not None and given.event_id.startswith("msg_"):
        raise Invalid("an eventId must not begin with msg_", ("body", "eventId"))
    return Draft(
        event_type=given.event_type,
        payload=payload,
        content_type=content_type,
        event_id=given.event_id,
        channels=tuple(given.channels or ()),
        tags=tuple(given.tags or ()),
        order_key=given.ordering_key,
        deliver_at=None if given.deliver_at is None else _deliver_at(given.deliver_at, now),
        payload_retention=_payload_retention(given, now),
    )


def object_of(raw: Raw) -> bytes:
    """A payload, byte for byte. Raises Invalid for what is not an object."""
    payload = bytes(raw)
    if payload[:1] != b"{" or not _is_utf_8(payload):
        raise Invalid("the payload must be a JSON object in UTF-8", ("body", "payload"), "value_error.jsondecode")
    return payload


def _deliver_at(text: str, now: int) -> int:
    """Raises Invalid for an instant that is not a minute to a day away."""
    chosen = instant_in(text, "deliverAt")
    if not now + SOONEST <= chosen <= now + LATEST:
        raise Invalid("deliverAt must be at least one minute and at most 24 hours ahead", ("body", "deliverAt"))
    return chosen


def _payload_retention(given: MessageIn, now: int) -> int | None:
    """How long the payload may be kept (µs). Raises Invalid."""
    days, hours = given.payload_retention_period, given.payload_retention_hours
    if days is not None and hours is not None:
        raise Invalid("give either payloadRetentionPeriod or payloadRetentionHours", ("body", "payloadRetentionHours"))
    if days is None and hours is None:
        return None
    span = (days or 0) * DAY + (hours or 0) * HOUR
    if given.deliver_at is not None and now + span <= _deliver_at(given.deliver_at, now):
        raise Invalid("the payload would be gone at deliverAt: keep it for longer", ("body", "payloadRetentionHours"))
    return span


def _is_utf_8(data: bytes) -> bool:
    """Raw members are checked for being JSON, not for the encoding of their texts."""
    try:
        return data.isascii() or bool(data.decode())
    except UnicodeDecodeError:
        return False


def _is_object(data: bytes) -> bool:
    try:
        return bytes(_raw.decode(data))[:1] == b"{" and _is_utf_8(data)
    except (msgspec.DecodeError, RecursionError):
        return False


def _content(message: Message) -> Raw:
    """The payload as an object: what is none, whatever its content type says, is shown as text in one."""
    if message.expired:
        return _GONE
    if message.content_type.startswith("application/json") and _is_object(message.payload):
        return Raw(message.payload)
    return Raw(msgspec.json.encode({"rawPayload": message.payload.decode("utf-8", "replace")}))


def shown(message: Message, with_content: bool) -> MessageOut:
    return MessageOut(
        id=message.id,
        event_type=message.event_type,
        payload=_content(message) if with_content else _EMPTY,
        timestamp=instant(message.created_at),
        event_id=unset(message.event_id),
        channels=message.channels or None,
        tags=message.tags or None,
        ordering_key=unset(message.order_key),
        deliver_at=UNSET if message.deliver_at is None else instant(message.deliver_at),
    )


class MessagePrecheckIn(In):
    """What a message would be."""

    event_type: Name
    channels: Annotated[list[Channel], Meta(min_length=1, max_length=10)] | None = None


class MessagePrecheckOut(Out):
    """Whether any enabled endpoint would get it."""

    active: bool


async def precheck(api: "Api", call: Call) -> Response:
    """Whether it is worth to make the payload."""
    given = await call.json(MessagePrecheckIn)
    wanted = await api.hub.wanted(call.params["app_id"], given.event_type, tuple(given.channels or ()))
    return json_response(200, MessagePrecheckOut(wanted))


async def create(api: "Api", call: Call) -> Response:
    """Publish a message: 202 when it is on the disk."""

    async def publish(remember: RememberFor) -> Published:
        given = await call.json(MessageIn)
        draft = draft_of(given, api.clock.now())
        try:
            return await api.hub.publish(call.params["app_id"], draft, remember)
        except NotFound:
            app = await applications.found_or_made(api, call.params["app_id"], given.application)
            return await api.hub.publish(app.id, draft, remember)

    return await publishing(api, call, publish, call.query[WITH_CONTENT])


async def publishing(
    api: "Api", call: Call, publish: Callable[[RememberFor], Awaitable[Published]], with_content: bool
) -> Response:
    """Answer a POST that publishes; a repeated request is answered with the message that the first one made.

    Only its id is remembered: payloads are kept once, and one that was removed does not come back in an answer.
    """
    key = await api.idempotency.begin(call)
    try:
        try:
            published = await publish(None if key is None else lambda message: key.remember(202, message.id.encode()))
            earlier = published.remembered
        except StoreUnavailable:
            raise
        except TenterhookError:
            # what was accepted may be refused by now: its time has come near, its event type has gone
            earlier = None if key is None else await api.idempotency.recall(key)
            if earlier is None:
                raise
        if key is None or earlier is None:
            return json_response(202, shown(published.message, with_content))
        first = await _named(api, call, matching(key, earlier).answer.decode())
        return replayed(json_response(202, shown(first, with_content)))
    finally:
        if key is not None:
            api.idempotency.end(key)


async def _named(api: "Api", call: Call, message: str) -> Message:
    """Raises NotFound."""
    found = await api.store.get_message((await api.registry.application(call.params["app_id"])).id, message)
    if found is None:
        raise NotFound("the message that this key stands for has been removed")
    return found


def filter_of(query: Query) -> MessageFilter:
    """What a list says of messages."""
    return MessageFilter(event_types=query[EVENT_TYPES], channel=query[CHANNEL], tag=query[TAG])


async def listing(api: "Api", call: Call) -> Response:
    """Messages, newest first."""
    app = (await api.registry.application(call.params["app_id"])).id
    with_content, wanted = call.query[WITH_CONTENT], filter_of(call.query)
    cursor = lists.cursor_of(call, "msg_", descending=True)

    def render(message: Message) -> MessageOut:
        return shown(message, with_content)

    if wanted == ANY_MESSAGE:
        return await lists.answer(cursor, lambda page: api.store.list_messages(app, page), render, _id)
    return await lists.answer_search(cursor, lambda page: api.store.search_messages(app, page, wanted), render, _id)


def _id(message: Message) -> str:
    return message.id


async def find(api: "Api", call: Call) -> Message:
    """The message in the path, by id or event id. Raises NotFound."""
    app = (await api.registry.application(call.params["app_id"])).id
    found = await api.store.get_message(app, call.params["msg_id"])
    if found is None:
        raise NotFound
    return found


async def get(api: "Api", call: Call) -> Response:
    """One message."""
    return json_response(200, shown(await find(api, call), call.query[WITH_CONTENT]))


_ALL = "/api/v1/app/{app_id}/msg"
_ONE = _ALL + "/{msg_id}"
ROUTES = [
    Route("POST", "/api/v1/app/{app_id}/msg/precheck/active", precheck, "v1.message.precheck",
          "Ask whether anybody wants a message", {200: MessagePrecheckOut}, Access.ORGANISATION, body=MessagePrecheckIn,
          capability=Capability.VIEW),
    Route("POST", _ALL, create, "v1.message.create", "Publish a message", {202: MessageOut}, Access.ORGANISATION,
          query=(WITH_CONTENT,), body=MessageIn),
    Route("GET", _ALL, listing, "v1.message.list", "List messages", {200: ListResponse[MessageOut]},
          query=(*WINDOW_PAGE, CHANNEL, TAG, EVENT_TYPES, WITH_CONTENT)),
    Route("GET", _ONE, get, "v1.message.get", "Read a message", {200: MessageOut}, query=(WITH_CONTENT,)),
]  # fmt: skip
