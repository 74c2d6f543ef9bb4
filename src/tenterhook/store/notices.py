"""Messages that are written with the change that they tell of, as a verb."""

from collections.abc import Sequence

from msgspec.structs import replace

from tenterhook import ids
from tenterhook.model import State
from tenterhook.store import rows
from tenterhook.store.lines import line_up
from tenterhook.store.sql import Appear, Insert, LockLines, Tell, Verb
from tenterhook.store.work import Accept


def lines_of(notices: Sequence[Accept]) -> list[tuple[str, str]]:
    """The FIFO lines that they go into."""
    return [(d.endpoint, d.order_key) for one in notices for d in one.deliveries if d.order_key is not None]


def in_time(notices: Sequence[Accept]) -> Verb[Sequence[Accept]]:
    """With other ids, if by now a reader may have passed theirs: they were planned before they are written."""
    timed = [(one.message, one.deadline) for one in notices if one.message is not None and one.deadline is not None]
    if not timed:
        return notices
    first, deadline = min(timed, key=lambda one: one[0].id)
    newest: str | None = yield Appear(first.app, first.id, deadline)
    return notices if newest is None else renewed(notices, newest)


def renewed(notices: Sequence[Accept], newest: str) -> list[Accept]:
    """The same with ids that come behind `newest`."""
    fresh = []
    for one in notices:
        if one.message is not None:
            newest = ids.behind(newest)
            deliveries = tuple([replace(delivery, message=newest) for delivery in one.deliveries])
            one = replace(one, message=replace(one.message, id=newest), deliveries=deliveries)
        fresh.append(one)
    return fresh


def announce(notices: Sequence[Accept]) -> Verb[None]:
    """Write messages with their deliveries. First of all in a transaction: lines are locked before anything is changed."""
    if not notices:
        return
    notices = yield from in_time(notices)
    lines = sorted(set(lines_of(notices)))
    if lines:
        yield LockLines(lines)
    deliveries = yield from line_up([d for one in notices for d in one.deliveries], set())
    messages = [one.message for one in notices if one.message is not None]
    yield Insert("message", rows.MESSAGE, [rows.message_row(message) for message in messages])
    yield Insert("delivery", rows.DELIVERY, [rows.delivery_row(delivery) for delivery in deliveries])
    for endpoint in sorted({d.endpoint for d in deliveries if d.state is State.DUE}):
        yield Tell("due", endpoint)
