"""One committer batch on a SQLite connection: settlements, then accepts, then claims, inside one open transaction."""

import sqlite3
from collections.abc import Sequence
from functools import cache

from msgspec.structs import replace

from tenterhook.engine import breaker
from tenterhook.engine.lifecycle import step
from tenterhook.errors import Conflict, IdempotencyInProgress, OutdatedPlan
from tenterhook.model import Attempt, Delivery, Health, State
from tenterhook.store import rows
from tenterhook.store.lines import line_up, promote, promoted_by
from tenterhook.store.notices import in_time
from tenterhook.store.rows import Row
from tenterhook.store.sql import listed, tuples
from tenterhook.store.sqlite_answers import Answers
from tenterhook.store.sqlite_run import chunks, insert, run
from tenterhook.store.work import Accept, Accepted, Claim, Claimed, Done, Page, Settled, Settlement, Work

Accepts = list[tuple[int, Accept]]


class _LeaseLost(Exception):
    """Some settlement of a batch came too late, so its rows must be looked at one by one."""


def commit(db: sqlite3.Connection, work: Sequence[Work], answers: Answers) -> list[Done]:
    """The answers to `work`, in its order. The caller opens and commits the transaction."""
    try:
        return _commit(db, work, answers, careful=False)
    except _LeaseLost:
        db.execute("ROLLBACK")
        db.execute("BEGIN IMMEDIATE")
        return _commit(db, work, answers, careful=True)


def _commit(db: sqlite3.Connection, work: Sequence[Work], answers: Answers, careful: bool) -> list[Done]:
    done: dict[int, Done] = {}
    repeated = _settle(db, [(n, w) for n, w in enumerate(work) if isinstance(w, Settlement)], done, careful)
    accepts = [(n, w) for n, w in enumerate(work) if isinstance(w, Accept) and _is_given(n, w, done, repeated)]
    _accept(db, accepts, answers, done)
    for n, w in enumerate(work):
        if isinstance(w, Claim):
            done[n] = _claim(db, w)
    return [done[n] for n in range(len(work))]


def _is_given(n: int, a: Accept, done: dict[int, Done], repeated: set[int]) -> bool:
    """Whether the settlement that this goes with, if it goes with one, has been kept, and not before already."""
    settled = None if a.given is None else done[a.given]
    if not isinstance(settled, Settled) or (settled.kept and a.given not in repeated):
        return True
    done[n] = Accepted(a.message.id if settled.kept and a.message is not None else None)
    return False


# settlements


@cache
def _settle_statement(count: int) -> str:
    return (
        "UPDATE delivery SET state = v.column4, due_at = v.column5, lease = v.column6, attempts = v.column7, "
        'step = v.column8, "trigger" = v.column9, resume_at = v.column10 '
        f"FROM (VALUES {tuples(10, count)}) AS v "
        "WHERE delivery.message = v.column1 AND delivery.endpoint = v.column2 AND delivery.lease = v.column3 "
        "AND delivery.state = 'leased'"
    )


def _settle_row(s: Settlement) -> Row:
    d = s.delivery
    return (
        d.message, d.endpoint, s.lease, d.state.value, d.due_at, d.lease, d.attempts, d.step, d.trigger.value, d.resume_at,
    )  # fmt: skip


