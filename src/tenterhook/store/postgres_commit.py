"""One committer batch as one statement for PostgreSQL, and its answers.

The functions and the types of their arguments are in `postgres_commit.sql`. The rows for each table are one array, so a
statement has the same text whatever the batch holds.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from typing import Any

from msgspec.structs import replace

from tenterhook import ids
from tenterhook.clock import SECOND
from tenterhook.engine.breaker import HEALTHY
from tenterhook.errors import Conflict, IdempotencyInProgress, Late, OutdatedPlan
from tenterhook.model import Health, Message, State
from tenterhook.store import rows
from tenterhook.store.notices import renewed
from tenterhook.store.sql import Row
from tenterhook.store.work import (
    WRITTEN_WITHIN,
    Accept,
    Accepted,
    Claim,
    Claimed,
    Done,
    Page,
    Remembered,
    Settled,
    Settlement,
    Work,
)

_TEXT = files("tenterhook.store").joinpath("postgres_commit.sql").read_text("utf-8")
_VERSION = blake2b(_TEXT.encode(), digest_size=6).hexdigest()
_CALLS = {"lock": 1, "settle": 8, "accept": 14, "claim": 2, "clock": 1}
"""The functions in the order of the statement, with how many arguments each has."""

DEFINITIONS = re.sub(r"\{(\w+)\}", rf"\1_{_VERSION}", _TEXT)
"""What a database needs once before these statements run."""

INSTALLED = f"SELECT to_regproc('claim_{_VERSION}') IS NOT NULL"

_DELIVERY, _MESSAGE = 9, 22
"""Where the columns of a delivery and a message begin in an answer."""

_ORDER_KEY = 1 + rows.DELIVERY.split(", ").index("order_key")

UNCOMMITTED = 1_413_836_392
"""The first half of the advisory locks of messages that are not committed yet; the second is a second since ids.EPOCH."""

GATE = 1_413_836_393
"""An advisory lock that commits share, and that a migration has alone."""

CLOCK = f"SELECT i FROM clock_{_VERSION}(false)"


def line_key(endpoint: str, order_key: str) -> int:
    """The number under which a FIFO line is locked; that two lines may share one costs only time."""
    return int.from_bytes(blake2b(f"{endpoint}\0{order_key}".encode(), digest_size=8).digest(), signed=True)


class Batch:
    """`statement` with `values` does the work; `answers` reads what came back."""

    def __init__(self, work: Sequence[Work], tell: bool, *, again: bool = False, replan: bool = False) -> None:
        """`tell` other nodes what is due: for a node without a worker. `again`: it may have been done before. `replan`:
        the session makes its plans anew afterwards."""
        self._work, self._tell, self._again = work, tell, again
        self._repeats: dict[int, int] = {}  # a second use of an idempotency key → the first
        settlements = [(n, w) for n, w in enumerate(work) if isinstance(w, Settlement)]
        accepts = [(n, w) for n, w in enumerate(work) if isinstance(w, Accept)]
        claims = [(n, w) for n, w in enumerate(work) if isinstance(w, Claim)]
        lines = _lines(settlements, accepts)
        calls = {
            "lock": [lines] if lines else [],
            "settle": _settle_values(settlements, again) if settlements else [],
            "accept": self._accept_values(accepts) if accepts else [],
            "claim": [again, [_claim_row(n, c) for n, c in claims]] if claims else [],
            "clock": [replan],
        }
        self.statement = _statement(tuple([name for name, values in calls.items() if values]))
        self.values = [value for values in calls.values() for value in values]

    def _accept_values(self, accepts: list[tuple[int, Accept]]) -> list[Any]:
        accepts = self._without_repeats(accepts)
        plans: dict[tuple[str, int], list[int]] = {}
        for n, a in accepts:
            if a.revision is not None:
                plans.setdefault((a.app, a.revision), []).append(n)
        remember = [a.remember for _, a in accepts if a.remember is not None]
        messages = [(n, a.message) for n, a in accepts if a.message is not None]
        received = [(n, a.received) for n, a in accepts if a.received is not None]
        deliveries = [(n, *rows.delivery_row(d)) for n, a in accepts for d in a.deliveries]
        timed = [(n, a.deadline, a.message.created_at) for n, a in accepts if a.message and a.deadline is not None]
        return [
            self._again,
            [(*plan, numbers) for plan, numbers in plans.items()],
            [(n, a.given) for n, a in accepts if a.given is not None],
            [(n, deadline) for n, deadline, _ in timed],
            min([made // SECOND - ids.EPOCH for *_, made in timed], default=None),
            # what others may insert at the same time is in one order, whichever node inserts it
            sorted([(n, *rows.remember_row(a.remember)) for n, a in accepts if a.remember is not None], key=_behind_n),
            min([one.made_at for one in remember], default=0),
            sorted([(n, m.app, m.event_id, m.id) for n, m in messages if m.event_id], key=_behind_n),
            sorted([(n, *rows.received_key_row(r)) for n, r in received if rows.is_keyed(r)], key=_behind_n),
            [(n, *rows.message_row(m)) for n, m in messages],
            deliveries,
            [(n, *rows.received_row(r)) for n, r in received],
            any(row[_ORDER_KEY] is not None for row in deliveries),
            self._tell,
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
                same = isinstance(first, OutdatedPlan) or (isinstance(first, Accepted) and first.remembered is not None)
                done.append(first if same else IdempotencyInProgress())
            else:
                done.append(_accepted(n, w, by_number))
        return done


def with_later_ids(work: Sequence[Work], now: int) -> list[Work]:
    """The same, where what a settlement is told with has an id of `now`."""
    told = [w for w in work if isinstance(w, Accept) and w.given is not None]
    fresh = iter(renewed(told, ids.IdMaker().new(ids.PREFIXES["message"], now)))
    return [
        replace(next(fresh), deadline=now + WRITTEN_WITHIN) if isinstance(w, Accept) and w.given is not None else w
        for w in work
    ]


def clock_of(found: Sequence[Row]) -> int:
    """The database's time (µs UTC) when it did the batch."""
    return int(found[-1][3])


