"""Many event types at once, as data: what an import would change."""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from tenterhook.model import EventType


class Upsert(Struct, frozen=True):
    """An event type to store; it is new, or other than what is there."""

    event_type: EventType


class Archive(Struct, frozen=True):
    """An event type to store as archived."""

    event_type: EventType


Change = Upsert | Archive


def changes(
    existing: Iterable[EventType], wanted: Mapping[str, Mapping[str, Any]], *, replace_all: bool, now: int
) -> list[Change]:
    """`wanted` has the fields of each event type by name: fields that are not there stay as they are.

    What comes is not archived unless it says so. `replace_all` archives what does not come. What would not change is
    left out, so a second import of the same changes nothing.
    """
    there = {event_type.name: event_type for event_type in existing}
    found: list[Change] = []
    for name, fields in wanted.items():
        old = there.get(name) or EventType(name=name, created_at=now, updated_at=now)
        new = replace(old, **({"archived": False} | dict(fields)))
        if name not in there or new != old:
            found.append(Upsert(replace(new, updated_at=now)))
    if replace_all:
        gone = (old for name, old in there.items() if name not in wanted and not old.archived)
        found += [Archive(replace(old, archived=True, updated_at=now)) for old in gone]
    return found
