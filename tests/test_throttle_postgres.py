"""Nodes send for the same application: together they keep to its rate."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median

import asyncpg
import pytest

from tenterhook.clock import SECOND
from tenterhook.model import Application, Attempt, Endpoint
from tenterhook.store.postgres import PostgresStore
from tenterhook.store.work import Accept, Claim, Page
from tenterhook.vault import Vault
from tests import api
from tests.contracts.store import LEASE, NOW, new_app, new_delivery, new_endpoint, new_message

HORIZON = 2 * SECOND
Pair = tuple[PostgresStore, PostgresStore]


async def opened(url: str, worker: bool = True) -> PostgresStore:
    return await PostgresStore.open(url, Vault([b"0" * 32]), worker=worker)


# what claims give out


@pytest.fixture
async def pair(postgres_url: str) -> AsyncIterator[Pair]:
    """The stores of two nodes."""
    stores = await opened(postgres_url), await opened(postgres_url)
    yield stores
    for store in stores:
        await store.close()


async def application(store: PostgresStore, rate: int | None, endpoints: int) -> tuple[Application, list[Endpoint]]:
    app = new_app(rate_limit=rate)
    await store.create_application(app)
    made = [new_endpoint(app) for _ in range(endpoints)]
    for endpoint in made:
        await store.create_endpoint(app.id, endpoint)
    return app, made


async def publish(store: PostgresStore, app: Application, endpoints: list[Endpoint], count: int) -> None:
    messages = [new_message(app) for _ in range(count)]
    await store.commit([Accept(m, tuple(new_delivery(m, e) for e in endpoints)) for m in messages])


def claim(endpoint: Endpoint, limit: int = 4, now: int = NOW) -> Claim:
    return Claim(endpoint.id, limit, now, 7, now + LEASE, endpoint.rate_limit, now + HORIZON)


async def claimed(store: PostgresStore, *claims: Claim) -> list[Page]:
    pages = [page for page in await store.commit(claims) if isinstance(page, Page)]
    assert len(pages) == len(claims)
    return pages


def instants(pages: list[Page]) -> list[int]:
    return sorted(c.not_before for page in pages for c in page.claimed)


async def test_endpoints_and_nodes_share_the_instants(pair: Pair) -> None:
    app, endpoints = await application(pair[0], 10, 3)
    free, (beside,) = await application(pair[0], None, 1)
    await publish(pair[0], app, endpoints, 20)
    await publish(pair[0], free, [beside], 5)
    pages = await asyncio.gather(*(claimed(pair[n % 2], claim(endpoints[n % 3]), claim(beside, 1)) for n in range(5)))
    assert instants([page for page, _ in pages]) == [NOW + n * SECOND // 10 for n in range(20)]
    assert instants([page for _, page in pages]) == [0] * 5, "another application does not wait"
    (last,) = await claimed(pair[1], claim(endpoints[0]))
    assert [c.not_before for c in last.claimed] == [NOW + HORIZON]
    for endpoint in endpoints:
        (page,) = await claimed(pair[0], claim(endpoint))
        assert (page.claimed, page.app_rate) == ((), 10)
        assert page.app_free_at == NOW + HORIZON + SECOND // 10 - HORIZON // 2
        assert page.next_due == NOW, "it is not the endpoint that waits"
    later = NOW + 10 * SECOND
    (page,) = await claimed(pair[1], claim(endpoints[1], 2, later))
    assert [c.not_before for c in page.claimed] == [later, later + SECOND // 10]


async def test_a_slower_endpoint_wastes_no_instants_of_the_others(pair: Pair) -> None:
    app, (quick,) = await application(pair[0], 10, 1)
    slow = new_endpoint(app, rate_limit=1)
    await pair[0].create_endpoint(app.id, slow)
    await publish(pair[0], app, [quick, slow], 20)
    (first,) = await claimed(pair[0], claim(slow))
    assert [c.not_before for c in first.claimed] == [NOW]
    (again,) = await claimed(pair[1], claim(slow))
    assert (again.claimed, again.next_due, again.app_free_at) == ((), NOW + SECOND, 0)
    (page,) = await claimed(pair[1], claim(quick, 3))
    assert [c.not_before for c in page.claimed] == [NOW + n * SECOND // 10 for n in (1, 2, 3)]
    (second,) = await claimed(pair[0], claim(slow, now=NOW + SECOND))
    assert [c.not_before for c in second.claimed] == [NOW + SECOND]


async def test_an_endpoint_with_a_higher_rate_goes_by_that_of_the_application(pair: Pair) -> None:
    app, _ = await application(pair[0], 2, 0)
    endpoint = new_endpoint(app, rate_limit=100)
    await pair[0].create_endpoint(app.id, endpoint)
    await publish(pair[0], app, [endpoint], 20)
    pages = await asyncio.gather(*(claimed(pair[n % 2], claim(endpoint, 2)) for n in range(4)))
    assert instants([page for (page,) in pages]) == [NOW + n * SECOND // 2 for n in range(5)]


async def test_batches_that_share_rates_do_not_wait_in_a_circle(pair: Pair, postgres_url: str) -> None:
    """Every batch takes the rates of applications in one order, whatever that of its claims and endpoints is."""
    low, high = sorted([(await application(pair[0], 10, 0))[0] for _ in range(2)], key=lambda app: app.id)
    last, first = new_endpoint(low, id="ep_2"), new_endpoint(high, id="ep_1")
    for app, endpoint in ((low, last), (high, first)):
        await pair[0].create_endpoint(app.id, endpoint)
        await publish(pair[0], app, [endpoint], 9)
    await claimed(pair[0], claim(first, 1), claim(last, 1))
    db = await asyncpg.connect(postgres_url, server_settings={"search_path": "tenterhook"})
    taking = "SELECT FROM pace WHERE endpoint = $1 FOR UPDATE NOWAIT"
    waiting = "SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"
    try:
        async with db.transaction():
            await db.execute(taking, low.id)
            behind = asyncio.create_task(claimed(pair[1], claim(first, 2), claim(last, 2)))
            async with asyncio.timeout(api.GRACE):
                while not await db.fetch(waiting):
                    pass
            await db.execute(taking, high.id)
        assert [len(page.claimed) for page in await behind] == [2, 2]
    finally:
        await db.close()


# nodes


@pytest.mark.parametrize("ordered", [False, True])
async def test_two_nodes_keep_the_rate_of_an_application(tmp_path: Path, postgres_url: str, ordered: bool) -> None:
    rate, count, endpoints = 20, 20, 3
    async with AsyncExitStack() as stack:
        nodes = [
            # with room for a few, neither takes all the turns
            await stack.enter_async_context(api.running(tmp_path, await opened(postgres_url), memory_deliveries=4))
            for _ in range(2)
        ]
        app, other = await nodes[0].app(throttleRate=rate), await nodes[0].app()
        for _ in range(endpoints):
            await nodes[0].endpoint(app, ordered=ordered)
        await nodes[0].endpoint(other)
        await asyncio.gather(*(nodes[n % 2].message(app, orderingKey=str(n % 4)) for n in range(count)))
        beside = await nodes[1].message(other)

        made = await api.attempts_of(nodes, count * endpoints + 1)
        found = [attempt.started_at for attempt in made if attempt.app == app]
        assert len(found) == count * endpoints
        assert all(node.watch.attempts for node in nodes)
        # a busy machine starts some of them late, and then the next ones seem early
        assert median(b - a for a, b in zip(found, found[rate + 1 :])) > 0.9 * SECOND
        assert found[-1] - found[0] >= (len(found) - rate // 2) * SECOND // rate
        assert [attempt.message for attempt in made if attempt.app == other] == [beside]
        served = [{a.endpoint for a in node.watch.attempts if a.started_at < found[len(found) // 2]} for node in nodes]
        assert len(set.union(*served)) >= endpoints, "none starves"


def slow(attempts: list[Attempt]) -> bool:
    """Whether they began at a rate of one in a second; the first may have been a second late."""
    began = sorted(attempt.started_at for attempt in attempts)
    return len(began) <= (began[-1] - began[0]) / SECOND + 2


async def test_another_node_hears_of_a_new_rate(tmp_path: Path, postgres_url: str) -> None:
    async with (
        api.running(tmp_path, await opened(postgres_url, worker=False), role="api") as front,
        api.running(tmp_path, await opened(postgres_url), role="worker") as worker,
    ):
        app = await front.app(throttleRate=1)
        for _ in range(2):
            await front.endpoint(app)
        for _ in range(30):
            await front.message(app)
        await worker.watch.settled(2)
        assert slow(worker.watch.attempts)
        assert (await front.patch(f"/app/{app}", {"throttleRate": 20})).status == 200
        await worker.watch.settled(40)
        assert (await front.patch(f"/app/{app}", {"throttleRate": None})).status == 200
        await worker.watch.settled(60)
        assert (await front.patch(f"/app/{app}", {"throttleRate": 1})).status == 200
        seen = len(worker.watch.attempts)
        for _ in range(10):
            await front.message(app)
        await worker.watch.settled(seen + 3)
        assert slow(worker.watch.attempts[seen:])
