"""Two nodes change the same thing: no change is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tenterhook.apply import apply
from tenterhook.config import parse
from tenterhook.store.postgres import PostgresStore
from tenterhook.store.queries import Cursor
from tenterhook.vault import Vault
from tests import api

VAULT = Vault([b"0" * 32])
Pair = tuple[api.Server, api.Server]


@pytest.fixture
async def pair(tmp_path: Path, postgres_url: str) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        one, two = [
            await stack.enter_async_context(api.running(tmp_path, await PostgresStore.open(postgres_url, VAULT)))
            for _ in range(2)
        ]
        yield one, two


async def test_fields_that_two_nodes_change_at_once_are_both_changed(pair: Pair) -> None:
    app = await pair[0].app()
    endpoint = f"/app/{app}/endpoint/{await pair[0].endpoint(app)}"
    for n in range(1, 11):
        answers = await asyncio.gather(
            pair[0].patch(endpoint, {"description": str(n)}),
            pair[1].patch(endpoint, {"rateLimit": n}),
            pair[0].patch(f"{endpoint}/headers", {"headers": {f"X-{n}": "a"}}),
            pair[1].patch(f"{endpoint}/headers", {"headers": {f"Y-{n}": "b"}}),
        )
        assert [answer.status for answer in answers] == [200, 200, 204, 204]
        found = (await pair[0].get(endpoint)).json
        assert (found["description"], found["rateLimit"]) == (str(n), n)
    assert len((await pair[0].get(f"{endpoint}/headers")).json["headers"]) == 20


FILE = """
[[application]]
uid = "shop"
name = "The shop"

[[source]]
name = "github"
provider = "github"
secret = "0123456789abcdef"

[[endpoint]]
name = "audit"
application = "shop"
url = "https://receiver.example/audit"
"""


async def test_nodes_that_start_together_apply_the_same_file(pair: Pair) -> None:
    configuration = parse(FILE, "t.toml", {})
    await asyncio.gather(
        *(apply(configuration, server.node.registry, server.store, server.node.clock.now()) for server in pair)
    )
    apps = {app.uid: app.id for app in await pair[0].store.list_applications(Cursor(limit=9))}
    assert sorted(uid or "" for uid in apps) == ["default", "shop"]
    assert [one.uid for one in await pair[0].store.list_sources(apps["default"], Cursor(limit=9))] == ["github"]
    assert [one.uid for one in await pair[0].store.list_endpoints(apps["shop"], Cursor(limit=9))] == ["audit"]
