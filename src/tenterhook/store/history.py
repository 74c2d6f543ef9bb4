"""What happened, as verbs: messages, deliveries, attempts, received requests."""

from collections.abc import Collection, Sequence
from typing import Any

from msgspec.structs import replace

from tenterhook import ids
from tenterhook.clock import HOUR
from tenterhook.engine.lifecycle import PENDING, step
from tenterhook.errors import DeliveryInFlight, MissingPayload, NotFound
from tenterhook.model import Attempt, Delivery, Message, Received, State, Trigger
from tenterhook.store import rows
from tenterhook.store.base import Lapsing, NextDue
from tenterhook.store.lines import is_occupied, step_forward
from tenterhook.store.lists import Where, page
from tenterhook.store.notices import announce, lines_of
from tenterhook.store.queries import Cursor
from tenterhook.store.sql import (
    Insert,
    LockLines,
    Read,
    Row,
    Tell,
    Verb,
    change,
    listed,
    select,
    select_locked,
    select_one,
    tuples,
)
from tenterhook.store.work import Accept

SKEW = HOUR
"""An attempt is younger than its message; this much for clocks that disagree."""

# messages


def get_message(app: str, message: str) -> Verb[Message | None]:
    text = f"SELECT {rows.MESSAGE} FROM message WHERE app = ? AND id = ?"
    found = yield from select_one(text, app, message)
    if found is None:
        named = yield from select_one("SELECT message FROM event_id WHERE app = ? AND event_id = ?", app, message)
        if named is not None:
            found = yield from select_one(text, app, named[0])
    return None if found is None else rows.message(found)


def get_messages(app: str, messages: Sequence[str]) -> Verb[list[Message]]:
    if not messages:
        return []
    text = f"SELECT {rows.MESSAGE} FROM message WHERE app = ? AND id IN ({listed(len(messages))}) ORDER BY id"
    return [rows.message(row) for row in (yield from select(text, app, *messages))]


def list_messages(app: str, cursor: Cursor) -> Verb[list[Message]]:
    found = yield from page(f"{rows.MESSAGE} FROM message", [("app = ?", (app,))], "id", cursor, "msg_")
    return [rows.message(row) for row in found]


# deliveries

_DELIVERY = f"SELECT {rows.DELIVERY} FROM delivery WHERE message = ? AND endpoint = ? AND app = ?"
_SAVE = "(message, endpoint) DO UPDATE SET " + ", ".join(
    f"{column} = excluded.{column}" for column in rows.DELIVERY.split(", ")[2:]
)


def get_delivery(app: str, message: str, endpoint: str) -> Verb[Delivery | None]:
    found = yield from select_one(_DELIVERY, message, endpoint, app)
    return None if found is None else rows.delivery(found)


def list_deliveries(app: str, message: str) -> Verb[list[Delivery]]:
    text = f"SELECT {rows.DELIVERY} FROM delivery WHERE message = ? AND app = ? ORDER BY endpoint"
    return [rows.delivery(row) for row in (yield from select(text, message, app))]


def _held(app: str, message: str, endpoint: str) -> Verb[Delivery | None]:
    """A delivery to be changed: its line first, then its row, as it is then."""
    seen = yield from get_delivery(app, message, endpoint)
    if seen is None:
        return None
    if seen.order_key is not None:
        yield LockLines([(endpoint, seen.order_key)])
    found: list[Any] = yield Read(_DELIVERY, (message, endpoint, app), lock=True)
    return rows.delivery(found[0]) if found else None


def _kept(app: str, message: str) -> Verb[Row | None]:
    """The order key of a message and whether it has expired; it does not go before this transaction ends."""
    text = "SELECT order_key, CASE WHEN payload IS NULL THEN 1 ELSE 0 END FROM message WHERE app = ? AND id = ?"
    return (yield from select_locked(text, app, message))


def _save(delivery: Delivery) -> Verb[None]:
    yield Insert("delivery", rows.DELIVERY, [rows.delivery_row(delivery)], _SAVE)
    if delivery.state is State.DUE:
        yield Tell("due", delivery.endpoint)


