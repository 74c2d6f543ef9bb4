"""Nodes send to the same endpoint: together they keep to its rate."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from tenterhook.clock import SECOND
from tenterhook.store.postgres import PostgresStore
from tenterhook.vault import Vault
from tests import api

RATE, LINES, EACH = 20, 20, 3


async def test_two_nodes_keep_a_rate_along_fifo_lines(tmp_path: Path, postgres_url: str) -> None:
    """The next of a line must not be sent before its turn, whichever node sent the one before it."""
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(
                api.running(tmp_path, await PostgresStore.open(postgres_url, Vault([b"0" * 32])))
            )
            for _ in range(2)
        ]
        app = await nodes[0].app()
        await nodes[0].endpoint(app, ordered=True, rateLimit=RATE)
        await asyncio.gather(
            *(nodes[n % 2].message(app, orderingKey=str(n)) for n in range(LINES) for _ in range(EACH))
        )
        async with asyncio.timeout(20):
            while sum(len(node.watch.attempts) for node in nodes) < LINES * EACH:
                await asyncio.wait(
                    [asyncio.ensure_future(node.watch.settled(LINES * EACH)) for node in nodes], timeout=0.1
                )
        began = sorted(attempt.started_at for node in nodes for attempt in node.watch.attempts)
        assert all(nodes[n].watch.attempts for n in range(2))
        assert began[-1] - began[0] >= (LINES * EACH - RATE // 4) * SECOND // RATE
