"""`/environment`: everything that applications share, from one server to another; and event types from OpenAPI."""

from typing import TYPE_CHECKING, Annotated, Any

from msgspec import UNSET, Meta, UnsetType, field

from tenterhook import environment, openapi_import
from tenterhook.api.http import NO_CONTENT, Call, Response, json_response
from tenterhook.api.idempotency import RememberFor
from tenterhook.api.routes import Access, Route
from tenterhook.api.shapes import In, Out, unset
from tenterhook.environment import EnvironmentIn, EnvironmentOut
from tenterhook.event_type_changes import Archive, Change, Upsert
from tenterhook.model import EventType
from tenterhook.tokens import Capability

if TYPE_CHECKING:
    from tenterhook.api.app import Api


_EXAMPLE = {"openapi": "3.1.0", "webhooks": {"invoice.paid": {"post": {"description": "An invoice was paid."}}}}


class EventTypeImportOpenApiIn(In):
    """An OpenAPI document, as an object (`spec`) or as text, JSON or YAML (`spec_raw`); exactly one of them."""

    spec: Annotated[dict[str, Any], Meta(examples=[_EXAMPLE])] | None = None
    spec_raw: str | None = None
    replace_all: bool | None = None
    dry_run: bool | None = None


class EventTypeFromOpenApi(Out):
    """An event type as it would be."""

    name: str
    description: str
    deprecated: bool
    schemas: dict[str, Any] | None
    group_name: str | UnsetType = UNSET
    feature_flags: tuple[str, ...] | UnsetType = UNSET


class EventTypeImportOpenApiOutData(Out):
    """The names of the event types that were changed; of a dry run, what would be changed and which be archived."""

    modified: list[str]
    to_modify: list[EventTypeFromOpenApi] | UnsetType = field(name="to_modify", default=UNSET)
    to_archive: list[str] | UnsetType = UNSET


class EventTypeImportOpenApiOut(Out):
    """What an import came to."""

    data: EventTypeImportOpenApiOutData


async def import_openapi(api: "Api", call: Call) -> Response:
    """Create, replace and revive the event types that a document describes, all of them or none."""

    async def made(remember: RememberFor) -> list[Change] | Response:
        given = await call.json(EventTypeImportOpenApiIn)
        source = openapi_import.read(given.spec, given.spec_raw)
        async with await api.changing(call):
            existing, now = await api.registry.event_types(), api.clock.now()
            changes = openapi_import.plan(existing, source, replace_all=given.replace_all or False, now=now)
            if given.dry_run:
                return json_response(200, _would_be(changes))
            await api.registry.change_event_types(changes, None if remember is None else remember(changes))
            return changes

    return await api.idempotency.creating(call, 200, made, _done)


def _done(changes: list[Change]) -> EventTypeImportOpenApiOut:
    modified = [change.event_type.name for change in changes]
    return EventTypeImportOpenApiOut(data=EventTypeImportOpenApiOutData(modified=modified))


def _would_be(changes: list[Change]) -> EventTypeImportOpenApiOut:
    data = EventTypeImportOpenApiOutData(
        modified=[],
        to_modify=[_shown(change.event_type) for change in changes if isinstance(change, Upsert)],
        to_archive=[change.event_type.name for change in changes if isinstance(change, Archive)],
    )
    return EventTypeImportOpenApiOut(data=data)


def _shown(event_type: EventType) -> EventTypeFromOpenApi:
    return EventTypeFromOpenApi(
        name=event_type.name,
        description=event_type.description,
        deprecated=event_type.deprecated,
        schemas=event_type.schemas,
        group_name=unset(event_type.group_name),
        feature_flags=event_type.feature_flags or UNSET,
    )


async def export(api: "Api", call: Call) -> Response:
    """All event types, archived ones too."""
    return json_response(200, environment.export(await api.registry.event_types(), api.clock.now()))


async def import_(api: "Api", call: Call) -> Response:
    """Add and replace what an export gave, all of it or nothing; what does not come stays as it is."""

    async def act() -> Response:
        given = await call.json(EnvironmentIn)
        async with await api.changing(call):
            changes = environment.plan(await api.registry.event_types(), given, now=api.clock.now())
            await api.registry.change_event_types(changes)
        return NO_CONTENT

    return await api.idempotency.once(call, act)


_API = "/api/v1"
ROUTES = [
    Route("POST", _API + "/event-type/import/openapi", import_openapi, "v1.event-type.import-openapi",
          "Import event types from OpenAPI", {200: EventTypeImportOpenApiOut}, Access.ORGANISATION,
          body=EventTypeImportOpenApiIn),
    Route("POST", _API + "/environment/export", export, "v1.environment.export", "Export the environment",
          {200: EnvironmentOut}, Access.ORGANISATION, capability=Capability.VIEW),
    Route("POST", _API + "/environment/import", import_, "v1.environment.import", "Import an environment", {204: None},
          Access.ORGANISATION, body=EnvironmentIn),
]  # fmt: skip
