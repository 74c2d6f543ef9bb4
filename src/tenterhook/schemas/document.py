"""A JSON Schema as a document: its parts, where they stand, and what their references name.

A reference is followed inside the document only (JSON pointers, `$id`, `$anchor`), so nothing here can lead to a fetch.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote, urldefrag, urljoin

BASE = "http://schema.invalid/"
"""What relative references of a schema without an `$id` are relative to; nothing is ever at this address (RFC 2606)."""

ONE = frozenset(
    {
        "additionalItems", "additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then",
        "unevaluatedItems", "unevaluatedProperties",
    }
)  # fmt: skip
"""Keywords whose value is a schema."""

SEVERAL = frozenset({"allOf", "anyOf", "items", "oneOf", "prefixItems"})
"""Keywords whose value is a list of schemas."""

NAMED = frozenset({"dependencies", "dependentSchemas", "patternProperties", "properties"})
"""Keywords whose value maps names to schemas."""

SHELVES = frozenset({"$defs", "definitions"})
"""Like those, but what they hold applies only where a reference names it."""

_LONE_REFERENCE = re.compile("/draft-0[467]/")
_INDEX = re.compile("0|[1-9][0-9]{0,8}")

REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


Place = tuple[str | int, ...]
"""Keys and indices, from the root."""


class Part(NamedTuple):
    """A schema inside a document; `base` is what its references are relative to."""

    schema: Any
    place: Place
    base: str


def child(part: Part, *steps: str | int) -> Part:
    """The part that stands below another."""
    schema = part.schema
    for step in steps:
        schema = schema[step]
    return Part(schema, (*part.place, *steps), _base(schema, part.base))


class Document:
    """The parts of one schema. Wrong values are passed over: whether they may be there is for the meta-schema to say."""

    def __init__(self, root: dict[str, Any] | bool) -> None:
        self.root = Part(root, (), _base(root, BASE))
        self._named: dict[str, Part] = {BASE: self.root, self.root.base: self.root}
        self.patterns = 0
        self._siblings = not (isinstance(root, dict) and _LONE_REFERENCE.search(str(root.get("$schema"))))
        for part in self.everything():
            self._register(part)

    def applied(self, part: Part) -> Iterator[Part]:
        """The parts that a part applies to a value or to what is in it; references are not followed."""
        return self._below(part, NAMED)

    def only_reference(self, part: Part) -> bool:
        """Whether the keywords beside a `$ref` do not count: up to draft 7."""
        return not self._siblings and "$ref" in part.schema

    def target(self, part: Part, keyword: str) -> Part | None:
        """What a reference of this part names, None if that is not in this document."""
        absolute, fragment = urldefrag(_join(part.base, part.schema[keyword]))
        fragment = unquote(fragment)
        if fragment and not fragment.startswith("/"):
            return self._named.get(f"{absolute}#{fragment}")
        resource = self._named.get(absolute)
        return None if resource is None else _walk(resource, fragment)

    def _below(self, part: Part, named: frozenset[str]) -> Iterator[Part]:
        if not isinstance(part.schema, dict):
            return
        for keyword, value in part.schema.items():
            if isinstance(value, dict) and keyword in named:
                yield from (child(part, keyword, name) for name, schema in value.items() if _is_schema(schema))
            elif isinstance(value, list) and keyword in SEVERAL:
                yield from (child(part, keyword, n) for n, schema in enumerate(value) if _is_schema(schema))
            elif keyword in ONE and _is_schema(value):
                yield child(part, keyword)

    def everything(self) -> Iterator[Part]:
        """All parts, those that only references reach too."""
        waiting = [self.root]
        while waiting:
            part = waiting.pop()
            yield part
            waiting.extend(self._below(part, NAMED | SHELVES))

    def _register(self, part: Part) -> None:
        if not isinstance(part.schema, dict):
            return
        name = part.schema.get("$id")
        if isinstance(name, str):
            self._named.setdefault(part.base + name if name.startswith("#") else part.base, part)
        for keyword in ("$anchor", "$dynamicAnchor"):
            if isinstance(part.schema.get(keyword), str):
                self._named.setdefault(f"{part.base}#{part.schema[keyword]}", part)
        patterns = part.schema.get("patternProperties")
        self.patterns += ("pattern" in part.schema) + (len(patterns) if isinstance(patterns, dict) else 0)


def references(part: Part) -> Iterator[str]:
    """The keywords of this part that name another."""
    if isinstance(part.schema, dict):
        yield from (keyword for keyword in REFERENCES if isinstance(part.schema.get(keyword), str))


def pointer(place: Place) -> str:
    """RFC 6901: `("a/b", 0)` is `/a~1b/0`."""
    return "".join("/" + str(token).replace("~", "~0").replace("/", "~1") for token in place)


def _is_schema(value: object) -> bool:
    return isinstance(value, dict | bool)


def _base(schema: Any, outer: str) -> str:
    """A fragment alone (`#name`, drafts 6 and 7) names an anchor, no resource."""
    name = schema.get("$id") if isinstance(schema, dict) else None
    return urldefrag(_join(outer, name)).url if isinstance(name, str) and not name.startswith("#") else outer


def _join(base: str, reference: str) -> str:
    try:
        return urljoin(base, reference)
    except ValueError:  # such as an unclosed bracket
        return reference


def _walk(resource: Part, fragment: str) -> Part | None:
    """A JSON pointer from a resource; it may lead to a place that no keyword describes."""
    part = resource
    for token in fragment.split("/")[1:]:
        key: str | int = token.replace("~1", "/").replace("~0", "~")
        if isinstance(part.schema, list):
            key = int(token) if _INDEX.fullmatch(token) else -1
            if not 0 <= key < len(part.schema):
                return None
        elif not isinstance(part.schema, dict) or key not in part.schema:
            return None
        part = child(part, key)
    return part if _is_schema(part.schema) else None
