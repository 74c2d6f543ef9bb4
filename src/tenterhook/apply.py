"""Configuration as code: make the database equal to what `tenterhook.toml` describes. Applying it again writes nothing.

Objects are matched by uid. Endpoints and sources that are `managed` and no longer described are deleted; applications
and event types own more than the file knows (messages, endpoints made through the API), so they are never deleted.
"""

from contextlib import suppress
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from tenterhook.config import (
    Configuration,
    ConfiguredApplication,
    ConfiguredEndpoint,
    ConfiguredEventType,
    ConfiguredSource,
)
from tenterhook.engine.retention import all_applications
from tenterhook.errors import ConfigurationError, Conflict, Invalid, NotFound
from tenterhook.model import Application, Endpoint, EventType, Source
from tenterhook.registry import Registry
from tenterhook.store.base import Store

_TRIES = 5
AUTOMATIC = ("gone", "failing")
"""Why the server itself switches an endpoint off; the file does not overrule that by saying nothing."""

_APPLICATION_FIELDS = ("name", "payload_retention", "record_retention")
_ENDPOINT_FIELDS = (
    "kind", "url", "description", "event_types", "channels", "disabled", "ordered", "rate_limit", "concurrency",
    "retry_schedule", "lifetime", "timeout", "headers",
)  # fmt: skip


class Changes(Struct, frozen=True):
    """What applying did, each as `noun uid`, those of an application as `noun application/uid`."""

    created: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()

    def __str__(self) -> str:
        counts = ((name, len(getattr(self, name))) for name in self.__struct_fields__)
        return ", ".join(f"{count} {name}" for name, count in counts if count) or "nothing to do"


class _Known(Struct):
    """What is stored: applications by uid, endpoints and sources by (application uid, uid)."""

    applications: dict[str, Application]
    event_types: dict[str, EventType]
    endpoints: dict[tuple[str, str], Endpoint]
    sources: dict[tuple[str, str], Source]


