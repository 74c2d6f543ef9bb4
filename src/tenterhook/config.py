"""Configuration as code: the text of `tenterhook.toml` in, values out. All problems are reported at once, with lines."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from tenterhook import providers, receive
from tenterhook.clock import SECOND
from tenterhook.config_keys import (
    KINDS,
    TABLES,
    Place,
    Report,
    closest,
    expanded,
    masked,
    read_table,
)
from tenterhook.errors import ConfigurationError, Invalid
from tenterhook.model import Secret
from tenterhook.outbox import schema as outbox_schema
from tenterhook.settings import BY_NAME, Masked, Settings
from tenterhook.signing import signing_key
from tenterhook.toml_lines import Path, lines_of

DEFAULT_APPLICATION = "default"
"""The application of sources and endpoints that name none; it needs no table of its own."""


class ConfiguredApplication(Struct, frozen=True, kw_only=True):
    """An `[[application]]`; `line` is where it stands, 0 for the implied one. Spans are in µs."""

    uid: str
    name: str
    payload_retention: int | None = None
    record_retention: int | None = None
    line: int = 0


class ConfiguredEventType(Struct, frozen=True, kw_only=True):
    """An `[[event_type]]`; the fields are those of `model.EventType`."""

    name: str
    description: str = ""
    group_name: str | None = None
    deprecated: bool = False
    schemas: dict[str, object] | None = None
    line: int = 0


class ConfiguredSource(Masked, frozen=True, kw_only=True):
    """A `[[source]]`; the fields are those of `model.Source`. `token` None asks for one that cannot be guessed."""

    hidden = frozenset({"token", "secrets", "options"})

    uid: str
    name: str
    application: str = DEFAULT_APPLICATION
    provider: str
    secrets: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    token: str | None = None
    line: int = 0


class ConfiguredEndpoint(Masked, frozen=True, kw_only=True):
    """An `[[endpoint]]`; the fields are those of `model.Endpoint`, spans in µs."""

    hidden = frozenset({"url", "headers", "secrets"})

    uid: str
    application: str = DEFAULT_APPLICATION
    kind: str = "webhook"
    url: str
    description: str = ""
    event_types: tuple[str, ...] | None = None
    channels: tuple[str, ...] | None = None
    disabled: bool = False
    ordered: bool = False
    rate_limit: int | None = None
    concurrency: int | None = None
    retry_schedule: tuple[int, ...] | None = None
    lifetime: int | None = None
    timeout: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    secrets: tuple[Secret, ...] = ()
    line: int = 0


class ConfiguredOutbox(Masked, frozen=True, kw_only=True):
    """An `[[outbox]]`: a table that the server relays from, at most `batch` rows at once, looking every `poll` µs."""

    hidden = frozenset({"database"})

    name: str
    database: str
    table: str = outbox_schema.TABLE
    poll: int = SECOND
    batch: int = 1_000
    line: int = 0


class Configuration(Masked, frozen=True, kw_only=True):
    """What a file says. `server` are values by the names of the settings, for `settings.load`.

    `applications` holds the default one too if something is in it.
    """

    hidden = frozenset({"server"})

    file: str
    server: dict[str, object] = field(default_factory=dict)
    applications: tuple[ConfiguredApplication, ...] = ()
    event_types: tuple[ConfiguredEventType, ...] = ()
    sources: tuple[ConfiguredSource, ...] = ()
    endpoints: tuple[ConfiguredEndpoint, ...] = ()
    outboxes: tuple[ConfiguredOutbox, ...] = ()


def parse(text: str, file: str, environ: Mapping[str, str], *, kinds: Sequence[str] = KINDS) -> Configuration:
    """The configuration in a TOML text; `env:NAME` strings are looked up in `environ`, `kinds` are the senders there are.

    Raises ConfigurationError with a line `file:line: key: what to do` for each problem, in the order of the file.
    """
    document, report = _document(text.removeprefix("\ufeff"), file)
    root = Place(report, ())
    document = {key: expanded(root[key], value, environ) for key, value in document.items()}
    for key in document.keys() - TABLES.keys() - {"server"}:
        root[key].wrong(f"is not a table of this file{closest(key, [*TABLES, 'server'])}")
    server = _server(root["server"], document.get("server", {}))
    rows = {noun: _rows(root[noun], document.get(noun, [])) for noun in TABLES}
    endpoints = [row for place, values in rows["endpoint"] for row in _endpoint(place, values, kinds)]
    sources = [row for place, values in rows["source"] for row in _source(place, values)]
    applications = [
        ConfiguredApplication(**{"name": values["uid"], **values}, line=place.line)
        for place, values in rows["application"]
        if "uid" in values
    ]
    event_types = [
        ConfiguredEventType(**values, line=place.line) for place, values in rows["event_type"] if "name" in values
    ]
    _check_unique(rows)
    applications += _check_applications(rows, [application.uid for application in applications])
    report.finish()
    return Configuration(
        file=file,
        server=server,
        applications=tuple(applications),
        event_types=tuple(event_types),
        sources=tuple(sources),
        endpoints=tuple(endpoints),
        outboxes=_outboxes(rows["outbox"]),
    )


def of_outboxes(tables: Sequence[Mapping[str, object]], environ: Mapping[str, str]) -> Configuration:
    """A configuration of outboxes alone, which a program gives: each has the keys of an `[[outbox]]`, None for absent.

    Raises ConfigurationError as `parse` does; the number of a table stands in the place of its line.
    """
    report = Report("outboxes", {("outbox", number): number + 1 for number in range(len(tables))})
    place = Place(report, ("outbox",))
    given = [{key: value for key, value in table.items() if value is not None} for table in tables]
    rows = _rows(place, expanded(place, given, environ))
    _check_unique({"outbox": rows})
    report.finish()
    return Configuration(file=report.file, outboxes=_outboxes(rows))


def check_settings(configuration: Configuration, settings: Settings) -> None:
    """What applications and endpoints may not do under these settings. Raises ConfigurationError as `parse` does."""
    problems = [
        f"{configuration.file}:{application.line}: application.record_retention: must be longer than the setting"
        f" `delivery_lifetime` ({BY_NAME['delivery_lifetime'].show(settings.delivery_lifetime)})"
        for application in configuration.applications
        if application.record_retention is not None and application.record_retention <= settings.delivery_lifetime
    ]
    for endpoint in configuration.endpoints:
        where = f"{configuration.file}:{endpoint.line}: endpoint"
        if endpoint.timeout is not None and endpoint.timeout > settings.longest_timeout():
            longest = BY_NAME["lease"].show(settings.longest_timeout())
            problems.append(
                f"{where}.timeout: at most {longest} fits into the lease; make `lease` longer, or this shorter"
            )
        if settings.https_only and not endpoint.url.lower().startswith("https://"):
            problems.append(f"{where}.url: must begin with https://, as `https_only` is on")
    if problems:
        raise ConfigurationError("\n".join(problems))


def _document(text: str, file: str) -> tuple[dict[str, Any], Report]:
    """The values and where they stand. Raises ConfigurationError for what is not TOML."""
    try:
        return tomllib.loads(text), Report(file, lines_of(text))
    except RecursionError:
        raise ConfigurationError(f"{file}:1: TOML: arrays or tables are nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, and what int() and datetime() raise inside of tomllib
        raise ConfigurationError(_syntax_error(str(error), text, file)) from None


def _syntax_error(message: str, text: str, file: str) -> str:
    found = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", message)
    if found is None:
        return f"{file}:1: TOML: {message}"
    line = found[1] or text.count("\n") + (not text.endswith("\n"))
    place = f"column {found[2]}" if found[2] else "end of the file"
    return f"{file}:{line}: TOML: {message[: found.start()]} ({place})"


def _server(place: Place, table: object) -> dict[str, object]:
    if not isinstance(table, dict):
        place.wrong("must be a table: write [server]")
        return {}
    names = [setting.name for setting in BY_NAME.values() if setting.in_file]
    values = {}
    for key, value in table.items():
        if key not in names:
            place[key].wrong(f"is not a setting{closest(key, names)}")
        elif value is not None:
            with place[key].catching():
                values[key] = BY_NAME[key].read(value)
    return values


def _rows(place: Place, tables: object) -> list[tuple[Place, dict[str, Any]]]:
    """The tables of one noun, each with its place and its values; what is wrong with them is reported."""
    noun = str(place.path[0])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        place.wrong(f"must be an array of tables: write [[{noun}]]")
        return []
    return [(place[number], read_table(place[number], table, TABLES[noun])) for number, table in enumerate(tables)]


def _endpoint(place: Place, values: dict[str, Any], kinds: Sequence[str]) -> list[ConfiguredEndpoint]:
    """The endpoint, or nothing if its table cannot make one."""
    secrets = _secrets(place, values)
    for key, secret in secrets:
        with place.at(key).catching(secret):
            signing_key(secret)
    if values.get("kind", KINDS[0]) not in kinds:
        place["kind"].wrong(f"{values['kind']!r} is no kind of endpoint: take one of {', '.join(kinds)}")
    if "uid" not in values or "url" not in values:
        return []
    values = {**values, "secrets": tuple(Secret(secret) for _, secret in secrets)}
    return [ConfiguredEndpoint(**values, line=place.line)]


def _outboxes(rows: Sequence[tuple[Place, dict[str, Any]]]) -> tuple[ConfiguredOutbox, ...]:
    return tuple(
        ConfiguredOutbox(**values, line=place.line)
        for place, values in rows
        if "name" in values and "database" in values
    )


def _source(place: Place, values: dict[str, Any]) -> list[ConfiguredSource]:
    """The source, or nothing if its table cannot make one."""
    secrets = _secrets(place, values)
    name = values.get("provider")
    if name is not None and name not in providers.names():
        close = closest(name, providers.names()) or f": take one of {', '.join(providers.names())}"
        place["provider"].wrong(f"there is no provider {name!r}{close}")
    if place.troubled or "uid" not in values or name is None:
        return []
    known = tuple(secret for _, secret in secrets)
    try:
        receive.check_source(providers.load(name), known, values.get("options", {}))
    except Invalid as wrong:
        place.at(_blamed(wrong.loc, [key for key, _ in secrets])).wrong(masked(wrong.detail, known))
    return [ConfiguredSource(**values, name=values["uid"], secrets=known, line=place.line)]


def _blamed(loc: tuple[str, ...], keys: Sequence[Path]) -> Path:
    """The key that `receive.check_source` means; `keys` are those of the secrets, in order."""
    match loc[1:]:
        case ("secrets", number):
            return keys[int(number)]
        case ("secrets",):
            return keys[0] if keys else ("secret",)
        case rest:
            return rest


def _secrets(place: Place, values: dict[str, Any]) -> list[tuple[Path, str]]:
    """The secrets of a table with their keys, taken out of its values; `secret` is the short form for one."""
    one, several = values.pop("secret", None), values.pop("secrets", None)
    if one is not None and several is not None:
        place["secret"].wrong("give either `secret` or `secrets`")
    many: list[tuple[Path, str]] = [(("secrets", number), secret) for number, secret in several or ()]
    return many if one is None else [(("secret",), one), *many]


def _check_unique(rows: Mapping[str, list[tuple[Place, dict[str, Any]]]]) -> None:
    """Names are unique among their kind, those of endpoints within their application, tokens among all sources."""
    for noun, key, scope in (
        ("application", "uid", None),
        ("event_type", "name", None),
        ("source", "uid", None),
        ("source", "token", None),
        ("endpoint", "uid", "application"),
        ("outbox", "name", None),
    ):
        first: dict[tuple[object, object], int] = {}
        for place, values in rows.get(noun, ()):
            if key in values:
                # a source and an endpoint have their uid from the key `name`
                where = place["name" if (key, noun) in (("uid", "source"), ("uid", "endpoint")) else key]
                line = first.setdefault((values.get(scope or "", DEFAULT_APPLICATION), values[key]), where.line)
                if line != where.line:
                    shown = "this token" if key == "token" else repr(values[key])
                    where.wrong(f"{shown} is used already in line {line}: take another")


def _check_applications(
    rows: Mapping[str, list[tuple[Place, dict[str, Any]]]], declared: list[str]
) -> list[ConfiguredApplication]:
    """That every application named exists; the default one if it is used and has no table."""
    used = {DEFAULT_APPLICATION: False}
    for place, values in rows["source"] + rows["endpoint"]:
        uid = values.get("application", DEFAULT_APPLICATION)
        used[uid] = True
        if uid not in (*declared, DEFAULT_APPLICATION):
            near = closest(uid, [*declared, DEFAULT_APPLICATION])
            place["application"].wrong(f"there is no [[application]] with the uid {uid!r} in this file{near}")
    if not used[DEFAULT_APPLICATION] or DEFAULT_APPLICATION in declared:
        return []
    return [ConfiguredApplication(uid=DEFAULT_APPLICATION, name=DEFAULT_APPLICATION)]
