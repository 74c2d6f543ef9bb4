"""What people configure, as verbs: applications, event types, endpoints, sources, tokens.

Whatever changes how messages of an application are routed or received raises the application's revision, by which a node
that plans with an outdated picture is found out (`work.Accept`).
"""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from tenterhook.errors import ChangedMeanwhile, Conflict, EventTypeExists, IdempotencyInProgress, NotFound
from tenterhook.model import OPERATIONAL, Application, Endpoint, EventType, Health, Source, Token
from tenterhook.store import rows
from tenterhook.store.base import Loaded
from tenterhook.store.lists import page
from tenterhook.store.notices import announce
from tenterhook.store.queries import Cursor
from tenterhook.store.sql import Insert, Read, Row, Taken, Tell, Verb, change, listed, select, select_locked, select_one
from tenterhook.store.work import Accept, Remember, Remembered
from tenterhook.vault import Vault

_application = msgspec.json.Decoder(Application).decode
_event_type = msgspec.json.Decoder(EventType).decode
_token = msgspec.json.Decoder(Token).decode


def _unique(text: str, values: Row, taken: str) -> Verb[int]:
    """Write what may break a uniqueness. Raises Conflict."""
    try:
        return (yield from change(text, *values))
    except Taken:
        raise Conflict(taken) from None


def _must_be_as(seen: int | None, updated_at: int | None) -> None:
    """What is to be replaced is still as it was read, and is held from here on."""
    if updated_at is None:
        raise NotFound
    if seen not in (None, updated_at):
        raise ChangedMeanwhile


def _must_exist(count: int) -> None:
    if count == 0:
        raise NotFound


REMEMBER_AGAIN = (
    "(key) DO UPDATE SET body_hash = excluded.body_hash, status = excluded.status, answer = excluded.answer,"
    " expires_at = excluded.expires_at"
)


def remember(answer: Remember | None) -> Verb[None]:
    """Keep an answer beside the effect that it reports. Raises IdempotencyInProgress when another node was faster."""
    if answer is None:
        return
    count = yield from change(
        f"INSERT INTO idempotency ({rows.REMEMBER}) VALUES (?, ?, ?, ?, ?)"
        f" ON CONFLICT {REMEMBER_AGAIN} WHERE idempotency.expires_at <= ?",
        *rows.remember_row(answer),
        answer.made_at,
    )
    if count == 0:
        raise IdempotencyInProgress


def recall(key: bytes, now: int) -> Verb[Remembered | None]:
    found = yield from select_one(
        "SELECT body_hash, status, answer FROM idempotency WHERE key = ? AND expires_at > ?", key, now
    )
    return None if found is None else Remembered(*found)


# applications

_APP_TAKEN = "an application with this uid exists already"


def touch(app: str) -> Verb[None]:
    """Raise the revision of an application, and tell the other nodes."""
    yield from change("UPDATE application SET revision = revision + 1 WHERE id = ?", app)
    yield Tell("application", app)


def create_application(app: Application, answer: Remember | None) -> Verb[None]:
    row = (app.id, app.uid, 0, app.rate_limit, msgspec.json.encode(app))
    text = "INSERT INTO application (id, uid, revision, rate_limit, document) VALUES (?, ?, ?, ?, ?)"
    yield from _unique(text, row, _APP_TAKEN)
    yield from remember(answer)


def save_application(app: Application, seen: int | None) -> Verb[None]:
    there = yield from select_locked("SELECT document FROM application WHERE id = ?", app.id)
    _must_be_as(seen, None if there is None else _application(there[0]).updated_at)
    row = (app.uid, app.rate_limit, msgspec.json.encode(app), app.id)
    yield from _unique("UPDATE application SET uid = ?, rate_limit = ?, document = ? WHERE id = ?", row, _APP_TAKEN)
    yield from touch(app.id)


