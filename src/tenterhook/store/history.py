"""What happened, on a SQLite connection: messages, deliveries, attempts, received requests."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from tenterhook.engine.lifecycle import PENDING, step
from tenterhook.errors import DeliveryInFlight, NotFound
from tenterhook.model import Attempt, Delivery, Message, Received, State, Trigger
from tenterhook.store import rows
from tenterhook.store.base import Counts, Cursor, Settlement
from tenterhook.store.batch import insert, line_is_occupied, promote
from tenterhook.store.lists import page

DB = sqlite3.Connection
_RECOVER = "UPDATE delivery SET state = 'due', due_at = ? WHERE state = 'leased' AND due_at IS NOT NULL"


# messages


def get_message(db: DB, app: str, message: str) -> Message | None:
    sql = f"SELECT {rows.MESSAGE} FROM message WHERE app = ? AND "
    found = db.execute(sql + "id = ?", (app, message)).fetchone()
    found = found or db.execute(sql + "event_id = ?", (app, message)).fetchone()
    return None if found is None else rows.message(found)


def list_messages(db: DB, app: str, cursor: Cursor, event_types: Sequence[str]) -> list[Message]:
    where: list[tuple[str, Sequence[Any]]] = [("app = ?", (app,))]
    if event_types:
        where.append((f"event_type IN ({', '.join('?' * len(event_types))})", event_types))
    found = page(db, f"SELECT {rows.MESSAGE} FROM message", where, "id", cursor, "msg_")
    return [rows.message(row) for row in found]


# deliveries


def get_delivery(db: DB, app: str, message: str, endpoint: str) -> Delivery | None:
    found = db.execute(
        f"SELECT {rows.DELIVERY} FROM delivery WHERE message = ? AND endpoint = ? AND app = ?", (message, endpoint, app)
    ).fetchone()
    return None if found is None else rows.delivery(found)


def list_deliveries(db: DB, app: str, message: str) -> list[Delivery]:
    sql = f"SELECT {rows.DELIVERY} FROM delivery WHERE message = ? AND app = ? ORDER BY endpoint"
    return [rows.delivery(row) for row in db.execute(sql, (message, app))]


def _save(db: DB, delivery: Delivery) -> None:
    insert(db, "delivery", rows.DELIVERY, [rows.delivery_row(delivery)], "INSERT OR REPLACE")


def request_attempt(db: DB, app: str, message: str, endpoint: str, now: int, lifetime: int) -> Delivery:
    """A pending delivery keeps its planned try in `resume_at`; one that has ended gets one try and nothing more."""
    delivery = get_delivery(db, app, message, endpoint)
    if delivery is None:
        raise NotFound
    if delivery.state is State.LEASED:
        raise DeliveryInFlight
    if delivery.state is State.WAITING:
        # jumping the line would break its order, and waiting in it is what the delivery does already
        return delivery
    planned = delivery.due_at if delivery.state is State.DUE else None
    if delivery.trigger is Trigger.MANUAL and delivery.state is State.DUE:
        planned = delivery.resume_at
    expires_at = delivery.expires_at if delivery.state is State.DUE else now + lifetime
    occupied = delivery.state is not State.DUE and _must_queue(db, delivery)
    moved = step(delivery, "queued") if occupied else step(delivery, "requested", due_at=now)
    moved = replace(moved, trigger=Trigger.MANUAL, resume_at=planned, expires_at=expires_at)
    _save(db, moved)
    return moved


def _must_queue(db: DB, delivery: Delivery) -> bool:
    return delivery.order_key is not None and line_is_occupied(db, delivery.endpoint, delivery.order_key)


def replay(db: DB, app: str, endpoint: str, message_ids: Sequence[str], now: int, lifetime: int, order: bool) -> int:
    count = 0
    for message_id in sorted(message_ids):
        delivery = get_delivery(db, app, message_id, endpoint)
        if delivery is None:
            delivery = _never_planned(db, app, message_id, endpoint, now, lifetime, order)
        elif delivery.state in PENDING:
            continue
        if delivery is None:
            continue
        queued = _must_queue(db, delivery)
        moved = step(delivery, "queued") if queued else step(delivery, "replayed", due_at=now)
        _save(db, replace(moved, step=0, trigger=Trigger.SCHEDULED, resume_at=None, expires_at=now + lifetime))
        count += 1
    return count


def _never_planned(
    db: DB, app: str, message: str, endpoint: str, now: int, lifetime: int, order: bool
) -> Delivery | None:
    """A delivery for a message that came while the endpoint was disabled, or before it existed."""
    found = db.execute("SELECT order_key FROM message WHERE app = ? AND id = ?", (app, message)).fetchone()
    if found is None:
        return None
    return Delivery(
        message=message, endpoint=endpoint, app=app, state=State.CANCELLED, due_at=None,
        order_key=(found[0] or "") if order else None, created_at=now, expires_at=now + lifetime,
    )  # fmt: skip


def cancel_delivery(db: DB, app: str, message: str, endpoint: str, now: int) -> bool:
    delivery = get_delivery(db, app, message, endpoint)
    if delivery is None or delivery.state not in PENDING:
        return False
    _end(db, delivery, "cancelled", now)
    return True


def _end(db: DB, delivery: Delivery, event: str, now: int) -> Delivery:
    """End a delivery without an attempt; if it headed a FIFO line, its successor becomes due."""
    ended = step(delivery, event)
    _save(db, ended)
    if delivery.order_key is not None:
        promote(db, Settlement(ended, 0, now=now))
    return ended


def lapse(db: DB, now: int, limit: int) -> list[Delivery]:
    sql = f"SELECT {rows.DELIVERY} FROM delivery WHERE state IN ('waiting', 'due') AND expires_at <= ? LIMIT ?"
    over = [rows.delivery(row) for row in db.execute(sql, (now, limit)).fetchall()]
    ended = []
    for found in sorted(over, key=lambda d: d.message):
        # ending the head of a line changes its successor, which may be in this list too
        current = get_delivery(db, found.app, found.message, found.endpoint)
        if current is not None:
            ended.append(_end(db, current, "lapsed", now))
    return ended


def recover(db: DB, now: int) -> int:
    """The lease stays in the row: it says that an attempt was begun and never reported, see `batch.claim`."""
    return db.execute(_RECOVER, (now,)).rowcount


def next_dues(db: DB, after: str | None, limit: int) -> list[tuple[str, int]]:
    """Steps from endpoint to endpoint through the index: the cost does not grow with the deliveries behind each."""
    dues: list[tuple[str, int]] = []
    sql = "SELECT endpoint, due_at FROM delivery WHERE endpoint > ? AND due_at IS NOT NULL ORDER BY endpoint, due_at LIMIT 1"
    last = after or ""
    while len(dues) < limit:
        found = db.execute(sql, (last,)).fetchone()
        if found is None:
            break
        dues.append((found[0], found[1]))
        last = found[0]
    return dues


def counts(db: DB) -> Counts:
    row = db.execute(
        "SELECT (SELECT count(*) FROM delivery WHERE due_at IS NOT NULL)"
        " + (SELECT count(*) FROM delivery INDEXED BY delivery_line WHERE order_key IS NOT NULL AND state = 'waiting'"
        "  AND state IN ('waiting', 'due', 'leased')),"
        " (SELECT min(due_at) FROM delivery WHERE due_at IS NOT NULL)"
    ).fetchone()
    return Counts(row[0], row[1])


# attempts


def get_attempt(db: DB, app: str, message: str, attempt: str) -> Attempt | None:
    found = db.execute(
        f"SELECT {rows.ATTEMPT} FROM attempt WHERE message = ? AND id = ? AND app = ?", (message, attempt, app)
    ).fetchone()
    return None if found is None else rows.attempt(found)


def list_attempts(db: DB, app: str, cursor: Cursor, message: str | None, endpoint: str | None) -> list[Attempt]:
    where: list[tuple[str, Sequence[Any]]] = [("app = ?", (app,))]
    if message is not None:
        where.append(("message = ?", (message,)))
    if endpoint is not None:
        # by message the index on messages is the better one: the unary plus keeps SQLite from choosing the other
        where.append((f"{'+' if message is not None else ''}endpoint = ?", (endpoint,)))
    found = page(db, f"SELECT {rows.ATTEMPT} FROM attempt", where, "id", cursor, "atmpt_")
    return [rows.attempt(row) for row in found]


# received requests

_RECEIVED = (
    f"SELECT {', '.join('r.' + c for c in rows.RECEIVED.split(', '))}, m.payload FROM received AS r"
    " LEFT JOIN message AS m ON r.body IS NULL AND m.app = r.app AND m.id = r.message"
)


def list_received(db: DB, app: str, source: str, cursor: Cursor, verdict: str | None) -> list[Received]:
    where: list[tuple[str, Sequence[Any]]] = [("r.app = ?", (app,)), ("r.source = ?", (source,))]
    if verdict is not None:
        where.append(("r.verdict = ?", (verdict,)))
    return [rows.received(row[:-1], row[-1]) for row in page(db, _RECEIVED, where, "r.id", cursor, "req_")]


def get_received(db: DB, app: str, source: str, request: str) -> Received | None:
    found = db.execute(f"{_RECEIVED} WHERE r.app = ? AND r.source = ? AND r.id = ?", (app, source, request)).fetchone()
    return None if found is None else rows.received(found[:-1], found[-1])


def prune(db: DB, now: int, rejections_kept: int, limit: int) -> int:
    gone = db.execute(
        "DELETE FROM idempotency WHERE key IN (SELECT key FROM idempotency WHERE expires_at <= ? LIMIT ?)", (now, limit)
    ).rowcount
    for (source,) in db.execute("SELECT DISTINCT source FROM received WHERE verdict = 'rejected'").fetchall():
        gone += db.execute(
            "DELETE FROM received WHERE rowid IN (SELECT rowid FROM received WHERE source = ? AND verdict = 'rejected'"
            " ORDER BY id DESC LIMIT ? OFFSET ?)",
            (source, limit, rejections_kept),
        ).rowcount
    return gone
