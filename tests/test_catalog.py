"""What the hot path knows of applications: loaded once for all who ask, and never as it was before a change."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tenterhook.catalog import Catalog
from tenterhook.errors import NotFound, StoreUnavailable
from tenterhook.store.sqlite import SqliteStore
from tests.contracts.store import new_app
from tests.simulation.world import VAULT


class Reading:
    """A store that has read an application, and answers when it is told to; the first `failing` loads fail."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.loads = self.failing = 0
        self.began, self.go_on = asyncio.Event(), asyncio.Event()

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._store, verb)

    async def load_application(self, ref: str, known: Any) -> Any:
        self.loads += 1
        found = await self._store.load_application(ref, known)
        self.began.set()
        await self.go_on.wait()
        if self.loads <= self.failing:
            raise StoreUnavailable("planted")
        return found


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Reading]:
    store = SqliteStore.open(tmp_path / "t.db", VAULT, synchronous="OFF")
    yield Reading(store)
    await store.close()


@pytest.fixture
def catalog(store: Any) -> Catalog:
    return Catalog(store, lambda endpoint, health: None, lambda app, rate: None)


async def test_who_asks_at_the_same_time_waits_for_one_load(store: Reading, catalog: Catalog) -> None:
    app = new_app()
    await store.create_application(app)
    asking = [asyncio.create_task(catalog.application(app.id)) for _ in range(20)]
    await store.began.wait()
    asking[0].cancel()
    store.go_on.set()
    entries = await asyncio.gather(*asking[1:])
    assert {entry.application.id for entry in entries} == {app.id}
    assert store.loads == 1
    assert asking[0].cancelled()
    assert await catalog.application(app.id) is entries[0]


async def test_a_change_meanwhile_is_seen_by_all(store: Reading, catalog: Catalog) -> None:
    app = new_app()
    await store.create_application(app)
    first = asyncio.create_task(catalog.application(app.id))
    await store.began.wait()
    await store.save_application(replace(app, name="New"))
    catalog.forget_application(app.id)
    second = asyncio.create_task(catalog.application(app.id))
    store.go_on.set()
    assert [(await one).application.name for one in (first, second)] == ["New", "New"]
    assert store.loads == 2


async def test_who_asks_for_what_has_just_been_created_gets_it(store: Reading, catalog: Catalog) -> None:
    first = asyncio.create_task(catalog.application("acme"))
    await store.began.wait()
    app = new_app(uid="acme")
    await store.create_application(app)
    second = asyncio.create_task(catalog.application("acme"))
    await asyncio.wait([second], timeout=0)
    store.go_on.set()
    with pytest.raises(NotFound):
        await first
    assert (await second).application.id == app.id


async def test_a_load_that_fails_fails_for_all_who_wait_and_for_nobody_later(store: Reading, catalog: Catalog) -> None:
    app = new_app()
    await store.create_application(app)
    store.failing = 1
    asking = [asyncio.create_task(catalog.application(app.id)) for _ in range(3)]
    await store.began.wait()
    store.go_on.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 3
    assert (await catalog.application(app.id)).application.id == app.id
