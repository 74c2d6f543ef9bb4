"""One committer batch as one statement for PostgreSQL, and its answers.

The functions are in `postgres_commit.sql`. Every column of every table of the batch is one array, so a statement has the
same text whatever the batch holds.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from typing import Any

from tenterhook.engine.breaker import HEALTHY
from tenterhook.errors import Conflict, IdempotencyInProgress, OutdatedPlan
from tenterhook.model import Health, Message
from tenterhook.store import rows
from tenterhook.store.base import Accept, Accepted, Claim, Claimed, Done, Page, Remembered, Settled, Settlement, Work
from tenterhook.store.sql import Row

_TEXT = files("tenterhook.store").joinpath("postgres_commit.sql").read_text("utf-8")
_VERSION = blake2b(_TEXT.encode(), digest_size=6).hexdigest()
_NAMES = {name: f"{name}_{_VERSION}" for name in ("clock", "lock", "settle", "accept", "claim")}

DEFINITIONS = re.sub(r"\{(clock|lock|settle|accept|claim)\}", lambda found: _NAMES[found[1]], _TEXT)
"""What a database needs once before these statements run."""

INSTALLED = f"SELECT to_regproc('{_NAMES['claim']}') IS NOT NULL"

_SETTLE = 11 + 23 + 7 + 5 + 6
_ACCEPT = 4 + 2 + 7 + 4 + 4 + 12 + 14 + 14 + 2
_CLAIM = 8
_DELIVERY, _MESSAGE = 9, 22
"""Where the columns of a delivery and a message begin in an answer."""

CLOCK = f"SELECT i FROM {_NAMES['clock']}()"


def line_key(endpoint: str, order_key: str) -> int:
    """The number under which a FIFO line is locked; that two lines may share one costs only time."""
    return int.from_bytes(blake2b(f"{endpoint}\0{order_key}".encode(), digest_size=8).digest(), signed=True)


class Batch:
    """`statement` with `values` does the work; `answers` reads what came back."""

    def __init__(self, work: Sequence[Work], tell: bool) -> None:
        """`tell` other nodes what is due: for a node without a worker."""
        self._work = work
        self._repeats: dict[int, int] = {}  # a second use of an idempotency key → the first
        settlements = [(n, w) for n, w in enumerate(work) if isinstance(w, Settlement)]
        accepts = [(n, w) for n, w in enumerate(work) if isinstance(w, Accept)]
        claims = [(n, w) for n, w in enumerate(work) if isinstance(w, Claim)]
        lines = _lines(settlements, accepts)
        parts = (
            ("lock", 1, [lines] if lines else []),
            ("settle", _SETTLE, _settle_values(settlements)),
            ("accept", _ACCEPT, self._accept_values(accepts, tell)),
            ("claim", _CLAIM, _claim_values(claims)),
        )
        wanted = [(name, count, values) for name, count, values in parts if values]
        self.values = [value for _, _, values in wanted for value in values]
        self.statement = _statement(tuple((name, count) for name, count, _ in wanted))

    def _accept_values(self, accepts: list[tuple[int, Accept]], tell: bool) -> list[Any]:
        if not accepts:
            return []
        accepts = self._without_repeats(accepts)
        plans: dict[tuple[str, int], int] = {}
        planned = [
            (n, plans.setdefault((_app_of(a), a.revision), len(plans) + 1))
            for n, a in accepts
            if a.revision is not None
        ]
        remember = sorted(((n, a.remember) for n, a in accepts if a.remember is not None), key=lambda one: one[1].key)
        messages = [(n, a.message) for n, a in accepts if a.message is not None]
        named = sorted((m.app, m.event_id, m.id, n) for n, m in messages if m.event_id)
        received = [(n, a.received) for n, a in accepts if a.received is not None]
        keyed = sorted((*rows.received_key_row(r), n) for n, r in received if rows.is_keyed(r))
        deliveries = [(n, d) for n, a in accepts for d in a.deliveries]
        return [
            *_columns(plans, 2),
            *_columns(planned, 2),
            *_columns(((n, a.given) for n, a in accepts if a.given is not None), 2),
            *_columns(((n, *rows.remember_row(r)) for n, r in remember), 6),
            min((r.made_at for _, r in remember), default=0),
            *_columns(((n, app, event_id, message) for app, event_id, message, n in named), 4),
            *_columns(((n, source, key, message) for source, key, message, n in keyed), 4),
            *_columns(((n, *rows.message_row(m)) for n, m in messages), 12),
            *_columns(((n, *rows.delivery_row(d)) for n, d in deliveries), 14),
            *_columns(((n, *rows.received_row(r)) for n, r in received), 14),
            any(d.order_key is not None for _, d in deliveries),
            tell,
        ]

    def _without_repeats(self, accepts: list[tuple[int, Accept]]) -> list[tuple[int, Accept]]:
        """A key goes to the database once for each batch."""
        first: dict[bytes, int] = {}
        fresh = []
        for n, a in accepts:
            if a.remember is not None and first.setdefault(a.remember.key, n) != n:
                self._repeats[n] = first[a.remember.key]
            else:
                fresh.append((n, a))
        return fresh

    def answers(self, found: Iterable[Row]) -> list[Done]:
        """One for each piece of work, in order."""
        by_number: dict[tuple[str, int], list[Row]] = {}
        health: dict[str, Health] = {}
        for row in found:
            if row[0] == "health":
                health[row[2]] = Health(row[3], row[4], row[5], row[6])
            elif row[0] != "clock":
                by_number.setdefault((row[0], row[1]), []).append(row)
        done: list[Done] = []
        for n, w in enumerate(self._work):
            if isinstance(w, Settlement):
                done.append(_settled(n, w, by_number, health))
            elif isinstance(w, Claim):
                done.append(_page(n, by_number))
            elif _is_left_out(w, done):
                done.append(Accepted(None))
            elif n in self._repeats:
                first = done[self._repeats[n]]
                known = isinstance(first, Accepted) and first.remembered is not None
                done.append(first if known else IdempotencyInProgress())
            else:
                done.append(_accepted(n, w, by_number))
        return done


def clock_of(found: Sequence[Row]) -> int:
    """The database's time (µs UTC) when it did the batch."""
    return int(found[-1][3])


