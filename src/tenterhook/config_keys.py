"""The tables of `tenterhook.toml`: their keys, how each value is read, and how problems are gathered with their lines."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from math import isfinite
from typing import Any

from msgspec import Struct

from tenterhook import urls
from tenterhook.clock import HOUR, MILLISECOND, SECOND
from tenterhook.errors import ConfigurationError, Invalid
from tenterhook.headers import check_headers
from tenterhook.outbox import schema as outbox_schema
from tenterhook.setting_kinds import DATABASE, SCHEDULE, SWITCH, TOML_NAMES, Kind, duration, toml_name, whole
from tenterhook.toml_lines import Path, line_of

KINDS = ("webhook", "slack")
"""The kinds of endpoints; the first is the default."""

_ENV = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")


class Report:
    """What is wrong with a file, gathered."""

    def __init__(self, file: str, lines: dict[Path, int]) -> None:
        self.file, self.lines = file, lines
        self._problems: list[tuple[int, str]] = []
        self._troubled: set[Path] = set()

    def troubled(self, path: Path) -> bool:
        """Whether something is wrong at or inside of the path."""
        return path in self._troubled

    def wrong(self, path: Path, detail: str) -> None:
        line = line_of(self.lines, path)
        self._troubled.update(path[:depth] for depth in range(len(path) + 1))
        self._problems.append((line, f"{self.file}:{line}: {_shown(path)}: {' '.join(detail.split())}"))

    def finish(self) -> None:
        """Raises ConfigurationError if anything was wrong, in the order of the lines."""
        if self._problems:
            ordered = sorted(self._problems, key=lambda problem: problem[0])
            raise ConfigurationError("\n".join(dict.fromkeys(text for _, text in ordered)))


def _shown(path: Path) -> str:
    """`endpoint.event_types[1]`: the number of a table is left out, as the line says which it is."""
    text = ""
    for depth, part in enumerate(path):
        if isinstance(part, str):
            text += f".{part}" if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f".{part!r}"
        elif depth > 1:
            text += f"[{part}]"
    return text.removeprefix(".")


class Place:
    """A path in a file, and the report to write to."""

    __slots__ = ("path", "report")

    def __init__(self, report: Report, path: Path) -> None:
        self.report, self.path = report, path

    def __getitem__(self, part: str | int) -> "Place":
        return Place(self.report, (*self.path, part))

    def at(self, path: Path) -> "Place":
        return Place(self.report, self.path + path)

    @property
    def line(self) -> int:
        return line_of(self.report.lines, self.path)

    @property
    def troubled(self) -> bool:
        return self.report.troubled(self.path)

    def wrong(self, detail: str) -> None:
        self.report.wrong(self.path, detail)

    @contextmanager
    def catching(self, *secrets: str) -> Iterator[None]:
        """Report what is raised as Invalid, with `secrets` blotted out."""
        try:
            yield
        except Invalid as wrong:
            self.wrong(masked(wrong.detail, secrets))


def masked(detail: str, secrets: Sequence[str]) -> str:
    """A text without the secrets that it might repeat; a shorter one than four characters hides nothing."""
    for secret in secrets:
        detail = detail.replace(secret, "***") if len(secret) > 3 else detail
    return detail


def closest(word: str, words: Sequence[str]) -> str:
    """`; did you mean …?`, or nothing."""
    near = get_close_matches(word, words, 1, 0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def expanded(place: Place, value: Any, environ: Mapping[str, str]) -> Any:
    """A value with each string `env:NAME` in it replaced; None where the variable is missing, which is reported.

    TOML has no null, so from here on None means: wrong, and already said.
    """
    match value:
        case dict():
            return {key: expanded(place[key], inner, environ) for key, inner in value.items()}
        case list():
            return [expanded(place[number], inner, environ) for number, inner in enumerate(value)]
        case str() if value.startswith("env:"):
            with place.catching():
                return looked_up(value, environ)
            return None
    return value


def looked_up(reference: str, environ: Mapping[str, str]) -> str:
    """What `env:NAME` stands for. Raises Invalid where there is nothing."""
    found = _ENV.fullmatch(reference)
    if found is None:
        raise Invalid("after env: comes the name of an environment variable: letters, digits and underscores")
    value = environ.get(found[1])
    if not value:
        raise Invalid(f"the environment variable {found[1]} is {'not set' if value is None else 'empty'}: set it")
    return value


Read = Callable[[Place, Any], Any]
"""Reads a value of TOML; what is wrong is reported at its place, and then the result is of no use."""


class Key(Struct, frozen=True):
    """A key of a table; `to` is the field that it becomes, where that has another name."""

    read: Read
    required: bool = False
    to: str | None = None


def read_table(place: Place, table: dict[str, Any], keys: Mapping[str, Key]) -> dict[str, Any]:
    """The good values of a table by their fields. Unknown, missing and wrong keys are reported."""
    values = {}
    for name, value in table.items():
        if name not in keys:
            place[name].wrong(f"is not a key of [[{place.path[0]}]]{_ALIASES.get(name) or closest(name, [*keys])}")
        elif value is not None:
            read = keys[name].read(place[name], value)
            if not place[name].troubled:
                values[keys[name].to or name] = read
    for name, key in keys.items():
        if key.required and name not in table:
            place.wrong(f"`{name}` is missing: add it")
    return values


_ALIASES = {
    "uid": "; the key `name` is its uid in the API",
    "events": "; did you mean 'event_types'?",
    "filter_types": "; did you mean 'event_types'?",
    "app": "; did you mean 'application'?",
    "enabled": "; did you mean 'disabled'?",
}


def typed(wanted: type) -> Callable[[Place, Any], bool]:
    """Whether a value has the type; if not, it is reported."""
    name = TOML_NAMES[wanted]

    def is_right(place: Place, value: Any) -> bool:
        if type(value) is not wanted:
            place.wrong(f"must be {name}, not {toml_name(value)}")
        return type(value) is wanted

    return is_right


_is_text, _is_table, _is_array = typed(str), typed(dict), typed(list)


def text(pattern: str, hint: str, longest: int = 256) -> Read:
    """A string that matches; errors repeat the hint, not the string."""
    compiled = re.compile(pattern, re.DOTALL)

    def read(place: Place, value: Any) -> Any:
        if _is_text(place, value) and not (len(value) <= longest and compiled.fullmatch(value)):
            place.wrong(f"must be {hint}, at most {longest} characters")
        return value

    return read


def of(kind: Kind) -> Read:
    """A value of a kind that settings have too."""

    def read(place: Place, value: Any) -> Any:
        with place.catching():
            return kind.parse(kind.text([item for item in value if item is not None] if type(value) is list else value))

    return read


def array(read_item: Read, most: int) -> Read:
    """An array, as a tuple."""

    def read(place: Place, value: Any) -> Any:
        if not _is_array(place, value):
            return None
        if len(value) > most:
            place.wrong(f"has {len(value)} items: give at most {most}")
        return tuple(read_item(place[n], item) for n, item in enumerate(value) if item is not None)

    return read


def numbered(place: Place, value: Any) -> Any:
    """An array of secrets with their positions, so that what is wrong with one of them is found again."""
    array(_SECRET, 10)(place, value)
    return [(number, item) for number, item in enumerate(value)] if type(value) is list else None


def url(place: Place, value: Any) -> Any:
    if _is_text(place, value):
        with place.catching(value):
            urls.parse(value)
    return value


def table_name(place: Place, value: Any) -> Any:
    if _is_text(place, value):
        with place.catching():
            outbox_schema.quoted(value)
    return value


def headers(place: Place, value: Any) -> Any:
    """A table of header fields, as pairs; each is checked alone, and then all of them together."""
    if not _is_table(place, value):
        return None
    for name, content in value.items():
        if content is not None and _is_text(place[name], content):
            with place[name].catching(content):
                check_headers({name: content})
    if not place.troubled:
        try:
            return check_headers(value)
        except Invalid as wrong:
            place.at(wrong.loc[2:]).wrong(masked(wrong.detail, [*value.values()]))
    return None


def options(place: Place, value: Any) -> Any:
    """A table of strings; numbers and booleans are written as text."""
    if not _is_table(place, value):
        return None
    for name, content in value.items():
        if content is not None and type(content) not in (str, int, bool):
            place[name].wrong(f"must be a string, a number or true or false, not {toml_name(content)}")
    return {name: str(content).lower() if type(content) is bool else str(content) for name, content in value.items()}


def schemas(place: Place, value: Any) -> Any:
    """A table of JSON Schemas by version."""
    if _is_table(place, value):
        for version, schema in value.items():
            if _is_table(place[version], schema):
                _json(place[version], schema)
    return value


def _json(place: Place, value: Any) -> None:
    match value:
        case dict():
            for key, inner in value.items():
                _json(place[key], inner)
        case list():
            for number, inner in enumerate(value):
                _json(place[number], inner)
        case float() if not isfinite(value):
            place.wrong("has no form in JSON: write another number")
        case None | str() | bool() | int() | float():
            pass
        case _:
            place.wrong("has no form in JSON: write dates and times as strings")


_UID = text(r"[A-Za-z0-9._-]+", "letters, digits, dots, dashes and underscores")
_PATTERN = text(r"[A-Za-z0-9._*-]+", "an event type, where * stands for any characters")
_CHANNEL = text(r"[A-Za-z0-9._:+-]+", "letters, digits and . _ : + -", 128)
_TOKEN = text(r"[A-Za-z0-9._~-]{8,}", "at least 8 letters, digits, dots, dashes, underscores and tildes", 128)
_SECRET = text(r".+", "text that is not empty", 65_536)
_PROSE = text(r"[^\x00-\x08]*", "text without control characters", 4096)
_TITLE = text(r"[^\x00-\x1f\x7f]+", "text that is not empty", 4096)
_SWITCH = of(SWITCH)

TABLES: dict[str, dict[str, Key]] = {
    "application": {
        "uid": Key(_UID, required=True),
        "name": Key(_TITLE),
        "payload_retention": Key(of(duration(HOUR))),
        "record_retention": Key(of(duration(HOUR))),
    },
    "event_type": {
        "name": Key(_UID, required=True),
        "description": Key(_PROSE),
        "group": Key(_UID, to="group_name"),
        "deprecated": Key(_SWITCH),
        "schemas": Key(schemas),
    },
    "source": {
        "name": Key(_UID, required=True, to="uid"),
        "application": Key(_UID),
        "provider": Key(_TITLE, required=True),
        "secret": Key(_SECRET),
        "secrets": Key(numbered),
        "token": Key(_TOKEN),
        "options": Key(options),
    },
    "endpoint": {
        "name": Key(_UID, required=True, to="uid"),
        "application": Key(_UID),
        "kind": Key(_TITLE),
        "url": Key(url, required=True),
        "description": Key(_PROSE),
        "event_types": Key(array(_PATTERN, 1_000)),
        "channels": Key(array(_CHANNEL, 100)),
        "ordered": Key(_SWITCH),
        "rate_limit": Key(of(whole(1, 65_535))),
        "concurrency": Key(of(whole(1, 10_000))),
        "retry_schedule": Key(of(SCHEDULE)),
        "timeout": Key(of(duration(SECOND, HOUR))),
        "lifetime": Key(of(duration(SECOND))),
        "headers": Key(headers),
        "secret": Key(_SECRET),
        "secrets": Key(numbered),
        "disabled": Key(_SWITCH),
    },
    "outbox": {
        "name": Key(_UID, required=True),
        "database": Key(of(DATABASE), required=True),
        "table": Key(table_name),
        "poll": Key(of(duration(10 * MILLISECOND, HOUR))),
        "batch": Key(of(whole(1, 10_000))),
    },
}
"""The tables of the file, each an array of tables, and their keys."""
