"""Tasks, as verbs: who works on one, and how far it is.

A page of a task is one transaction: what it changes, and how far the task is then. So one whose process has died goes on
exactly where it was. The lease says who works on it, and is compared at each step; whoever has lost it changes nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from tenterhook.clock import DAY
from tenterhook.model import Task, TaskKind, TaskState
from tenterhook.store import erasure, replays, rows, usage
from tenterhook.store.base import Advanced, TaskPage
from tenterhook.store.lists import page
from tenterhook.store.notices import announce
from tenterhook.store.objects import remember
from tenterhook.store.queries import Cursor
from tenterhook.store.sql import Tell, Verb, change, listed, select_locked, select_one
from tenterhook.store.work import Accept, Remember

KEPT = 90 * DAY
"""How long a task that has ended can be looked up."""
_FORGOTTEN_AT_ONCE = 100

KINDS: dict[str, Callable[[Task, int], Verb[TaskPage]]] = {
    TaskKind.RECOVER: replays.replay,
    TaskKind.REPLAY_MISSING: replays.replay,
    TaskKind.BULK_REPLAY: replays.replay,
    TaskKind.PURGE: erasure.purge,
    TaskKind.APP_STATS: usage.count_messages,
    TaskKind.EVENT_TYPES: usage.collect_event_types,
}
"""What each kind does in one page, at an instant."""


def create_task(task: Task, answer: Remember | None) -> Verb[None]:
    text = f"INSERT INTO task ({rows.TASK}, lease, due_at) VALUES ({listed(13)})"
    yield from change(text, *rows.task_row(task), 0, task.created_at)
    yield from remember(answer)
    yield Tell("task", task.id)


def get_task(task: str) -> Verb[Task | None]:
    found = yield from select_one(f"SELECT {rows.TASK} FROM task WHERE id = ?", task)
    return None if found is None else rows.task(found)


def list_tasks(cursor: Cursor, kind: str | None, state: TaskState | None) -> Verb[list[Task]]:
    where: list[tuple[str, Sequence[Any]]] = []
    if kind is not None:
        where.append(("kind = ?", (kind,)))
    if state is not None:
        where.append(("state = ?", (state.value,)))
    return [rows.task(row) for row in (yield from page(f"{rows.TASK} FROM task", where, "id", cursor))]


def claim_task(now: int, lease: int, until: int) -> Verb[Task | None]:
    """Tasks take turns: whoever has waited longest is next."""
    found = yield from select_locked(
        f"SELECT {rows.TASK} FROM task WHERE due_at IS NOT NULL AND due_at <= ? ORDER BY due_at, id LIMIT 1", now
    )
    if found is None:
        return None
    task = rows.task(found)
    text = "UPDATE task SET lease = ?, due_at = ?, tries = tries + 1 WHERE id = ?"
    yield from change(text, lease, until, task.id)
    return replace(task, tries=task.tries + 1)


def advance_task(task: str, lease: int, now: int, until: int) -> Verb[Advanced | None]:
    held = yield from _held(task, lease)
    if held is None:
        return None
    done = yield from KINDS[held.kind](held, now)
    moved = replace(held, reached=done.reached, data=done.data, tries=0, updated_at=now)
    yield from _save(moved, until)
    for endpoint in done.due:
        yield Tell("due", endpoint)
    return Advanced(moved, done.done, done.due)


def end_task(task: str, lease: int, now: int, error: str | None, notices: Sequence[Accept]) -> Verb[Task | None]:
    held = yield from _held(task, lease)
    if held is None:
        return None
    state = TaskState.FINISHED if error is None else TaskState.FAILED
    ended = replace(held, state=state, error=error, updated_at=now)
    yield from _save(ended, None)
    yield from announce(notices)
    # the place to clean up is where they come from: who makes no tasks has none to forget
    old = "SELECT id FROM task WHERE due_at IS NULL AND updated_at <= ? ORDER BY updated_at LIMIT ?"
    yield from change(f"DELETE FROM task WHERE id IN ({old})", now - KEPT, _FORGOTTEN_AT_ONCE)
    return ended


def _held(task: str, lease: int) -> Verb[Task | None]:
    text = f"SELECT {rows.TASK} FROM task WHERE id = ? AND lease = ? AND due_at IS NOT NULL"
    found = yield from select_locked(text, task, lease)
    return None if found is None else rows.task(found)


def _save(task: Task, due_at: int | None) -> Verb[None]:
    changing = rows.TASK.split(", ")[4:]
    text = f"UPDATE task SET {', '.join(f'{column} = ?' for column in changing)}, due_at = ? WHERE id = ?"
    yield from change(text, *rows.task_row(task)[4:], due_at, task.id)
