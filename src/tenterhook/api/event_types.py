"""`/event-type`: the named kinds of events, shared by all applications."""

import re
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace

from tenterhook.api import lists
from tenterhook.api.http import NO_CONTENT, Call, Response, json_response
from tenterhook.api.idempotency import RememberFor
from tenterhook.api.lists import SORTED_PAGE, ListResponse
from tenterhook.api.query import Flag
from tenterhook.api.routes import Access, Route
from tenterhook.api.shapes import In, Name, Out, Text, Time, given, instant, unset
from tenterhook.errors import EventTypeExists, Invalid, NotFound
from tenterhook.model import EventType
from tenterhook.schemas import check_schemas
from tenterhook.store.queries import Cursor

if TYPE_CHECKING:
    from tenterhook.api.app import Api

INCLUDE_ARCHIVED = Flag("include_archived", "Archived ones too.")
WITH_CONTENT = Flag("with_content", "Show the schemas.")
EXPUNGE = Flag("expunge", "Remove it instead of archiving it.")
_NAME = re.compile(r"[a-zA-Z0-9\-_.]{1,256}")

Schemas = Annotated[
    dict[str, Any],
    Meta(
        description="A JSON Schema for each version.",
        examples=[{"1": {"type": "object"}}],
        extra_json_schema={"additionalProperties": {"type": ["object", "boolean"]}},
    ),
]
Flags = Annotated[list[Name], Meta(min_length=1, max_length=100)]


class EventTypeUpsertIn(In):
    """An event type to put in the place of the one that the path names. `feature_flag` is what old clients send."""

    description: Text | None = None
    archived: bool | None = None
    deprecated: bool | None = None
    schemas: Schemas | None = None
    group_name: Name | None = None
    feature_flags: Flags | None = None
    feature_flag: Name | None = None

    def fields(self) -> dict[str, Any]:
        """Raises Invalid."""
        return {
            "description": self.description or "",
            "archived": self.archived or False,
            "deprecated": self.deprecated or False,
            "schemas": schemas_of(self.schemas),
            "group_name": self.group_name,
            "feature_flags": _flags(self.feature_flags or ([self.feature_flag] if self.feature_flag else None)),
        }


class EventTypeIn(EventTypeUpsertIn, kw_only=True):
    """An event type to create."""

    name: Name


class EventTypePatch(In):
    """Changes to an event type: what is absent stays, null clears."""

    description: Text | UnsetType = UNSET
    archived: bool | UnsetType = UNSET
    deprecated: bool | UnsetType = UNSET
    schemas: Schemas | UnsetType | None = UNSET
    group_name: Name | UnsetType | None = UNSET
    feature_flags: Flags | UnsetType | None = UNSET

    def fields(self) -> dict[str, Any]:
        """Raises Invalid."""
        return given(
            description=self.description,
            archived=self.archived,
            deprecated=self.deprecated,
            schemas=UNSET if self.schemas is UNSET else schemas_of(self.schemas),
            group_name=self.group_name,
            feature_flags=UNSET if self.feature_flags is UNSET else _flags(self.feature_flags),
        )


class EventTypeOut(Out, kw_only=True):
    """An event type as the wire API shows it."""

    name: str
    description: str
    archived: bool
    deprecated: bool
    schemas: Schemas | None
    group_name: str | UnsetType = UNSET
    feature_flags: tuple[str, ...] | None
    feature_flag: str | UnsetType = UNSET
    created_at: Time
    updated_at: Time


def schemas_of(schemas: Schemas | None) -> Schemas | None:
    """A JSON Schema for each version. Raises Invalid for what cannot be one."""
    check_schemas(schemas or {})
    return schemas


def _flags(flags: list[str] | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(flags or ()))


def shown(event_type: EventType, with_content: bool = True) -> EventTypeOut:
    flags = event_type.feature_flags
    return EventTypeOut(
        name=event_type.name,
        description=event_type.description,
        archived=event_type.archived,
        deprecated=event_type.deprecated,
        schemas=event_type.schemas if with_content else None,
        group_name=unset(event_type.group_name),
        feature_flags=flags or None,
        feature_flag=flags[0] if len(flags) == 1 else UNSET,
        created_at=instant(event_type.created_at),
        updated_at=instant(event_type.updated_at),
    )


def visible(call: Call, event_type: EventType) -> bool:
    """An application's token sees an event type behind feature flags only if it carries one of them."""
    flags, token = event_type.feature_flags, call.token
    return not flags or token is None or token.app is None or not set(flags).isdisjoint(token.feature_flags)


