"""What every store must do with tasks."""

import asyncio
from typing import Any

import pytest

from tenterhook.clock import DAY, HOUR, SECOND
from tenterhook.errors import IdempotencyInProgress
from tenterhook.ids import IdMaker
from tenterhook.model import Application, Endpoint, Task, TaskKind, TaskState
from tenterhook.store.base import Advanced, Store
from tenterhook.store.queries import Cursor
from tenterhook.store.tasks import KEPT
from tenterhook.store.work import Accept, Remember
from tests.contracts.store import NOW, StoreContract, make, new_app, new_delivery, new_endpoint, new_message

SOON = NOW + 30 * SECOND


def new_task(**changes: Any) -> Task:
    fields = {"id": make.new("qtask_", NOW), "kind": TaskKind.EVENT_TYPES, "created_at": NOW, "updated_at": NOW}
    return Task(**fields | changes)


async def run(store: Store, task: Task) -> Task:
    """The task after all its pages."""
    await store.create_task(task)
    claimed = await store.claim_task(NOW, 5, SOON)
    assert claimed is not None and claimed.id == task.id
    while not (advanced := await store.advance_task(task.id, 5, NOW, SOON)) or not advanced.done:
        assert advanced is not None
    ended = await store.end_task(task.id, 5, NOW)
    assert ended is not None
    return ended


