"""Searches in the history, as verbs: lists with a filter.

What no index knows is looked for in a window: so many rows from the cursor on, however few of them fit. So every answer
comes fast, on however long a history, and says where to go on. Failed attempts have an index of their own.
"""

from tenterhook.model import Attempt, Message
from tenterhook.store import rows
from tenterhook.store.base import ANY_MESSAGE, AttemptFilter, Cursor, Found, MessageFilter
from tenterhook.store.history import attempts_of
from tenterhook.store.lists import Where, page, up_to, window_end
from tenterhook.store.sql import Verb, listed

WINDOW = 10_000
JOINED_WINDOW = 4_000
"""Where the message of each row must be looked up."""


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
    joined = wanted.of != ANY_MESSAGE
    end = None
    if message is None:  # one message has few attempts
        size = JOINED_WINDOW if joined else WINDOW
        # without the application, which the index does not hold: this only says how far to look
        end = yield from window_end("attempt AS a", [*mine, *indexed], "a.id", cursor, "atmpt_", size)
    table = "attempt AS a JOIN message AS m ON m.app = a.app AND m.id = a.message" if joined else "attempt AS a"
    where = [
        ("a.app = ?", (app,)),
        *mine,
        *indexed,
        *_attempts(wanted),
        *_messages(wanted.of),
        *up_to("a.id", cursor, end),
    ]
    found = yield from page(f"{rows.of('a', rows.ATTEMPT)} FROM {table}", where, "a.id", cursor, "atmpt_")
    return Found([rows.attempt(row) for row in found], None if len(found) == cursor.limit else end)


def _indexed(wanted: AttemptFilter) -> list[Where]:
    return [("a.result <> 'ok'", ())] if wanted.ok is False else []


def _attempts(wanted: AttemptFilter) -> list[Where]:
    where: list[Where] = []
    if wanted.ok:
        where.append(("a.result = 'ok'", ()))
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
