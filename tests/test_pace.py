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
                # with room for a few, neither takes all the turns
                api.running(tmp_path, await PostgresStore.open(postgres_url, Vault([b"0" * 32])), memory_deliveries=4)
            )
            for _ in range(2)
        ]
        app = await nodes[0].app()
        await nodes[0].endpoint(app, ordered=True, rateLimit=RATE)
        await asyncio.gather(
            *(nodes[n % 2].message(app, orderingKey=str(n)) for n in range(LINES) for _ in range(EACH))
        )
        began = [attempt.started_at for attempt in await api.attempts_of(nodes, LINES * EACH)]
        assert all(nodes[n].watch.attempts for n in range(2))
        assert began[-1] - began[0] >= (LINES * EACH - RATE // 2) * SECOND // RATE