def request_attempt(app: str, message: str, endpoint: str, now: int, lifetime: int, ordered: bool) -> Verb[Delivery]:
    """A pending delivery keeps its planned try in `resume_at`; one that has ended gets one try and nothing more."""
    kept = yield from _kept(app, message)
    if kept is None:
        raise NotFound
    if kept[1]:
        raise MissingPayload
    delivery = yield from _held(app, message, endpoint)
    if delivery is None:
        delivery = yield from _never_planned(app, message, endpoint, (kept[0] or "") if ordered else None, now)
    if delivery.state is State.LEASED:
        raise DeliveryInFlight
    if delivery.state is State.WAITING:
        # jumping the line would break its order, and waiting in it is what the delivery does already
        return delivery
    planned = delivery.due_at if delivery.state is State.DUE else None
    if delivery.trigger is Trigger.MANUAL and delivery.state is State.DUE:
        planned = delivery.resume_at
    expires_at = delivery.expires_at if delivery.state is State.DUE else now + lifetime
    occupied = delivery.state is not State.DUE and (yield from _must_queue(delivery))
    moved = step(delivery, "queued") if occupied else step(delivery, "requested", due_at=now)
    moved = replace(moved, trigger=Trigger.MANUAL, resume_at=planned, expires_at=expires_at)
    yield from _save(moved)
    yield from _let_one_through(endpoint)
    return moved


def _let_one_through(endpoint: str) -> Verb[None]:
    """A breaker that is open goes on to probe now, at every node."""
    text = "UPDATE health SET open_until = NULL WHERE endpoint = ? AND open_until IS NOT NULL"
    if (yield from change(text, endpoint)):
        yield Tell("health", endpoint)


def _must_queue(delivery: Delivery) -> Verb[bool]:
    return delivery.order_key is not None and (yield from is_occupied(delivery.endpoint, delivery.order_key))


def _never_planned(app: str, message: str, endpoint: str, line: str | None, now: int) -> Verb[Delivery]:
    """A delivery for a message that came while the endpoint was disabled, or before it existed."""
    if line is not None:
        yield LockLines([(endpoint, line)])
    return Delivery(
        message=message, endpoint=endpoint, app=app, state=State.CANCELLED, due_at=None, order_key=line, created_at=now,
        expires_at=now,
    )  # fmt: skip


def cancel_delivery(app: str, message: str, endpoint: str, now: int) -> Verb[bool]:
    delivery = yield from _held(app, message, endpoint)
    if delivery is None or delivery.state not in PENDING:
        return False
    yield from _save(step(delivery, "cancelled"))
    if delivery.order_key is not None:
        yield from step_forward([(endpoint, delivery.order_key)], now)
        yield Tell("due", endpoint)
    return True


_LAPSING = (
    f"SELECT {', '.join('d.' + column for column in rows.DELIVERY.split(', '))}, m.event_id, e.uid, a.id, a.status,"
    " a.started_at FROM delivery AS d LEFT JOIN message AS m ON m.app = d.app AND m.id = d.message"
    " LEFT JOIN endpoint AS e ON e.id = d.endpoint LEFT JOIN attempt AS a ON a.message = d.message AND a.id = ("
    # by message the index on messages is the better one: as an expression the endpoint tempts to no other
    "SELECT max(x.id) FROM attempt AS x WHERE x.message = d.message AND (x.endpoint || '') = d.endpoint)"
    " WHERE d.state IN ('waiting', 'due') AND d.expires_at <= ? LIMIT ?"
)


def list_lapsing(now: int, limit: int) -> Verb[list[Lapsing]]:
    return [
        Lapsing(rows.delivery(row[:-5]), row[-5], row[-4], None if row[-3] is None else (row[-3], row[-2], row[-1]))
        for row in (yield from select(_LAPSING, now, limit))
    ]


def lapse(now: int, over: Sequence[tuple[Delivery, Sequence[Accept]]]) -> Verb[list[Delivery]]:
    """In few statements, however many there are: whoever publishes into one of these lines waits for the end of it."""
    mine = sorted({(d.endpoint, d.order_key) for d, _ in over if d.order_key is not None})
    lines = {*mine, *(line for _, notices in over for line in lines_of(notices))}
    if lines:
        yield LockLines(sorted(lines))
    told = {(delivery.message, delivery.endpoint): notices for delivery, notices in over}
    text = (
        f"SELECT {rows.DELIVERY} FROM delivery WHERE {_among(told)} AND state IN ('waiting', 'due') AND expires_at <= ?"
        " ORDER BY message, endpoint"
    )
    # what has moved in between is left alone, and nobody moves these now
    still: list[Row] = yield Read(text, (*_values(told), now), lock=True)
    ended = {(row[0], row[1]): step(rows.delivery(row), "lapsed") for row in still}
    if ended:
        text = f"UPDATE delivery SET state = 'failed', due_at = NULL, lease = 0 WHERE {_among(ended)}"
        yield from change(text, *_values(ended))
    if mine:
        yield from step_forward(mine, now)
    yield from announce([notice for key in ended for notice in told[key]])
    return list(ended.values())


