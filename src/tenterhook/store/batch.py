"""One committer batch on a SQLite connection: settlements, then accepts, then claims, inside one open transaction.

Rows are written by multi-row statements in a few fixed sizes: Python's sqlite3 gives the interpreter lock away and
takes it back for every statement it steps, and a busy event loop returns it late. A hundred rows in three statements
wait three times; a hundred rows one by one wait a hundred times.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache

from msgspec.structs import replace

from tenterhook.engine.lifecycle import PENDING, step
from tenterhook.errors import Conflict, IdempotencyInProgress
from tenterhook.model import Delivery, State
from tenterhook.store import rows
from tenterhook.store.base import Accept, Accepted, Claim, Claimed, Done, Page, Remembered, Settled, Settlement, Work
from tenterhook.store.rows import Row

_SIZES = (128, 64, 32, 16, 8, 4, 2, 1)
_LINE = "endpoint = ? AND order_key = ? AND order_key IS NOT NULL"
_PENDING = ", ".join(f"'{state.value}'" for state in PENDING)


class _LeaseLost(Exception):
    """Some settlement of a batch came too late, so its rows must be looked at one by one."""


def commit(db: sqlite3.Connection, work: Sequence[Work]) -> list[Done]:
    """The answers to `work`, in its order. The caller opens and commits the transaction."""
    try:
        return _commit(db, work, careful=False)
    except _LeaseLost:
        db.execute("ROLLBACK")
        db.execute("BEGIN IMMEDIATE")
        return _commit(db, work, careful=True)


def _commit(db: sqlite3.Connection, work: Sequence[Work], careful: bool) -> list[Done]:
    done: dict[int, Done] = {}
    _settle(db, [(n, w) for n, w in enumerate(work) if isinstance(w, Settlement)], done, careful)
    _accept(db, [(n, w) for n, w in enumerate(work) if isinstance(w, Accept)], done)
    for n, w in enumerate(work):
        if isinstance(w, Claim):
            done[n] = _claim(db, w)
    return [done[n] for n in range(len(work))]


def insert(db: sqlite3.Connection, table: str, columns: str, values: Sequence[Row], verb: str = "INSERT") -> None:
    """Insert many rows in few statements."""
    for chunk in _chunks(values):
        db.execute(_insert_statement(verb, table, columns, len(chunk)), [value for row in chunk for value in row])


def _chunks(values: Sequence[Row]) -> Iterator[Sequence[Row]]:
    start = 0
    for size in _SIZES:
        while len(values) - start >= size:
            yield values[start : start + size]
            start += size


@cache
def _insert_statement(verb: str, table: str, columns: str, count: int) -> str:
    return f"{verb} INTO {table} ({columns}) VALUES {_tuples(columns.count(',') + 1, count)}"


def _tuples(width: int, count: int) -> str:
    one = f"({', '.join('?' * width)})"
    return ", ".join([one] * count)


# settlements


@cache
def _settle_statement(count: int) -> str:
    return (
        "UPDATE delivery SET state = v.column4, due_at = v.column5, lease = v.column6, attempts = v.column7, "
        'step = v.column8, "trigger" = v.column9, resume_at = v.column10 '
        f"FROM (VALUES {_tuples(10, count)}) AS v "
        "WHERE delivery.message = v.column1 AND delivery.endpoint = v.column2 AND delivery.lease = v.column3 "
        "AND delivery.state = 'leased'"
    )


def _settle_row(s: Settlement) -> Row:
    d = s.delivery
    return (
        d.message, d.endpoint, s.lease, d.state.value, d.due_at, d.lease, d.attempts, d.step, d.trigger.value, d.resume_at,
    )  # fmt: skip


def _settle(db: sqlite3.Connection, items: list[tuple[int, Settlement]], done: dict[int, Done], careful: bool) -> None:
    if not items:
        return
    # one that is there already was written by a commit whose answer was lost: writing it again changes nothing
    attempts = [rows.attempt_row(s.attempt) for _, s in items if s.attempt is not None]
    insert(db, "attempt", rows.ATTEMPT, attempts, "INSERT OR IGNORE")
    lost = _release_leases(db, [s for _, s in items], careful)
    kept = [s for _, s in items if id(s) not in lost]
    health = {s.delivery.endpoint: s.health for s in kept if s.health is not None}
    # an endpoint deleted meanwhile has no health to keep
    insert(db, "health", rows.HEALTH, [rows.health_row(e, h) for e, h in health.items()], "INSERT OR REPLACE")
    for s in kept:
        if s.disable is not None:
            _disable(db, s.delivery.endpoint, s.disable, s.now)
    for n, s in items:
        ended = s.delivery.order_key is not None and s.delivery.due_at is None
        done[n] = Settled(id(s) not in lost, promote(db, s) if ended and id(s) not in lost else None)


def _release_leases(db: sqlite3.Connection, settlements: list[Settlement], careful: bool) -> set[int]:
    """Write the new states where the lease still holds; the identities of the settlements whose lease was lost.

    Many rows at once tell only how many were written; raises _LeaseLost when that is not all and `careful` is False.
    """
    if careful:
        one = _settle_statement(1)
        return {id(s) for s in settlements if db.execute(one, _settle_row(s)).rowcount == 0}
    written = 0
    for chunk in _chunks([_settle_row(s) for s in settlements]):
        written += db.execute(_settle_statement(len(chunk)), [v for row in chunk for v in row]).rowcount
    if written != len(settlements):
        raise _LeaseLost
    return set()


def _disable(db: sqlite3.Connection, endpoint: str, reason: str, now: int) -> None:
    db.execute(
        "UPDATE endpoint SET document = CAST(json_set(document, '$.disabled', json('true'), '$.disabled_reason', ?,"
        " '$.updated_at', ?) AS BLOB) WHERE id = ?",
        (reason, now, endpoint),
    )


def promote(db: sqlite3.Connection, s: Settlement) -> Claimed | None:
    """The head of a FIFO line has ended: its successor is leased to the same worker, or due at once without a lease.

    Nothing moves while another heads the line already, as after a replay.
    """
    line = (s.delivery.endpoint, s.delivery.order_key)
    if db.execute(f"SELECT 1 FROM delivery WHERE {_LINE} AND state IN ('due', 'leased') LIMIT 1", line).fetchone():
        return None
    found = db.execute(
        f"SELECT {rows.DELIVERY} FROM delivery WHERE {_LINE} AND state IN ({_PENDING}) AND state = 'waiting'"
        " ORDER BY message LIMIT 1",
        line,
    ).fetchone()
    if found is None:
        return None
    successor = step(rows.delivery(found), "promoted", due_at=s.now)
    if s.next_lease:
        successor = step(successor, "claimed", due_at=s.next_until, lease=s.next_lease)
    db.execute(
        "UPDATE delivery SET state = ?, due_at = ?, lease = ? WHERE message = ? AND endpoint = ?",
        (successor.state.value, successor.due_at, successor.lease, successor.message, successor.endpoint),
    )
    if not s.next_lease:
        return None
    stored = db.execute(
        f"SELECT {rows.MESSAGE} FROM message WHERE app = ? AND id = ?", (successor.app, successor.message)
    ).fetchone()
    return Claimed(successor, rows.message(stored))


# accepts


def _accept(db: sqlite3.Connection, items: list[tuple[int, Accept]], done: dict[int, Done]) -> None:
    if not items:
        return
    fresh = _without_remembered(db, items, done)
    fresh = _without_taken_ids(db, fresh, done)
    fresh = _without_duplicates(db, fresh, done)
    lined_up = _line_up(db, fresh)
    insert(db, "message", rows.MESSAGE, [rows.message_row(a.message) for _, a in fresh if a.message is not None])
    insert(db, "delivery", rows.DELIVERY, [rows.delivery_row(d) for n, _ in fresh for d in lined_up[n]])
    insert(db, "received", rows.RECEIVED, [rows.received_row(a.received) for _, a in fresh if a.received is not None])
    remember = [a.remember for _, a in fresh if a.remember is not None]
    answers = [(r.key, r.body_hash, r.status, r.answer, r.expires_at) for r in remember]
    insert(db, "idempotency", rows.REMEMBER, answers, "INSERT OR REPLACE")
    for n, a in fresh:
        waiting = tuple(d.endpoint for d in lined_up[n] if d.state is State.WAITING)
        done[n] = Accepted(None if a.message is None else a.message.id, False, waiting)


def _without_remembered(
    db: sqlite3.Connection, items: list[tuple[int, Accept]], done: dict[int, Done]
) -> list[tuple[int, Accept]]:
    keys = [a.remember.key for _, a in items if a.remember is not None]
    if not keys:
        return items
    # the clock of a batch: an answer that was forgotten before its messages were made may be there until it is pruned
    now = min((a.message.created_at for _, a in items if a.message is not None), default=0)
    known = {
        row[0]: Remembered(*row[1:])
        for row in db.execute(
            "SELECT key, body_hash, status, answer FROM idempotency WHERE expires_at > ?"
            f" AND key IN ({', '.join('?' * len(keys))})",
            [now, *keys],
        )
    }
    fresh, seen = [], set[bytes]()
    for n, a in items:
        key = None if a.remember is None else a.remember.key
        if key in known:
            done[n] = Accepted(None, True, (), known[key])
        elif key in seen:
            done[n] = IdempotencyInProgress()
        else:
            fresh.append((n, a))
            if key is not None:
                seen.add(key)
    return fresh


def _without_taken_ids(
    db: sqlite3.Connection, items: list[tuple[int, Accept]], done: dict[int, Done]
) -> list[tuple[int, Accept]]:
    wanted = [(a.message.app, a.message.event_id) for _, a in items if a.message is not None and a.message.event_id]
    if not wanted:
        return items
    taken = set(
        db.execute(
            f"SELECT app, event_id FROM message WHERE (app, event_id) IN (VALUES {_tuples(2, len(wanted))})",
            [value for pair in wanted for value in pair],
        )
    )
    fresh = []
    for n, a in items:
        key = None if a.message is None or not a.message.event_id else (a.message.app, a.message.event_id)
        if key in taken:
            done[n] = Conflict("a message with this eventId exists already")
        else:
            fresh.append((n, a))
            if key is not None:
                taken.add(key)
    return fresh


def _without_duplicates(
    db: sqlite3.Connection, items: list[tuple[int, Accept]], done: dict[int, Done]
) -> list[tuple[int, Accept]]:
    """A request whose duplicate key is known is recorded as what it is, and becomes no message."""
    keyed = [
        (a.received.source, a.received.dedup_key)
        for _, a in items
        if a.received is not None and a.message is not None and a.received.dedup_key is not None
    ]
    if not keyed:
        return items
    known: dict[tuple[str, str], str] = {
        (row[0], row[1]): row[2]
        for row in db.execute(
            "SELECT source, dedup_key, message FROM received WHERE verdict = 'accepted' AND dedup_key IS NOT NULL"
            f" AND (source, dedup_key) IN (VALUES {_tuples(2, len(keyed))})",
            [value for pair in keyed for value in pair],
        )
    }
    fresh = []
    for n, a in items:
        if a.received is None or a.message is None or a.received.dedup_key is None:
            fresh.append((n, a))
            continue
        key = (a.received.source, a.received.dedup_key)
        if key in known:
            again = replace(a.received, verdict="duplicate", message=known[key])
            insert(db, "received", rows.RECEIVED, [rows.received_row(again)])
            done[n] = Accepted(known[key], True)
        else:
            known[key] = a.message.id
            fresh.append((n, a))
    return fresh


def _line_up(db: sqlite3.Connection, items: list[tuple[int, Accept]]) -> dict[int, tuple[Delivery, ...]]:
    """FIFO: a delivery goes behind those of its line that are pending; only the head of a line can be due."""
    occupied: set[tuple[str, str]] = set()
    lined_up: dict[int, tuple[Delivery, ...]] = {}
    for n, a in items:
        deliveries = a.deliveries
        if any(d.order_key is not None for d in deliveries):
            deliveries = tuple(
                replace(d, state=State.WAITING, due_at=None, lease=0) if _has_predecessor(db, d, occupied) else d
                for d in deliveries
            )
        lined_up[n] = deliveries
    return lined_up


def _has_predecessor(db: sqlite3.Connection, d: Delivery, occupied: set[tuple[str, str]]) -> bool:
    if d.order_key is None:
        return False
    line = (d.endpoint, d.order_key)
    if line in occupied or line_is_occupied(db, *line):
        return True
    occupied.add(line)
    return False


def line_is_occupied(db: sqlite3.Connection, endpoint: str, order_key: str) -> bool:
    """Whether any delivery of this FIFO line is pending."""
    sql = f"SELECT 1 FROM delivery WHERE {_LINE} AND state IN ({_PENDING}) LIMIT 1"
    return db.execute(sql, (endpoint, order_key)).fetchone() is not None


# claims

_CLAIM = (
    f"SELECT {', '.join('d.' + c for c in rows.DELIVERY.split(', '))}, {', '.join('m.' + c for c in rows.MESSAGE.split(', '))}"
    " FROM delivery AS d JOIN message AS m ON m.app = d.app AND m.id = d.message"
    " WHERE d.endpoint = ? AND d.due_at <= ? ORDER BY d.due_at LIMIT ?"
)
_DELIVERY_WIDTH = rows.DELIVERY.count(",") + 1
_LEASE = rows.DELIVERY.split(", ").index("lease")


def _claim(db: sqlite3.Connection, c: Claim) -> Page:
    found = db.execute(_CLAIM, (c.endpoint, c.now, c.limit)).fetchall()
    claimed = []
    for row in found:
        delivery = step(rows.delivery(row[:_DELIVERY_WIDTH]), "claimed", due_at=c.until, lease=c.lease)
        # whatever still carries a lease was taken from somebody who never reported
        claimed.append(Claimed(delivery, rows.message(row[_DELIVERY_WIDTH:]), expired=row[_LEASE] != 0))
    for chunk in _chunks([(row[0],) for row in found]):
        db.execute(
            f"UPDATE delivery SET state = 'leased', due_at = ?, lease = ? WHERE endpoint = ?"
            f" AND message IN ({', '.join('?' * len(chunk))})",
            [c.until, c.lease, c.endpoint, *(row[0] for row in chunk)],
        )
    next_due = db.execute(
        "SELECT min(due_at) FROM delivery WHERE endpoint = ? AND due_at IS NOT NULL", (c.endpoint,)
    ).fetchone()[0]
    return Page(tuple(claimed), next_due)