def delete_application(app: str, notices: Sequence[Accept]) -> Verb[None]:
    yield from announce(notices)
    _must_exist((yield from change("DELETE FROM application WHERE id = ?", app)))
    for (endpoint,) in (yield from select("SELECT id FROM endpoint WHERE app = ?", app)):
        yield from delete_endpoint(app, endpoint, ())
    yield from change("DELETE FROM source WHERE app = ?", app)
    yield from change("DELETE FROM token WHERE id IN (SELECT token FROM integration WHERE app = ?)", app)
    yield from change("DELETE FROM integration WHERE app = ?", app)
    # what happened in it goes step by step
    yield from change("INSERT INTO retired (app) VALUES (?) ON CONFLICT (app) DO NOTHING", app)
    yield Tell("application", app)
    yield Tell("token", "")


def get_application(app: str) -> Verb[Application | None]:
    found = yield from select_one("SELECT document FROM application WHERE id = ? OR uid = ?", app, app)
    return None if found is None else _application(found[0])


_FEW_CHANGED = 100
"""If more endpoints than this have changed, all are read."""


def load_application(vault: Vault, app: str, known: Mapping[str, int]) -> Verb[Loaded | None]:
    # the revision is read first: endpoints that are newer than it are noticed, older ones would not be
    found = yield from select_one("SELECT document, revision FROM application WHERE id = ? OR uid = ?", app, app)
    if found is None:
        return None
    application = _application(found[0])
    if known:
        there = yield from select("SELECT id, updated_at FROM endpoint WHERE app = ?", application.id)
        changed = [one for one, updated_at in there if known.get(one) != updated_at]
        if len(changed) <= _FEW_CHANGED:
            endpoints = (yield from load_endpoints(vault, application.id, changed)) if changed else []
            unchanged = tuple([one for one, updated_at in there if known.get(one) == updated_at])
            return Loaded(application, found[1], tuple(endpoints), unchanged)
    return Loaded(application, found[1], tuple((yield from load_endpoints(vault, application.id))))


def list_applications(cursor: Cursor) -> Verb[list[Application]]:
    found = yield from page("document FROM application", [("id <> ?", (OPERATIONAL,))], "id", cursor)
    return [_application(row[0]) for row in found]


# event types

_EVENT_TYPE = "name, archived, document"
_EVENT_TYPE_AGAIN = "(name) DO UPDATE SET archived = excluded.archived, document = excluded.document"
_SAVE_EVENT_TYPE = f"INSERT INTO event_type ({_EVENT_TYPE}) VALUES (?, ?, ?) ON CONFLICT {_EVENT_TYPE_AGAIN}"


def _event_type_row(event_type: EventType) -> Row:
    return (event_type.name, int(event_type.archived), msgspec.json.encode(event_type))


def create_event_type(event_type: EventType, answer: Remember | None) -> Verb[None]:
    count = yield from change(f"{_SAVE_EVENT_TYPE} WHERE event_type.archived = 1", *_event_type_row(event_type))
    if count == 0:
        raise EventTypeExists
    yield from remember(answer)
    yield Tell("event_type", event_type.name)


def save_event_type(event_type: EventType) -> Verb[None]:
    yield from change(_SAVE_EVENT_TYPE, *_event_type_row(event_type))
    yield Tell("event_type", event_type.name)


def save_event_types(event_types: Sequence[EventType], answer: Remember | None) -> Verb[None]:
    # in one order, so that nodes that save the same ones do not wait in a circle
    ordered = [_event_type_row(one) for one in sorted(event_types, key=lambda one: one.name)]
    if ordered:
        yield Insert("event_type", _EVENT_TYPE, ordered, _EVENT_TYPE_AGAIN)
        yield Tell("event_type", "")
    yield from remember(answer)


def delete_event_type(name: str) -> Verb[None]:
    _must_exist((yield from change("DELETE FROM event_type WHERE name = ?", name)))
    yield Tell("event_type", name)


def get_event_type(name: str) -> Verb[EventType | None]:
    found = yield from select_one("SELECT document FROM event_type WHERE name = ?", name)
    return None if found is None else _event_type(found[0])


def list_event_types(cursor: Cursor, archived: bool) -> Verb[list[EventType]]:
    where = [] if archived else [("archived = ?", (0,))]
    return [_event_type(row[0]) for row in (yield from page("document FROM event_type", where, "name", cursor))]


# endpoints

_ENDPOINT_TAKEN = "an endpoint with this uid exists already in the application"


