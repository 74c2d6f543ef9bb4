"""What is old goes, as verbs in small steps: each touches a bounded number of rows, found by an index, and says how far it
got, so that no step looks again at what another has done.

Ids begin with their instant, so what is older than an instant is a range of ids. A message with a pending delivery stays,
and so does its payload. Attempts and deliveries go before their message does, and nothing of it is left behind.

Nodes may do the same at the same time: they take messages one after the other, and the second finds nothing to do.
"""

from collections.abc import Sequence

from tenterhook import ids
from tenterhook.clock import MINUTE
from tenterhook.store.base import Cutoff, Swept
from tenterhook.store.lines import PENDING_STATES
from tenterhook.store.sql import Read, Row, Verb, change, listed, select, select_one

_MESSAGES, _RECEIVED = "msg_", "req_"
_END_OF_MESSAGES = _RECEIVED
"""Messages come first, then received requests, whose ids are greater than this."""

_ROWS_PER_MESSAGE = 4
"""How many attempts of a message a step makes room for; a message with more takes several steps."""


def overdue(cutoffs: Sequence[Cutoff]) -> Verb[list[Cutoff]]:
    """Each row of VALUES: application, then the bounds on messages and requests, of records and of payloads."""
    table = ", ".join(["(?, ?, ?, ?, ?)"] * len(cutoffs))
    values = [
        value
        for c in cutoffs
        for value in (
            c.app,
            *(ids.floor(kind, at) for at in (c.records, c.payloads) for kind in (_MESSAGES, _RECEIVED)),
        )
    ]
    found = yield from select(
        f"SELECT v.column1 FROM (VALUES {table}) AS v LEFT JOIN sweep AS s ON s.app = v.column1"
        " WHERE EXISTS (SELECT 1 FROM message AS m WHERE m.app = v.column1 AND m.id < v.column2)"
        " OR EXISTS (SELECT 1 FROM received AS r WHERE r.app = v.column1 AND r.id < v.column3)"
        " OR EXISTS (SELECT 1 FROM message AS m WHERE m.app = v.column1 AND m.id < v.column4"
        " AND m.id > coalesce(s.messages, ''))"
        " OR EXISTS (SELECT 1 FROM received AS r WHERE r.app = v.column1 AND r.id < v.column5"
        " AND r.id > coalesce(s.received, ''))",
        *values,
    )
    old = {row[0] for row in found}
    return [c for c in cutoffs if c.app in old]


def list_retired(limit: int) -> Verb[list[str]]:
    return [row[0] for row in (yield from select("SELECT app FROM retired ORDER BY app LIMIT ?", limit))]


def _range(table: str, app: str, after: str, before: str, limit: int, dry: bool) -> Verb[list[str]]:
    """The next ids, and nobody else changes their rows until this transaction ends."""
    text = f"SELECT id FROM {table} WHERE app = ? AND id > ? AND id < ? ORDER BY id LIMIT ?"
    found: list[Row] = yield Read(text, (app, after, before, limit), lock=not dry)
    return [row[0] for row in found]


