"""A payload against the schema of its event type."""

import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

import jsonschema_rs
import msgspec

from tenterhook.schemas.document import Document
from tenterhook.schemas.explain import Explanation, Problem
from tenterhook.schemas.validators import Validators

MOST_PROBLEMS = 10
"""That are told of one payload."""
_COMPILED = 64
"""Schemas that stay compiled; the least recently used goes first."""


def newest(versions: Mapping[str, Any] | None) -> Any | None:
    """The schema that payloads must fit: that of the highest version, numbers compared as numbers (`9` < `10`)."""
    return versions[max(versions, key=_natural)] if versions else None


def examples(versions: Mapping[str, Any] | None) -> list[Any]:
    """Payloads that the newest schema shows as examples of itself, in its order; [] where it shows none."""
    schema = newest(versions)
    found = schema.get("examples") if isinstance(schema, dict) else None
    return found if isinstance(found, list) else []


def problems(schema: dict[str, Any] | bool, payload: bytes) -> list[Problem]:
    """What is wrong with a payload, MOST_PROBLEMS at most; [] if it fits. The schema has passed `check_schema`."""
    return _compiled(msgspec.json.encode(schema)).problems(payload)


class _Compiled:
    """A schema, ready for any number of payloads."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._validator = Validators(document).whole()

    def problems(self, payload: bytes) -> list[Problem]:
        try:
            value = msgspec.json.decode(payload)
            if self._validator.is_valid(value):
                return []
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return [Problem("", f"the payload cannot be read as JSON: {error}")]
        except RecursionError:
            return [Problem("", "the payload is nested too deeply")]
        except jsonschema_rs.ValidationError as error:
            return [Problem("", f"the payload cannot be checked: {error.message}")]
        # the validators of the parts are thrown away: they are large, and a payload seldom fails
        found = Explanation(self._document, Validators(self._document)).problems(value)
        return list(islice(found, MOST_PROBLEMS))


@lru_cache(_COMPILED)
def _compiled(schema: bytes) -> _Compiled:
    return _Compiled(Document(msgspec.json.decode(schema)))


def _natural(version: str) -> list[tuple[bool, int, str]]:
    """`v10` as v, 10: text sorts before numbers, numbers by value."""
    pieces = re.findall(r"[0-9]+|[^0-9]+", version)
    return [(piece[0] in "0123456789", int(piece) if piece[0] in "0123456789" else 0, piece) for piece in pieces]