def create_endpoint(vault: Vault, endpoint: Endpoint, answer: Remember | None, notices: Sequence[Accept]) -> Verb[None]:
    yield from announce(notices)
    text = f"INSERT INTO endpoint (id, app, uid, {rows.ENDPOINT}) VALUES ({listed(8)})"
    yield from _unique(text, rows.endpoint_row(endpoint, vault), _ENDPOINT_TAKEN)
    yield from remember(answer)
    yield from touch(endpoint.app)


def save_endpoint(
    vault: Vault, app: str, endpoint: Endpoint, clean: bool, notices: Sequence[Accept], seen: int | None
) -> Verb[None]:
    yield from announce(notices)
    there = yield from select_locked("SELECT updated_at FROM endpoint WHERE id = ? AND app = ?", endpoint.id, app)
    _must_be_as(seen, None if there is None else there[0])
    row = (*rows.endpoint_row(endpoint, vault)[2:], endpoint.id, app)
    text = (
        "UPDATE endpoint SET uid = ?, disabled = ?, disabled_reason = ?, updated_at = ?, document = ?, sealed = ?"
        " WHERE id = ? AND app = ?"
    )
    yield from _unique(text, row, _ENDPOINT_TAKEN)
    if clean:
        yield from change("DELETE FROM health WHERE endpoint = ?", endpoint.id)
    yield from touch(app)
    yield Tell("endpoint", endpoint.id)


def delete_endpoint(app: str, endpoint: str, notices: Sequence[Accept]) -> Verb[None]:
    yield from announce(notices)
    _must_exist((yield from change("DELETE FROM endpoint WHERE id = ? AND app = ?", endpoint, app)))
    yield from change("DELETE FROM health WHERE endpoint = ?", endpoint)
    yield from change("DELETE FROM consumer WHERE endpoint = ?", endpoint)
    yield from abandon(endpoint)
    yield from touch(app)
    yield Tell("endpoint", endpoint)


def abandon(endpoint: str) -> Verb[int]:
    count = 0
    # what waits in a FIFO line has no due_at: two statements, each by its own index
    for mine in ("due_at IS NOT NULL", "order_key IS NOT NULL AND state IN ('waiting', 'due', 'leased')"):
        count += yield from change(
            f"UPDATE delivery SET state = 'cancelled', due_at = NULL, lease = 0 WHERE endpoint = ? AND {mine}", endpoint
        )
    return count


_WITH_HEALTH = (
    f"SELECT {', '.join('e.' + c for c in rows.ENDPOINT.split(', '))}, h.failures, h.failing_since, h.open_until, h.opened"
    " FROM endpoint AS e"
    " LEFT JOIN health AS h ON h.endpoint = e.id"
)


def get_endpoint(vault: Vault, app: str, endpoint: str) -> Verb[Endpoint | None]:
    found = yield from select_one(
        f"SELECT {rows.ENDPOINT} FROM endpoint WHERE app = ? AND (id = ? OR uid = ?)", app, endpoint, endpoint
    )
    return None if found is None else rows.endpoint(found, vault)


def list_endpoints(vault: Vault, app: str, cursor: Cursor) -> Verb[list[Endpoint]]:
    found = yield from page(f"{rows.ENDPOINT} FROM endpoint", [("app = ?", (app,))], "id", cursor)
    return [rows.endpoint(row, vault) for row in found]


def load_endpoint(vault: Vault, endpoint: str) -> Verb[tuple[Endpoint, Health] | None]:
    found = yield from select_one(f"{_WITH_HEALTH} WHERE e.id = ?", endpoint)
    return None if found is None else _with_health(found, vault)


def load_endpoints(vault: Vault, app: str, only: Sequence[str] | None = None) -> Verb[list[tuple[Endpoint, Health]]]:
    these = "" if only is None else f" AND e.id IN ({listed(len(only))})"
    found = yield from select(f"{_WITH_HEALTH} WHERE e.app = ?{these} ORDER BY e.id", app, *(only or ()))
    return [_with_health(row, vault) for row in found]


def _with_health(row: Row, vault: Vault) -> tuple[Endpoint, Health]:
    return rows.endpoint(row[:5], vault), Health() if row[5] is None else Health(*row[5:])


