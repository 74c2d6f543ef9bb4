"""An OpenAPI document as values that know where they stand, so that an error can name the place."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec

from tenterhook.errors import BadRequest, Invalid
from tenterhook.yaml_text import YamlError, parse

MOST_BYTES = 4 << 20
"""Of a document as JSON, with the aliases of YAML written out."""
DEEPEST = 100
_HOPS = 16
_VERSION = re.compile(r"3\.[0-2](\..*)?")

Place = tuple[str | int, ...]


class Words(NamedTuple):
    """A form of text, for the machine and for people."""

    pattern: str
    meaning: str

    def fit(self, text: str) -> bool:
        return re.fullmatch(self.pattern, text) is not None


class Node(NamedTuple):
    """A value in the document."""

    value: Any
    place: Place
    source: "Source"

    def refused(self, detail: str) -> Invalid:
        return Invalid(detail, self.source.at(self.place))

    def members(self) -> Iterator[tuple[str, "Node"]]:
        """Raises Invalid where this is no object."""
        if not isinstance(self.value, dict):
            raise self.refused("this must be an object")
        yield from ((key, Node(value, (*self.place, key), self.source)) for key, value in self.value.items())

    def items(self) -> Iterator["Node"]:
        yield from (Node(value, (*self.place, n), self.source) for n, value in enumerate(self.value))

    def get(self, key: str) -> "Node | None":
        """Raises Invalid where this is no object."""
        return next(self.some(key), None)

    def some(self, *keys: str) -> Iterator["Node"]:
        """Those of the members that are there, in the order of the keys. Raises Invalid where this is no object."""
        found = dict(self.members())
        yield from (found[key] for key in keys if key in found)

    def text(self, words: Words) -> str:
        """Raises Invalid for other text, and for what is no text."""
        if not isinstance(self.value, str) or not words.fit(self.value):
            raise self.refused(f"this must be {words.meaning}")
        return self.value

    def flag(self) -> bool:
        """Raises Invalid."""
        if not isinstance(self.value, bool):
            raise self.refused("this must be true or false")
        return self.value

    def resolved(self) -> "Node":
        """What a Reference Object names, this itself if it is none. Raises Invalid."""
        node = self
        for _ in range(_HOPS):
            if not isinstance(node.value, dict) or "$ref" not in node.value:
                return node
            node = node.source.find(node.value["$ref"], (*node.place, "$ref"))
        raise self.refused("this leads from reference to reference without end")


class Source:
    """One document; `at` turns a place in it into one of the request."""

    def __init__(self, document: Any, loc: tuple[str, ...]) -> None:
        self._loc = loc
        self.root = Node(document, (), self)

    def at(self, place: Place) -> tuple[str, ...]:
        return (*self._loc, *(f"[{token}]" if isinstance(token, int) else token for token in place))

    def find(self, reference: object, place: Place) -> Node:
        """What a reference names; nothing outside of the document is read. Raises Invalid with the reference's place."""
        if not isinstance(reference, str) or not reference.startswith("#/"):
            raise Invalid(
                "a reference names a place in this document, such as #/components/schemas/Pet", self.at(place)
            )
        node = self.root
        for token in unquote(reference).split("/")[1:]:
            found = _step(node.value, token.replace("~1", "/").replace("~0", "~"))
            if found is None:
                raise Invalid(f"{reference!r} names nothing in this document", self.at(place))
            node = Node(node.value[found], (*node.place, found), self)
        return node

    @property
    def is_3_0(self) -> bool:
        """Whether schemas are of the dialect of OpenAPI 3.0, which is no draft of JSON Schema."""
        return str(self.root.value["openapi"]).startswith("3.0")


def read(spec: object = None, spec_raw: str | None = None) -> Source:
    """The document, given as a value or as text, JSON or YAML. Raises BadRequest unless there is exactly one, Invalid."""
    if (spec is None) == (spec_raw is None):
        raise BadRequest("send either spec or specRaw")
    loc = ("body", "spec" if spec_raw is None else "specRaw")
    source = Source(spec if spec_raw is None else _parsed(spec_raw, loc), loc)
    _check(source)
    return source


def _parsed(text: str, loc: tuple[str, ...]) -> Any:
    if text.lstrip()[:1] == "{":
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
            pass  # YAML begins like this too, and its errors name the line
    try:
        return parse(text)
    except YamlError as error:
        raise Invalid(str(error), loc) from None


def _check(source: Source) -> None:
    """Raises Invalid for a document that is too large, or is none of OpenAPI 3."""
    root = source.root
    if _depth(root.value) > DEEPEST:
        raise root.refused(f"the document may be at most {DEEPEST} levels deep")
    try:
        size = len(msgspec.json.encode(root.value))
    except (TypeError, OverflowError, UnicodeEncodeError) as error:
        raise root.refused(f"this is not JSON: {error}") from None
    if size > MOST_BYTES:
        raise root.refused(f"the document may have at most {MOST_BYTES} bytes as JSON")
    version = root.get("openapi")
    if version is None:
        raise root.refused("this is no OpenAPI document: it has no `openapi`")
    if not isinstance(version.value, str) or not _VERSION.fullmatch(version.value):
        raise version.refused('the version must be text, from "3.0.0" to "3.2.x"')


def _depth(value: object) -> int:
    depth, level = 0, [value]
    while level and depth <= DEEPEST:
        depth += 1
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
    return depth


def _step(value: object, token: str) -> str | int | None:
    """The key of a value that a token of a JSON pointer means."""
    if isinstance(value, dict):
        return token if token in value else None
    if isinstance(value, list) and re.fullmatch("0|[1-9][0-9]{0,8}", token) and int(token) < len(value):
        return int(token)
    return None
