"""What people configure, on a SQLite connection: applications, event types, endpoints, sources, tokens."""

import sqlite3
from collections.abc import Callable
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from tenterhook.errors import Conflict, EventTypeExists, NotFound
from tenterhook.model import Application, Endpoint, EventType, Health, Source, Token
from tenterhook.store import rows
from tenterhook.store.base import Cursor, Remember, Remembered
from tenterhook.store.lists import page
from tenterhook.vault import Vault

DB = sqlite3.Connection
T = TypeVar("T")

_application = msgspec.json.Decoder(Application).decode
_event_type = msgspec.json.Decoder(EventType).decode
_token = msgspec.json.Decoder(Token).decode


def _guarded(write: Callable[[], sqlite3.Cursor], taken: Conflict) -> sqlite3.Cursor:
    """Turn a broken uniqueness into the error that the caller should see."""
    try:
        return write()
    except sqlite3.IntegrityError as error:
        raise taken from error


def _must_exist(cursor: sqlite3.Cursor) -> None:
    if cursor.rowcount == 0:
        raise NotFound


def remember(db: DB, answer: Remember | None) -> None:
    """Keep an answer beside the effect that it reports."""
    if answer is not None:
        db.execute(
            f"INSERT OR REPLACE INTO idempotency ({rows.REMEMBER}) VALUES (?, ?, ?, ?, ?)",
            (answer.key, answer.body_hash, answer.status, answer.answer, answer.expires_at),
        )


def recall(db: DB, key: bytes, now: int) -> Remembered | None:
    found = db.execute(
        "SELECT body_hash, status, answer FROM idempotency WHERE key = ? AND expires_at > ?", (key, now)
    ).fetchone()
    return None if found is None else Remembered(*found)


# applications

_APP_TAKEN = "an application with this uid exists already"


def create_application(db: DB, app: Application, answer: Remember | None) -> None:
    row = (app.id, app.uid, msgspec.json.encode(app))
    _guarded(lambda: db.execute("INSERT INTO application VALUES (?, ?, ?)", row), Conflict(_APP_TAKEN))
    remember(db, answer)


def save_application(db: DB, app: Application) -> None:
    row = (app.uid, msgspec.json.encode(app), app.id)
    sql = "UPDATE application SET uid = ?, document = ? WHERE id = ?"
    _must_exist(_guarded(lambda: db.execute(sql, row), Conflict(_APP_TAKEN)))


def delete_application(db: DB, app: str) -> None:
    _must_exist(db.execute("DELETE FROM application WHERE id = ?", (app,)))
    for (endpoint,) in db.execute("SELECT id FROM endpoint WHERE app = ?", (app,)).fetchall():
        delete_endpoint(db, app, endpoint)
    db.execute("DELETE FROM source WHERE app = ?", (app,))


def get_application(db: DB, app: str) -> Application | None:
    found = db.execute("SELECT document FROM application WHERE id = ? OR uid = ?", (app, app)).fetchone()
    return None if found is None else _application(found[0])


def list_applications(db: DB, cursor: Cursor) -> list[Application]:
    return [_application(row[0]) for row in page(db, "SELECT document FROM application", [], "id", cursor)]


# event types


def create_event_type(db: DB, event_type: EventType, answer: Remember | None) -> None:
    there = get_event_type(db, event_type.name)
    if there is not None and not there.archived:
        raise EventTypeExists
    save_event_type(db, event_type)
    remember(db, answer)


def save_event_type(db: DB, event_type: EventType) -> None:
    db.execute(
        "INSERT OR REPLACE INTO event_type VALUES (?, ?, ?)",
        (event_type.name, event_type.archived, msgspec.json.encode(event_type)),
    )


def delete_event_type(db: DB, name: str) -> None:
    _must_exist(db.execute("DELETE FROM event_type WHERE name = ?", (name,)))


def get_event_type(db: DB, name: str) -> EventType | None:
    found = db.execute("SELECT document FROM event_type WHERE name = ?", (name,)).fetchone()
    return None if found is None else _event_type(found[0])


def list_event_types(db: DB, cursor: Cursor, archived: bool) -> list[EventType]:
    where = [] if archived else [("archived = ?", (False,))]
    return [_event_type(row[0]) for row in page(db, "SELECT document FROM event_type", where, "name", cursor)]


# endpoints

_ENDPOINT_TAKEN = "an endpoint with this uid exists already in the application"


def create_endpoint(db: DB, vault: Vault, endpoint: Endpoint, answer: Remember | None) -> None:
    row = rows.endpoint_row(endpoint, vault)
    _guarded(lambda: db.execute("INSERT INTO endpoint VALUES (?, ?, ?, ?, ?)", row), Conflict(_ENDPOINT_TAKEN))
    remember(db, answer)


def save_endpoint(db: DB, vault: Vault, app: str, endpoint: Endpoint, clean: bool) -> None:
    row = rows.endpoint_row(endpoint, vault)
    sql = "UPDATE endpoint SET uid = ?, document = ?, sealed = ? WHERE id = ? AND app = ?"
    _must_exist(_guarded(lambda: db.execute(sql, (*row[2:], endpoint.id, app)), Conflict(_ENDPOINT_TAKEN)))
    if clean:
        db.execute("DELETE FROM health WHERE endpoint = ?", (endpoint.id,))