@cache
def _statement(parts: tuple[tuple[str, int], ...]) -> str:
    calls, at = [], 1
    for name, count in parts:
        places = ", ".join(f"${n}" for n in range(at, at + count))
        calls.append(f"SELECT * FROM {_NAMES[name]}({places})")
        at += count
    calls.append(f"SELECT * FROM {_NAMES['clock']}()")
    return " UNION ALL ".join(calls)


def _columns(table: Iterable[Sequence[Any]], width: int) -> Iterator[Sequence[Any]]:
    """The columns of a table given by its rows."""
    columns = list(zip(*table, strict=True))
    return iter(columns) if columns else iter([()] * width)


def _lines(settlements: list[tuple[int, Settlement]], accepts: list[tuple[int, Accept]]) -> list[int]:
    ends = {(s.delivery.endpoint, s.delivery.order_key) for _, s in settlements if _ends_line(s)}
    begins = {(d.endpoint, d.order_key) for _, a in accepts for d in a.deliveries if d.order_key is not None}
    return sorted({line_key(endpoint, key) for endpoint, key in ends | begins if key is not None})


def _ends_line(s: Settlement) -> bool:
    return s.delivery.order_key is not None and s.delivery.due_at is None


def _app_of(a: Accept) -> str:
    subject = a.message or a.received
    return "" if subject is None else subject.app


# settlements


