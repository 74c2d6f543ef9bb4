"""An environment as data, to move it from one server to another: its event types. What is exported can be imported."""

from collections.abc import Iterable
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from tenterhook.clock import to_rfc3339
from tenterhook.errors import Invalid
from tenterhook.event_type_changes import Change, changes
from tenterhook.model import EventType
from tenterhook.schemas import check_schemas

VERSION = 1
_Name = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[a-zA-Z0-9\-_.]+\Z")]
_Text = Annotated[str, Meta(max_length=4096, pattern=r"^[^\x00-\x08]*\Z")]


class ExportedEventType(Struct, rename="camel", kw_only=True):
    """An event type as the wire API shows it; `feature_flag` is what old clients read."""

    name: str
    description: str
    archived: bool
    deprecated: bool
    schemas: dict[str, Any] | None
    group_name: str | None
    feature_flags: tuple[str, ...] | None
    feature_flag: str | UnsetType = UNSET
    created_at: str
    updated_at: str


class EnvironmentOut(Struct, rename="camel", kw_only=True):
    """`settings` are those of a hosted dashboard, and there are no connectors: both are always empty here."""

    version: int = VERSION
    created_at: str
    event_types: list[ExportedEventType]
    settings: None = None
    connectors: list[Any] = []


class ImportedEventType(Struct, rename="camel", kw_only=True):
    """An event type to create or to replace; absent and null are the default."""

    name: _Name
    description: _Text | None = None
    archived: bool | None = None
    deprecated: bool | None = None
    schemas: dict[str, Any] | None = None
    group_name: _Name | None = None
    feature_flags: Annotated[list[_Name], Meta(max_length=100)] | None = None
    feature_flag: _Name | None = None


class EnvironmentIn(Struct, rename="camel", kw_only=True):
    """What an export gave; `settings` mean nothing here and are passed over."""

    event_types: list[ImportedEventType] | None = None
    connectors: list[Any] | None = None


def export(event_types: Iterable[EventType], now: int) -> EnvironmentOut:
    """All event types that there are, archived ones too, by name."""
    ordered = sorted(event_types, key=lambda event_type: event_type.name)
    return EnvironmentOut(created_at=to_rfc3339(now), event_types=[_exported(one) for one in ordered])


def plan(existing: Iterable[EventType], environment: EnvironmentIn, *, now: int) -> list[Change]:
    """What an import would add and change; it archives nothing that does not come. Raises Invalid, with the place."""
    if environment.connectors:
        raise Invalid("there are no connectors here: leave them out", ("body", "connectors"))
    wanted: dict[str, dict[str, Any]] = {}
    for number, given in enumerate(environment.event_types or ()):
        loc = ("body", "eventTypes", f"[{number}]")
        if given.name in wanted:
            raise Invalid("this event type comes twice", (*loc, "name"))
        check_schemas(given.schemas or {}, (*loc, "schemas"))
        wanted[given.name] = _fields(given)
    return changes(existing, wanted, replace_all=False, now=now)


def _exported(event_type: EventType) -> ExportedEventType:
    return ExportedEventType(
        name=event_type.name,
        description=event_type.description,
        archived=event_type.archived,
        deprecated=event_type.deprecated,
        schemas=event_type.schemas,
        group_name=event_type.group_name,
        feature_flags=event_type.feature_flags or None,
        feature_flag=event_type.feature_flags[0] if len(event_type.feature_flags) == 1 else UNSET,
        created_at=to_rfc3339(event_type.created_at),
        updated_at=to_rfc3339(event_type.updated_at),
    )


def _fields(given: ImportedEventType) -> dict[str, Any]:
    return {
        "description": given.description or "",
        "archived": given.archived or False,
        "deprecated": given.deprecated or False,
        "schemas": given.schemas,
        "group_name": given.group_name,
        "feature_flags": tuple(dict.fromkeys(given.feature_flags or filter(None, [given.feature_flag]))),
    }
