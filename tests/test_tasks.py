"""Tasks go on where they were, whatever happens to who works on them."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tenterhook.clock import SECOND
from tenterhook.engine import tasks
from tenterhook.engine.tasks import LEASE, MOST_TRIES, PAGES_PER_TURN, TaskRunner
from tenterhook.errors import Invalid, StoreUnavailable
from tenterhook.ids import IdMaker
from tenterhook.model import Task, TaskKind, TaskState
from tenterhook.observe import Instrument
from tenterhook.operational import NO_NOTICES, Notifier, Planned
from tenterhook.store.queries import Cursor
from tenterhook.store.sqlite import SqliteStore
from tenterhook.store.tasks import KINDS
from tenterhook.vault import Vault
from tests.api import GRACE
from tests.contracts.store import NOW, new_app


class Clock:
    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> int:
        return self.time


class Ended(Instrument):
    """Lets a test wait for the end of a task."""

    def __init__(self) -> None:
        self.tasks: asyncio.Queue[Task] = asyncio.Queue()

    def task_ended(self, task: Task) -> None:
        self.tasks.put_nowait(task)


class Bench:
    """A runner on a store with nine applications, of which one is a page."""

    def __init__(self, store: SqliteStore) -> None:
        self.store, self.clock, self.ended = store, Clock(), Ended()
        self.due: list[tuple[str, int]] = []
        self.runner = self.another()

    def another(self, store: Any = None, notices: Notifier = NO_NOTICES) -> TaskRunner:
        return TaskRunner(
            store or self.store, self.clock, IdMaker(), Random(1), self.ended,
            lambda endpoint, at: self.due.append((endpoint, at)), notices, poll=SECOND // 100,
        )  # fmt: skip

    async def begin(self) -> Task:
        return await self.runner.begin(TaskKind.EVENT_TYPES, None, {})

    async def seen(self, task: Task) -> Task:
        found = await self.store.get_task(task.id)
        assert found is not None
        return found


def count(task: Task) -> int:
    """How many applications a task has come past."""
    return len(task.data.get("event_types", ()))


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr("tenterhook.store.usage._APPLICATIONS", 1)
    store = SqliteStore.open(tmp_path / "t.db", Vault([b"0" * 32]), synchronous="OFF")
    for _ in range(PAGES_PER_TURN + 1):
        await store.create_application(new_app())
    bench = Bench(store)
    yield bench
    await bench.runner.stop()
    await store.close()


class Failing:
    """A store of which one verb fails, after `left` calls that went well."""

    def __init__(self, store: SqliteStore, verb: str, error: Exception, left: int) -> None:
        self._store, self._verb, self._error, self.left = store, verb, error, left

    def __getattr__(self, name: str) -> Any:
        if name == self._verb:
            self.left -= 1
            if self.left < 0:
                raise self._error
        return getattr(self._store, name)


def test_every_kind_has_a_page() -> None:
    assert set(KINDS) == set(TaskKind)


async def test_a_task_runs_as_soon_as_it_is_asked_for(bench: Bench) -> None:
    bench.runner = TaskRunner(
        bench.store, bench.clock, IdMaker(), Random(1), bench.ended, lambda endpoint, at: None, poll=3600 * SECOND
    )
    bench.runner.start()
    task = await bench.begin()
    assert (task.state, task.data) == (TaskState.RUNNING, {})
    ended = await asyncio.wait_for(bench.ended.tasks.get(), GRACE)
    assert (ended.id, ended.state, count(ended)) == (task.id, TaskState.FINISHED, PAGES_PER_TURN + 1)
    assert await bench.seen(task) == ended


async def test_tasks_take_turns(bench: Bench) -> None:
    long, second = await bench.begin(), await bench.begin()
    bench.clock.time += 1
    assert await bench.runner.turn()
    bench.clock.time += 1
    assert await bench.runner.turn()
    assert [count(await bench.seen(task)) for task in (long, second)] == [PAGES_PER_TURN, PAGES_PER_TURN]


async def test_a_task_goes_on_after_the_death_of_its_process(bench: Bench) -> None:
    task = await bench.begin()
    dying = Failing(bench.store, "advance_task", StoreUnavailable("gone"), left=3)
    with pytest.raises(StoreUnavailable):
        await bench.another(dying).turn()
    assert count(await bench.seen(task)) == 3
    assert not await bench.runner.turn(), "its lease has not ended"
    bench.clock.time += LEASE
    while not bench.ended.tasks.qsize():
        bench.clock.time += 1
        assert await bench.runner.turn()
    ended = await bench.ended.tasks.get()
    apps = [one["appId"] for one in ended.data["event_types"]]
    assert apps == [app.id for app in await bench.store.list_applications(Cursor(limit=99))]


async def test_a_task_whose_end_was_not_written_ends_later(bench: Bench) -> None:
    task = await bench.begin()
    dying = bench.another(Failing(bench.store, "end_task", StoreUnavailable("gone"), left=0))
    await dying.turn()
    bench.clock.time += 1
    with pytest.raises(StoreUnavailable):
        await dying.turn()
    bench.clock.time += LEASE
    await bench.runner.turn()
    assert count(await bench.seen(task)) == PAGES_PER_TURN + 1
    assert (await bench.seen(task)).state is TaskState.FINISHED


async def test_a_task_that_kills_its_process_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    task = await bench.begin()
    for _ in range(MOST_TRIES):
        with pytest.raises(StoreUnavailable):
            await bench.another(Failing(bench.store, "advance_task", StoreUnavailable("dead"), left=0)).turn()
        bench.clock.time += LEASE
    assert await bench.runner.turn()
    ended = await bench.seen(task)
    assert ended.state is TaskState.FAILED
    assert ended.error == tasks._DEADLY


async def test_a_task_that_fails_tells_how_far_it_came(bench: Bench) -> None:
    class Told(Notifier):
        async def task(self, task: Task) -> Planned:
            told.append(task)
            return ()

    told: list[Task] = []
    task = await bench.begin()
    store = Failing(bench.store, "advance_task", Invalid("no more"), left=3)
    assert await bench.another(store, Told()).turn()
    ended = await bench.seen(task)
    assert (ended.state, count(ended), ended.error) == (TaskState.FAILED, 3, "no more")
    assert [(one.state, one.data, one.error) for one in told] == [(ended.state, ended.data, ended.error)]


async def test_a_defect_ends_its_task_and_no_other(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    wrong = Task(
        id=IdMaker().new("qtask_", NOW),
        kind="from.the.future",
        created_at=bench.clock.time,
        updated_at=bench.clock.time,
    )
    await bench.store.create_task(wrong)
    right = await bench.begin()
    bench.runner.start()
    ended = [await asyncio.wait_for(bench.ended.tasks.get(), GRACE) for _ in range(2)]
    assert {task.id: task.error for task in ended} == {wrong.id: tasks._DEFECT, right.id: None}
    assert "from.the.future" in caplog.text


async def test_the_runner_outlives_an_outage(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    store = Failing(bench.store, "claim_task", StoreUnavailable("down"), left=0)
    bench.runner = bench.another(store)
    task = await bench.runner.begin(TaskKind.EVENT_TYPES, None, {})
    bench.runner.start()
    async with asyncio.timeout(GRACE):
        while "wait for the database" not in caplog.text:
            await asyncio.to_thread(lambda: None)
    store.left = 1_000
    assert (await asyncio.wait_for(bench.ended.tasks.get(), GRACE)).id == task.id


async def test_stopping_ends_with_the_page(bench: Bench) -> None:
    task = await bench.begin()
    bench.runner._stopping = True
    await bench.runner.turn()
    assert count(await bench.seen(task)) == 1
