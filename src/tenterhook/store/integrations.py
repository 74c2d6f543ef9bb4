"""Integrations, as verbs. The key of one is a token, which lives and dies with what it is the key of."""

import msgspec
from msgspec.structs import replace

from tenterhook.errors import NotFound
from tenterhook.model import Integration, Token
from tenterhook.store.lists import page
from tenterhook.store.objects import create_token, delete_token, remember, save_token
from tenterhook.store.queries import Cursor
from tenterhook.store.sql import Verb, change, select_locked, select_one
from tenterhook.store.work import Remember

_integration = msgspec.json.Decoder(Integration).decode
_token = msgspec.json.Decoder(Token).decode


def create_integration(integration: Integration, answer: Remember | None) -> Verb[None]:
    row = (integration.id, integration.app, msgspec.json.encode(integration))
    yield from change("INSERT INTO integration (id, app, document) VALUES (?, ?, ?)", *row)
    yield from remember(answer)


def save_integration(app: str, integration: Integration) -> Verb[None]:
    key, _ = yield from _held(app, integration.id)
    document = msgspec.json.encode(integration)
    yield from change("UPDATE integration SET document = ? WHERE id = ?", document, integration.id)
    found = None if key is None else (yield from select_locked("SELECT document FROM token WHERE id = ?", key))
    if found is not None:
        yield from save_token(_key(_token(found[0]), integration))


def delete_integration(app: str, integration: str) -> Verb[None]:
    key, _ = yield from _held(app, integration)
    yield from change("DELETE FROM integration WHERE id = ?", integration)
    if key is not None:
        yield from delete_token(key)


def get_integration(app: str, integration: str) -> Verb[Integration | None]:
    found = yield from select_one("SELECT document FROM integration WHERE id = ? AND app = ?", integration, app)
    return None if found is None else _integration(found[0])


def list_integrations(app: str, cursor: Cursor) -> Verb[list[Integration]]:
    found = yield from page("document FROM integration", [("app = ?", (app,))], "id", cursor)
    return [_integration(row[0]) for row in found]


def rotate_key(app: str, integration: str, key: Token, token_hash: bytes) -> Verb[None]:
    old, there = yield from _held(app, integration)
    if old is not None:
        yield from delete_token(old)
    yield from create_token(_key(key, there), token_hash)
    yield from change("UPDATE integration SET token = ? WHERE id = ?", key.id, integration)


def _held(app: str, integration: str) -> Verb[tuple[str | None, Integration]]:
    """The id of its key, and itself; nobody else changes it until this transaction ends. Raises NotFound."""
    text = "SELECT token, document FROM integration WHERE id = ? AND app = ?"
    found = yield from select_locked(text, integration, app)
    if found is None:
        raise NotFound
    return found[0], _integration(found[1])


def _key(token: Token, integration: Integration) -> Token:
    return replace(token, name=integration.name, feature_flags=integration.feature_flags)