class _Log:
    """Gathers the Changes."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = {name: [] for name in Changes.__struct_fields__}

    def note(self, what: str, name: str) -> None:
        self._names[what].append(name)

    def changes(self) -> Changes:
        return Changes(**{what: tuple(names) for what, names in self._names.items()})


async def apply(configuration: Configuration, registry: Registry, store: Store, now: int) -> Changes:
    """Create, change and delete until the database says what the configuration says; `now` is µs UTC.

    Everything is checked before the first write. Raises ConfigurationError with a line `file:line: key: what to do` for
    each object that is refused; then nothing has changed. Nodes may apply it at the same time.
    """
    for _ in range(_TRIES - 1):
        # what another node was faster with is done
        with suppress(Conflict, NotFound):
            return await _applied(configuration, registry, store, now)
    return await _applied(configuration, registry, store, now)


async def _applied(configuration: Configuration, registry: Registry, store: Store, now: int) -> Changes:
    known = await _known(configuration, registry, store)
    await _check(configuration, known, registry, store)
    log = _Log()
    # first of all, so that uids and tokens are free for those who take them over
    await _remove(configuration, known, registry, log)
    for event_type in configuration.event_types:
        await _event_type(event_type, known, registry, now, log)
    for application in configuration.applications:
        await _application(application, known, registry, log)
    for source in configuration.sources:
        await _source(source, known, registry, log)
    for endpoint in configuration.endpoints:
        await _endpoint(endpoint, known, registry, log)
    return log.changes()


async def _known(configuration: Configuration, registry: Registry, store: Store) -> _Known:
    """What is described, as it is stored, and everything else that is managed."""
    known = _Known({}, {}, {}, {})
    described = {application.uid for application in configuration.applications}
    for app in await all_applications(store):
        name = app.uid or app.id
        if app.uid in described:
            known.applications[app.uid] = app
        for endpoint, _ in await store.load_endpoints(app.id):
            if endpoint.managed or (app.uid in described and endpoint.uid is not None):
                known.endpoints[name, endpoint.uid or endpoint.id] = endpoint
        for source in await registry.sources(app.id):
            if source.managed or (app.uid in described and source.uid is not None):
                known.sources[name, source.uid or source.id] = source
    for wanted in configuration.event_types:
        stored = await store.get_event_type(wanted.name)
        if stored is not None:
            known.event_types[wanted.name] = stored
    return known


async def _check(configuration: Configuration, known: _Known, registry: Registry, store: Store) -> None:
    """Raises ConfigurationError for what the registry would refuse later."""
    problems = []
    for wanted in configuration.endpoints:
        stored = known.endpoints.get((wanted.application, wanted.uid))
        try:
            url_changed = stored is None or stored.url != wanted.url
            await registry.check_endpoint(_wanted_endpoint(wanted, stored), url_changed)
        except Invalid as wrong:
            problems.append(f"{configuration.file}:{wanted.line}: endpoint.{_key(wrong, 'url')}: {wrong.detail}")
    problems += [
        f"{configuration.file}:{source.line}: source.token: another source has it: take another"
        for source in configuration.sources
        if await _token_taken(source, configuration, known, store)
    ]
    if problems:
        raise ConfigurationError("\n".join(problems))


async def _token_taken(wanted: ConfiguredSource, configuration: Configuration, known: _Known, store: Store) -> bool:
    """Whether the token belongs to another source, and still will after those that vanished are deleted."""
    owner = None if wanted.token is None else await store.find_source(wanted.token)
    mine = known.sources.get((wanted.application, wanted.uid))
    if owner is None or (mine is not None and owner.id == mine.id):
        return False
    described = {(source.application, source.uid) for source in configuration.sources}
    return not any(
        source.id == owner.id and source.managed and key not in described for key, source in known.sources.items()
    )


def _key(wrong: Invalid, otherwise: str) -> str:
    return next((part for part in wrong.loc[1:2] if part), otherwise)


async def _remove(configuration: Configuration, known: _Known, registry: Registry, log: _Log) -> None:
    """Managed endpoints and sources that the file no longer describes; what is pending there is cancelled."""
    wanted = {(endpoint.application, endpoint.uid) for endpoint in configuration.endpoints}
    for key, endpoint in known.endpoints.items():
        if endpoint.managed and key not in wanted:
            await registry.delete_endpoint(endpoint)
            log.note("removed", _shown("endpoint", key))
    wanted = {(source.application, source.uid) for source in configuration.sources}
    for key, source in known.sources.items():
        if source.managed and key not in wanted:
            await registry.delete_source(source)
            log.note("removed", _shown("source", key))


def _shown(noun: str, key: tuple[str, str]) -> str:
    return f"{noun} {key[0]}/{key[1]}"


async def _event_type(wanted: ConfiguredEventType, known: _Known, registry: Registry, now: int, log: _Log) -> None:
    fields: dict[str, Any] = {
        "description": wanted.description,
        "group_name": wanted.group_name,
        "deprecated": wanted.deprecated,
        "schemas": wanted.schemas,
        "archived": False,
    }
    name, stored = f"event_type {wanted.name}", known.event_types.get(wanted.name)
    if stored is None:
        await registry.save_event_type(EventType(name=wanted.name, created_at=now, updated_at=now, **fields))
        log.note("created", name)
    elif changes := _differing(stored, fields):
        await registry.save_event_type(replace(stored, updated_at=now, **changes))
        log.note("changed", name)
    else:
        log.note("unchanged", name)


async def _application(wanted: ConfiguredApplication, known: _Known, registry: Registry, log: _Log) -> None:
    name, stored = f"application {wanted.uid}", known.applications.get(wanted.uid)
    fields = {name: getattr(wanted, name) for name in _APPLICATION_FIELDS}
    if stored is None:
        known.applications[wanted.uid] = await registry.create_application(uid=wanted.uid, **fields)
        log.note("created", name)
    elif wanted.line and (changes := _differing(stored, fields)):
        known.applications[wanted.uid] = await registry.save_application(stored, **changes)
        log.note("changed", name)
    else:
        log.note("unchanged", name)


async def _source(wanted: ConfiguredSource, known: _Known, registry: Registry, log: _Log) -> None:
    key = (wanted.application, wanted.uid)
    stored = known.sources.get(key)
    fields: dict[str, Any] = {
        "name": wanted.name,
        "provider": wanted.provider,
        "secrets": wanted.secrets,
        "options": wanted.options,
        "managed": True,
    }
    if wanted.token is not None:
        fields["token"] = wanted.token
    if stored is None:
        app = known.applications[wanted.application].id
        await registry.create_source(app, uid=wanted.uid, **fields)
        log.note("created", _shown("source", key))
    elif changes := _differing(stored, fields):
        await registry.save_source(stored, **changes)
        log.note("changed", _shown("source", key))
    else:
        log.note("unchanged", _shown("source", key))


def _wanted_endpoint(wanted: ConfiguredEndpoint, stored: Endpoint | None) -> Endpoint:
    """The endpoint that the file describes; what it leaves open stays as it is stored."""
    fields: dict[str, Any] = {name: getattr(wanted, name) for name in _ENDPOINT_FIELDS}
    fields["managed"] = True
    if wanted.secrets:
        fields["secrets"] = wanted.secrets
    if stored is None:
        return Endpoint(id="", app="", uid=wanted.uid, created_at=0, updated_at=0, **fields)
    switched_off = stored.disabled_reason in AUTOMATIC and stored.url == wanted.url
    if wanted.disabled:
        fields["disabled_reason"] = "manual"
    elif stored.disabled and switched_off:
        fields["disabled"] = True
    else:
        fields["disabled_reason"] = None
    return replace(stored, **fields)


async def _endpoint(wanted: ConfiguredEndpoint, known: _Known, registry: Registry, log: _Log) -> None:
    key = (wanted.application, wanted.uid)
    stored = known.endpoints.get(key)
    described = _wanted_endpoint(wanted, stored)
    fields = {name: getattr(described, name) for name in (*_ENDPOINT_FIELDS, "secrets", "managed", "disabled_reason")}
    if stored is None:
        if wanted.disabled:
            fields["disabled_reason"] = "manual"
        await registry.create_endpoint(known.applications[wanted.application].id, uid=wanted.uid, **fields)
        log.note("created", _shown("endpoint", key))
    elif changes := _differing(stored, fields):
        await registry.save_endpoint(stored, **changes)
        log.note("changed", _shown("endpoint", key))
    else:
        log.note("unchanged", _shown("endpoint", key))


def _differing(stored: Struct, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields whose value is another than the stored one."""
    return {name: value for name, value in fields.items() if getattr(stored, name) != value}
