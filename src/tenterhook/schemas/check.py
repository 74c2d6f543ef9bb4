"""Whether a JSON Schema can be taken: it is one, it is closed, and it is not too large."""

import re
from collections.abc import Iterator, Mapping

import jsonschema_rs
import msgspec

from tenterhook.errors import Invalid
from tenterhook.schemas.document import Document, Part, Place, references
from tenterhook.schemas.validators import Validators

MOST_BYTES = 256 << 10
"""Of one schema, and of all versions of an event type, as JSON."""
DEEPEST = 64
"""Levels of objects and arrays in a schema."""
MOST_PARTS = 10_000
"""Schemas in a schema with references written out; a reference to a part around it is not followed again."""
DEEPEST_PART = 128
"""Parts in parts, with references written out."""
MOST_PATTERNS = 256

_DRAFT = re.compile(r"https?://json-schema\.org/(draft-0[467]/schema|draft/(2019-09|2020-12)/schema)#?")
_VERSION = re.compile(r"[a-zA-Z0-9\-_.]{1,64}")
BESIDE = frozenset({"allOf", "anyOf", "dependencies", "dependentSchemas", "else", "if", "not", "oneOf", "then"})
"""Keywords whose parts apply to the value itself, not to what is in it."""
_UNEVALUATED = 3
"""How much more often the parts beside `unevaluated…` are looked at, for each level of it (measured: 2.6)."""

Location = tuple[str, ...]
"""Where a value stands in a request, as errors show it; an index is written `[0]`."""


def check_schemas(versions: Mapping[str, object], loc: Location = ("body", "schemas")) -> None:
    """The schemas of an event type, by version. Raises Invalid."""
    for version, schema in versions.items():
        if not _VERSION.fullmatch(version):
            raise Invalid("a version has 1 to 64 letters, digits, hyphens, underscores and full stops", (*loc, version))
        check_schema(schema, (*loc, version))
    if _size(versions, loc) > MOST_BYTES:
        raise Invalid(f"the schemas of an event type may have at most {MOST_BYTES} bytes as JSON", loc)


def check_schema(schema: object, loc: Location = ("body",)) -> None:
    """Raises Invalid, with the place, for what is no JSON Schema, leads out of the document, or is too large."""
    if not isinstance(schema, dict | bool):
        raise Invalid("a JSON Schema is an object, true or false", loc)
    if _depth(schema) > DEEPEST:
        raise Invalid(f"a schema may be at most {DEEPEST} levels deep", loc)
    if _size(schema, loc) > MOST_BYTES:
        raise Invalid(f"a schema may have at most {MOST_BYTES} bytes as JSON", loc)
    _check_draft(schema, loc)
    document = Document(schema)
    if document.patterns > MOST_PATTERNS:
        raise Invalid(f"a schema may have at most {MOST_PATTERNS} regular expressions", loc)
    for part in document.everything():
        _check_references(document, part, loc)
    _Measure(document, loc).visit(document.root)
    try:
        Validators(document).whole()
    except jsonschema_rs.ValidationError as error:
        raise _refusal(error, loc) from None
    except (jsonschema_rs.ReferencingError, ValueError) as error:
        raise Invalid(str(error), loc) from None


def _depth(value: object) -> int:
    depth, level = 0, [value]
    while level and depth <= DEEPEST:
        depth += 1
        level = [inner for one in level for inner in _inside(one)]
    return depth


def _inside(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _size(value: object, loc: Location) -> int:
    try:
        return len(msgspec.json.encode(value))
    except (TypeError, UnicodeEncodeError, OverflowError) as error:
        raise Invalid(f"this is not JSON: {error}", loc) from None


def _check_draft(schema: dict[str, object] | bool, loc: Location) -> None:
    draft = schema.get("$schema") if isinstance(schema, dict) else None
    if draft is not None and not (isinstance(draft, str) and _DRAFT.fullmatch(draft)):
        known = "draft/2020-12/schema, draft/2019-09/schema, draft-07/schema, draft-06/schema or draft-04/schema"
        raise Invalid(f"the draft must be https://json-schema.org/ with {known}", (*loc, "$schema"))


def _check_references(document: Document, part: Part, loc: Location) -> None:
    for keyword in references(part):
        if document.target(part, keyword) is None:
            detail = f"{part.schema[keyword]!r} names nothing in this schema, and nothing outside of it is fetched"
            raise Invalid(detail, _at(loc, (*part.place, keyword)))


class _Measure:
    """Walks the parts of a schema with its references written out."""

    def __init__(self, document: Document, loc: Location) -> None:
        self._document, self._loc = document, loc
        self._count = 0
        self._around: dict[Place, int] = {}  # the parts around this one, with how deep in the value they apply

    def visit(self, part: Part, level: int = 0) -> None:
        """Raises Invalid for a schema that is too large, or that asks a value to fit whatever it fits."""
        self._count += 1
        if self._count > MOST_PARTS:
            detail = f"with references written out, a schema may have at most {MOST_PARTS} parts"
            raise Invalid(detail, self._loc)
        if len(self._around) >= DEEPEST_PART:
            detail = f"with references written out, a schema may be at most {DEEPEST_PART} parts deep"
            raise Invalid(detail, _at(self._loc, part.place))
        outer = self._around.get(part.place)
        self._around[part.place] = level
        doubling = isinstance(part.schema, dict) and part.schema.keys() & {"unevaluatedItems", "unevaluatedProperties"}
        for _ in range(_UNEVALUATED if doubling else 1):
            self._below(part, level)
        if outer is None:
            del self._around[part.place]
        else:
            self._around[part.place] = outer

    def _below(self, part: Part, level: int) -> None:
        for inner in self._document.applied(part):
            self.visit(inner, level + (inner.place[len(part.place)] not in BESIDE))
        for keyword in references(part):
            target = self._document.target(part, keyword)
            if target is None:
                continue
            around = self._around.get(target.place)
            if around is None:
                self.visit(target, level)
            elif around == level:
                raise Invalid(
                    "this leads back to itself without going into the value", _at(self._loc, (*part.place, keyword))
                )


def _refusal(error: jsonschema_rs.ValidationError, loc: Location) -> Invalid:
    place = error.instance_path
    detail = error.message
    if error.kind.name == "format" and set(place[-2:]) & {"pattern", "patternProperties"}:
        detail = (
            "this is no regular expression that can run in linear time: it may have no lookaround, no back-references "
            "and no huge repetitions"
        )
    elif error.kind.name == "anyOf" and place[-1:] == ["type"]:
        detail = "a type is array, boolean, integer, null, number, object, string, or a list of these, each once"
    return Invalid(detail, _at(loc, tuple(place)))


def _at(loc: Location, place: Place) -> Location:
    return (*loc, *(f"[{token}]" if isinstance(token, int) else token for token in place))