# sources

_SOURCE_TAKEN = "a source with this uid or token exists already"


def create_source(vault: Vault, source: Source, answer: Remember | None) -> Verb[None]:
    text = "INSERT INTO source (id, app, uid, token, document, sealed) VALUES (?, ?, ?, ?, ?, ?)"
    yield from _unique(text, rows.source_row(source, vault), _SOURCE_TAKEN)
    yield from remember(answer)


def save_source(vault: Vault, app: str, source: Source, seen: int | None) -> Verb[None]:
    there = yield from select_locked("SELECT document FROM source WHERE id = ? AND app = ?", source.id, app)
    _must_be_as(seen, None if there is None else msgspec.json.decode(there[0], type=Source).updated_at)
    row = (*rows.source_row(source, vault)[2:], source.id, app)
    text = "UPDATE source SET uid = ?, token = ?, document = ?, sealed = ? WHERE id = ? AND app = ?"
    yield from _unique(text, row, _SOURCE_TAKEN)
    yield from touch(app)


def delete_source(app: str, source: str) -> Verb[None]:
    _must_exist((yield from change("DELETE FROM source WHERE id = ? AND app = ?", source, app)))
    yield from touch(app)


def get_source(vault: Vault, app: str, source: str) -> Verb[Source | None]:
    found = yield from select_one(
        "SELECT document, sealed FROM source WHERE app = ? AND (id = ? OR uid = ?)", app, source, source
    )
    return None if found is None else rows.source(found[0], found[1], vault)


def list_sources(vault: Vault, app: str, cursor: Cursor) -> Verb[list[Source]]:
    found = yield from page("document, sealed FROM source", [("app = ?", (app,))], "id", cursor)
    return [rows.source(row[0], row[1], vault) for row in found]


def find_source(vault: Vault, token: str) -> Verb[Source | None]:
    found = yield from select_one("SELECT document, sealed FROM source WHERE token = ?", token)
    return None if found is None else rows.source(found[0], found[1], vault)


# tokens


def create_token(token: Token, token_hash: bytes) -> Verb[None]:
    yield from change(
        "INSERT INTO token (id, hash, app, drop_at, document) VALUES (?, ?, ?, ?, ?)",
        token.id, token_hash, token.app, _drop_at(token), msgspec.json.encode(token),
    )  # fmt: skip


def _drop_at(token: Token) -> int | None:
    """Visits to the portal come and go; what an operator made stays in the list."""
    return token.expires_at if token.portal else None


def find_token(token_hash: bytes) -> Verb[Token | None]:
    found = yield from select_one("SELECT document FROM token WHERE hash = ?", token_hash)
    return None if found is None else _token(found[0])


def delete_token(token: str) -> Verb[None]:
    yield from change("DELETE FROM token WHERE id = ?", token)
    yield Tell("token", token)


def list_tokens() -> Verb[list[Token]]:
    found = yield from select("SELECT document FROM token WHERE drop_at IS NULL ORDER BY id")
    return [_token(row[0]) for row in found]


def revoke_token(token: str, now: int) -> Verb[None]:
    found = yield from select_locked("SELECT document FROM token WHERE id = ?", token)
    if found is None:
        raise NotFound
    there = _token(found[0])
    yield from save_token(there if there.revoked_at is not None else replace(there, revoked_at=now))


def expire_tokens(app: str, sessions: Sequence[str] | None, end: int) -> Verb[int]:
    # held, or a revocation in between would be written over
    found: list[Row] = yield Read("SELECT document FROM token WHERE app = ? ORDER BY id", (app,), lock=True)
    living = [
        token for token in (_token(row[0]) for row in found) if token.expires_at is None or token.expires_at > end
    ]
    ended = [token for token in living if sessions is None or token.session in sessions]
    for token in ended:
        yield from save_token(replace(token, expires_at=end))
    return len(ended)


def save_token(token: Token) -> Verb[None]:
    """With the secret that it has."""
    text = "UPDATE token SET drop_at = ?, document = ? WHERE id = ?"
    yield from change(text, _drop_at(token), msgspec.json.encode(token), token.id)
    yield Tell("token", token.id)
