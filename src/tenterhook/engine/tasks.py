"""Does what takes longer than a request, page by page.

Tasks take turns, and several nodes take different ones: each is leased for a few pages, then anybody may go on with it. A
page is on the disk together with how far the task is then (`Store.advance_task`), so whoever goes on repeats nothing and
leaves nothing out.
"""

import asyncio
import logging
from collections.abc import Callable
from random import Random
from typing import Any

from msgspec.structs import replace

from tenterhook.clock import SECOND, Clock, until
from tenterhook.errors import StoreUnavailable, TenterhookError
from tenterhook.ids import PREFIXES, IdMaker
from tenterhook.model import Task, TaskKind, TaskState
from tenterhook.observe import Instrument
from tenterhook.operational import NO_NOTICES, Notifier
from tenterhook.store.base import Store
from tenterhook.store.work import Remember

log = logging.getLogger(__name__)

LEASE = 30 * SECOND
PAGES_PER_TURN = 8
MOST_TRIES = 5
"""A task whose page has ended this many processes in a row is given up."""
_POLL = 10 * SECOND
_DEFECT = "something went wrong inside Tenterhook; the log has the details"
_DEADLY = f"{MOST_TRIES} processes ended over the same page of it"


class TaskRunner:
    """One per node. `due` is told which endpoint has something to send since when."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        ids: IdMaker,
        rng: Random,
        instrument: Instrument,
        due: Callable[[str, int], None],
        notices: Notifier = NO_NOTICES,
        poll: int = _POLL,
    ) -> None:
        self._store, self._clock, self._ids, self._rng = store, clock, ids, rng
        self._instrument, self._due, self._notices, self._poll = instrument, due, notices, poll
        self._wake = asyncio.Event()
        self._stopping = False
        self._runner: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._runner = asyncio.create_task(self._run(), name="tasks")

    async def stop(self) -> None:
        """Finish the page that has begun; the rest is for the next process."""
        self._stopping = True
        self._wake.set()
        if self._runner is not None:
            await self._runner

    async def begin(
        self,
        kind: TaskKind,
        app: str | None,
        parameters: dict[str, Any],
        remember: Callable[[Task], Remember] | None = None,
    ) -> Task:
        """A new task, already on the disk. Raises IdempotencyInProgress, StoreUnavailable."""
        now = self._clock.now()
        task = Task(
            id=self._ids.new(PREFIXES["task"], now), kind=kind, app=app, parameters=parameters, created_at=now,
            updated_at=now,
        )  # fmt: skip
        await self._store.create_task(task, None if remember is None else remember(task))
        self.wake()
        return task

    def wake(self) -> None:
        """There may be a task to work on."""
        self._wake.set()

    async def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                worked = await self.turn()
            except StoreUnavailable as error:
                log.warning("tasks wait for the database: %s", error)
                worked = False
            except Exception:
                log.exception("a turn of the tasks failed; the next one comes")
                worked = False
            if not worked and not self._stopping:
                await until(self._wake, self._poll)

    async def turn(self) -> bool:
        """A few pages of the task that is next; whether there was one. Raises StoreUnavailable."""
        now, lease = self._clock.now(), self._rng.getrandbits(62) | 1
        task = await self._store.claim_task(now, lease, now + LEASE)
        if task is None:
            return False
        if task.tries > MOST_TRIES:
            await self._end(task, lease, _DEADLY)
            return True
        await self._work(task, lease)
        return True

    async def _work(self, task: Task, lease: int) -> None:
        for page in range(1, PAGES_PER_TURN + 1):
            now = self._clock.now()
            leased_until = now if page == PAGES_PER_TURN else now + LEASE
            try:
                advanced = await self._store.advance_task(task.id, lease, now, leased_until)
            except StoreUnavailable:
                raise
            except TenterhookError as error:
                await self._end(task, lease, error.detail)
                return
            except Exception:
                log.exception("task %s (%s) failed", task.id, task.kind)
                await self._end(task, lease, _DEFECT)
                return
            if advanced is None:
                return
            task = advanced.task
            for endpoint in advanced.due:
                self._due(endpoint, now)
            if advanced.done:
                await self._end(task, lease, None)
                return
            if self._stopping:
                return

    async def _end(self, task: Task, lease: int, error: str | None) -> None:
        state = TaskState.FINISHED if error is None else TaskState.FAILED
        notices = await self._notices.task(replace(task, state=state, error=error))
        ended = await self._store.end_task(task.id, lease, self._clock.now(), error, notices)
        if ended is not None:
            self._notices.written(notices)
            self._instrument.task_ended(ended)
