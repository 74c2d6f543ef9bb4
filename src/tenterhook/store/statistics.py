"""Figures of one endpoint: how its deliveries stand, and how its attempts ended."""

from collections import defaultdict

from tenterhook import ids
from tenterhook.model import State
from tenterhook.store.queries import DeliveryCounts
from tenterhook.store.sql import Verb, select, select_one

MESSAGES = 10_000
"""How many a step of counting deliveries looks at: some ten milliseconds."""


def count_deliveries(app: str, endpoint: str, after: str, end: str) -> Verb[tuple[DeliveryCounts, str | None]]:
    """One step, over messages with ids from `after` to `end`, both not included: the counts, and behind which message the
    next begins (None: it was the last).

    By way of the messages of the application: deliveries that have ended are in no index by endpoint.
    """
    last = yield from select_one(
        "SELECT id FROM message WHERE app = ? AND id > ? AND id < ? ORDER BY id LIMIT 1 OFFSET ?",
        app, after, end, MESSAGES - 1,
    )  # fmt: skip
    upto, compared = (end, "<") if last is None else (last[0], "<=")
    found = yield from select(
        "SELECT d.state, CASE WHEN d.attempts > 0 THEN 1 ELSE 0 END, count(*)"
        " FROM message AS m JOIN delivery AS d ON d.message = m.id AND d.endpoint = ?"
        f" WHERE m.app = ? AND m.id > ? AND m.id {compared} ? GROUP BY 1, 2",
        endpoint, app, after, upto,
    )  # fmt: skip
    counts: dict[str, int] = defaultdict(int)
    for state, tried, count in found:
        ended = _ENDED.get(state)
        counts[ended or ("retrying" if tried else "untried")] += count
    return DeliveryCounts(**counts), None if last is None else last[0]


_ENDED = {State.DELIVERED.value: "delivered", State.FAILED.value: "failed", State.CANCELLED.value: "cancelled"}


def count_attempts(app: str, endpoint: str, since: int, until: int) -> Verb[tuple[int, int, int]]:
    """How many have succeeded, failed, and been cancelled by a transformation: counts in indexes, which read no attempt."""
    if (yield from select_one("SELECT id FROM endpoint WHERE app = ? AND id = ?", app, endpoint)) is None:
        return 0, 0, 0
    every = "SELECT count(*) FROM attempt WHERE endpoint = ? AND id >= ? AND id < ?"
    other = f"{every} AND result <> 'ok'"
    values = (endpoint, ids.ceiling("atmpt_", since), ids.ceiling("atmpt_", until))
    text = f"SELECT ({every}), ({other}), ({other} AND result = 'cancelled')"
    ((total, others, cancelled),) = yield from select(text, *values, *values, *values)
    return total - others, others - cancelled, cancelled