def _among(keys: Collection[tuple[str, str]]) -> str:
    # SQLite finds pairs alone in no index
    return f"message IN ({listed(len(keys))}) AND (message, endpoint) IN (VALUES {tuples(2, len(keys))})"


def _values(keys: Collection[tuple[str, str]]) -> list[str]:
    return [message for message, _ in keys] + [value for key in keys for value in key]


def recover(now: int) -> Verb[int]:
    yield from change("UPDATE task SET due_at = ? WHERE due_at > ?", now, now)
    # by the index of what is pending, not by all that there ever was
    text = "UPDATE delivery SET state = 'due', due_at = ? WHERE state = 'leased' AND due_at IS NOT NULL"
    return (yield from change(text, now))


_NEXT_DUES = """
    WITH RECURSIVE behind (endpoint) AS (
        SELECT min(endpoint) FROM delivery WHERE endpoint > ? AND due_at IS NOT NULL
        UNION ALL
        SELECT (SELECT min(d.endpoint) FROM delivery AS d WHERE d.endpoint > behind.endpoint AND d.due_at IS NOT NULL)
        FROM behind WHERE behind.endpoint IS NOT NULL
    )
    SELECT endpoint, (SELECT min(d.due_at) FROM delivery AS d WHERE d.endpoint = behind.endpoint AND d.due_at IS NOT NULL),
        (SELECT e.updated_at FROM endpoint AS e WHERE e.id = behind.endpoint)
    FROM behind WHERE endpoint IS NOT NULL LIMIT ?
"""


def next_dues(after: str | None, limit: int) -> Verb[list[NextDue]]:
    """Steps from endpoint to endpoint through the index: the cost does not grow with the deliveries behind each."""
    return [NextDue(*row) for row in (yield from select(_NEXT_DUES, after or "", limit))]


# attempts


def get_attempt(app: str, message: str, attempt: str) -> Verb[Attempt | None]:
    text = f"SELECT {rows.ATTEMPT} FROM attempt WHERE message = ? AND id = ? AND app = ?"
    found = yield from select_one(text, message, attempt, app)
    return None if found is None else rows.attempt(found)


def list_attempts(app: str, cursor: Cursor, message: str | None, endpoint: str | None) -> Verb[list[Attempt]]:
    where = [("a.app = ?", (app,)), *attempts_of(message, endpoint)]
    found = yield from page(f"{rows.of('a', rows.ATTEMPT)} FROM attempt AS a", where, "a.id", cursor, "atmpt_")
    return [rows.attempt(row) for row in found]


def attempts_of(message: str | None, endpoint: str | None) -> list[Where]:
    """Conditions on `attempt AS a`."""
    where: list[Where] = []
    if message is not None:
        where.append(("a.message = ?", (message,)))
        if ids.is_id(message, "msg_"):
            # spares the parts of the history that are older than the message
            where.append(("a.id >= ?", (ids.floor("atmpt_", max(0, ids.instant_of(message) - SKEW)),)))
    if endpoint is not None:
        # by message the index on messages is the better one: as an expression the endpoint tempts to no other
        where.append(("a.endpoint = ?" if message is None else "(a.endpoint || '') = ?", (endpoint,)))
    return where


# received requests

_RECEIVED = (
    f"{rows.of('r', rows.RECEIVED)}, m.payload FROM received AS r"
    " LEFT JOIN message AS m ON r.verdict = 'accepted' AND m.app = r.app AND m.id = r.message"
)


def list_received(app: str, source: str, cursor: Cursor, verdict: str | None) -> Verb[list[Received]]:
    where: list[Where] = [("r.app = ?", (app,)), ("r.source = ?", (source,))]
    if verdict is not None:
        where.append(("r.verdict = ?", (verdict,)))
        if verdict != "accepted":
            where.append(("r.verdict <> 'accepted'", ()))  # so that they are found by their own index
    found = yield from page(_RECEIVED, where, "r.id", cursor, "req_")
    return [rows.received(row[:-1], row[-1]) for row in found]


def get_received(app: str, source: str, request: str) -> Verb[Received | None]:
    found = yield from select_one(
        f"SELECT {_RECEIVED} WHERE r.app = ? AND r.source = ? AND r.id = ?", app, source, request
    )
    return None if found is None else rows.received(found[:-1], found[-1])
