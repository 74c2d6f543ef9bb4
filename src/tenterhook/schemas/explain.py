"""Where a value does not fit a schema, and why: found by walking down both, part by part."""

from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

from tenterhook.schemas.document import Document, Part, Place, child, pointer, references
from tenterhook.schemas.validators import Validators

_LONGEST = 300
_HOPS = 8
_DEEPEST = 200
"""Parts in parts that are walked down: below that the place is told, not the keyword."""

ALONE = (
    "type", "const", "enum", "pattern", "format", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum",
    "exclusiveMaximum", "multipleOf", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties",
    "dependentRequired", "contentEncoding", "contentMediaType",
)  # fmt: skip
"""Keywords that are judged without the keywords beside them and without other schemas, most telling first."""

Step = tuple[Part, Any, Place]
"""A part of the schema, the value that it applies to, and where that value is."""


class Problem(NamedTuple):
    """`path` is a JSON pointer (RFC 6901) into the payload, empty for the payload as a whole."""

    path: str
    message: str


class Explanation:
    """What is wrong with one value: at least one problem if it does not fit, none if it does."""

    def __init__(self, document: Document, validators: Validators) -> None:
        self._document, self._validators = document, validators
        self._told: set[tuple[Place, Place]] = set()

    def problems(self, value: object) -> Iterator[Problem]:
        yield from self._below(self._document.root, value, (), 0)

    def _below(self, part: Part, value: object, path: Place, depth: int) -> Generator[Problem, None, bool]:
        """Returns whether the value fails here. What was told once of a part and a place is not told again."""
        if self._validators.fits(part, value):
            return False
        visit = (part.place, path)
        if visit in self._told:
            return True
        self._told.add(visit)
        if not isinstance(part.schema, dict):
            yield Problem(pointer(path), "the schema allows nothing here")
            return True
        if depth >= _DEEPEST:
            yield Problem(pointer(path), "this value does not fit the schema")
            return True
        found = False
        for message in self._complaints(part, value):
            found = True
            yield Problem(pointer(path), message if len(message) <= _LONGEST else message[:_LONGEST] + "…")
        for step in self._steps(part, value, path):
            found |= yield from self._below(*step, depth + 1)
        if not found:
            yield Problem(pointer(path), _of_the_whole(part.schema))
        return True

    def _complaints(self, part: Part, value: Any) -> Iterator[str]:
        """What the keywords of this part say, where no other part says it better."""
        schema = part.schema
        if self._document.only_reference(part):
            return
        for keyword in ALONE:
            said = self._validators.complaint(keyword, schema[keyword], value) if keyword in schema else None
            if said is not None:
                yield said
        if isinstance(value, dict):
            yield from self._missing(schema, value)
        for keyword in ("anyOf", "oneOf"):
            yield from self._alternatives(part, keyword, value)
        if "not" in schema and self._validators.fits(child(part, "not"), value):
            yield "this value is what the schema excludes"
        if "contains" in schema and isinstance(value, list):
            yield from self._contained(part, value)

    def _missing(self, schema: dict[str, Any], value: dict[str, Any]) -> Iterator[str]:
        yield from (f'"{name}" is missing' for name in schema.get("required", ()) if name not in value)
        for name, needed in schema.get("dependencies", {}).items():
            if name in value and isinstance(needed, list):
                yield from (f'"{other}" is missing beside "{name}"' for other in needed if other not in value)

    def _alternatives(self, part: Part, keyword: str, value: object) -> Iterator[str]:
        count = len(part.schema.get(keyword, ()))
        fitting = sum(self._validators.fits(child(part, keyword, n), value) for n in range(count))
        if count and not fitting and self._meant(part, keyword, value) is None:
            yield f"this value fits none of the {count} alternatives of {keyword}"
        elif keyword == "oneOf" and fitting > 1:
            yield f"this value fits {fitting} of the {count} alternatives of oneOf: exactly one is allowed"

    def _contained(self, part: Part, value: list[Any]) -> Iterator[str]:
        fitting = sum(self._validators.fits(child(part, "contains"), item) for item in value)
        least, most = part.schema.get("minContains", 1), part.schema.get("maxContains", len(value))
        if not least <= fitting <= most:
            yield f"{fitting} items are what the schema asks this list to contain, {least} to {most} are allowed"

    def _steps(self, part: Part, value: Any, path: Place) -> Iterator[Step]:
        """The parts that this part applies to the value or to what is in it, and that must fit."""
        for keyword in references(part):
            target = self._document.target(part, keyword)
            if target is not None:
                yield target, value, path
        if self._document.only_reference(part):
            return
        for inner in self._beside(part, value):
            yield inner, value, path
        if isinstance(value, dict):
            yield from self._members(part, value, path)
        if isinstance(value, list):
            yield from ((inner, value[n], (*path, n)) for n, inner in self._items(part, len(value)))

    def _beside(self, part: Part, value: Any) -> Iterator[Part]:
        """The parts that apply to the same value."""
        schema = part.schema
        yield from (child(part, "allOf", n) for n in range(len(schema.get("allOf", ()))))
        if "if" in schema:
            keyword = "then" if self._validators.fits(child(part, "if"), value) else "else"
            yield from [child(part, keyword)] if keyword in schema else []
        for keyword in ("anyOf", "oneOf"):
            meant = self._meant(part, keyword, value)
            yield from [] if meant is None else [meant]
        if isinstance(value, dict):
            for keyword in ("dependentSchemas", "dependencies"):
                named = schema.get(keyword, {})
                yield from (
                    child(part, keyword, name) for name in named if name in value and not isinstance(named[name], list)
                )

    def _members(self, part: Part, value: dict[str, Any], path: Place) -> Iterator[Step]:
        properties, patterns = part.schema.get("properties", {}), part.schema.get("patternProperties", {})
        for name, inner in value.items():
            matching = [one for one in patterns if self._validators.complaint("pattern", one, name) is None]
            parts = [child(part, "patternProperties", one) for one in matching]
            if name in properties:
                parts.append(child(part, "properties", name))
            elif not matching and "additionalProperties" in part.schema:
                parts.append(child(part, "additionalProperties"))
            yield from ((one, inner, (*path, name)) for one in parts)
        if "propertyNames" in part.schema:
            yield from ((child(part, "propertyNames"), name, (*path, name)) for name in value)

    def _items(self, part: Part, count: int) -> Iterator[tuple[int, Part]]:
        """Which part applies to which item: first the listed ones, then the one for the rest."""
        old = isinstance(part.schema.get("items"), list)  # up to draft 2019-09
        listed, rest = ("items", "additionalItems") if old else ("prefixItems", "items")
        first = len(part.schema.get(listed, ()))
        yield from ((n, child(part, listed, n)) for n in range(min(first, count)))
        if rest in part.schema:
            yield from ((n, child(part, rest)) for n in range(first, count))

    def _meant(self, part: Part, keyword: str, value: object) -> Part | None:
        """The alternative that a value which fits none must have meant: the only one whose type and constants it has."""
        parts = [child(part, keyword, n) for n in range(len(part.schema.get(keyword, ())))]
        if any(self._validators.fits(one, value) for one in parts):
            return None
        meant = [one for one in parts if self._resembles(one, value)]
        return meant[0] if len(meant) == 1 else None

    def _resembles(self, part: Part, value: Any, hops: int = _HOPS) -> bool:
        schema = part.schema
        if not isinstance(schema, dict):
            return bool(schema)
        inner = schema.get("properties", {}) if isinstance(value, dict) else {}
        judged = [(schema, value), *((inner[name], value[name]) for name in inner if name in value)]
        for one, what in judged:
            for keyword in ("type", "const", "enum") if one is schema else ("const", "enum"):
                if isinstance(one, dict) and keyword in one and self._validators.complaint(keyword, one[keyword], what):
                    return False
        targets = [self._document.target(part, keyword) for keyword in references(part)] if hops else []
        return all(target is None or self._resembles(target, value, hops - 1) for target in targets)


def _of_the_whole(schema: dict[str, Any]) -> str:
    """For keywords that depend on what all the others have seen."""
    if schema.keys() & {"unevaluatedProperties", "unevaluatedItems"}:
        return "this value has properties or items that the schema does not describe"
    return "this value does not fit the schema"
