"""What may be published of the rows that were read: which one after the other, and which must wait."""

from collections.abc import Sequence

from msgspec import Struct

from tenterhook.outbox.base import Kept, Row


class Plan(Struct, frozen=True):
    """`lines` are independent of each other; the rows of one go in order. `held` wait for an earlier row of their key.

    What is in neither comes with the next reading.
    """

    lines: list[list[Row]]
    held: list[Kept]


def plan(rows: Sequence[Row]) -> Plan:
    """`rows` in the order in which they were read: of each key in order.

    A row whose predecessor waits is not tried, and gets the predecessor's instant. So the instants of a key do not decrease
    along its positions, and whatever is read of a key by instant, then by position, is its beginning. Of the rows that
    tell of the same event by its id, one is tried at a time.
    """
    lines: dict[object, list[Row]] = {}
    held: list[Kept] = []
    waiting: dict[object, int] = {}
    events: set[tuple[str, str]] = set()
    left: set[object] = set()
    for row in rows:
        line = row.id if row.key is None else (row.application, row.key)
        if row.behind is not None and (row.retry_at is None or row.behind > row.retry_at):
            waiting[line] = max(row.behind, waiting.get(line, 0))
        if line in waiting:
            held.append(Kept(row.id, row.attempts, waiting[line], "waits for an earlier event of its key"))
        elif line in left or (row.event_id is not None and (row.application, row.event_id) in events):
            left.add(line)
        else:
            lines.setdefault(line, []).append(row)
            if row.event_id is not None:
                events.add((row.application, row.event_id))
    return Plan(list(lines.values()), held)