def _settle_values(items: list[tuple[int, Settlement]]) -> list[Any]:
    if not items:
        return []
    # rows are locked in one order, whichever node locks them
    items = sorted(items, key=lambda item: (item[1].delivery.message, item[1].delivery.endpoint))
    attempts = [rows.attempt_row(s.attempt) for _, s in items if s.attempt is not None]
    beats = sorted(_beat(n, s, s.health) for n, s in items if s.health is not None)
    disabled = [(n, s.delivery.app, s.delivery.endpoint, s.disable, s.now) for n, s in items if s.disable is not None]
    ends = [
        (n, s.delivery.endpoint, s.delivery.order_key, s.now, s.next_lease, s.next_until)
        for n, s in items
        if _ends_line(s)
    ]
    return [
        *_columns((_settle_row(n, s) for n, s in items), 11),
        *_columns(attempts, 23),
        *_columns(beats, 7),
        *_columns(disabled, 5),
        *_columns(ends, 6),
    ]


def _settle_row(n: int, s: Settlement) -> Row:
    d = s.delivery
    return (
        n, d.message, d.endpoint, s.lease, d.state.value, d.due_at, d.lease, d.attempts, d.step, d.trigger.value,
        d.resume_at,
    )  # fmt: skip


def _beat(n: int, s: Settlement, after: Health) -> tuple[Any, ...]:
    """What the attempt adds to the record, by the rule `engine.breaker.merged`."""
    more = max(0, after.failures - s.before.failures)
    return (n, s.delivery.endpoint, after == HEALTHY, more, after.failing_since, after.open_until, after.opened)


def _settled(n: int, s: Settlement, found: dict[tuple[str, int], list[Row]], health: dict[str, Health]) -> Settled:
    if ("lost", n) in found:
        return Settled(False)
    promoted = found.get(("promoted", n))
    return Settled(
        True,
        None if promoted is None else _claimed(promoted[0]),
        None if s.health is None else health.get(s.delivery.endpoint),
    )


# accepts


def _is_left_out(a: Accept, done: list[Done]) -> bool:
    """Whether the settlement that this goes with was not kept."""
    settled = None if a.given is None else done[a.given]
    return isinstance(settled, Settled) and not settled.kept


def _accepted(n: int, a: Accept, found: dict[tuple[str, int], list[Row]]) -> Done:
    message = None if a.message is None else a.message.id
    if ("outdated", n) in found:
        return OutdatedPlan()
    if ("taken", n) in found:
        return Conflict(rows.EVENT_ID_TAKEN)
    for row in found.get(("remembered", n), ()):
        if not row[4]:
            return Accepted(None, True, (), Remembered(row[7], row[3], row[8]))
    for row in found.get(("duplicate", n), ()):
        return Accepted(row[2], True)
    return Accepted(message, False, tuple([row[2] for row in found.get(("waiting", n), ())]))


# claims


def _claim_values(items: list[tuple[int, Claim]]) -> list[Any]:
    table = ((n, c.endpoint, c.limit, c.now, c.lease, c.until, c.rate, c.paced_until) for n, c in items)
    return [*_columns(table, 8)] if items else []


def _page(n: int, found: dict[tuple[str, int], list[Row]]) -> Page:
    (page,) = found["page", n]
    record = found.get(("record", n))
    health = HEALTHY if record is None else Health(*record[0][3:7])
    return Page(tuple([_claimed(row) for row in found.get(("claimed", n), ())]), page[3], health)


def _claimed(row: Row) -> Claimed:
    """`i` is the lease that it had, `j` when the endpoint was changed last, `k` when it may be sent."""
    delivery = rows.delivery(row[_DELIVERY:_MESSAGE])
    if row[_MESSAGE] is None:  # its message has been pruned
        message = Message(id=delivery.message, app=delivery.app, event_type="", payload=b"", created_at=0, expired=True)
    else:
        message = rows.message(row[_MESSAGE:])
    return Claimed(delivery, message, expired=row[3] != 0, not_before=row[5] or 0, changed_at=row[4])
