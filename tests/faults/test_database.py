"""The database dies, freezes, stops, locks out: what was accepted is delivered, and the rest is refused, in time."""

import asyncio
import time

import asyncpg
from bench.postgres import ROLE, PostgresServer

from tests.faults.conftest import Scale
from tests.faults.nodes import Node, Nodes
from tests.faults.traffic import Traffic, through
from tests.receiver import tick

SOON = 20
"""Within how many seconds a node says that it cannot accept: it gives up after ten at most."""


async def test_it_is_killed_under_load(server: PostgresServer, url: str, nodes: Nodes, scale: Scale) -> None:
    await nodes.start(2)
    async with through(nodes) as traffic:
        traffic.begin()
        for n in range(scale.cuts):
            await traffic.more(scale.load)
            server.kill()
            before = traffic.answers[503]
            await traffic.until(lambda before=before: traffic.answers[503] > before, "a refusal")
            server.start()
            print(f"killed {n + 1} times: {traffic}", flush=True)
        await traffic.more(scale.load)
        await traffic.end()
        await traffic.verify(url)
    assert all(node.running for node in nodes.all)


async def test_it_is_stopped_for_a_while(server: PostgresServer, url: str, nodes: Nodes, scale: Scale) -> None:
    node, _ = await nodes.start(2)
    async with through(nodes) as traffic:
        await traffic.source(node)
        traffic.begin()
        await traffic.more(scale.load)
        server.stop()
        begun = time.monotonic()
        await refuses(node, traffic)
        assert (await node.try_call("GET", f"/app/{traffic.app}/msg")).status == 503
        await tick(scale.outage - (time.monotonic() - begun))
        server.start()
        await traffic.more(scale.load)
        assert (await traffic.receive(node)).status == 200
        await traffic.end()
        await traffic.verify(url)
        print(traffic, flush=True)


async def test_it_freezes_for_a_while(server: PostgresServer, url: str, nodes: Nodes, scale: Scale) -> None:
    node, _ = await nodes.start(2)
    async with through(nodes) as traffic:
        await traffic.source(node)
        traffic.begin()
        await traffic.more(scale.load)
        server.freeze()
        try:
            begun = time.monotonic()
            reading = asyncio.create_task(node.try_call("GET", f"/app/{traffic.app}/msg", seconds=SOON))
            await refuses(node, traffic)
            await tick(scale.outage - (time.monotonic() - begun))
        finally:
            server.thaw()
        assert (await reading).status in (200, 503)
        await traffic.more(scale.load)
        assert (await traffic.receive(node)).status == 200
        await traffic.end()
        await traffic.verify(url)
        print(traffic, flush=True)


async def test_it_locks_its_clients_out(
    superuser: "asyncpg.Connection[asyncpg.Record]", url: str, nodes: Nodes, scale: Scale
) -> None:
    await nodes.start(2)
    async with through(nodes) as traffic:
        traffic.begin()
        await traffic.more(scale.load)
        await superuser.execute(f"ALTER ROLE {ROLE} NOLOGIN")
        try:
            await superuser.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", ROLE)
            await traffic.until(lambda: traffic.answers[503] > 0, "a refusal")
        finally:
            await superuser.execute(f"ALTER ROLE {ROLE} LOGIN")
        await traffic.more(scale.load)
        await traffic.end()
        await traffic.verify(url)


async def refuses(node: Node, traffic: Traffic) -> None:
    """Publishing and receiving are answered 503 with Retry-After, in time."""
    await traffic.until(lambda: traffic.answers[503] > 0, "a refusal")
    traffic.refused.append(await traffic.receive(node, SOON))
    for answer in traffic.refused:
        assert answer.status == 503, answer
        assert answer.headers["retry-after"] == "1"
        assert answer.json["code"] == "store_unavailable"
    assert traffic.slowest < SOON