def _settle(
    db: sqlite3.Connection, items: list[tuple[int, Settlement]], done: dict[int, Done], careful: bool
) -> set[int]:
    """The places of those that an earlier commit has written."""
    if not items:
        return set()
    # one that is there already was written by a commit whose answer was lost: writing it again changes nothing
    attempts = [s.attempt for _, s in items if s.attempt is not None]
    new = {a.id for a in attempts if not _is_stored(db, a)} if careful else set()
    insert(db, "attempt", rows.ATTEMPT, [rows.attempt_row(a) for a in attempts], "(message, id) DO NOTHING")
    _keep_expunged(db, [(a.message, a.id) for a in attempts if a.outcome.request_body is not None])
    lost = _release_leases(db, [s for _, s in items], careful)
    repeated = {id(s) for _, s in items if id(s) in lost and _is_written(db, s, new)}
    kept = [s for _, s in items if id(s) not in lost]
    health = _merge_health(db, [s for s in kept if s.health is not None])
    for s in kept:
        if s.disable is not None:
            _disable(db, s)
    for n, s in items:
        if id(s) in lost - repeated:
            done[n] = Settled(False)
            continue
        ended = s.delivery.order_key is not None and s.delivery.due_at is None
        promoted = run(db, promoted_by(s) if id(s) in repeated else promote(s)) if ended else None
        done[n] = Settled(True, promoted, None if s.health is None else health.get(s.delivery.endpoint))
    return {n for n, s in items if id(s) in repeated}


def _keep_expunged(db: sqlite3.Connection, attempts: list[Row]) -> None:
    """What a message held does not come back with an attempt that was under way when it was expunged."""
    for chunk in chunks(attempts):
        db.execute(
            f"UPDATE attempt SET request_body = NULL FROM (VALUES {tuples(2, len(chunk))}) AS v"
            " WHERE attempt.message = v.column1 AND attempt.id = v.column2 AND NOT EXISTS"
            " (SELECT 1 FROM message AS m WHERE m.app = attempt.app AND m.id = attempt.message AND m.payload IS NOT NULL)",
            [value for key in chunk for value in key],
        )


def _is_stored(db: sqlite3.Connection, a: Attempt) -> bool:
    return db.execute("SELECT 1 FROM attempt WHERE message = ? AND id = ?", (a.message, a.id)).fetchone() is not None


def _is_written(db: sqlite3.Connection, s: Settlement, new: set[str]) -> bool:
    """Whether an earlier commit of it was kept: it is answered alike, and has no effect again.

    One whose attempt is among the `new` ones was not: another attempt came to the same end.
    """
    if s.attempt is not None and s.attempt.id in new:
        return False
    d = s.delivery
    text = "SELECT state, due_at, lease, attempts FROM delivery WHERE message = ? AND endpoint = ?"
    found: Row | None = db.execute(text, (d.message, d.endpoint)).fetchone()
    return found == (d.state.value, d.due_at, d.lease, d.attempts)


def _merge_health(db: sqlite3.Connection, settlements: list[Settlement]) -> dict[str, Health]:
    """Write the records of failing and recovered endpoints; what is stored now."""
    if not settlements:
        return {}
    endpoints = list({s.delivery.endpoint for s in settlements})
    text = f"SELECT {rows.HEALTH} FROM health WHERE endpoint IN ({listed(len(endpoints))})"
    stored = {row[0]: Health(*row[1:]) for row in db.execute(text, endpoints)}
    for s in settlements:
        known = stored.get(s.delivery.endpoint, breaker.HEALTHY)
        stored[s.delivery.endpoint] = breaker.merged(known, s.before, s.health or known)
    insert(db, "health", rows.HEALTH, [rows.health_row(e, h) for e, h in stored.items()], rows.HEALTH_AGAIN)
    return stored


def _release_leases(db: sqlite3.Connection, settlements: list[Settlement], careful: bool) -> set[int]:
    """Write the new states where the lease still holds; the identities of the settlements whose lease was lost.

    Many rows at once tell only how many were written; raises _LeaseLost when that is not all and `careful` is False.
    """
    if careful:
        one = _settle_statement(1)
        return {id(s) for s in settlements if db.execute(one, _settle_row(s)).rowcount == 0}
    written = 0
    for chunk in chunks([_settle_row(s) for s in settlements]):
        written += db.execute(_settle_statement(len(chunk)), [v for row in chunk for v in row]).rowcount
    if written != len(settlements):
        raise _LeaseLost
    return set()


