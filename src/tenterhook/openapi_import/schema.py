"""A schema of an OpenAPI document as a JSON Schema of its own: what it refers to comes along in `$defs`.

OpenAPI 3.1 and later hold JSON Schema 2020-12. The dialect of 3.0 is turned into it: `nullable`, `exclusiveMinimum: true`
and `example` have other forms there, and what stands beside a `$ref` does not count.
"""

from typing import Any
from urllib.parse import quote

from tenterhook.errors import Invalid
from tenterhook.openapi_import.reading import Node, Place
from tenterhook.schemas import check_schema
from tenterhook.schemas.document import NAMED, ONE, SEVERAL, SHELVES

_HOPS = 16


def schema_of(node: Node | None, examples: list[Any], media: Node) -> Any | None:
    """The schema at a node with the examples of the media type; None if there is neither. Raises Invalid."""
    if node is None and not examples:
        return None
    writer = _Writer(media if node is None else node)
    schema = {} if node is None else writer.whole(node)
    if examples:
        schema = _with_examples(schema, examples)
    try:
        check_schema(schema, ())
    except Invalid as error:
        raise Invalid(error.detail, writer.origin(error.loc)) from None
    return schema


def _with_examples(schema: Any, examples: list[Any]) -> Any:
    """The schema's own come first; `false` and what is no schema have none."""
    schema = {} if schema is True else schema
    if not isinstance(schema, dict):
        return schema
    there = schema.get("examples")
    own = there if isinstance(there, list) else []
    return {**schema, "examples": [*own, *(one for one in examples if one not in own)]}


class _Writer:
    """Writes one schema; remembers where each definition came from."""

    def __init__(self, root: Node) -> None:
        self._source = root.source
        self._old = root.source.is_3_0
        self._root = root
        self._names: dict[Place, str] = {}
        self._waiting: list[Node] = []
        self._taken: set[str] = set()

    def whole(self, node: Node) -> Any:
        """The schema with all that it refers to. A reference alone gives way to what it names."""
        self._root = node = self._named(node)
        if isinstance(node.value, dict) and isinstance(node.value.get("$defs"), dict):
            self._taken |= node.value["$defs"].keys()
        schema = self._written(node)
        shelf: dict[str, Any] = {}
        while self._waiting:
            target = self._waiting.pop()
            shelf[self._names[target.place]] = self._written(target)
        if shelf:
            own = schema.get("$defs")
            return {**schema, "$defs": {**(own if isinstance(own, dict) else {}), **shelf}}
        return schema

    def origin(self, loc: tuple[str, ...]) -> tuple[str, ...]:
        """Where in the document a place in the schema came from."""
        start, rest = self._root.place, loc
        if loc[:1] == ("$defs",) and len(loc) > 1:
            places = {name: place for place, name in self._names.items()}
            if loc[1] in places:
                start, rest = places[loc[1]], loc[2:]
        return (*self._source.at(start), *rest)

    def _named(self, node: Node) -> Node:
        for _ in range(_HOPS):
            if not self._is_reference(node) or (len(node.value) > 1 and not self._old):
                return node
            node = self._source.find(node.value["$ref"], (*node.place, "$ref"))
        raise node.refused("this leads from reference to reference without end")

    def _is_reference(self, node: Node) -> bool:
        """Within a part that has an `$id`, and to an `$anchor`, references stay as they are."""
        reference = node.value.get("$ref") if isinstance(node.value, dict) else None
        return isinstance(reference, str) and (reference.startswith("#/") or not reference.startswith("#"))

    def _written(self, node: Node) -> Any:
        if not isinstance(node.value, dict) or "$id" in node.value:
            return node.value
        schema: dict[str, Any] = {}
        reference = self._reference(node) if self._is_reference(node) else None
        if reference is not None:
            schema["$ref"] = reference
            if self._old:
                return schema
        for keyword, inner in node.members():
            if keyword != "$ref" or reference is None:
                schema[keyword] = self._value(keyword, inner)
        return _modern(schema, self._old)

    def _value(self, keyword: str, node: Node) -> Any:
        if isinstance(node.value, dict) and keyword in NAMED | SHELVES:
            return {name: self._written(inner) for name, inner in node.members()}
        if isinstance(node.value, list) and keyword in SEVERAL:
            return [self._written(inner) for inner in node.items()]
        return self._written(node) if keyword in ONE else node.value

    def _reference(self, node: Node) -> str:
        target = self._source.find(node.value["$ref"], (*node.place, "$ref"))
        name = self._names.get(target.place)
        if name is None:
            name = self._names[target.place] = self._free(str(target.place[-1]))
            self._waiting.append(target)
        return "#/$defs/" + quote(name.replace("~", "~0").replace("/", "~1"))

    def _free(self, name: str) -> str:
        number, free = 1, name
        while free in self._taken:
            number, free = number + 1, f"{name}_{number + 1}"
        self._taken.add(free)
        return free


def _modern(schema: dict[str, Any], old: bool) -> dict[str, Any]:
    """OpenAPI's own keywords in the words of JSON Schema."""
    if "example" in schema:
        schema.setdefault("examples", [schema["example"]])
        del schema["example"]
    if not old:
        return schema
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(schema.get(exclusive), bool) and schema.pop(exclusive) and bound in schema:
            schema[exclusive] = schema.pop(bound)
    return _nullable(schema) if schema.pop("nullable", None) is True else schema


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    """Null as well. By the letter of OpenAPI 3.0.3 this needs a `type` beside it, and null in the `enum`; documents mean it
    without, above all around `allOf` with a reference, and a payload that they allow must not be refused."""
    if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
        schema["enum"] = [*schema["enum"], None]
    if isinstance(schema.get("type"), str):
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]} if schema.keys() & SEVERAL else schema