def _messages_in(limit: int) -> int:
    return max(1, limit // _ROWS_PER_MESSAGE)


def _next(found: Sequence[str], limit: int, otherwise: str | None) -> str | None:
    """Where the next step begins; a page that is not full was the last one."""
    return found[-1] if len(found) == limit else otherwise


# records


def forget(cutoff: Cutoff, after: str, limit: int, dry: bool) -> Verb[Swept]:
    if after < _END_OF_MESSAGES:
        return (yield from _forget_messages(cutoff, after, limit, dry))
    before = ids.floor(_RECEIVED, cutoff.records)
    found = yield from _range("received", cutoff.app, after, before, limit, dry)
    if found and not dry:
        yield from change(f"DELETE FROM received WHERE app = ? AND id IN ({listed(len(found))})", cutoff.app, *found)
    following = _next(found, limit, None)
    if following is None and not dry:
        yield from _let_go(cutoff.app)
    return Swept(0, len(found), following)


def _forget_messages(cutoff: Cutoff, after: str, limit: int, dry: bool) -> Verb[Swept]:
    before, most = ids.floor(_MESSAGES, cutoff.records), _messages_in(limit)
    found = yield from _range("message", cutoff.app, after, before, most, dry)
    pending = yield from _pending(found)
    ended = [message for message in found if message not in pending]
    if ended and not dry:
        these = f"message IN ({listed(len(ended))})"
        for table, key in (("attempt", "id"), ("delivery", "endpoint")):
            # only when nothing of it is left does a message go: one may have a great many
            if (yield from change_first(f"DELETE FROM {table}", table, key, these, ended, limit)) == limit:
                return Swept(after=after)
        for table in ("event_id", "received_key"):
            yield from change(f"DELETE FROM {table} WHERE {these}", *ended)
        yield from change(f"DELETE FROM message WHERE app = ? AND id IN ({listed(len(ended))})", cutoff.app, *ended)
    return Swept(len(ended), 0, _next(found, most, _END_OF_MESSAGES))


def _pending(messages: Sequence[str]) -> Verb[dict[str, int]]:
    """Those of the messages that are still owed to somebody, and until when at the latest (µs UTC)."""
    if not messages:
        return {}
    text = (
        f"SELECT message, max(expires_at) FROM delivery WHERE message IN ({listed(len(messages))})"
        f" AND state IN ({PENDING_STATES}) GROUP BY message"
    )
    return {row[0]: row[1] for row in (yield from select(text, *messages))}


def change_first(action: str, table: str, key: str, where: str, values: Row, limit: int) -> Verb[int]:
    """Do something to the first `limit` rows by (message, key) that fulfil a condition; how many there were.

    Neither by `IN (SELECT … LIMIT ?)` nor by `(message, key) <= (?, ?)`: PostgreSQL, which plans without knowing the
    values, might read whole tables for the one, and whole indexes for the other.
    """
    text = f"SELECT message, {key} FROM {table} WHERE {where} ORDER BY message, {key} LIMIT ?"
    found = yield from select(text, *values, limit)
    if not found:
        return 0
    message, last = found[-1]
    text = f"{action} WHERE {where} AND message <= ? AND (message < ? OR {key} <= ?)"
    return (yield from change(text, *values, message, message, last))


def _let_go(app: str) -> Verb[None]:
    """Forget a deleted application once nothing of it is left."""
    gone = yield from change(
        "DELETE FROM retired WHERE app = ? AND NOT EXISTS (SELECT 1 FROM message WHERE app = ?)"
        " AND NOT EXISTS (SELECT 1 FROM received WHERE app = ?)",
        app, app, app,
    )  # fmt: skip
    if gone:
        yield from change("DELETE FROM sweep WHERE app = ?", app)


# payloads


def expire(cutoff: Cutoff, after: str, limit: int, dry: bool) -> Verb[Swept]:
    swept = yield from select_one("SELECT messages, received FROM sweep WHERE app = ?", cutoff.app)
    done = ("", "") if swept is None else swept
    if after < _END_OF_MESSAGES:
        return (yield from _expire_messages(cutoff, max(after, done[0]), limit, dry))
    return (yield from _expire_received(cutoff, max(after, done[1]), limit, dry))


def _expire_messages(cutoff: Cutoff, after: str, limit: int, dry: bool) -> Verb[Swept]:
    after, before = max(after, ids.floor(_MESSAGES, cutoff.records)), ids.floor(_MESSAGES, cutoff.payloads)
    most = _messages_in(limit)
    found = yield from _range("message", cutoff.app, after, before, most, dry)
    pending = yield from _pending(found)
    free = [message for message in found if message not in pending]
    if dry:
        count = yield from _count("message", "payload", cutoff.app, free)
        return Swept(count, 0, _next(found, most, _END_OF_MESSAGES))
    if (yield from _empty_attempts(free, limit)) == limit:
        return Swept(after=after)
    for message, until in pending.items():
        # from here on `expire_due` looks after it
        text = "UPDATE message SET payload_until = ? WHERE app = ? AND id = ? AND coalesce(payload_until, ?) >= ?"
        yield from change(text, until, cutoff.app, message, until, until)
    count = yield from _empty("message", "payload = NULL, payload_until = NULL", "payload", cutoff.app, free)
    if found:
        yield from _note(cutoff.app, "messages", found[-1])
    return Swept(count, 0, _next(found, most, _END_OF_MESSAGES))


def _expire_received(cutoff: Cutoff, after: str, limit: int, dry: bool) -> Verb[Swept]:
    after, before = max(after, ids.floor(_RECEIVED, cutoff.records)), ids.floor(_RECEIVED, cutoff.payloads)
    found = yield from _range("received", cutoff.app, after, before, limit, dry)
    if dry:
        return Swept(0, (yield from _count("received", "body", cutoff.app, found)), _next(found, limit, None))
    count = yield from _empty("received", "body = NULL", "body", cutoff.app, found)
    if found:
        yield from _note(cutoff.app, "received", found[-1])
    return Swept(0, count, _next(found, limit, None))


def expire_due(now: int, limit: int) -> Verb[Swept]:
    """A message that is being sent right now is left for a minute: the attempt brings an answer that must go with it."""
    text = "SELECT app, id FROM message WHERE payload_until IS NOT NULL AND payload_until <= ? ORDER BY payload_until LIMIT ?"
    most = _messages_in(limit)
    found: list[Row] = yield Read(text, (now, most), lock=True)
    if not found:
        return Swept()
    messages = [row[1] for row in found]
    text = f"SELECT message FROM delivery WHERE message IN ({listed(len(messages))}) AND state = 'leased'"
    leased = {row[0] for row in (yield from select(text, *messages))}
    if (yield from _empty_attempts([m for m in messages if m not in leased], limit)) == limit:
        return Swept(after="")
    count = 0
    for app in sorted({row[0] for row in found}):
        mine = [row[1] for row in found if row[0] == app]
        for message in leased.intersection(mine):
            text = "UPDATE message SET payload_until = ? WHERE app = ? AND id = ?"
            yield from change(text, now + MINUTE, app, message)
        free = [message for message in mine if message not in leased]
        count += yield from _empty("message", "payload = NULL, payload_until = NULL", "payload", app, free)
    return Swept(count, 0, "" if len(found) == most else None)


def _empty_attempts(messages: Sequence[str], limit: int) -> Verb[int]:
    """Take the bodies out of up to `limit` attempts of these messages; how many there were."""
    if not messages:
        return 0
    action = "UPDATE attempt SET request_body = NULL, response_body = NULL"
    where = f"message IN ({listed(len(messages))}) AND response_body IS NOT NULL"
    return (yield from change_first(action, "attempt", "id", where, messages, limit))


def _empty(table: str, change_: str, column: str, app: str, found: Sequence[str]) -> Verb[int]:
    if not found:
        return 0
    where = f"app = ? AND id IN ({listed(len(found))}) AND {column} IS NOT NULL"
    return (yield from change(f"UPDATE {table} SET {change_} WHERE {where}", app, *found))


def _count(table: str, column: str, app: str, found: Sequence[str]) -> Verb[int]:
    if not found:
        return 0
    where = f"app = ? AND id IN ({listed(len(found))}) AND {column} IS NOT NULL"
    counted = yield from select_one(f"SELECT count(*) FROM {table} WHERE {where}", app, *found)
    return 0 if counted is None else int(counted[0])


def _note(app: str, column: str, last: str) -> Verb[None]:
    """Remember how far it went; another node may have gone further."""
    other = "received" if column == "messages" else "messages"
    yield from change(
        f"INSERT INTO sweep (app, {column}, {other}) VALUES (?, ?, '') ON CONFLICT (app) DO UPDATE SET"
        f" {column} = CASE WHEN excluded.{column} > sweep.{column} THEN excluded.{column} ELSE sweep.{column} END",
        app, last,
    )  # fmt: skip


# what is not history


def prune(now: int, rejections_kept: int, limit: int) -> Verb[int]:
    gone = yield from change(
        "DELETE FROM idempotency WHERE key IN (SELECT key FROM idempotency WHERE expires_at <= ? LIMIT ?)", now, limit
    )
    gone += yield from change(
        "DELETE FROM token WHERE id IN (SELECT id FROM token WHERE drop_at <= ? ORDER BY drop_at LIMIT ?)", now, limit
    )
    for (source,) in (yield from select(_REJECTING)):
        gone += yield from change(
            "DELETE FROM received WHERE source = ? AND id IN (SELECT id FROM received WHERE source = ?"
            " AND verdict = 'rejected' AND verdict <> 'accepted' ORDER BY id DESC LIMIT ? OFFSET ?)",
            source, source, limit, rejections_kept,
        )  # fmt: skip
    return gone


_REJECTING = """
    WITH RECURSIVE behind (source) AS (
        SELECT min(source) FROM received WHERE verdict <> 'accepted'
        UNION ALL
        SELECT (SELECT min(r.source) FROM received AS r WHERE r.source > behind.source AND r.verdict <> 'accepted')
        FROM behind WHERE behind.source IS NOT NULL
    )
    SELECT source FROM behind WHERE source IS NOT NULL
"""
"""Steps from source to source through the index, over however many requests that were not accepted."""