class TaskContract(StoreContract):
    async def test_a_task_is_listed_until_it_is_forgotten(self, store: Store) -> None:
        first = new_task(parameters={"a": [1, "x"]}, app="app_1")
        second = new_task(kind=TaskKind.APP_STATS)
        for task in (first, second):
            await store.create_task(task)
        assert await store.get_task(first.id) == first
        assert await store.get_task("qtask_none") is None
        assert await store.list_tasks(Cursor(limit=9, descending=True)) == [second, first]
        assert await store.list_tasks(Cursor(limit=9), TaskKind.APP_STATS) == [second]
        assert await store.list_tasks(Cursor(limit=9), None, TaskState.FINISHED) == []
        await store.claim_task(NOW, 5, SOON)
        ended = await store.end_task(first.id, 5, NOW + 1, "it did not work")
        assert ended is not None
        assert (ended.state, ended.error, ended.updated_at) == (TaskState.FAILED, "it did not work", NOW + 1)
        assert await store.list_tasks(Cursor(limit=9), None, TaskState.FAILED) == [ended]

    async def test_what_ended_long_ago_is_forgotten_when_another_ends(self, store: Store) -> None:
        old, running, last = [new_task() for _ in range(3)]
        await run(store, old)
        await store.create_task(running)
        await store.create_task(last)
        assert await store.claim_task(NOW, 6, NOW + KEPT) is not None
        assert await store.claim_task(NOW, 7, SOON) is not None
        assert await store.end_task(last.id, 7, NOW + KEPT - 1) is not None
        assert len(await store.list_tasks(Cursor(limit=9))) == 3
        assert await store.end_task(running.id, 6, NOW + KEPT) is not None
        assert [task.id for task in await store.list_tasks(Cursor(limit=9))] == [running.id, last.id]

    async def test_a_task_and_the_answer_to_its_request_are_written_together(self, store: Store) -> None:
        remember = Remember(b"key", b"hash", 202, b"{}", NOW + HOUR)
        await store.create_task(new_task(), remember)
        with pytest.raises(IdempotencyInProgress):
            await store.create_task(new_task(), remember)
        assert len(await store.list_tasks(Cursor(limit=9))) == 1
        assert (await store.recall(b"key", NOW)) is not None

    async def test_nodes_take_different_tasks_and_take_turns(self, store: Store) -> None:
        tasks = [new_task() for _ in range(3)]
        for task in tasks:
            await store.create_task(task)
        claimed = await asyncio.gather(*(store.claim_task(NOW + n, n + 1, SOON) for n in range(5)))
        assert {task.id for task in claimed if task is not None} <= {task.id for task in tasks}
        found = [task.id for task in claimed if task is not None]
        assert len(found) == len(set(found))
        while (task_ := await store.claim_task(NOW + 9, 99, SOON)) is not None:
            found.append(task_.id)
        assert sorted(found) == [task.id for task in tasks]
        assert await store.claim_task(SOON - 1, 9, SOON) is None

    async def test_a_task_goes_round_to_whoever_is_next(self, store: Store) -> None:
        tasks = [new_task(), new_task()]
        for task in tasks:
            await store.create_task(task)
        for lease, expected in enumerate([tasks[0], tasks[1], tasks[0]], start=1):
            claimed = await store.claim_task(NOW + lease, lease, SOON)
            assert claimed is not None and claimed.id == expected.id
            assert await store.advance_task(claimed.id, lease, NOW + lease, NOW + lease) is not None

    async def test_whoever_has_lost_the_lease_changes_nothing(self, store: Store) -> None:
        task = new_task()
        await store.create_task(task)
        await store.claim_task(NOW, 1, SOON)
        again = await store.claim_task(SOON, 2, SOON + HOUR)
        assert again is not None and again.tries == 2
        assert await store.advance_task(task.id, 1, SOON, SOON + DAY) is None
        assert await store.end_task(task.id, 1, SOON) is None
        assert await store.get_task(task.id) == again
        advanced = await store.advance_task(task.id, 2, SOON, SOON + DAY)
        assert advanced is not None and advanced.task.tries == 0
        await store.end_task(task.id, 2, SOON)
        assert await store.advance_task(task.id, 2, SOON, SOON + DAY) is None
        assert await store.claim_task(SOON + DAY, 3, SOON + DAY) is None

    async def test_a_start_frees_the_tasks_of_the_process_before(self, store: Store) -> None:
        await store.create_task(new_task())
        await store.claim_task(NOW, 1, SOON)
        await self.end_leases(store)
        assert await store.claim_task(SOON if store.shared else NOW, 2, SOON) is not None

    async def test_a_page_that_fails_leaves_its_task_where_it_was(self, store: Store) -> None:
        task = new_task(kind=TaskKind.APP_STATS, parameters={"since": "never"})
        await store.create_task(task)
        claimed = await store.claim_task(NOW, 1, SOON)
        with pytest.raises(Exception, match="since"):
            await store.advance_task(task.id, 1, NOW, SOON)
        assert await store.get_task(task.id) == claimed

    # figures

    async def test_the_deliveries_of_a_time_are_counted_by_application(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        other, idle = new_app(), new_app()
        for more in (other, idle):
            await store.create_application(more)
        endpoints = [endpoint, new_endpoint(app)]
        early = new_message(app, id=IdMaker().new("msg_", NOW - HOUR))
        messages = [new_message(app), new_message(other), new_message(other)]
        work = [Accept(m, tuple(new_delivery(m, e) for e in endpoints)) for m in [early, *messages]]
        await store.commit(work)
        parameters = {"since": NOW - SECOND, "until": NOW + SECOND}
        ended = await run(store, new_task(kind=TaskKind.APP_STATS, parameters=parameters))
        counted = {one["appId"]: (one["appUid"], one["messageDestinations"]) for one in ended.data["appStats"]}
        assert counted == {app.id: ("acme", 2), other.id: (None, 4), idle.id: (None, 0)}
        only = new_task(kind=TaskKind.APP_STATS, parameters=parameters | {"apps": [other.id]})
        assert [one["appId"] for one in (await run(store, only)).data["appStats"]] == [other.id]

    async def test_event_types_are_collected_by_application(self, store: Store) -> None:
        filters: list[list[tuple[str, ...] | None]] = [[], [("a", "b"), ("b", "c")], [None, ("z",)]]
        apps = [new_app() for _ in filters]
        for app, wanted in zip(apps, filters, strict=True):
            await store.create_application(app)
            for event_types in wanted:
                await store.create_endpoint(app.id, new_endpoint(app, event_types=event_types))
        ended = await run(store, new_task())
        assert ended.data == {
            "event_types": [
                {"appId": app.id, "explicitlySubscribedEventTypes": names, "hasCatchAllEndpoint": everything}
                for app, names, everything in zip(apps, [[], ["a", "b", "c"], ["z"]], [False, False, True], strict=True)
            ]
        }
        assert isinstance(ended.reached, str)

    async def test_long_figures_are_collected_in_pages(
        self, store: Store, app: Application, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tenterhook.store.usage._DELIVERIES", 2)
        monkeypatch.setattr("tenterhook.store.usage._APPLICATIONS", 1)
        endpoints = [new_endpoint(app) for _ in range(3)]
        await store.commit(
            [Accept(m, tuple(new_delivery(m, e) for e in endpoints)) for m in (new_message(app) for _ in range(4))]
        )
        task = new_task(kind=TaskKind.APP_STATS, parameters={"since": NOW - SECOND, "until": NOW + SECOND})
        await store.create_task(task)
        await store.claim_task(NOW, 5, SOON)
        pages: list[Advanced] = []
        while not pages or not pages[-1].done:
            advanced = await store.advance_task(task.id, 5, NOW, SOON)
            assert advanced is not None
            pages.append(advanced)
        assert len(pages) == 5
        assert pages[-1].task.data["appStats"][0]["messageDestinations"] == 12
        await store.end_task(task.id, 5, NOW)
        await store.create_application(new_app())
        assert len((await run(store, new_task())).data["event_types"]) == 2
