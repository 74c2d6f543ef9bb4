"""`/background-task`: what takes longer than a request, how far it is, and what came of it."""

from typing import TYPE_CHECKING, Any

from msgspec import UNSET, UnsetType

from tenterhook.api import lists
from tenterhook.api.http import Call, Response, json_response
from tenterhook.api.lists import SORTED_PAGE, ListResponse
from tenterhook.api.query import OneWord
from tenterhook.api.routes import Access, Route
from tenterhook.api.shapes import Out, Time, instant, unset
from tenterhook.errors import NotFound
from tenterhook.ids import PREFIXES
from tenterhook.model import Task, TaskKind, TaskState

if TYPE_CHECKING:
    from tenterhook.api.app import Api

STATUS = OneWord("status", "Only tasks that stand like this.", words=tuple(TaskState))
TASK = OneWord("task", "Only tasks of this kind.", words=tuple(TaskKind))


class TaskOut(Out):
    """A task that was begun."""

    id: str
    status: TaskState
    task: str
    updated_at: Time


class BackgroundTaskOut(Out, kw_only=True):
    """A task: `data` is what has come of it so far, and all of it once it is finished. `error` says why it failed."""

    id: str
    status: TaskState
    task: str
    data: dict[str, Any]
    updated_at: Time
    error: str | UnsetType = UNSET


def begun(task: Task) -> TaskOut:
    return TaskOut(id=task.id, status=task.state, task=task.kind, updated_at=instant(task.updated_at))


def shown(task: Task) -> BackgroundTaskOut:
    return BackgroundTaskOut(
        id=task.id,
        status=task.state,
        task=task.kind,
        data=task.data,
        updated_at=instant(task.updated_at),
        error=unset(task.error),
    )


async def listing(api: "Api", call: Call) -> Response:
    """Tasks, newest first. They can be looked up for 90 days after they have ended."""
    status, kind = call.query[STATUS], call.query[TASK]
    state = None if status is None else TaskState(status)
    cursor = lists.cursor_of(call, PREFIXES["task"], descending=True)
    return await lists.answer(cursor, lambda page: api.store.list_tasks(page, kind, state), shown, lambda task: task.id)


async def get(api: "Api", call: Call) -> Response:
    """One task: ask again until it is no longer running, or listen to `background_task.finished`."""
    found = await api.store.get_task(call.params["task_id"])
    if found is None:
        raise NotFound
    return json_response(200, shown(found))


_ALL = "/api/v1/background-task"
ROUTES = [
    Route("GET", _ALL, listing, "v1.background-task.list", "List background tasks",
          {200: ListResponse[BackgroundTaskOut]}, Access.ORGANISATION, query=(*SORTED_PAGE, STATUS, TASK)),
    Route("GET", _ALL + "/{task_id}", get, "v1.background-task.get", "Read a background task", {200: BackgroundTaskOut},
          Access.ORGANISATION),
]  # fmt: skip
