"""`/app/{app_id}/poller/{sink_id}`: fetch the messages that an endpoint wants, instead of being sent them."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from tenterhook import ids
from tenterhook.api import messages
from tenterhook.api.http import Call, Response, json_response
from tenterhook.api.lists import AFTER, LIMIT
from tenterhook.api.messages import CHANNEL, MessageOut
from tenterhook.api.query import Text
from tenterhook.api.routes import Route
from tenterhook.api.shapes import In, Out, Time, instant_in
from tenterhook.errors import Invalid
from tenterhook.model import Endpoint, Message
from tenterhook.routing import wants
from tenterhook.store.queries import Cursor
from tenterhook.tokens import Capability

if TYPE_CHECKING:
    from tenterhook.api.app import Api

PREFIX = "msg_"
LOOKED_AT = 1_000
"""How many messages one answer may look at; with few that fit it comes early, and says where to go on."""

ITERATOR = Text("iterator", "The `iterator` of an earlier answer: only what comes behind it.")
EVENT_TYPE = Text("event_type", "Only messages of this event type.")
_CONSUMER = re.compile(r"[a-zA-Z0-9\-_.]{1,256}")


class PollingEndpointOut(Out):
    """Messages, oldest first, and where to go on; `done` if there are no more by now."""

    data: list[MessageOut]
    iterator: str
    done: bool


class PollingEndpointConsumerSeekIn(In):
    """The instant from which on a consumer gets messages."""

    after: Annotated[Time, Meta(examples=["2026-01-31T12:00:00Z"])]


class PollingEndpointConsumerSeekOut(Out):
    """Where the consumer goes on."""

    iterator: str


async def poll(api: "Api", call: Call) -> Response:
    """Messages that the endpoint wants, from its creation on unless `iterator` or `after` says otherwise."""
    endpoint = await _find(api, call)
    event_type, channel, after = call.query[EVENT_TYPE], call.query[CHANNEL], call.query[AFTER]
    starts = [_iterator(call), None if after is None else ids.floor(PREFIX, after)]
    start = max([one for one in starts if one is not None], default=_beginning(endpoint))

    def passes(message: Message) -> bool:
        return (event_type in (None, message.event_type)) and (channel is None or channel in message.channels)

    return json_response(200, await _page(api, endpoint, start, call.query[LIMIT], passes))


async def consumer_poll(api: "Api", call: Call) -> Response:
    """The same for a named consumer: with an `iterator` it has everything up to there, without one it gets all since then."""
    endpoint, consumer = await _find(api, call), _consumer(call)
    saved = await api.store.get_position(endpoint.app, endpoint.id, consumer)
    given = _iterator(call)
    if given not in (None, saved):
        await api.store.save_position(endpoint.app, endpoint.id, consumer, given)
    start = given or saved or _beginning(endpoint)
    return json_response(200, await _page(api, endpoint, start, call.query[LIMIT], lambda _: True))


async def consumer_seek(api: "Api", call: Call) -> Response:
    """Move a consumer to an instant, backward or forward."""
    endpoint, consumer = await _find(api, call), _consumer(call)

    async def act() -> Response:
        after = instant_in((await call.json(PollingEndpointConsumerSeekIn)).after, "after")
        position = ids.floor(PREFIX, after)
        await api.store.save_position(endpoint.app, endpoint.id, consumer, position)
        return json_response(200, PollingEndpointConsumerSeekOut(position))

    return await api.idempotency.once(call, act)


async def _find(api: "Api", call: Call) -> Endpoint:
    """A disabled one too: it may be there for being polled alone."""
    app = await api.registry.application(call.params["app_id"])
    return await api.registry.endpoint(app.id, call.params["sink_id"])


def _consumer(call: Call) -> str:
    name = call.params["consumer_id"]
    if not _CONSUMER.fullmatch(name):
        raise Invalid("a name has letters, digits, hyphens, underscores and full stops", ("path", "consumer_id"))
    return name


def _iterator(call: Call) -> str | None:
    given = call.query[ITERATOR] or None
    if given is not None and not ids.is_id(given, PREFIX):
        raise Invalid("the iterator must be one from an earlier answer", ("query", "iterator"))
    return given


def _beginning(endpoint: Endpoint) -> str:
    return ids.floor(PREFIX, endpoint.created_at)


def _is_for(endpoint: Endpoint, message: Message) -> bool:
    if message.example_for is not None:
        return message.example_for == endpoint.id
    return wants(endpoint, message.event_type, message.channels)


async def _page(
    api: "Api", endpoint: Endpoint, start: str, limit: int, passes: Callable[[Message], bool]
) -> PollingEndpointOut:
    """What comes behind `start` and passes, as far as it is certain that nothing will come before it."""
    until = await api.store.settled_until()
    found: list[Message] = []
    at, looked_at, more = start, 0, True
    while more and len(found) < limit and looked_at < LOOKED_AT:
        # one more than is looked at tells whether there are more
        page = await api.store.list_messages(endpoint.app, Cursor(limit=limit + 1, after=at, until=until))
        for message in page[:limit]:
            if len(found) == limit:
                break
            at, looked_at = message.id, looked_at + 1
            if _is_for(endpoint, message) and passes(message):
                found.append(message)
        more = bool(page) and at != page[-1].id
    return PollingEndpointOut([messages.shown(message, True) for message in found], at, not more)


_POLLER = "/api/v1/app/{app_id}/poller/{sink_id}"
_CONSUMER_OF = _POLLER + "/consumer/{consumer_id}"
ROUTES = [
    Route("GET", _POLLER, poll, "v1.message.poller.poll", "Fetch messages", {200: PollingEndpointOut},
          query=(LIMIT, ITERATOR, EVENT_TYPE, CHANNEL, AFTER)),
    Route("GET", _CONSUMER_OF, consumer_poll, "v1.message.poller.consumer-poll", "Fetch messages as a consumer",
          {200: PollingEndpointOut}, query=(LIMIT, ITERATOR), capability=Capability.MANAGE),
    Route("POST", _CONSUMER_OF + "/seek", consumer_seek, "v1.message.poller.consumer-seek", "Move a consumer",
          {200: PollingEndpointConsumerSeekOut}, body=PollingEndpointConsumerSeekIn),
]  # fmt: skip
