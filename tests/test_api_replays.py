"""Sending again what an endpoint missed, over REST: what is chosen, and that it arrives."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tenterhook.clock import HOUR, to_rfc3339
from tenterhook.model import Outcome, Result
from tests.api import OK, REFUSED, Server, running

GONE = Outcome(result=Result.RETRY, status=404)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path) as server:
        yield server


@pytest.fixture
async def app(server: Server) -> str:
    return await server.app(uid="acme")


async def sent(server: Server, path: str, **choice: Any) -> int:
    """How many messages of the last hour went out again."""
    answer = await server.post(path, {"since": to_rfc3339(server.node.clock.now() - HOUR)} | choice)
    assert answer.status == 202, answer
    assert set(answer.json) == {"id", "status", "task", "updatedAt"} and answer.json["status"] == "running"
    task = await server.watch.ended(answer.json["id"])
    assert task.kind == answer.json["task"] and task.error is None
    count: int = task.data["messagesSent"]
    return count


async def test_recover_sends_what_failed(server: Server, app: str) -> None:
    endpoint = await server.endpoint(app)
    server.recorder.outcomes = [REFUSED, OK]
    failed = await server.message(app)
    await server.watch.settled(1)
    await server.message(app)
    await server.watch.settled(2)
    naive = to_rfc3339(server.node.clock.now() - HOUR).removesuffix("Z")
    path = f"/app/{app}/endpoint/{endpoint}/recover"
    assert await sent(server, path, since=naive, until=to_rfc3339(server.node.clock.now() + HOUR)) == 1
    await server.watch.settled(3)
    assert [message.id for message, _ in server.recorder.sent].count(failed) == 2
    assert await sent(server, path) == 0


async def test_replay_missing_sends_what_was_never_sent(server: Server, app: str) -> None:
    await server.message(app)
    await server.message(app)
    endpoint = await server.endpoint(app)
    path = f"/app/{app}/endpoint/{endpoint}/replay-missing"
    assert await sent(server, path) == 2
    await server.watch.settled(2)
    assert await sent(server, path) == 0


async def test_a_repeated_request_begins_no_second_task(server: Server, app: str) -> None:
    await server.message(app)
    endpoint = await server.endpoint(app)
    body = {"since": to_rfc3339(server.node.clock.now() - HOUR)}
    path, key = f"/app/{app}/endpoint/{endpoint}/replay-missing", {"idempotency-key": "k"}
    first = await server.post(path, body, headers=key)
    await server.watch.ended(first.json["id"])
    await server.patch(f"/app/{app}/endpoint/{endpoint}", {"disabled": True})
    again = await server.post(path, body, headers=key)
    assert (again.status, again.json) == (202, first.json)
    assert len((await server.get("/background-task")).json["data"]) == 1


async def test_bulk_replay_sends_what_is_chosen(server: Server, app: str) -> None:
    endpoint = await server.endpoint(app)
    server.recorder.outcomes = [REFUSED, GONE, OK]
    for settled, fields in enumerate(({"channels": ["a"]}, {"tags": ["t"]}, {"eventType": "x.y"}), start=1):
        await server.message(app, **fields)
        await server.watch.settled(settled)
    path = f"/app/{app}/endpoint/{endpoint}/bulk-replay"
    server.recorder.outcomes = [OK]
    assert await sent(server, path, status=1) == await sent(server, path, status=4) == 0
    assert await sent(server, path, statusCodeClass=400, status=2) == 1
    await server.watch.settled(4)
    assert await sent(server, path, status=2) == 1
    await server.watch.settled(5)
    assert await sent(server, path, eventTypes=["x.y", "z"]) == await sent(server, path, tag="t", status=0) == 1
    await server.watch.settled(7)
    assert await sent(server, path, channel="none") == 0
    assert await sent(server, path) == 3
    await server.watch.settled(10)


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"status": 7}, "status"),
        ({"statusCodeClass": 404}, "statusCodeClass"),
        ({"eventTypes": ["a"] * 251}, "eventTypes"),
        ({"channel": ""}, "channel"),
    ],
)
async def test_a_choice_that_is_none(server: Server, app: str, body: dict[str, Any], name: str) -> None:
    endpoint = await server.endpoint(app)
    answer = await server.post(f"/app/{app}/endpoint/{endpoint}/bulk-replay", {"since": "2026-01-01T00:00:00"} | body)
    assert answer.status == 422 and answer.json["detail"][0]["loc"] == ["body", name]


async def test_a_disabled_endpoint_is_refused(server: Server, app: str) -> None:
    endpoint = await server.endpoint(app, disabled=True)
    for verb in ("recover", "replay-missing", "bulk-replay"):
        answer = await server.post(
            f"/app/{app}/endpoint/{endpoint}/{verb}", {"since": to_rfc3339(server.node.clock.now())}
        )
        assert (answer.status, answer.json["code"]) == (409, "endpoint_disabled")


async def test_an_endpoint_that_is_deleted_meanwhile(server: Server, app: str) -> None:
    await server.message(app)
    endpoint = await server.endpoint(app)
    await server.node.tasks.stop()
    body = {"since": to_rfc3339(server.node.clock.now() - HOUR)}
    begun = await server.post(f"/app/{app}/endpoint/{endpoint}/replay-missing", body)
    await server.delete(f"/app/{app}/endpoint/{endpoint}")
    await server.node.tasks.turn()
    shown = (await server.get(f"/background-task/{begun.json['id']}")).json
    assert (shown["status"], shown["error"], shown["data"]) == ("failed", "the endpoint was deleted", {})


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({}, None),
        ({"since": "yesterday"}, "since"),
        ({"since": 5}, "since"),
        ({"since": "2026-01-01T00:00:00Z", "until": "2026-01-16T00:00:00Z"}, "since"),
        ({"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "until"),
        ({"since": "2026-01-02T00:00:00Z", "until": "0"}, "until"),
    ],
)
async def test_a_window_that_is_none(server: Server, app: str, body: object, name: str | None) -> None:
    endpoint = await server.endpoint(app)
    answer = await server.post(f"/app/{app}/endpoint/{endpoint}/recover", body)
    assert answer.status == 422 and answer.json["detail"][0]["loc"][1:] == ([name] if name else [])