def _disable(db: sqlite3.Connection, s: Settlement) -> None:
    db.execute(
        "UPDATE endpoint SET disabled = 1, disabled_reason = ?, updated_at = ? WHERE id = ?",
        (s.disable, s.now, s.delivery.endpoint),
    )
    db.execute("UPDATE application SET revision = revision + 1 WHERE id = ?", (s.delivery.app,))


# accepts


def _accept(db: sqlite3.Connection, items: Accepts, answers: Answers, done: dict[int, Done]) -> None:
    if not items:
        return
    fresh = _without_remembered(_without_outdated(db, items, done), answers, done)
    fresh = _without_duplicates(db, _without_taken_ids(db, fresh, done), done)
    fresh = _in_order(db, fresh)
    lined_up = _line_up(db, fresh)
    messages = [a.message for _, a in fresh if a.message is not None]
    received = [a.received for _, a in fresh if a.received is not None]
    insert(db, "message", rows.MESSAGE, [rows.message_row(m) for m in messages])
    insert(db, "event_id", rows.EVENT_ID, [(m.app, m.event_id, m.id) for m in messages if m.event_id])
    insert(db, "delivery", rows.DELIVERY, [rows.delivery_row(d) for n, _ in fresh for d in lined_up[n]])
    insert(db, "received", rows.RECEIVED, [rows.received_row(r) for r in received])
    insert(db, "received_key", rows.RECEIVED_KEY, [rows.received_key_row(r) for r in received if rows.is_keyed(r)])
    answers.add([a.remember for _, a in fresh if a.remember is not None])
    for n, a in fresh:
        waiting = tuple(d.endpoint for d in lined_up[n] if d.state is State.WAITING)
        done[n] = Accepted(None if a.message is None else a.message.id, False, waiting)


def _without_outdated(db: sqlite3.Connection, items: Accepts, done: dict[int, Done]) -> Accepts:
    """A plan holds for the application as it was planned for."""
    apps = list({a.app for _, a in items if a.revision is not None})
    if not apps:
        return items
    now = dict(db.execute(f"SELECT id, revision FROM application WHERE id IN ({listed(len(apps))})", apps))
    fresh = []
    for n, a in items:
        if a.revision is None or now.get(a.app) == a.revision:
            fresh.append((n, a))
        else:
            done[n] = OutdatedPlan()
    return fresh


def _without_remembered(items: Accepts, answers: Answers, done: dict[int, Done]) -> Accepts:
    made_at = {a.remember.key: a.remember.made_at for _, a in items if a.remember is not None}
    found = answers.known(made_at) if made_at else []
    if not found and len(made_at) == sum(a.remember is not None for _, a in items):
        return items  # none is known, and none comes twice
    # an expired answer may still be there until it is pruned
    known = {one.key: one.remembered for one in found if one.expires_at > made_at[one.key]}
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


def _without_taken_ids(db: sqlite3.Connection, items: Accepts, done: dict[int, Done]) -> Accepts:
    wanted = [(a.message.app, a.message.event_id) for _, a in items if a.message is not None and a.message.event_id]
    if not wanted:
        return items
    taken = set(
        db.execute(
            # SQLite reads the whole table for `(app, event_id) IN (VALUES …)`
            f"SELECT e.app, e.event_id FROM (VALUES {tuples(2, len(wanted))}) AS v"
            " JOIN event_id AS e ON e.app = v.column1 AND e.event_id = v.column2",
            [value for pair in wanted for value in pair],
        )
    )
    fresh = []
    for n, a in items:
        key = None if a.message is None or not a.message.event_id else (a.message.app, a.message.event_id)
        if key in taken:
            done[n] = Conflict(rows.EVENT_ID_TAKEN)
        else:
            fresh.append((n, a))
            if key is not None:
                taken.add(key)
    return fresh


