"""`/app/{app_id}/endpoint/{endpoint_id}/msg`: what an endpoint was to get, and how that stands."""

from typing import TYPE_CHECKING

from msgspec.structs import asdict, replace

from tenterhook.api import endpoints, lists, messages
from tenterhook.api.attempts import (
    CANCELED,
    FAIL,
    PENDING,
    SENDING,
    SUCCESS,
    TEXTS,
    Status,
    StatusText,
    next_attempt_of,
    status_of,
)
from tenterhook.api.http import Call, Response
from tenterhook.api.lists import WINDOW_PAGE, ListResponse
from tenterhook.api.messages import CHANNEL, EVENT_TYPES, TAG, WITH_CONTENT, MessageOut
from tenterhook.api.query import Flag, OneCode, Query
from tenterhook.api.routes import Route
from tenterhook.api.shapes import Time
from tenterhook.engine.lifecycle import PENDING as PENDING_STATES
from tenterhook.model import Delivery, Message, State
from tenterhook.store.queries import DeliveryFilter

if TYPE_CHECKING:
    from tenterhook.api.app import Api

STATUS = OneCode(
    "status", "Only messages that stand so at the endpoint.", codes=(SUCCESS, PENDING, FAIL, SENDING, CANCELED)
)
EXPANDED_STATUSES = Flag(
    "expanded_statuses",
    "Show the statuses 3 and 4; without it, what is sending is pending, and what is canceled failed.",
)
_MEANINGS = {
    SUCCESS: DeliveryFilter(states=(State.DELIVERED,)),
    PENDING: DeliveryFilter(states=tuple(PENDING_STATES), tried=False),
    FAIL: DeliveryFilter(states=(State.FAILED,)),
    SENDING: DeliveryFilter(states=tuple(PENDING_STATES), tried=True),
    CANCELED: DeliveryFilter(states=(State.CANCELLED,)),
}
_OLD_MEANINGS = _MEANINGS | {
    PENDING: DeliveryFilter(states=tuple(PENDING_STATES)),
    FAIL: DeliveryFilter(states=(State.FAILED, State.CANCELLED)),
}
"""For clients that know only the first three statuses."""


class EndpointMessageOut(MessageOut, kw_only=True):
    """A message, and how it stands at the endpoint."""

    status: Status
    status_text: StatusText
    next_attempt: Time | None


def _filter_of(query: Query) -> DeliveryFilter:
    status = query[STATUS]
    meanings = _MEANINGS if query[EXPANDED_STATUSES] else _OLD_MEANINGS
    return replace(DeliveryFilter() if status is None else meanings[status], of=messages.filter_of(query))


async def listing(api: "Api", call: Call) -> Response:
    """Messages that the endpoint was to get, newest first; those too that were not attempted yet."""
    endpoint = await endpoints.find(api, call)
    wanted = _filter_of(call.query)
    with_content, expanded = call.query[WITH_CONTENT], call.query[EXPANDED_STATUSES]

    def render(one: tuple[Message, Delivery]) -> EndpointMessageOut:
        message, delivery = one
        status = status_of(delivery, expanded=expanded)
        return EndpointMessageOut(
            **asdict(messages.shown(message, with_content)),
            status=status,
            status_text=TEXTS[status],
            next_attempt=next_attempt_of(delivery),
        )

    return await lists.answer_search(
        lists.cursor_of(call, "msg_", descending=True),
        lambda page: api.store.search_deliveries(endpoint.app, endpoint.id, page, wanted),
        render,
        lambda one: one[0].id,
    )


ROUTES = [
    Route("GET", "/api/v1/app/{app_id}/endpoint/{endpoint_id}/msg", listing, "v1.message-attempt.list-attempted-messages",
          "List the messages of an endpoint", {200: ListResponse[EndpointMessageOut]},
          query=(*WINDOW_PAGE, STATUS, CHANNEL, TAG, EVENT_TYPES, WITH_CONTENT, EXPANDED_STATUSES)),
]  # fmt: skip
