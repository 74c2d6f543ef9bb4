"""What becomes of a node that did not hear what another one did: hints may get lost, deliveries must not."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from tenterhook.model import Outcome, Result
from tenterhook.store.base import NOTHING_KNOWN, Hint, Loaded
from tenterhook.store.sqlite import SqliteStore
from tests import api
from tests.simulation.world import VAULT

GONE = Outcome(result=Result.GONE, status=410, url=api.URL)


async def switched_off(server: api.Server) -> tuple[str, str]:
    """An application and its endpoint, which has answered 410 to a message that it still owes."""
    app = await server.app()
    endpoint = await server.endpoint(app, retrySchedule=[0.001])
    server.recorder.outcomes = [GONE, api.OK]
    await server.message(app)
    await server.watch.settled(1)
    return app, endpoint


async def test_an_endpoint_that_was_enabled_elsewhere_gets_what_it_owes(tmp_path: Path) -> None:
    async with api.running(tmp_path) as server:
        app, ref = await switched_off(server)
        endpoint = await server.node.registry.endpoint(app, ref)
        assert endpoint.disabled
        # as another node does it, of which this one hears nothing
        enabled = replace(endpoint, disabled=False, updated_at=endpoint.updated_at + 1)
        await server.store.save_endpoint(app, enabled, clean=True)
        await server.node.worker.refresh()
        await server.watch.settled(2)
        assert len(server.recorder.sent) == 2


async def test_a_change_that_was_not_heard_of_is_not_undone(tmp_path: Path) -> None:
    async with api.running(tmp_path) as server:
        app = await server.app(name="Old")
        await server.message(app)  # now it is in memory
        there = await server.node.registry.application(app)
        await server.store.save_application(replace(there, name="New", updated_at=there.updated_at + 1))
        assert (await server.patch(f"/app/{app}", {"metadata": {"a": "b"}})).status == 200
        found = (await server.get(f"/app/{app}")).json
        assert (found["name"], found["metadata"]) == ("New", {"a": "b"})


async def test_a_node_that_only_answers_keeps_no_lanes(tmp_path: Path) -> None:
    async with api.running(tmp_path, role="api") as server:
        app = await server.app()
        await server.endpoint(app)
        await server.message(app)
        server.node._hear(Hint("all"))
        await asyncio.gather(*server.node._heard)
        assert server.node.worker.lanes == {}


class BusyStore(SqliteStore):
    """While one application is read, another is changed."""

    changed: Callable[[], None]

    async def load_application(self, app: str, known: Mapping[str, int] = NOTHING_KNOWN) -> Loaded | None:
        found = await super().load_application(app, known)
        self.changed()
        return found


@pytest.fixture
def busy(tmp_path: Path) -> BusyStore:
    store = BusyStore.open(tmp_path / "t.db", VAULT, synchronous="OFF")
    assert isinstance(store, BusyStore)
    return store


async def test_an_application_is_read_while_others_change_all_the_time(tmp_path: Path, busy: BusyStore) -> None:
    async with api.running(tmp_path, busy) as server:
        mine, catalog = await server.app(), server.node.catalog
        busy.changed = lambda: catalog.forget_application("app_of_somebody_else")
        async with asyncio.timeout(api.GRACE):
            entry = await catalog.application(mine)
        assert catalog.known(mine) is entry


async def test_an_application_that_changes_while_it_is_read_is_read_again(tmp_path: Path, busy: BusyStore) -> None:
    async with api.running(tmp_path, busy) as server:
        mine, catalog = await server.app(), server.node.catalog
        changes = [lambda: catalog.forget_application(mine), catalog.forget_all, lambda: None]
        busy.changed = lambda: changes.pop(0)()
        await catalog.application(mine)
        assert changes == []
