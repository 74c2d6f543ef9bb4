"""Consumers, as verbs: who fetches the messages of an endpoint, and how far each has come."""

from tenterhook.errors import NotFound
from tenterhook.store.sql import Verb, change, select_one


def save_position(app: str, endpoint: str, consumer: str, position: str) -> Verb[None]:
    count = yield from change(
        "INSERT INTO consumer (endpoint, name, position) SELECT id, ?, ? FROM endpoint WHERE app = ? AND id = ?"
        " ON CONFLICT (endpoint, name) DO UPDATE SET position = excluded.position",
        consumer, position, app, endpoint,
    )  # fmt: skip
    if count == 0:
        raise NotFound


def get_position(app: str, endpoint: str, consumer: str) -> Verb[str | None]:
    found = yield from select_one(
        "SELECT c.position FROM consumer AS c JOIN endpoint AS e ON e.id = c.endpoint"
        " WHERE e.app = ? AND c.endpoint = ? AND c.name = ?",
        app, endpoint, consumer,
    )  # fmt: skip
    return None if found is None else found[0]
