"""Nodes die at random: their deliveries go on elsewhere, in order, and only what was in flight arrives twice."""

import time
from itertools import pairwise
from random import Random

from tests.faults.conftest import Scale
from tests.faults.nodes import Nodes
from tests.faults.traffic import database, through

SEED = 20260131
NODES = 3
GRACE = 1
"""How long after its death a request of a node may still be read (s)."""


async def test_nodes_are_killed_at_random(url: str, nodes: Nodes, scale: Scale) -> None:
    rng = Random(SEED)
    await nodes.start(NODES)
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
