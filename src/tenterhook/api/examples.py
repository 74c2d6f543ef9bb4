"""`/app/{app_id}/endpoint/{endpoint_id}/send-example`: see what an event looks like where it arrives."""

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from tenterhook import schemas
from tenterhook.api import endpoints, event_types, messages
from tenterhook.api.http import Call, Response
from tenterhook.api.idempotency import RememberFor
from tenterhook.api.messages import MessageOut
from tenterhook.api.routes import Route
from tenterhook.api.shapes import In, Name
from tenterhook.errors import BadRequest, NotFound
from tenterhook.hub import Draft, Published
from tenterhook.tokens import Capability

if TYPE_CHECKING:
    from tenterhook.api.app import Api

PING = "svix.ping"
"""An event type that needs no description (a word of the wire API)."""
_NULL = b"null"


class NoExample(BadRequest):
    """This event type has no such example: add one to the `examples` of its newest schema, or send a payload."""

    code = "invalid_scheme"


class EventExampleIn(In):
    """Which example to send: that at `example_index` among those of the event type, or a payload of your own."""

    event_type: Annotated[Name, Meta(examples=[PING])]
    example_index: Annotated[int, Meta(ge=0)] | None = None
    payload: Annotated[Raw, Meta(extra_json_schema={"type": ["object", "null"]})] | UnsetType = UNSET


async def send_example(api: "Api", call: Call) -> Response:
    """Send an example to this endpoint alone, whatever its filters say; to nobody else it is an event."""

    async def publish(remember: RememberFor) -> Published:
        endpoint = await endpoints.find(api, call)
        wanted = await call.json(EventExampleIn)
        if isinstance(wanted.payload, Raw) and bytes(wanted.payload) != _NULL:
            payload = messages.object_of(wanted.payload)
        else:
            payload = await _example(api, call, wanted)
        draft = Draft(event_type=wanted.event_type, payload=payload)
        return await api.hub.publish(endpoint.app, draft, remember, example_for=endpoint.id)

    return await messages.publishing(api, call, publish, with_content=False)


async def _example(api: "Api", call: Call, wanted: EventExampleIn) -> bytes:
    """Raises NotFound, NoExample."""
    index = wanted.example_index or 0
    event_type = await api.store.get_event_type(wanted.event_type)
    if event_type is None and wanted.event_type == PING:
        return b'{"success": true}'
    if event_type is None or not event_types.visible(call, event_type):
        raise NotFound("there is no such event type")
    found = schemas.examples(event_type.schemas)[index : index + 1]
    if not found or not isinstance(found[0], dict):
        raise NoExample
    return msgspec.json.encode(found[0])


ROUTES = [
    Route("POST", "/api/v1/app/{app_id}/endpoint/{endpoint_id}/send-example", send_example, "v1.endpoint.send-example",
          "Send an example", {202: MessageOut}, body=EventExampleIn, capability=Capability.CREATE_ATTEMPTS),
]  # fmt: skip
