"""A provider file: how to know that a webhook is genuine, and what it means, as data.

A file is TOML, checked strictly. Options of a source stand in it as `$name`; `Provider.rules` puts their values in and
compiles what results, once for each set of values.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

import msgspec
from msgspec import Struct

from tenterhook.errors import ConfigurationError, Invalid
from tenterhook.receive.rules import Rules, Spec, compiled

Read = Callable[[str], str]
"""The text of another provider's file, by its name. Raises ConfigurationError for an unknown name."""

_RULES = frozenset(Spec.__struct_fields__)
_INHERITED = (*Spec.__struct_fields__, "options", "max_body")
_OPTION = re.compile(r"\$([a-z][a-z_]*)")


class Option(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A setting that a source of this provider has; without a default it must be given."""

    help: str
    default: str | None = None
    choices: tuple[str, ...] = ()
    kind: Literal["text", "integer"] = "text"


class Sample(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request of the provider and what it means: the proof that the file is right.

    A `published` sample has the signature that the provider's own documentation prints; any other is signed by
    `receive.sample_request`, with `signing_secret` where that is not the `secret` that verifies.
    """

    title: str
    method: str = "POST"
    query: str = ""
    headers: dict[str, str] = {}
    body: str
    secret: str = ""
    signing_secret: str | None = None
    row: str | None = None
    options: dict[str, str] = {}
    published: bool = False
    now: datetime
    outcome: Literal["accepted", "ping", "challenge"] = "accepted"
    event: str
    dedup: str | None = None


class File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a provider file may hold besides its rules."""

    title: str
    docs: str = ""
    like: str | None = None
    max_body: int | None = None
    options: dict[str, Option] = {}
    sample: tuple[Sample, ...] = ()


class Provider(Struct, frozen=True, kw_only=True):
    """A provider, ready to verify with.

    `max_body` is the largest request that it sends (bytes), None takes the server's limit. `json_field` is the form
    field in which it may put its JSON. `options` are what its sources may set.
    """

    name: str
    title: str
    docs: str
    max_body: int | None
    json_field: str | None
    options: dict[str, Option]
    samples: tuple[Sample, ...]
    bind: Callable[[tuple[tuple[str, str], ...]], Rules]

    def rules(self, options: Mapping[str, str]) -> Rules:
        """The rules for a source with these options. Raises Invalid for options that it does not have or take."""
        return self.bind(tuple(options.items()))


def parse(name: str, text: str, read: Read) -> Provider:
    """The provider that a file describes; `read` gives the files that it is `like`.

    Raises ConfigurationError, naming file and key, for anything that is not exactly right.
    """
    try:
        raw = _resolved(text, read)
        spec = {key: value for key, value in raw.items() if key in _RULES}
        file = msgspec.convert({key: value for key, value in raw.items() if key not in _RULES}, File)
        _check_option_names(spec, file.options)
        compiled(name, _filled(spec, {key: _placeholder(option) for key, option in file.options.items()}))
    except (msgspec.ValidationError, Invalid) as error:
        raise ConfigurationError(f"provider file {name}.toml: {error}") from None

    @lru_cache(maxsize=256)
    def bind(options: tuple[tuple[str, str], ...]) -> Rules:
        return compiled(name, _filled(spec, _values(name, file.options, dict(options))))

    return Provider(
        name=name,
        title=file.title,
        docs=file.docs,
        max_body=file.max_body,
        json_field=spec.get("json_field"),
        options=file.options,
        samples=file.sample,
        bind=bind,
    )


def _resolved(text: str, read: Read, inherits: bool = True) -> dict[str, Any]:
    """The tables of a file, with those of the file it is `like` for what it does not name itself. Raises Invalid."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Invalid(str(error)) from None
    own = _table(raw, "options")
    if "like" in raw:
        if not inherits:
            raise Invalid("like: a file that others are like is itself like none")
        base = _resolved(read(str(raw["like"])), read, inherits=False)
        raw = {**{key: base[key] for key in _INHERITED if key in base}, **raw}
        own = {**base["options"], **own}
    return {**raw, "options": own, "proof": _resolved_rows(raw.get("proof", []), read)}


def _table(raw: dict[str, Any], key: str) -> dict[str, Any]:
    value = raw.get(key, {})
    if not isinstance(value, dict):
        raise Invalid(f"{key} must be a table")
    return value


def _resolved_rows(rows: object, read: Read) -> list[dict[str, Any]]:
    """The rows of proof; one that is `like` a row above it, or a row `file/name`, starts from that row's fields."""
    found: list[dict[str, Any]] = []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Invalid("proof must be a list of tables, [[proof]]")
    for row in rows:
        base = _row_like(str(row["like"]), found, read) if "like" in row else {}
        found.append({**base, **{key: value for key, value in row.items() if key != "like"}})
    return found


def _row_like(like: str, above: list[dict[str, Any]], read: Read) -> dict[str, Any]:
    file, _, name = like.rpartition("/")
    known = _resolved(read(file), read, inherits=False)["proof"] if file else above
    for row in known:
        if row.get("name") == name:
            return row
    raise Invalid(f"proof.like: there is no row {like!r}")


def _check_option_names(node: object, options: Mapping[str, Option]) -> None:
    """Raises Invalid for a `$name` that is no option of the file."""
    for text in _texts(node):
        for option in _OPTION.findall(text):
            if option not in options:
                raise Invalid(f"${option} in {text!r} is no option of this provider")


def _texts(node: object) -> list[str]:
    match node:
        case str():
            return [node]
        case dict():
            return [text for value in node.values() for text in _texts(value)]
        case list():
            return [text for value in node for text in _texts(value)]
    return []


def _filled(node: Any, values: Mapping[str, str]) -> Any:
    """The same tables with option values in place of `$name`; what was put in is not looked at again."""
    match node:
        case str():
            return _OPTION.sub(lambda found: values[found[1]], node)
        case dict():
            return {key: _filled(value, values) for key, value in node.items()}
        case list():
            return [_filled(value, values) for value in node]
    return node


def _placeholder(option: Option) -> str:
    """A value to check the file with."""
    return option.default or (option.choices[0] if option.choices else {"text": "x", "integer": "1"}[option.kind])


def _values(name: str, options: Mapping[str, Option], given: Mapping[str, str]) -> dict[str, str]:
    """The value of each option. Raises Invalid for unknown, missing and unacceptable ones."""
    for key in given:
        if key not in options:
            known = ", ".join(options) or "none"
            raise Invalid(f"{name} has no option {key!r}; its options: {known}", ("body", "options", key))
    return {key: _value(key, option, given.get(key, option.default)) for key, option in options.items()}


def _value(key: str, option: Option, value: str | None) -> str:
    loc = ("body", "options", key)
    if value is None:
        raise Invalid(f"the option {key!r} must be given: {option.help}", loc)
    if option.choices and value not in option.choices:
        raise Invalid(f"the option {key!r} must be one of {', '.join(option.choices)}", loc)
    if option.kind == "integer" and not (value.isascii() and value.isdigit() and len(value) <= 9):
        raise Invalid(f"the option {key!r} must be a whole number", loc)
    return value
