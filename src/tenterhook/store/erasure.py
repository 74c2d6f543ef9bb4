"""Content that goes at once and for good: what messages held and what was sent of them; of one attempt, what came back.

The rows stay, so that it can be seen that something happened, and when.
"""

from collections.abc import Sequence

from tenterhook import ids
from tenterhook.clock import MILLISECOND
from tenterhook.errors import NotFound
from tenterhook.model import EXPUNGED, Task
from tenterhook.store.base import TaskPage
from tenterhook.store.sql import Verb, change, listed, select

PAGE = 500
_SKEW = 10 * MILLISECOND
"""By so much nodes may misjudge the database's time: a message that one accepted before another began a task is older."""


def expunge_messages(app: str, refs: Sequence[str]) -> Verb[list[str]]:
    """`refs` are ids and event ids; those that there are."""
    if not refs:
        return []
    these = listed(len(refs))
    found = yield from select(f"SELECT id, id FROM message WHERE app = ? AND id IN ({these})", app, *refs)
    named = yield from select(
        f"SELECT event_id, message FROM event_id WHERE app = ? AND event_id IN ({these})", app, *refs
    )
    known = {row[0]: row[1] for row in (*named, *found)}
    yield from _empty(app, sorted(set(known.values())))
    return [ref for ref in refs if ref in known]


def _empty(app: str, messages: Sequence[str]) -> Verb[int]:
    """How many of the messages still had a payload."""
    if not messages:
        return 0
    these = listed(len(messages))
    count = yield from change(
        f"UPDATE message SET payload = NULL, payload_until = NULL WHERE app = ? AND id IN ({these}) AND payload IS NOT NULL",
        app,
        *messages,
    )
    yield from change(
        f"UPDATE attempt SET request_body = NULL WHERE message IN ({these}) AND request_body IS NOT NULL", *messages
    )
    # a request that became a message has its body there; one that repeats it has a copy
    yield from change(
        f"UPDATE received SET body = NULL WHERE message IN ({these}) AND verdict = 'duplicate' AND app = ?",
        *messages,
        app,
    )
    return count


def expunge_attempt(app: str, message: str, attempt: str) -> Verb[None]:
    text = "UPDATE attempt SET response_body = ?, request_body = NULL WHERE message = ? AND id = ? AND app = ?"
    if not (yield from change(text, EXPUNGED, message, attempt, app)):
        raise NotFound


def purge(task: Task, now: int) -> Verb[TaskPage]:
    """A page of emptying every message that an application had when the task was begun."""
    found = yield from select(
        "SELECT id FROM message WHERE app = ? AND id > ? AND id < ? ORDER BY id LIMIT ?",
        task.app, task.reached or "", ids.ceiling("msg_", task.created_at + _SKEW), PAGE,
    )  # fmt: skip
    count = yield from _empty(task.app or "", [row[0] for row in found])
    data = {"messagesPurged": task.data.get("messagesPurged", 0) + count}
    return TaskPage(found[-1][0] if found else task.reached, data, len(found) < PAGE)
