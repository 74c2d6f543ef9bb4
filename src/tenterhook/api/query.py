"""Query parameters: each is declared once, and that declaration reads, checks and documents it.

A value that cannot be read (`limit=abc`) is a BadRequest, one that can be read and is not acceptable (`limit=0`) Invalid.
"""

from functools import lru_cache
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qsl

from msgspec import Struct

from tenterhook.clock import from_rfc3339
from tenterhook.errors import BadRequest, Invalid

T = TypeVar("T")
Pairs = tuple[tuple[str, str], ...]

MOST_WORDS = 250


class Parameter(Struct, Generic[T], frozen=True):
    """A kind of parameter is a subclass: what `read` makes of the pairs of a query, and its JSON Schema."""

    name: str
    about: str

    def read(self, pairs: Pairs) -> T:
        """The value, or what it is when it is absent. Raises BadRequest, Invalid."""
        raise NotImplementedError

    def schema(self) -> dict[str, Any]:
        raise NotImplementedError

    def text(self, pairs: Pairs) -> str | None:
        """The last value with this name."""
        return next((value for key, value in reversed(pairs) if key == self.name), None)

    def refuse(self, why: str) -> Invalid:
        return Invalid(f"{self.name} must be {why}", ("query", self.name))


class Text(Parameter[str | None], frozen=True):
    """Any text without NUL, which not every database can look for."""

    def read(self, pairs: Pairs) -> str | None:
        value = self.text(pairs)
        if value is not None and "\0" in value:
            raise self.refuse("text without NUL")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": r"^[^\x00]*$"}


class Flag(Parameter[bool], frozen=True):
    """`true` or `false`."""

    default: bool = False

    def read(self, pairs: Pairs) -> bool:
        value = self.text(pairs)
        if value is None:
            return self.default
        if value not in ("true", "false"):
            raise BadRequest(f"{self.name} must be true or false")
        return value == "true"

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean", "default": self.default}


class Number(Parameter[int], frozen=True, kw_only=True):
    """A whole number from `least` to `most`."""

    default: int
    least: int
    most: int

    def read(self, pairs: Pairs) -> int:
        value = self.text(pairs)
        if value is None:
            return self.default
        number = _whole(self.name, value)
        if not self.least <= number <= self.most:
            raise self.refuse(f"from {self.least} to {self.most}")
        return number

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.least, "maximum": self.most, "default": self.default}


class OneWord(Parameter[str | None], frozen=True, kw_only=True):
    """One of a few words."""

    words: tuple[str, ...]

    def read(self, pairs: Pairs) -> str | None:
        value = self.text(pairs)
        if value is not None and value not in self.words:
            raise self.refuse(f"one of {', '.join(self.words)}")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.words)}


class OneCode(Parameter[int | None], frozen=True, kw_only=True):
    """One of a few numbers."""

    codes: tuple[int, ...]

    def read(self, pairs: Pairs) -> int | None:
        value = self.text(pairs)
        if value is None:
            return None
        number = _whole(self.name, value)
        if number not in self.codes:
            raise self.refuse(f"one of {', '.join(map(str, self.codes))}")
        return number

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "enum": list(self.codes)}


class Words(Parameter[tuple[str, ...]], frozen=True):
    """A list: `a=x,y`, `a=x&a=y`, `a[]=x` and `a[0]=x` all mean the same."""

    def read(self, pairs: Pairs) -> tuple[str, ...]:
        values = [value for key, value in pairs if key == self.name or key.partition("[")[0] == self.name]
        words = tuple(word for value in values for word in value.split(",") if word)
        if len(words) > MOST_WORDS:
            raise self.refuse(f"at most {MOST_WORDS} values")
        return words

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": {"type": "string"}, "maxItems": MOST_WORDS}


class Instant(Parameter[int | None], frozen=True):
    """An RFC 3339 date-time (µs UTC); one without an offset means UTC."""

    def read(self, pairs: Pairs) -> int | None:
        value = self.text(pairs)
        if value is None:
            return None
        try:
            return from_rfc3339(value.replace(" ", "+"))
        except (ValueError, OverflowError):
            raise BadRequest(f"{self.name} must be an RFC 3339 date-time such as 2026-01-31T12:00:00Z") from None

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "date-time"}


def _whole(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise BadRequest(f"{name} must be a whole number")
    return int(value)


def _pairs(text: bytes) -> Pairs:
    return tuple(parse_qsl(text.decode("latin-1"), keep_blank_values=True))


_SHORT = 64
_known_pairs = lru_cache(1_000)(_pairs)
"""A client that publishes sends the same short query every time."""


class Query:
    """The declared parameters of a request, all of them checked; what is not declared is ignored."""

    __slots__ = ("_values",)

    def __init__(self, text: bytes, declared: tuple[Parameter[Any], ...]) -> None:
        pairs = (_known_pairs if len(text) <= _SHORT else _pairs)(text) if text and declared else ()
        self._values: dict[str, Any] = {one.name: one.read(pairs) for one in declared}

    def __getitem__(self, parameter: Parameter[T]) -> T:
        """Raises KeyError for a parameter that the route does not declare."""
        value: T = self._values[parameter.name]
        return value

    def get(self, parameter: Parameter[T]) -> T | None:
        """None for a parameter that the route does not declare."""
        value: T | None = self._values.get(parameter.name)
        return value
