"""The validators of a schema: compiled without a way to fetch anything, and with regular expressions of linear time.

Only `is_valid` is asked of whole schemas. The library's own lists of errors are not: they hold every error of every
alternative of each `anyOf` and `oneOf` at once, which for a recursive schema and a small payload is gigabytes.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import jsonschema_rs
from jsonschema_rs import RegexOptions, Registry, Validator, validator_for

from tenterhook.schemas.document import BASE, Document, Part, pointer

PATTERN_BYTES = 8 << 20
"""One regular expression, compiled: `^\\p{L}{1,100}$` takes about that much."""
ALL_PATTERNS_BYTES = 32 << 20
"""All of a schema."""


class Validators:
    """Of one document; those of its parts are made when they are asked for."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._schema = document.root.schema
        self._parts: dict[tuple[str | int, ...], Validator] = {}
        self._registry: Registry | None = None
        size = min(PATTERN_BYTES, ALL_PATTERNS_BYTES // max(document.patterns, 1))
        self._patterns = RegexOptions(size_limit=size)
        draft = self._schema.get("$schema") if isinstance(self._schema, dict) else None
        self._head: Mapping[str, Any] = {} if draft is None else {"$schema": draft}

    def whole(self) -> Validator:
        """Raises jsonschema_rs.ValidationError or ReferencingError for what is no schema."""
        return validator_for(self._schema, offline=True, base_uri=BASE, pattern_options=self._patterns)

    def fits(self, part: Part, value: object) -> bool:
        """Whether a value is what a part of the schema asks for."""
        found = self._parts.get(part.place)
        if found is None:
            found = self._parts[part.place] = self._part(part)
        return found.is_valid(value)

    def complaint(self, keyword: str, wanted: object, value: object) -> str | None:
        """What a keyword that holds no schemas says of a value, None if it is content."""
        try:
            alone = validator_for(
                {**self._head, keyword: wanted}, offline=True, pattern_options=self._patterns, mask="this value"
            )
        except jsonschema_rs.ValidationError:  # not without another: `exclusiveMinimum` of draft 4
            return None
        try:
            alone.validate(value)
        except jsonschema_rs.ValidationError as error:
            return error.message
        except ValueError:  # the library builds no error for a value of more than 255 levels
            return f"this value is not what {keyword} asks for"
        return None

    def _part(self, part: Part) -> Validator:
        if self._registry is None:
            # a reference in an example or a constant is data, yet the registry asks for what it names
            self._registry = Registry([(BASE, self._schema)], retriever=lambda _: {})
        address = f"{self._document.root.base}#{quote(pointer(part.place))}"
        schema = {**self._head, "$ref": address}
        return validator_for(schema, offline=True, registry=self._registry, pattern_options=self._patterns)