def _iterator(event_type: EventType) -> str:
    """A minus in front would turn the list round; no name begins with a colon."""
    name = event_type.name
    return ":" + name if name.startswith("-") else name


def _cursor(call: Call) -> Cursor:
    """Raises Invalid."""
    cursor = lists.cursor_of(call, "", descending=False)
    if cursor.after is None:
        return cursor
    after = cursor.after.removeprefix(":")
    if not _NAME.fullmatch(after):
        raise Invalid("the iterator must be the name of an event type", ("query", "iterator"))
    return replace(cursor, after=after)


async def listing(api: "Api", call: Call) -> Response:
    """Event types by name; the schemas only on request."""
    archived, with_content = call.query[INCLUDE_ARCHIVED], call.query[WITH_CONTENT]

    async def shown_to_caller(event_type: EventType) -> bool:
        return visible(call, event_type)

    return await lists.answer(
        _cursor(call),
        lambda page: lists.sifted(
            page, lambda ahead: api.store.list_event_types(ahead, archived), lambda one: one.name, shown_to_caller
        ),
        lambda event_type: shown(event_type, with_content),
        _iterator,
    )


async def _find(api: "Api", call: Call) -> EventType:
    found = await api.store.get_event_type(call.params["event_type_name"])
    if found is None or not visible(call, found):
        raise NotFound
    return found


async def create(api: "Api", call: Call) -> Response:
    """One that is archived comes back to life."""

    async def made(remember: RememberFor) -> EventType:
        given_ = await call.json(EventTypeIn)
        fields = given_.fields()
        there = await api.store.get_event_type(given_.name)
        if there is not None and not there.archived:
            raise EventTypeExists
        now = api.clock.now()
        since = now if there is None else there.created_at
        event_type = EventType(name=given_.name, created_at=since, updated_at=now, **fields)
        return await api.registry.create_event_type(event_type, remember)

    return await api.idempotency.creating(call, 201, made, shown)


async def get(api: "Api", call: Call) -> Response:
    """Archived ones too."""
    return json_response(200, shown(await _find(api, call)))


async def put(api: "Api", call: Call) -> Response:
    """Replace it, or create it under the name in the path."""
    name, now = call.params["event_type_name"], api.clock.now()
    fields = (await call.json(EventTypeUpsertIn)).fields()
    if not _NAME.fullmatch(name):
        raise Invalid("a name has letters, digits, hyphens, underscores and full stops", ("path", "event_type_name"))
    there = await api.store.get_event_type(name)
    event_type = EventType(name=name, created_at=there.created_at if there else now, updated_at=now, **fields)
    await api.registry.save_event_type(event_type)
    return json_response(200 if there else 201, shown(event_type))


async def patch(api: "Api", call: Call) -> Response:
    event_type = await _find(api, call)
    fields = (await call.json(EventTypePatch)).fields()
    changed = replace(event_type, updated_at=api.clock.now(), **fields)
    await api.registry.save_event_type(changed)
    return json_response(200, shown(changed))


async def delete(api: "Api", call: Call) -> Response:
    """Archive it, or remove it with `expunge=true`. Endpoints that filter on it are left alone."""
    event_type = await _find(api, call)
    if call.query[EXPUNGE]:
        await api.registry.delete_event_type(event_type.name)
    else:
        await api.registry.save_event_type(replace(event_type, archived=True, updated_at=api.clock.now()))
    return NO_CONTENT


_ALL = "/api/v1/event-type"
_ONE = _ALL + "/{event_type_name}"
ROUTES = [
    Route("GET", _ALL, listing, "v1.event-type.list", "List event types", {200: ListResponse[EventTypeOut]}, Access.ANY,
          query=(*SORTED_PAGE, INCLUDE_ARCHIVED, WITH_CONTENT)),
    Route("POST", _ALL, create, "v1.event-type.create", "Create an event type", {201: EventTypeOut}, Access.ORGANISATION,
          body=EventTypeIn),
    Route("GET", _ONE, get, "v1.event-type.get", "Read an event type", {200: EventTypeOut}, Access.ANY),
    Route("PUT", _ONE, put, "v1.event-type.upsert", "Replace or create an event type",
          {200: EventTypeOut, 201: EventTypeOut}, Access.ORGANISATION, body=EventTypeUpsertIn),
    Route("PATCH", _ONE, patch, "v1.event-type.patch", "Change an event type", {200: EventTypeOut}, Access.ORGANISATION,
          body=EventTypePatch),
    Route("DELETE", _ONE, delete, "v1.event-type.delete", "Archive or remove an event type", {204: None},
          Access.ORGANISATION, query=(EXPUNGE,)),
]  # fmt: skip
