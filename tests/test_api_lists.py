"""Pages of lists: walked in either direction, every item comes once, and `done` is right."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenterhook.clock import SECOND, to_rfc3339
from tests.api import Server, running

MOST = 7
KINDS = (
    "apps",
    "types",
    "endpoints",
    "messages",
    "filtered",
    "attempts",
    "failed",
    "destinations",
    "sources",
    "requests",
    "owed",
    "integrations",
)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path) as server:
        yield server


@pytest.fixture
async def paths(server: Server) -> dict[str, str]:
    """Lists of MOST items, by kind."""
    app = await server.app()
    for n in range(1, MOST):
        await server.app()
        await server.post("/event-type", {"name": f"t{n}", "description": ""})
    await server.post("/event-type", {"name": "t0", "description": ""})
    endpoints = [await server.endpoint(app) for _ in range(MOST)]
    for n in range(2 * MOST):
        message = await server.message(app, channels=["x" if n % 2 else "y"])
    await server.watch.settled(MOST * MOST * 2)
    source = await server.source(app)
    for _ in range(1, MOST):
        await server.source(app)
    for _ in range(MOST):
        await server.post(f"/app/{app}/integration", {"name": "CI"})
    await asyncio.gather(*(server.post("/" + source["url"], b"{}", token=None) for _ in range(3 * MOST)))
    return {
        "apps": "/app?", "types": "/event-type?", "endpoints": f"/app/{app}/endpoint?", "messages": f"/app/{app}/msg?",
        "filtered": f"/app/{app}/msg?channel=x&", "attempts": f"/app/{app}/attempt/msg/{message}?",
        "failed": f"/app/{app}/attempt/endpoint/{endpoints[0]}?status=0&channel=y&",
        "destinations": f"/app/{app}/msg/{message}/endpoint?", "sources": f"/app/{app}/source?",
        "requests": f"/app/{app}/source/{source['id']}/request?", "integrations": f"/app/{app}/integration?",
        "owed": f"/app/{app}/endpoint/{endpoints[0]}/msg?status=0&channel=x&",
    }  # fmt: skip


def key(item: dict[str, Any]) -> str:
    return str(item.get("id") or item["name"])


async def walk(server: Server, path: str, limit: int, start: str, back: bool) -> list[dict[str, Any]]:
    """The pages from `start` to the end of the list in one direction."""
    pages, query = [], start
    while True:
        page = (await server.get(f"{path}limit={limit}{query}")).json
        pages.append(page)
        assert len(page["data"]) <= limit
        if page["done"]:
            return pages
        assert len(page["data"]) == limit
        query = f"&iterator={page['prevIterator'] if back else page['iterator']}"


@pytest.mark.parametrize("kind", KINDS)
async def test_walking(server: Server, paths: dict[str, str], kind: str) -> None:
    whole = [key(item) for item in (await server.get(paths[kind])).json["data"]]
    assert len(whole) >= MOST and len(set(whole)) == len(whole)
    for limit in (1, 2, 3, MOST - 1, MOST, MOST + 1, 2 * MOST, 250):
        forward = await walk(server, paths[kind], limit, "", False)
        assert [key(item) for page in forward for item in page["data"]] == whole
        last = forward[-1]
        assert last["iterator"] == whole[-1]  # also on the last page
        back = await walk(server, paths[kind], limit, f"&iterator=-{whole[-1]}", True)
        assert [key(item) for page in reversed(back) for item in page["data"]] == whole[:-1]


@given(limit=st.integers(1, 9), start=st.integers(0, MOST - 1), back=st.booleans(), kind=st.sampled_from(KINDS))
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
async def test_a_page_from_anywhere(
    server: Server, paths: dict[str, str], limit: int, start: int, back: bool, kind: str
) -> None:
    whole = [key(item) for item in (await server.get(paths[kind])).json["data"]]
    expected = whole[max(0, start - limit) : start] if back else whole[start + 1 : start + 1 + limit]
    remaining = start - limit if back else len(whole) - start - 1 - limit
    page = (await server.get(f"{paths[kind]}limit={limit}&iterator={'-' if back else ''}{whole[start]}")).json
    assert [key(item) for item in page["data"]] == expected
    assert page["done"] is (remaining <= 0)
    assert page["iterator"] == (expected[-1] if expected else None)
    assert page.get("prevIterator") == ("-" + expected[0] if expected else None)


async def test_an_empty_list(server: Server) -> None:
    app = await server.app()
    for path in (f"/app/{app}/msg", f"/app/{app}/endpoint", f"/app/{app}/source", "/event-type"):
        assert (await server.get(path)).json == {"data": [], "iterator": None, "done": True}


async def test_after_alone_gives_the_oldest_page(server: Server) -> None:
    app = await server.app()
    messages = [await server.message(app) for _ in range(5)]
    since = to_rfc3339(server.node.clock.now() - 60 * SECOND)
    page = (await server.get(f"/app/{app}/msg?limit=2&after={since}")).json
    assert [one["id"] for one in page["data"]] == messages[1::-1] and page["done"] is False
    page = (await server.get(f"/app/{app}/msg?limit=3&after={since}&iterator={page['prevIterator']}")).json
    assert [one["id"] for one in page["data"]] == messages[:1:-1] and page["done"] is True
    both = f"after={since}&before={to_rfc3339(server.node.clock.now() + SECOND)}"
    page = (await server.get(f"/app/{app}/msg?limit=2&{both}")).json
    assert [one["id"] for one in page["data"]] == messages[:2:-1] and page["done"] is False


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("limit=0", 422), ("limit=251", 422), ("limit=a", 400), ("limit=", 400), ("limit=-1", 400), ("limit=1.0", 400),
        ("limit=%C2%B2", 400), ("limit=99999999999999999999", 400), ("iterator=ep_" + "0" * 27, 422),
        ("iterator=msg_0", 422), ("iterator=-", 422), ("iterator=--msg_" + "0" * 27, 422), ("iterator=msg_" + "~" * 27, 422),
        ("before=2026-13-01T00:00:00", 400), ("after=now", 400), ("with_content=1", 400), ("limit=1&limit=2", 200),
        ("iterator=", 200), ("iterator=msg_" + "0" * 27, 200), ("iterator=-msg_" + "z" * 27, 200),
        ("event_types=" + "a," * 251, 422), ("event_types=" + "a," * 250, 200),
    ],
)  # fmt: skip
async def test_queries(server: Server, query: str, status: int) -> None:
    app = await server.app()
    assert (await server.get(f"/app/{app}/msg?{query}")).status == status


@pytest.mark.parametrize("kind", ["filtered", "failed"])
@pytest.mark.parametrize("window", [1, 3, 4])
async def test_walking_where_little_fits(
    server: Server, paths: dict[str, str], kind: str, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search looks at some items only: pages may be short, even empty, and yet lead on."""
    whole = [key(item) for item in (await server.get(paths[kind])).json["data"]]
    monkeypatch.setattr("tenterhook.store.search.WINDOW", window)
    for limit in (1, 2, MOST):
        forward, page = list[str](), dict[str, Any]()
        pages = 0
        while not page.get("done"):
            query = f"&iterator={page['iterator']}" if page else ""
            page = (await server.get(f"{paths[kind]}limit={limit}{query}")).json
            forward += [key(item) for item in page["data"]]
            pages += 1
        assert forward == whole
        # attempts may have ended in such an order that each longer window has one that fits
        assert window > 1 or pages > len(whole) // limit
        back, start = list[str](), f"&iterator=-{whole[-1]}"
        while start:
            page = (await server.get(f"{paths[kind]}limit={limit}{start}")).json
            back = [key(item) for item in page["data"]] + back
            start = "" if page["done"] else f"&iterator={page['prevIterator']}"
        assert back == whole[:-1]


async def test_turning_round_on_an_empty_page(
    server: Server, paths: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [key(item) for item in (await server.get(paths["messages"])).json["data"]]
    monkeypatch.setattr("tenterhook.store.search.WINDOW", 3)
    page = (await server.get(paths["messages"] + "channel=none")).json
    assert page == {"data": [], "iterator": whole[2], "prevIterator": "-" + whole[2], "done": False}
    page = (await server.get(paths["messages"] + f"channel=none&iterator=-{whole[6]}")).json
    assert page == {"data": [], "iterator": whole[3], "prevIterator": "-" + whole[3], "done": False}


async def test_statuses_that_no_attempt_has(server: Server, paths: dict[str, str]) -> None:
    endpoint = paths["failed"].partition("?")[0]
    for status in (1, 3, 4):
        assert (await server.get(f"{endpoint}?status={status}")).json == {"data": [], "iterator": None, "done": True}
