"""FIFO lines, as verbs: at most one delivery of a line is due or leased, the others wait in the order of their messages.

Whoever reads a line to change it locks it first (`sql.LockLines`), so that nodes side by side never see half a move.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from tenterhook.engine.lifecycle import PENDING, step
from tenterhook.model import Delivery, State
from tenterhook.store import rows
from tenterhook.store.sql import Verb, change, select_one, tuples
from tenterhook.store.work import Claimed, Settlement

LINE = "endpoint = ? AND order_key = ? AND order_key IS NOT NULL"
PENDING_STATES = ", ".join(f"'{state.value}'" for state in PENDING)


def is_occupied(endpoint: str, order_key: str) -> Verb[bool]:
    """Whether any delivery of this line is pending."""
    text = f"SELECT 1 FROM delivery WHERE {LINE} AND state IN ({PENDING_STATES}) LIMIT 1"
    return (yield from select_one(text, endpoint, order_key)) is not None


def line_up(deliveries: Sequence[Delivery], occupied: set[tuple[str, str]]) -> Verb[tuple[Delivery, ...]]:
    """New deliveries as they can be written: only the head of a line can be due, the others go behind what is pending.

    `occupied` are lines of which the same transaction knows that they have a head, also after this.
    """
    placed = []
    for delivery in deliveries:
        if delivery.order_key is None:
            placed.append(delivery)
            continue
        line = (delivery.endpoint, delivery.order_key)
        if line in occupied or (yield from is_occupied(*line)):
            placed.append(replace(delivery, state=State.WAITING, due_at=None, lease=0))
        else:
            placed.append(delivery)
        occupied.add(line)
    return tuple(placed)


def step_forward(lines: Sequence[tuple[str, str]], now: int) -> Verb[None]:
    """Of each of these lines (endpoint, order key) that has no head, the first that waits becomes due at `now`."""
    mine = f"d.endpoint = v.column1 AND d.order_key = v.column2 AND d.order_key IS NOT NULL AND d.state IN ({PENDING_STATES})"
    heads = f"SELECT 1 FROM delivery AS d WHERE {mine} AND d.state IN ('due', 'leased')"
    first = f"SELECT min(d.message) FROM delivery AS d WHERE {mine} AND d.state = 'waiting'"
    yield from change(
        "UPDATE delivery SET state = 'due', due_at = ? WHERE state = 'waiting' AND (message, endpoint) IN ("
        f"SELECT ({first}), v.column1 FROM (VALUES {tuples(2, len(lines))}) AS v WHERE NOT EXISTS ({heads}))",
        now, *(value for line in lines for value in line),
    )  # fmt: skip


def promote(s: Settlement) -> Verb[Claimed | None]:
    """The head of a line has ended: its successor is leased to the same worker, or due at once without a lease.

    Nothing moves while another heads the line already, as after a replay.
    """
    line = (s.delivery.endpoint, s.delivery.order_key)
    heads = f"SELECT 1 FROM delivery WHERE {LINE} AND state IN ('due', 'leased') LIMIT 1"
    if (yield from select_one(heads, *line)) is not None:
        return None
    found = yield from select_one(
        f"SELECT {rows.DELIVERY} FROM delivery WHERE {LINE} AND state IN ({PENDING_STATES}) AND state = 'waiting'"
        " ORDER BY message LIMIT 1",
        *line,
    )
    if found is None:
        return None
    successor = step(rows.delivery(found), "promoted", due_at=s.now)
    if s.next_lease:
        successor = step(successor, "claimed", due_at=s.next_until, lease=s.next_lease)
    yield from change(
        "UPDATE delivery SET state = ?, due_at = ?, lease = ? WHERE message = ? AND endpoint = ?",
        successor.state.value, successor.due_at, successor.lease, successor.message, successor.endpoint,
    )  # fmt: skip
    return (yield from _claimed(successor)) if s.next_lease else None


def promoted_by(s: Settlement) -> Verb[Claimed | None]:
    """What an earlier commit of the same settlement has leased."""
    # SQLite uses an index of some states if its own condition is there word for word
    text = f"SELECT {rows.DELIVERY} FROM delivery WHERE {LINE} AND state IN ('due', 'leased') AND state = 'leased' AND lease = ?"
    found = yield from select_one(text, s.delivery.endpoint, s.delivery.order_key, s.next_lease)
    return None if found is None else (yield from _claimed(rows.delivery(found)))


def _claimed(leased: Delivery) -> Verb[Claimed | None]:
    stored = yield from select_one(
        f"SELECT {rows.MESSAGE} FROM message WHERE app = ? AND id = ?", leased.app, leased.message
    )
    return None if stored is None else Claimed(leased, rows.message(stored))
