"""Event types from an OpenAPI document, 3.0 to 3.2, or from its top-level `webhooks` and `x-webhooks` to be exact.

| in the document | in the event type |
|---|---|
| the name of the webhook | name |
| `description`, else `summary`, of the operation, else of the path item | description |
| `deprecated` of the operation | deprecated |
| the JSON schema of the request body, made complete in itself | schemas: `{"1": …}` |
| `example` and `examples` of the body | `examples` of that schema, which is what an example is sent from |
| `x-svix-group-name` | group_name |
| `x-svix-feature-flags`, or `x-svix-feature-flag` | feature_flags |

What the document does not say stays as it is at an event type that is there.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from tenterhook.event_type_changes import Change, changes
from tenterhook.model import EventType
from tenterhook.openapi_import.reading import Node, Source, Words, read
from tenterhook.openapi_import.schema import schema_of

__all__ = ["MOST_EVENT_TYPES", "Source", "plan", "read"]

MOST_EVENT_TYPES = 1_000
MOST_BYTES = 8 << 20
"""Of all schemas together: each event type gets its own copy of what they share."""

_METHODS = ("post", "put", "patch", "get", "delete", "head", "options", "trace", "query")
_NAME = Words(r"[a-zA-Z0-9\-_.]{1,256}", "1 to 256 letters, digits, hyphens, underscores and full stops")
_TEXT = Words(r"[^\x00-\x08]{0,4096}", "text of at most 4096 characters, none of them a control character")
_MOST_FLAGS = 100


def plan(existing: Iterable[EventType], source: Source, *, replace_all: bool, now: int) -> list[Change]:
    """What an import would change. Raises Invalid, with the place in the document."""
    wanted: dict[str, dict[str, Any]] = {}
    size = 0
    for name, item in _webhooks(source):
        wanted[name] = _fields(item)
        size += len(msgspec.json.encode(wanted[name].get("schemas")))
        if size > MOST_BYTES:
            raise item.refused(f"the schemas of all event types may have at most {MOST_BYTES} bytes as JSON")
    return changes(existing, wanted, replace_all=replace_all, now=now)


def _webhooks(source: Source) -> Iterator[tuple[str, Node]]:
    sections = [node for key in ("webhooks", "x-webhooks") if (node := source.root.get(key)) is not None]
    if not sections:
        raise source.root.refused("the document has neither `webhooks` nor `x-webhooks`")
    seen: set[str] = set()
    for section in sections:
        for name, item in section.members():
            if not _NAME.fit(name):
                raise item.refused(f"the name of an event type must be {_NAME.meaning}")
            if name in seen:
                raise item.refused("this webhook is in `webhooks` already")
            seen.add(name)
            if len(seen) > MOST_EVENT_TYPES:
                raise item.refused(f"at most {MOST_EVENT_TYPES} event types can be imported at once")
            yield name, item.resolved()


def _fields(item: Node) -> dict[str, Any]:
    """The fields of an event type that the document names."""
    operation = _operation(item)
    fields: dict[str, Any] = {}
    texts = [node.text(_TEXT) for owner in (operation, item) for node in owner.some("description", "summary")]
    if texts:
        fields["description"] = texts[0]
    deprecated = operation.get("deprecated")
    if deprecated is not None:
        fields["deprecated"] = deprecated.flag()
    schema = _schema(operation)
    if schema is not None:
        fields["schemas"] = {"1": schema}
    group = next((node for owner in (operation, item) for node in owner.some("x-svix-group-name")), None)
    if group is not None:
        fields["group_name"] = group.text(_NAME)
    flags = [node for owner in (operation, item) for node in owner.some("x-svix-feature-flags", "x-svix-feature-flag")]
    if flags:
        fields["feature_flags"] = _flags(flags[0])
    return fields


def _operation(item: Node) -> Node:
    """A webhook is a POST; a document that gives it one other method means that one."""
    found = list(item.some(*_METHODS))
    if not found:
        raise item.refused("a webhook has an operation, such as `post`")
    if len(found) > 1 and item.get("post") is None:
        raise item.refused("this webhook has several operations, and none is `post`")
    return found[0].resolved()


def _flags(node: Node) -> tuple[str, ...]:
    names = [one.text(_NAME) for one in node.items()] if isinstance(node.value, list) else [node.text(_NAME)]
    if len(names) > _MOST_FLAGS:
        raise node.refused(f"an event type may have at most {_MOST_FLAGS} feature flags")
    return tuple(dict.fromkeys(names))


def _schema(operation: Node) -> Any | None:
    """The schema of the JSON body with its examples, None where the document has neither."""
    body = operation.get("requestBody")
    content = body.resolved().get("content") if body is not None else None
    media = _json(content) if content is not None else None
    if media is None:
        return None
    return schema_of(media.get("schema"), list(_examples(media)), media)


def _json(content: Node) -> Node | None:
    """The media type that is JSON, the plainest first."""
    found = {name.partition(";")[0].strip().lower(): node for name, node in reversed(list(content.members()))}
    plain = found.get("application/json")
    suffixed = (node for name, node in found.items() if name.endswith("+json"))
    any_type = found.get("application/*") or found.get("*/*")
    return plain or next(suffixed, None) or any_type


def _examples(media: Node) -> Iterator[Any]:
    yield from (node.value for node in media.some("example"))
    for examples in media.some("examples"):
        for _, example in examples.members():
            yield from (node.value for node in example.resolved().some("value"))