@cache
def _statement(names: tuple[str, ...]) -> str:
    calls, at = [], 1
    for name in names:
        places = ", ".join(f"${n}" for n in range(at, at + _CALLS[name]))
        calls.append(f"SELECT * FROM {name}_{_VERSION}({places})")
        at += _CALLS[name]
    return " UNION ALL ".join(calls)


def _behind_n(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return row[1:]


def _lines(settlements: list[tuple[int, Settlement]], accepts: list[tuple[int, Accept]]) -> list[int]:
    ends = {(s.delivery.endpoint, s.delivery.order_key) for _, s in settlements if _ends_line(s)}
    begins = {(d.endpoint, d.order_key) for _, a in accepts for d in a.deliveries if d.order_key is not None}
    return sorted({line_key(endpoint, key) for endpoint, key in ends | begins if key is not None})


def _ends_line(s: Settlement) -> bool:
    return s.delivery.order_key is not None and s.delivery.due_at is None


# settlements


def _settle_values(items: list[tuple[int, Settlement]], again: bool) -> list[Any]:
    # rows are locked in one order, whichever node locks them
    items = sorted(items, key=lambda item: (item[1].delivery.message, item[1].delivery.endpoint))
    return [
        again,
        [_settle_row(n, s) for n, s in items],
        [rows.attempt_row(s.attempt) for _, s in items if s.attempt is not None],
        sorted([_beat(n, s, s.health) for n, s in items if s.health is not None]),
        [(n, s.delivery.app, s.delivery.endpoint, s.disable, s.now) for n, s in items if s.disable is not None],
        [
            (n, s.delivery.endpoint, s.delivery.order_key, s.now, s.next_lease, s.next_until)
            for n, s in items
            if _ends_line(s)
        ],
        sorted({a.message for _, s in items if (a := s.attempt) is not None and a.outcome.request_body is not None}),
        sorted({s.delivery.endpoint for _, s in items if s.attempt is None and s.delivery.state is State.DUE}),
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
    if ("late", n) in found:
        return Late()
    if ("taken", n) in found:
        return Conflict(rows.EVENT_ID_TAKEN)
    for row in found.get(("remembered", n), ()):
        if not row[4]:
            return Accepted(None, True, (), Remembered(row[7], row[3], row[8]))
    for row in found.get(("duplicate", n), ()):
        return Accepted(row[2], True)
    return Accepted(message, False, tuple([row[2] for row in found.get(("waiting", n), ())]))


# claims


def _claim_row(n: int, c: Claim) -> Row:
    return (n, c.endpoint, c.limit, c.now, c.lease, c.until, c.rate, c.paced_until, c.since)


def _page(n: int, found: dict[tuple[str, int], list[Row]]) -> Page:
    (page,) = found["page", n]
    record = found.get(("record", n))
    health = HEALTHY if record is None else Health(*record[0][3:7])
    claimed = tuple([_claimed(row) for row in found.get(("claimed", n), ())])
    return Page(claimed, page[3], health, oldest=page[4], app_rate=page[5], app_free_at=page[6] or 0)


def _claimed(row: Row) -> Claimed:
    """`i` is the lease that it had, `j` when the endpoint was changed last, `k` when it may be sent."""
    delivery = rows.delivery(row[_DELIVERY:_MESSAGE])
    if row[_MESSAGE] is None:  # its message has been pruned
        message = Message(id=delivery.message, app=delivery.app, event_type="", payload=b"", created_at=0, expired=True)
    else:
        message = rows.message(row[_MESSAGE:])
    return Claimed(delivery, message, expired=row[3] != 0, not_before=row[5] or 0, changed_at=row[4])