def delete_endpoint(db: DB, app: str, endpoint: str) -> None:
    _must_exist(db.execute("DELETE FROM endpoint WHERE id = ? AND app = ?", (endpoint, app)))
    db.execute("DELETE FROM health WHERE endpoint = ?", (endpoint,))
    # what waits in a FIFO line has no due_at: two statements, each by its own index
    for mine in ("due_at IS NOT NULL", "order_key IS NOT NULL AND state IN ('waiting', 'due', 'leased')"):
        db.execute(
            f"UPDATE delivery SET state = 'cancelled', due_at = NULL, lease = 0 WHERE endpoint = ? AND {mine}",
            (endpoint,),
        )


_ENDPOINT = "SELECT e.document, e.sealed, h.failures, h.failing_since, h.open_until, h.opened FROM endpoint AS e"
_ENDPOINT += " LEFT JOIN health AS h ON h.endpoint = e.id"


def get_endpoint(db: DB, vault: Vault, app: str, endpoint: str) -> Endpoint | None:
    found = db.execute(
        "SELECT document, sealed FROM endpoint WHERE app = ? AND (id = ? OR uid = ?)", (app, endpoint, endpoint)
    ).fetchone()
    return None if found is None else rows.endpoint(found[0], found[1], vault)


def list_endpoints(db: DB, vault: Vault, app: str, cursor: Cursor) -> list[Endpoint]:
    found = page(db, "SELECT document, sealed FROM endpoint", [("app = ?", (app,))], "id", cursor)
    return [rows.endpoint(row[0], row[1], vault) for row in found]


def load_endpoint(db: DB, vault: Vault, endpoint: str) -> tuple[Endpoint, Health] | None:
    found = db.execute(f"{_ENDPOINT} WHERE e.id = ?", (endpoint,)).fetchone()
    return None if found is None else _with_health(found, vault)


def load_endpoints(db: DB, vault: Vault, app: str) -> list[tuple[Endpoint, Health]]:
    return [_with_health(row, vault) for row in db.execute(f"{_ENDPOINT} WHERE e.app = ? ORDER BY e.id", (app,))]


def _with_health(row: rows.Row, vault: Vault) -> tuple[Endpoint, Health]:
    return rows.endpoint(row[0], row[1], vault), Health() if row[2] is None else Health(*row[2:])


# sources

_SOURCE_TAKEN = "a source with this uid or token exists already"


def create_source(db: DB, vault: Vault, source: Source, answer: Remember | None) -> None:
    row = rows.source_row(source, vault)
    _guarded(lambda: db.execute("INSERT INTO source VALUES (?, ?, ?, ?, ?, ?)", row), Conflict(_SOURCE_TAKEN))
    remember(db, answer)


def save_source(db: DB, vault: Vault, app: str, source: Source) -> None:
    row = rows.source_row(source, vault)
    sql = "UPDATE source SET uid = ?, token = ?, document = ?, sealed = ? WHERE id = ? AND app = ?"
    _must_exist(_guarded(lambda: db.execute(sql, (*row[2:], source.id, app)), Conflict(_SOURCE_TAKEN)))


def delete_source(db: DB, app: str, source: str) -> None:
    _must_exist(db.execute("DELETE FROM source WHERE id = ? AND app = ?", (source, app)))


def get_source(db: DB, vault: Vault, app: str, source: str) -> Source | None:
    found = db.execute(
        "SELECT document, sealed FROM source WHERE app = ? AND (id = ? OR uid = ?)", (app, source, source)
    ).fetchone()
    return None if found is None else rows.source(found[0], found[1], vault)


def list_sources(db: DB, vault: Vault, app: str, cursor: Cursor) -> list[Source]:
    found = page(db, "SELECT document, sealed FROM source", [("app = ?", (app,))], "id", cursor)
    return [rows.source(row[0], row[1], vault) for row in found]


def find_source(db: DB, vault: Vault, token: str) -> Source | None:
    found = db.execute("SELECT document, sealed FROM source WHERE token = ?", (token,)).fetchone()
    return None if found is None else rows.source(found[0], found[1], vault)


# tokens


def create_token(db: DB, token: Token, token_hash: bytes) -> None:
    db.execute("INSERT INTO token VALUES (?, ?, ?)", (token.id, token_hash, msgspec.json.encode(token)))


def find_token(db: DB, token_hash: bytes) -> Token | None:
    found = db.execute("SELECT document FROM token WHERE hash = ?", (token_hash,)).fetchone()
    return None if found is None else _token(found[0])


def list_tokens(db: DB) -> list[Token]:
    return [_token(row[0]) for row in db.execute("SELECT document FROM token ORDER BY id")]


def revoke_token(db: DB, token: str, now: int) -> None:
    found = db.execute("SELECT document FROM token WHERE id = ?", (token,)).fetchone()
    if found is None:
        raise NotFound
    there = _token(found[0])
    revoked = there if there.revoked_at is not None else replace(there, revoked_at=now)
    db.execute("UPDATE token SET document = ? WHERE id = ?", (msgspec.json.encode(revoked), token))
