"""Nodes die at random: their deliveries go on elsewhere, in order, and only what was in flight arrives twice."""

import asyncio
import time
from itertools import pairwise
from random import Random

from bench.load import until

from tests.faults.conftest import Scale
from tests.faults.nodes import ALERT, LEASE, PATIENCE, QUICK, Nodes
from tests.faults.traffic import database, none_pending, through
from tests.receiver import OK, Peer, receiving

SEED = 20260131
NODES = 3
GRACE = 5
"""How long after its death a request of a node may still be read (s)."""


async def test_nodes_are_killed_at_random(url: str, nodes: Nodes, scale: Scale) -> None:
    rng = Random(SEED)
    await nodes.start(NODES, lease=f"{LEASE + 4}s", delivery_timeout="5s")  # what a busy machine does not outlast
    deaths: list[tuple[float, set[tuple[str, str]]]] = []
    async with through(nodes, SEED) as traffic, database(url) as db:
        traffic.begin()
        for n in range(scale.kills):
            traffic.allow(2 * scale.load)
            await traffic.more(rng.randint(1, scale.load))
            node = rng.choice(nodes.all)
            node.kill()
            leased = await db.fetch("SELECT message, endpoint FROM delivery WHERE state = 'leased'")
            deaths.append((time.monotonic(), {(traffic.paths[row[1]], row[0]) for row in leased}))
            await node.start()
            print(f"killed {n + 1} times: {traffic}", flush=True)
        traffic.allow(scale.load)
        await traffic.more(scale.load)
        await traffic.end()
        await traffic.verify(url)
        print(traffic, flush=True)
    for delivery, instants in traffic.repeated().items():
        for before, after in pairwise(instants):
            assert any(before - GRACE < death < after and delivery in leased for death, leased in deaths), delivery


async def test_a_node_that_is_stopped_hands_over_at_once(url: str, nodes: Nodes) -> None:
    """What it holds in memory need not wait until another node looks by itself."""
    arrived: list[bytes] = []
    held = asyncio.Event()

    async def hold_the_first(peer: Peer) -> None:
        while True:
            arrived.append((await peer.request())[1])
            if len(arrived) == 1:
                await held.wait()
            peer.send(OK)

    async with receiving(hold_the_first) as receiver, database(url) as db:
        node, _ = await nodes.start(2, **ALERT)
        app, _ = await node.app({"url": receiver.url(), "concurrency": 1})
        for n in range(20):
            await node.message(app, payload={"n": n})
        await until(lambda: len(arrived) == 1, PATIENCE, "the first attempt")
        stopping = asyncio.create_task(node.stop())
        await until(lambda: len(arrived) == 20, QUICK, "what was handed over")
        held.set()
        assert await stopping == 0
        await none_pending(db)
        assert sorted(arrived) == sorted(b'{"n": %d}' % n for n in range(20))