def _without_duplicates(db: sqlite3.Connection, items: Accepts, done: dict[int, Done]) -> Accepts:
    """A request whose duplicate key is known is recorded as what it is, and becomes no message."""
    keyed = [
        rows.received_key_row(a.received)[:2] for _, a in items if a.received is not None and rows.is_keyed(a.received)
    ]
    if not keyed:
        return items
    text = (
        f"SELECT {rows.of('k', rows.RECEIVED_KEY)} FROM (VALUES {tuples(2, len(keyed))}) AS v"
        " JOIN received_key AS k ON k.source = v.column1 AND k.dedup_key = v.column2"
    )
    known = {(row[0], row[1]): row[2] for row in db.execute(text, [value for pair in keyed for value in pair])}
    fresh = []
    for n, a in items:
        if a.received is None or not rows.is_keyed(a.received):
            fresh.append((n, a))
            continue
        source, key, message = rows.received_key_row(a.received)
        if (source, key) in known:
            first = known[source, key]
            again = replace(a.received, verdict="duplicate", message=first)
            insert(db, "received", rows.RECEIVED, [rows.received_row(again)])
            done[n] = Accepted(first, True)
        else:
            known[source, key] = message
            fresh.append((n, a))
    return fresh


def _in_order(db: sqlite3.Connection, items: Accepts) -> Accepts:
    """What a settlement is told with may come behind messages that were made later: then it gets an id behind theirs."""
    told = {n: a for n, a in items if a.given is not None and a.message is not None}
    if not told:
        return items
    renamed = run(db, in_time(list(told.values())))
    return sorted([*((n, a) for n, a in items if n not in told), *zip(told, renamed, strict=True)])


def _line_up(db: sqlite3.Connection, items: Accepts) -> dict[int, tuple[Delivery, ...]]:
    occupied: set[tuple[str, str]] = set()
    return {
        n: run(db, line_up(a.deliveries, occupied))
        if any(d.order_key is not None for d in a.deliveries)
        else a.deliveries
        for n, a in items
    }


# claims

_CLAIM = (
    f"SELECT {', '.join('d.' + c for c in rows.DELIVERY.split(', '))}, {', '.join('m.' + c for c in rows.MESSAGE.split(', '))}"
    " FROM delivery AS d JOIN message AS m ON m.app = d.app AND m.id = d.message"
    " WHERE d.endpoint = ? AND d.due_at BETWEEN ? AND ? ORDER BY d.due_at LIMIT ?"
)
_DELIVERY_WIDTH = rows.DELIVERY.count(",") + 1
_LEASE = rows.DELIVERY.split(", ").index("lease")


_APP_RATE = "SELECT a.rate_limit FROM endpoint AS e JOIN application AS a ON a.id = e.app WHERE e.id = ?"


def _claim(db: sqlite3.Connection, c: Claim) -> Page:
    found = db.execute(_CLAIM, (c.endpoint, c.since, c.now, c.limit)).fetchall()
    claimed = []
    for row in found:
        delivery = step(rows.delivery(row[:_DELIVERY_WIDTH]), "claimed", due_at=c.until, lease=c.lease)
        # whatever still carries a lease was taken from somebody who never reported
        claimed.append(Claimed(delivery, rows.message(row[_DELIVERY_WIDTH:]), expired=row[_LEASE] != 0))
    for chunk in chunks([(row[0],) for row in found]):
        db.execute(
            f"UPDATE delivery SET state = 'leased', due_at = ?, lease = ? WHERE endpoint = ?"
            f" AND message IN ({', '.join('?' * len(chunk))})",
            [c.until, c.lease, c.endpoint, *(row[0] for row in chunk)],
        )
    next_due = db.execute(
        "SELECT min(due_at) FROM delivery WHERE endpoint = ? AND due_at >= ?", (c.endpoint, c.since)
    ).fetchone()[0]
    rate = db.execute(_APP_RATE, (c.endpoint,)).fetchone()
    if rate is None:
        return Page(tuple(claimed), next_due)
    return Page(tuple(claimed), next_due, None, next_due, rate[0])
