"""Examples over the API: the chosen endpoint gets them, always, and nobody else."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.api import OK, REFUSED, Answer, Server, running

PAID = {
    "name": "invoice.paid", "description": "Paid",
    "schemas": {"1": {"examples": [{"n": 0}]}, "2": {"type": "object", "examples": [{"n": 1}, {"n": 2}, "three"]}},
}  # fmt: skip


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path) as server:
        await server.app(uid="acme")
        await server.post("/event-type", PAID)
        yield server


async def send(server: Server, endpoint: str, event_type: str = "invoice.paid", **more: Any) -> Answer:
    headers = more.pop("headers", None)
    token = {} if "token" not in more else {"token": more.pop("token")}
    body = {"eventType": event_type} | more
    return await server.post(f"/app/acme/endpoint/{endpoint}/send-example", body, headers=headers, **token)


async def test_it_reaches_the_chosen_endpoint_whatever_its_filters_say(server: Server) -> None:
    await server.post("/event-type", {"name": "other", "description": ""})
    await server.endpoint("acme", uid="everything")
    chosen = await server.endpoint("acme", uid="picky", eventTypes=["other"], channels=["x"])
    answer = await send(server, "picky")
    assert (answer.status, answer.json["eventType"], answer.json["payload"]) == (202, "invoice.paid", {})
    (attempt,) = await server.watch.settled(1)
    assert (attempt.message, attempt.endpoint) == (answer.json["id"], chosen)
    destinations = (await server.get(f"/app/acme/msg/{answer.json['id']}/endpoint")).json["data"]
    assert [one["id"] for one in destinations] == [chosen]
    assert (await server.get(f"/app/acme/msg/{answer.json['id']}")).json["payload"] == {"n": 1}


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ({"exampleIndex": 1}, b'{"n":2}'),
        ({"exampleIndex": None, "payload": None}, b'{"n":1}'),
        ({"payload": {"my": [1.50]}}, b'{"my":[1.5]}'),
        ({"event_type": "nobody.knows", "payload": {}}, b"{}"),
        ({"event_type": "svix.ping"}, b'{"success": true}'),
    ],
)
async def test_what_is_sent(server: Server, body: dict[str, Any], sent: bytes) -> None:
    await server.endpoint("acme", uid="hook")
    assert (await send(server, "hook", **body)).status == 202
    await server.watch.settled(1)
    assert [message.payload for message, _ in server.recorder.sent] == [sent]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"exampleIndex": 2}, 400, "invalid_scheme"),
        ({"exampleIndex": 3}, 400, "invalid_scheme"),
        ({"event_type": "empty"}, 400, "invalid_scheme"),
        ({"event_type": "nobody.knows"}, 404, "not_found"),
        ({"exampleIndex": -1}, 422, None),
        ({"payload": [1]}, 422, None),
        ({"event_type": "archived", "payload": {}}, 422, None),
    ],
)
async def test_what_cannot_be_sent(server: Server, body: dict[str, Any], status: int, code: str | None) -> None:
    await server.endpoint("acme", uid="hook")
    await server.post("/event-type", {"name": "empty", "description": "", "schemas": {"1": True}})
    await server.post("/event-type", {"name": "archived", "description": "", "archived": True})
    answer = await send(server, "hook", **body)
    assert (answer.status, answer.json.get("code")) == (status, code), answer
    assert (await server.get("/app/acme/msg")).json["data"] == []


async def test_a_disabled_endpoint_gets_none(server: Server) -> None:
    await server.endpoint("acme", uid="off", disabled=True)
    answer = await send(server, "off")
    assert (answer.status, answer.json["code"]) == (409, "endpoint_disabled")


async def test_it_goes_through_an_open_breaker(server: Server) -> None:
    endpoint = await server.endpoint("acme", uid="hook")
    server.recorder.outcomes = [REFUSED] * 8 + [OK]
    for n in range(1, 9):
        await server.message("acme")
        await server.watch.settled(n)
    assert server.node.worker.lanes[endpoint].health.open_until is not None
    assert (await send(server, "hook")).status == 202
    assert (await server.watch.settled(9))[-1].outcome == OK


async def test_a_replay_takes_it_to_nobody_else(server: Server) -> None:
    await server.endpoint("acme", uid="hook")
    await send(server, "hook")
    await server.watch.settled(1)
    late = await server.endpoint("acme", uid="late")
    await server.message("acme", eventType="real")
    await server.watch.settled(3)
    other = await server.endpoint("acme", uid="later")
    replayed = await server.post(f"/app/acme/endpoint/{other}/replay-missing", {"since": "2020-01-01T00:00:00Z"})
    assert replayed.status == 202
    attempts = await server.watch.settled(4)
    types = {message.id: message.event_type for message, _ in server.recorder.sent}
    assert [types[one.message] for one in attempts if one.endpoint in (late, other)] == ["real", "real"]


async def test_it_is_sent_once_for_a_key(server: Server) -> None:
    await server.endpoint("acme", uid="hook")
    once = {"idempotency-key": "once"}
    first, again = [await send(server, "hook", headers=once) for _ in range(2)]
    assert (again.json, again.headers["idempotent-replayed"]) == (first.json, "true")
    assert len((await server.get("/app/acme/msg")).json["data"]) == 1


async def test_a_customer_sends_examples_of_what_they_may_see(server: Server) -> None:
    app = (await server.get("/app/acme")).json["id"]
    await server.endpoint("acme", uid="hook")
    hidden = {"name": "beta", "description": "", "featureFlags": ["beta"], "schemas": {"1": {"examples": [{}]}}}
    await server.post("/event-type", hidden)
    token = await server.token("application", app)
    assert (await send(server, "hook", token=token)).status == 202
    assert (await send(server, "hook", "beta", token=token)).status == 404
    visit = {"capabilities": ["ViewBase", "ManageEndpoint"]}
    visitor = (await server.post("/auth/app-portal-access/acme", visit)).json["token"]
    assert (await send(server, "hook", token=visitor)).status == 403
