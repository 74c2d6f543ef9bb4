"""Content that somebody wants gone, over REST."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api import Server, running


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path) as server:
        yield server


@pytest.fixture
async def app(server: Server) -> str:
    return await server.app(uid="acme")


async def expired(server: Server, app: str, *messages: str) -> list[bool]:
    found = [await server.store.get_message(app, message) for message in messages]
    return [message is not None and message.expired for message in found]


async def test_the_content_of_a_message_goes(server: Server, app: str) -> None:
    message, other = await server.message(app, eventId="e1"), await server.message(app)
    for ref in ("e1", message):
        assert (await server.delete(f"/app/acme/msg/{ref}/content")).status == 204
    assert await expired(server, app, message, other) == [True, False]
    assert (await server.get(f"/app/acme/msg/{message}")).json["payload"] == {"expired": True}
    assert (await server.delete("/app/acme/msg/none/content")).status == 404


async def test_the_content_of_many_messages_goes(server: Server, app: str) -> None:
    messages = [await server.message(app, eventId=f"e{n}") for n in range(3)]
    answer = await server.post(f"/app/{app}/msg/bulk-expunge", {"ids": [messages[0], "e1", "none"]})
    assert answer.status == 200
    assert answer.json == {"results": {messages[0]: "expunged", "e1": "expunged", "none": "not-found"}}
    assert await expired(server, app, *messages) == [True, True, False]
    assert (await server.post(f"/app/{app}/msg/bulk-expunge")).json == {"results": {}}


async def test_everything_goes(server: Server, app: str) -> None:
    messages = [await server.message(app) for _ in range(3)]
    other = await server.app()
    theirs = await server.message(other)
    begun = await server.post(f"/app/{app}/msg/expunge-all-contents")
    assert (begun.status, begun.json["task"], begun.json["status"]) == (202, "application.purge_content", "running")
    assert (await server.watch.ended(begun.json["id"])).data == {"messagesPurged": 3}
    assert await expired(server, app, *messages) == [True] * 3
    assert await expired(server, other, theirs) == [False]


async def test_the_content_of_an_attempt_goes(server: Server, app: str) -> None:
    await server.endpoint(app)
    message = await server.message(app)
    (attempt,) = await server.watch.settled(1)
    path = f"/app/{app}/msg/{message}/attempt/{attempt.id}"
    assert (await server.get(path)).json["response"] == "thanks"
    assert (await server.delete(path + "/content")).status == 204
    shown = (await server.get(path)).json
    assert (shown["response"], shown["responseStatusCode"]) == ("EXPUNGED", 200)
    listed = (await server.get(f"/app/{app}/attempt/msg/{message}")).json["data"]
    assert [one["response"] for one in listed] == ["EXPUNGED"]
    assert (await server.delete(f"/app/{app}/msg/{message}/attempt/atmpt_{27 * '0'}/content")).status == 404
