"""Replays, a page of messages at a time: what was chosen becomes due again with a fresh schedule, in a few statements.

FIFO lines keep their order: everything of a line goes behind what is pending there, and then the first of each line that
nobody heads steps forward.
"""

from collections.abc import Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tenterhook import ids
from tenterhook.engine.lifecycle import MOVES
from tenterhook.errors import NotFound
from tenterhook.model import Delivery, Endpoint, Replay, State, Task
from tenterhook.routing import wants
from tenterhook.store import rows
from tenterhook.store.base import TaskPage
from tenterhook.store.history import SKEW
from tenterhook.store.lines import step_forward
from tenterhook.store.sql import Insert, LockLines, Read, Row, Verb, change, listed, select, select_one

PAGE = 500
_ENDED = ", ".join(f"'{state.value}'" for state, moves in MOVES.items() if "replayed" in moves)


class Candidate(Struct, frozen=True):
    """A message, and how its delivery to the endpoint stands: `state` None if it has none."""

    message: str
    event_type: str
    channels: tuple[str, ...]
    tags: tuple[str, ...]
    order_key: str | None
    state: State | None
    line: str | None
    deliver_at: int | None
    status: int | None


def replay(task: Task, now: int) -> Verb[TaskPage]:
    """One page of a replay. Raises NotFound when the endpoint is gone."""
    asked = msgspec.convert(task.parameters, Replay)
    endpoint = yield from _endpoint(task.app or "", asked.endpoint)
    found = yield from _candidates(endpoint, asked, task.reached)
    chosen = yield from _kept(endpoint.app, [one for one in found if is_asked_for(one, asked, endpoint)])
    count = yield from _revive(endpoint, chosen, now, asked.lifetime)
    data = {"messagesSent": task.data.get("messagesSent", 0) + count}
    due = (endpoint.id,) if count else ()
    return TaskPage(found[-1].message if found else task.reached, data, len(found) < PAGE, due)


def is_asked_for(one: Candidate, asked: Replay, endpoint: Endpoint) -> bool:
    """Whether a replay includes this message."""
    if one.state is None:
        chosen = asked.missing and wants(endpoint, one.event_type, one.channels)
    else:
        chosen = one.state in asked.states
    return (
        chosen
        and (asked.channel is None or asked.channel in one.channels)
        and (asked.tag is None or asked.tag in one.tags)
        and (asked.status_class is None or (one.status is not None and one.status // 100 * 100 == asked.status_class))
    )


def _endpoint(app: str, endpoint: str) -> Verb[Endpoint]:
    """Without its secrets."""
    found = yield from select_one("SELECT document FROM endpoint WHERE app = ? AND id = ?", app, endpoint)
    if found is None:
        raise NotFound("the endpoint was deleted")
    return msgspec.json.decode(found[0], type=Endpoint)


def _candidates(endpoint: Endpoint, asked: Replay, reached: str | None) -> Verb[list[Candidate]]:
    """The next messages of the application, by id; those whose payload is gone cannot be sent."""
    columns, values = (
        "m.id, m.event_type, m.channels, m.tags, m.order_key, d.state, d.order_key, m.deliver_at",
        [endpoint.id],
    )
    if asked.status_class is not None:
        # by message the index on messages is the better one: as an expression the endpoint tempts to no other
        columns += (
            ", (SELECT a.status FROM attempt AS a WHERE a.message = m.id AND (a.endpoint || '') = ? AND a.id >= ?"
            " ORDER BY a.id DESC LIMIT 1)"
        )
        values = [endpoint.id, ids.floor("atmpt_", max(0, asked.since - SKEW)), endpoint.id]
    # an example is for one endpoint only, which it was planned for
    mine = "(d.state IS NOT NULL OR m.source IS NULL OR substr(m.source, 1, 3) <> 'ep_')"
    where = f"m.app = ? AND m.id > ? AND m.id < ? AND m.payload IS NOT NULL AND {mine}"
    values += [endpoint.app, reached or ids.floor("msg_", asked.since), ids.floor("msg_", asked.until)]
    if asked.event_types:
        where += f" AND m.event_type IN ({listed(len(asked.event_types))})"
        values += asked.event_types
    found = yield from select(
        f"SELECT {columns} FROM message AS m LEFT JOIN delivery AS d ON d.message = m.id AND d.endpoint = ?"
        f" WHERE {where} ORDER BY m.id LIMIT ?",
        *values, PAGE,
    )  # fmt: skip
    return [_candidate(row) for row in found]


def _candidate(row: Row) -> Candidate:
    return Candidate(
        row[0], row[1], rows.split(row[2]), rows.split(row[3]), row[4], None if row[5] is None else State(row[5]), row[6],
        row[7], row[8] if len(row) > 8 else None,
    )  # fmt: skip


def _kept(app: str, chosen: list[Candidate]) -> Verb[list[Candidate]]:
    """Those of which nobody removes the payload until this transaction ends."""
    if not chosen:
        return []
    text = f"SELECT id FROM message WHERE app = ? AND id IN ({listed(len(chosen))}) AND payload IS NOT NULL ORDER BY id"
    found: list[Row] = yield Read(text, (app, *(one.message for one in chosen)), lock=True)
    there = {row[0] for row in found}
    return [one for one in chosen if one.message in there]


def _revive(endpoint: Endpoint, chosen: Sequence[Candidate], now: int, lifetime: int) -> Verb[int]:
    """Make the chosen messages due at the endpoint; how many. What is pending by now stays as it is."""
    again = [(one.message, one.line) for one in chosen if one.state is not None]
    fresh = [_owed(one, endpoint, now, lifetime) for one in chosen if one.state is None]
    lines = sorted({line for line in (*(line for _, line in again), *(d.order_key for d in fresh)) if line is not None})
    if lines:
        yield LockLines([(endpoint.id, line) for line in lines])
    count = 0
    for state, due_at, messages in (
        (State.DUE, now, [message for message, line in again if line is None]),
        (State.WAITING, None, [message for message, line in again if line is not None]),
    ):
        if messages:
            count += yield from _begin_again(endpoint.id, messages, state, due_at, now + lifetime)
    if fresh:
        table = [rows.delivery_row(delivery) for delivery in fresh]
        count += yield Insert("delivery", rows.DELIVERY, table, "(message, endpoint) DO NOTHING")
    if lines:
        yield from step_forward([(endpoint.id, line) for line in lines], now)
    return count


def _owed(one: Candidate, endpoint: Endpoint, now: int, lifetime: int) -> Delivery:
    """A delivery for a message that came while the endpoint was disabled, or before it existed."""
    start = max(now, one.deliver_at or 0)
    delivery = Delivery(
        message=one.message, endpoint=endpoint.id, app=endpoint.app, due_at=start, created_at=now,
        expires_at=start + lifetime,
    )  # fmt: skip
    if not endpoint.ordered:
        return delivery
    return replace(delivery, state=State.WAITING, due_at=None, order_key=one.order_key or "")


def _begin_again(endpoint: str, messages: list[str], state: State, due_at: int | None, expires_at: int) -> Verb[int]:
    return (
        yield from change(
            "UPDATE delivery SET state = ?, due_at = ?, lease = 0, step = 0, \"trigger\" = 'scheduled', resume_at = NULL,"
            f" expires_at = ? WHERE endpoint = ? AND message IN ({listed(len(messages))}) AND state IN ({_ENDED})",
            state.value, due_at, expires_at, endpoint, *messages,
        )
    )  # fmt: skip
