"""Fetching messages over the API: whoever asks gets them in order, and goes on where it was."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tenterhook.clock import HOUR, SECOND, Clock, to_rfc3339
from tenterhook.hub import Draft
from tenterhook.ids import IdMaker, floor
from tenterhook.model import OPERATIONAL
from tenterhook.store.postgres import PostgresStore
from tenterhook.store.queries import Cursor
from tenterhook.store.work import Accept
from tenterhook.vault import Vault
from tests.api import GRACE, Answer, Server, running
from tests.contracts.store import new_app, new_message

DRAFT = Draft(event_type="a", payload=b"{}")


class Behind(Clock):
    """Late by so much, the first time that it is asked after it was set."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self.late = clock, 0

    def now(self) -> int:
        late, self.late = self.late, 0
        return self._clock.now() - late


class Slow(Clock):
    """Always an hour behind."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now(self) -> int:
        return self._clock.now() - HOUR


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path) as server:
        await server.app(uid="acme")
        await server.app(uid="other")
        await server.endpoint("acme", uid="pull", disabled=True)
        yield server


async def poll(server: Server, query: str = "", sink: str = "pull") -> Any:
    answer = await server.get(f"/app/acme/poller/{sink}?{query}")
    assert answer.status == 200, answer
    return answer.json


async def consume(server: Server, query: str = "", name: str = "me", sink: str = "pull") -> Any:
    answer = await server.get(f"/app/acme/poller/{sink}/consumer/{name}?{query}")
    assert answer.status == 200, answer
    return answer.json


async def seek(server: Server, instant: int, name: str = "me") -> Answer:
    return await server.post(f"/app/acme/poller/pull/consumer/{name}/seek", {"after": to_rfc3339(instant)})


def ids(page: Any) -> list[str]:
    return [one["id"] for one in page["data"]]


async def test_a_message_as_it_is_fetched(server: Server) -> None:
    message = await server.message("acme", eventId="e", channels=["x"], tags=["t"])
    page = await poll(server)
    assert page == {"data": [(await server.get(f"/app/acme/msg/{message}")).json], "iterator": message, "done": True}


async def test_pages_follow_each_other(server: Server) -> None:
    empty = await poll(server)
    assert (empty["data"], empty["done"]) == ([], True)
    messages = [await server.message("acme") for _ in range(5)]
    await server.message("other")
    page = await poll(server, f"limit=2&iterator={empty['iterator']}")
    assert (ids(page), page["done"]) == (messages[:2], False)
    page = await poll(server, f"limit=3&iterator={page['iterator']}")
    assert (ids(page), page["done"]) == (messages[2:], True)
    page = await poll(server, f"iterator={page['iterator']}")
    assert (ids(page), page["done"], page["iterator"]) == ([], True, messages[4])
    later = await server.message("acme")
    assert ids(await poll(server, f"iterator={page['iterator']}")) == [later]


async def test_it_begins_with_the_endpoint_unless_it_is_told_to_begin_earlier(server: Server) -> None:
    app, now = (await server.get("/app/acme")).json["id"], server.node.clock.now()
    old = new_message(new_app(id=app), id=IdMaker().new("msg_", now - HOUR), created_at=now - HOUR)
    await server.store.commit([Accept(old)])
    new = await server.message("acme")
    long_ago, soon = to_rfc3339(now - 2 * HOUR), to_rfc3339(now + HOUR)
    assert ids(await poll(server)) == ids(await consume(server)) == [new]
    assert ids(await poll(server, f"after={long_ago}")) == [old.id, new]
    assert ids(await poll(server, f"after={soon}")) == []
    assert ids(await poll(server, f"after={long_ago[:19]}&iterator={old.id}")) == [new]


async def test_only_what_the_endpoint_wants(server: Server) -> None:
    await server.endpoint("acme", uid="picky", eventTypes=["invoice.*"], channels=["x", "y"], disabled=True)
    wanted = [await server.message("acme", eventType=f"invoice.{n}", channels=[c]) for n, c in ((1, "x"), (2, "y"))]
    for other in ({"eventType": "else", "channels": ["x"]}, {"channels": ["z"]}, {}):
        await server.message("acme", **other)
    page = await poll(server, sink="picky")
    assert (ids(page), page["done"]) == (wanted, True)
    # what was looked at and not wanted is not looked at again
    assert page["iterator"] > wanted[-1]
    assert ids(await poll(server, "event_type=invoice.2", sink="picky")) == wanted[1:]
    assert ids(await poll(server, "channel=x", sink="picky")) == wanted[:1]
    assert ids(await consume(server, sink="picky")) == wanted


async def test_an_answer_comes_however_few_are_wanted(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenterhook.api.pollers.LOOKED_AT", 4)
    await server.endpoint("acme", uid="picky", channels=["x"], disabled=True)
    messages = [await server.message("acme", channels=["x"] if n == 9 else ["y"]) for n in range(11)]
    query, pages = "limit=2", []
    while not pages or not pages[-1]["done"]:
        pages.append(await poll(server, query, sink="picky"))
        query = f"limit=2&iterator={pages[-1]['iterator']}"
    assert [ids(page) for page in pages] == [[], [], [messages[9]]]
    assert [page["iterator"] for page in pages] == [messages[3], messages[7], messages[10]]


async def test_a_consumer_gets_the_same_until_it_says_that_it_has_them(server: Server) -> None:
    messages = [await server.message("acme") for _ in range(4)]
    first = await consume(server, "limit=2")
    assert ids(first) == ids(await consume(server, "limit=2")) == messages[:2]
    assert ids(await consume(server, f"limit=1&iterator={first['iterator']}")) == messages[2:3]
    assert ids(await consume(server)) == messages[2:]
    assert ids(await consume(server, name="you")) == messages
    assert ids(await consume(server, f"iterator={messages[0]}")) == messages[1:]
    assert ids(await consume(server)) == messages[1:]


async def test_a_consumer_is_remembered_by_the_next_process(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        await server.app(uid="acme")
        await server.endpoint("acme", uid="pull", disabled=True)
        messages = [await server.message("acme") for _ in range(2)]
        await consume(server, f"iterator={messages[0]}")
    async with running(tmp_path) as server:
        assert ids(await consume(server)) == messages[1:]


async def test_a_consumer_is_moved_to_an_instant(server: Server) -> None:
    message = await server.message("acme")
    await consume(server, f"iterator={message}")
    now = server.node.clock.now()
    moved = await seek(server, now - HOUR)
    assert moved.status == 200
    assert ids(await consume(server)) == ids(await consume(server, f"iterator={moved.json['iterator']}")) == [message]
    assert (await seek(server, now + HOUR)).status == 200
    assert ids(await consume(server)) == []
    assert (await server.post("/app/acme/poller/pull/consumer/me/seek", {"after": "soon"})).status == 422


async def test_an_example_is_fetched_by_its_endpoint_alone(server: Server) -> None:
    await server.endpoint("acme", uid="hook", channels=["x"])
    example = await server.post("/app/acme/endpoint/hook/send-example", {"eventType": "svix.ping"})
    assert ids(await poll(server, sink="hook")) == [example.json["id"]]
    assert ids(await poll(server)) == []


@pytest.mark.parametrize("path", ["pull?iterator=msg_x", "pull?iterator=ep_1", "pull?limit=0", "pull/consumer/a%20b"])
async def test_what_is_not_acceptable(server: Server, path: str) -> None:
    assert (await server.get(f"/app/acme/poller/{path}")).status == 422


async def test_who_may(server: Server) -> None:
    app = (await server.get("/app/acme")).json["id"]
    reading, owning = await server.token("read-only"), await server.token("application", app)
    for token, expected in ((reading, [200, 403, 403]), (owning, [200, 200, 200])):
        poller = "/app/acme/poller/pull"
        answers = [
            await server.get(poller, token=token),
            await server.get(f"{poller}/consumer/me", token=token),
            await server.post(f"{poller}/consumer/me/seek", {"after": "2026-01-01T00:00:00"}, token=token),
        ]
        assert [answer.status for answer in answers] == expected
    assert (await server.get("/app/other/poller/pull", token=owning)).status == 404


async def test_on_postgresql(tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What many publish at once is fetched in order and completely, and one that took too long gets a new id."""
    for module in ("hub", "store.postgres"):
        monkeypatch.setattr(f"tenterhook.{module}.WRITTEN_WITHIN", SECOND)
    store = await PostgresStore.open(postgres_url, Vault([b"0" * 32]))
    clock = Behind(store.clock)
    async with running(tmp_path, store, clock) as server:
        await server.app(uid="acme")
        await server.endpoint("acme", uid="pull", disabled=True)
        messages = await asyncio.gather(*(server.message("acme") for _ in range(30)))
        clock.late = HOUR
        late = (await server.node.hub.publish("acme", DRAFT)).message
        assert late.id > max(messages) and clock.late == 0
        expected, seen, query = sorted([*messages, late.id]), list[str](), "limit=7"
        async with asyncio.timeout(GRACE):
            while len(seen) < len(expected):
                page = await consume(server, query)
                seen += ids(page)
                query = f"limit=7&iterator={page['iterator']}"
        assert seen == expected
        assert len((await server.get("/app/acme/msg")).json["data"]) == len(expected)


async def test_what_tells_of_a_change_on_postgresql(tmp_path: Path, postgres_url: str) -> None:
    """It is planned before it is written: where that takes too long it gets a new id as well."""
    store = await PostgresStore.open(postgres_url, Vault([b"0" * 32]))
    async with running(tmp_path, store, Slow(store.clock)) as server:
        await server.app(uid="acme")
        await server.post("/operational-webhook/endpoint", {"url": "https://ops.example/"})
        await server.endpoint("acme", uid="pull")
        (told,) = await store.list_messages(OPERATIONAL, Cursor(limit=9))
        assert told.event_type == "endpoint.created"
        assert told.id > floor("msg_", store.clock.now() - HOUR // 2)
