"""Searches in the history, as verbs: lists with a filter.

What no index knows is looked for in a window: so many rows from the cursor on, however few of them fit. So every answer
comes fast, on however long a history, and says where to go on. Failed attempts have an index of their own.
"""

import msgspec
from msgspec.structs import replace

from tenterhook.model import OPERATIONAL, Application, Attempt, Delivery, Message
from tenterhook.store import rows
from tenterhook.store.history import attempts_of
from tenterhook.store.lists import Where, page, up_to, window_end
from tenterhook.store.queries import (
    ANY_MESSAGE,
    ApplicationFilter,
    AttemptFilter,
    Cursor,
    DeliveryFilter,
    Found,
    MessageFilter,
)
from tenterhook.store.sql import Row, Verb, listed, select
from tenterhook.vault import Vault

WINDOW = 4_000

_MESSAGE_WIDTH = rows.MESSAGE.count(",") + 1


def search_applications(vault: Vault, cursor: Cursor, wanted: ApplicationFilter) -> Verb[Found[Application]]:
    others: list[Where] = [("a.id <> ?", (OPERATIONAL,))]
    end = yield from window_end("application AS a", others, "a.id", cursor, "app_", WINDOW)
    where = [*others, *_applications(wanted), *up_to("a.id", cursor, end)]
    if wanted.only_at is None:
        found = yield from page(_APPLICATION, where, "a.id", cursor)
    else:
        # URLs are sealed: of all that fit otherwise, the endpoints are looked at
        found = yield from page(_APPLICATION, where, "a.id", replace(cursor, limit=WINDOW))
        found = yield from _not_only_at(vault, wanted.only_at, found)
        found = found[-cursor.limit :] if cursor.backward else found[: cursor.limit]
    items = [msgspec.json.decode(document, type=Application) for _, document in found]
    return Found(items, None if len(items) == cursor.limit else end)


_APPLICATION = "a.id, a.document FROM application AS a"


def _applications(wanted: ApplicationFilter) -> list[Where]:
    mine = "SELECT 1 FROM endpoint AS e WHERE e.app = a.id"
    where: list[Where] = []
    if wanted.some:
        where.append((f"EXISTS ({mine})", ()))
    if wanted.enabled:
        where.append((f"(EXISTS ({mine} AND e.disabled = 0) OR NOT EXISTS ({mine}))", ()))
    return where


def _not_only_at(vault: Vault, place: str, apps: list[Row]) -> Verb[list[Row]]:
    text = f"SELECT {rows.ENDPOINT} FROM endpoint WHERE app IN ({listed(len(apps))})"
    at = dict[str, set[bool]]()
    for row in (yield from select(text, *[app for app, _ in apps])):
        endpoint = rows.endpoint(row, vault)
        at.setdefault(endpoint.app, set()).add(endpoint.url.startswith(place))
    return [row for row in apps if at.get(row[0]) != {True}]


def search_messages(app: str, cursor: Cursor, wanted: MessageFilter) -> Verb[Found[Message]]:
    mine: list[Where] = [("m.app = ?", (app,))]
    end = yield from window_end("message AS m", mine, "m.id", cursor, "msg_", WINDOW)
    where = [*mine, *_messages(wanted), *up_to("m.id", cursor, end)]
    found = yield from page(f"{rows.of('m', rows.MESSAGE)} FROM message AS m", where, "m.id", cursor, "msg_")
    return Found([rows.message(row) for row in found], None if len(found) == cursor.limit else end)


def search_attempts(
    app: str, cursor: Cursor, wanted: AttemptFilter, message: str | None, endpoint: str | None
) -> Verb[Found[Attempt]]:
    mine, indexed = attempts_of(message, endpoint), _indexed(wanted)
    end = None
    if message is None:  # one message has few attempts
        # without the application, which the index does not hold: this only says how far to look
        end = yield from window_end("attempt AS a", [*mine, *indexed], "a.id", cursor, "atmpt_", WINDOW)
    where = [("a.app = ?", (app,)), *mine, *indexed, *_attempts(wanted), *up_to("a.id", cursor, end)]
    if wanted.of != ANY_MESSAGE:
        where.append(_of_such_message(wanted.of))
    found = yield from page(f"{rows.of('a', rows.ATTEMPT)} FROM attempt AS a", where, "a.id", cursor, "atmpt_")
    return Found([rows.attempt(row) for row in found], None if len(found) == cursor.limit else end)


def search_deliveries(
    app: str, endpoint: str, cursor: Cursor, wanted: DeliveryFilter
) -> Verb[Found[tuple[Message, Delivery]]]:
    """Walks the messages of the application: deliveries are found by message, and an endpoint is owed most of them."""
    mine: list[Where] = [("m.app = ?", (app,))]
    end = yield from window_end("message AS m", mine, "m.id", cursor, "msg_", WINDOW)
    where = [
        *mine,
        ("d.endpoint = ?", (endpoint,)),
        *_deliveries(wanted),
        *_messages(wanted.of),
        *up_to("m.id", cursor, end),
    ]
    columns = f"{rows.of('m', rows.MESSAGE)}, {rows.of('d', rows.DELIVERY)}"
    table = "message AS m JOIN delivery AS d ON d.message = m.id"
    found = yield from page(f"{columns} FROM {table}", where, "m.id", cursor, "msg_")
    items = [(rows.message(row[:_MESSAGE_WIDTH]), rows.delivery(row[_MESSAGE_WIDTH:])) for row in found]
    return Found(items, None if len(found) == cursor.limit else end)


def _deliveries(wanted: DeliveryFilter) -> list[Where]:
    where: list[Where] = []
    if wanted.states:
        where.append((f"d.state IN ({listed(len(wanted.states))})", [state.value for state in wanted.states]))
    if wanted.tried is not None:
        where.append(("d.attempts > 0" if wanted.tried else "d.attempts = 0", ()))
    return where


def _of_such_message(wanted: MessageFilter) -> Where:
    """Looked up for each attempt of the window: with an offset PostgreSQL does not begin with all messages instead."""
    conditions = _messages(wanted)
    text = " AND ".join(text for text, _ in conditions)
    subject = f"SELECT 1 FROM message AS m WHERE m.app = a.app AND m.id = a.message AND {text} LIMIT 1 OFFSET 0"
    return f"EXISTS ({subject})", [value for _, values in conditions for value in values]


def _indexed(wanted: AttemptFilter) -> list[Where]:
    return [("a.result <> 'ok'", ())] if wanted.ok is False else []


def _attempts(wanted: AttemptFilter) -> list[Where]:
    where: list[Where] = []
    if wanted.ok:
        where.append(("a.result = 'ok'", ()))
    if wanted.cancelled is not None:
        where.append(("a.result = 'cancelled'" if wanted.cancelled else "a.result <> 'cancelled'", ()))
    if wanted.statuses is not None:
        where.append(("a.status >= ? AND a.status < ?", wanted.statuses))
    return where


def _messages(wanted: MessageFilter) -> list[Where]:
    where: list[Where] = []
    if wanted.event_types:
        types = [rows.storable(event_type) for event_type in wanted.event_types]
        where.append((f"m.event_type IN ({listed(len(types))})", types))
    for column, word in (("channels", wanted.channel), ("tags", wanted.tag)):
        if word is not None and "," in word:
            where.append(("1 = 0", ()))  # no word has a comma: it is what joins them
        elif word is not None:
            # LIKE would not mind the letter case
            words = f"',' || m.{column} || ','"
            where.append((f"replace({words}, ?, '') <> {words}", (f",{rows.storable(word)},",)))
    return where
