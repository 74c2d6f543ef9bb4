"""An endpoint that a verdict has switched off is off exactly if that is on the disk, whatever is read meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from tenterhook.model import Outcome, Result, State
from tenterhook.store.work import Done, Settlement, Work
from tests.api import GRACE, OK, URL, Server, running

GONE = Outcome(result=Result.GONE, status=410, url=URL)


class Gate:
    """Holds back the batch that has the verdict, until it is opened."""

    def __init__(self, server: Server) -> None:
        self.past = server.store.commit
        self.reached, self.open = asyncio.Event(), asyncio.Event()

    async def commit(self, work: Sequence[Work]) -> list[Done]:
        if any(isinstance(one, Settlement) and one.disable is not None for one in work):
            self.reached.set()
            await self.open.wait()
        return await self.past(work)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path) as server:
        yield server


@pytest.fixture
def gate(server: Server, monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate = Gate(server)
    monkeypatch.setattr(server.store, "commit", gate.commit)
    return gate


async def test_whoever_reads_it_before_the_commit_does_not_switch_it_on_again(server: Server, gate: Gate) -> None:
    app = await server.app()
    endpoint = await server.endpoint(app, retrySchedule=[0])
    server.recorder.outcomes = [GONE, OK]
    first = await server.message(app)
    await asyncio.wait_for(gate.reached.wait(), GRACE)
    # what another request does in between: it finds the endpoint as it still is on the disk
    stored = await server.store.load_endpoint(endpoint)
    assert stored is not None and not stored[0].disabled
    server.node.worker.adopt(*stored)
    gate.open.set()
    await server.watch.settled(1)
    # its retry is due; whatever is going to be sent is sent before the next message of somebody else
    delivery = await server.store.get_delivery(app, first, endpoint)
    assert delivery is not None and delivery.state is State.DUE
    other = await server.app()
    await server.endpoint(other)
    for sent in (2, 3):
        await server.message(other)
        await server.watch.settled(sent)
    assert [message.id for message, _ in server.recorder.sent].count(first) == 1
    assert await server.store.list_deliveries(app, await server.message(app)) == []


async def test_a_verdict_that_came_too_late_switches_nothing_off(server: Server, gate: Gate) -> None:
    app = await server.app()
    endpoint = await server.endpoint(app)
    server.recorder.outcomes = [GONE, OK]
    first = await server.message(app)
    await asyncio.wait_for(gate.reached.wait(), GRACE)
    publishing = asyncio.ensure_future(server.message(app))
    for _ in range(50):
        await asyncio.sleep(0)  # it is planned, and waits for its commit
    held = await server.store.get_delivery(app, first, endpoint)
    assert held is not None
    # another worker has taken the delivery over
    await gate.past([Settlement(replace(held, lease=held.lease + 1), held.lease)])
    gate.open.set()
    second = await publishing
    await server.watch.settled(2)
    assert not (await server.get(f"/app/{app}/endpoint/{endpoint}")).json["disabled"]
    third = await server.message(app)
    await server.watch.settled(3)
    assert [message.id for message, _ in server.recorder.sent] == [first, second, third]
