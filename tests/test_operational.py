"""Operational webhooks, on a running server: what is told of what, to whom, and that it is written with its cause."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tenterhook.clock import HOUR, to_rfc3339
from tenterhook.engine.notices import EVENTS
from tenterhook.model import OPERATIONAL, OPERATIONAL_UID, Attempt, Delivery, Endpoint, Message, Outcome, Result, State
from tenterhook.store.queries import Cursor
from tenterhook.store.work import Accept, Settlement
from tests.api import OK, REFUSED, URL, Recorder, Server, running


class Receivers(Recorder):
    """Each endpoint answers by its own script, and then with OK; none while the gate is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.script: dict[str, list[Outcome]] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.told: Callable[[], None] = lambda: None

    async def send(self, message: Message, endpoint: Endpoint, *, deadline: int, now: int) -> Outcome:
        self.sent.append((message, endpoint))
        self.told()
        await self.gate.wait()
        script = self.script.get(endpoint.id)
        return script.pop(0) if script else OK


class Later:
    """A clock that runs ahead of every lifetime."""

    def now(self) -> int:
        return 2**61


class SameId:
    """Makes ids that are not one's own."""

    def new(self, prefix: str, now: int) -> str:
        return prefix + "1" * 27


GONE = Outcome(result=Result.GONE, status=410, url=URL)
OWN = f"/app/{OPERATIONAL_UID}"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path) as server:
        receivers = server.recorder = Receivers()
        receivers.told = server.watch.happened
        server.node.senders._made.update(dict.fromkeys(("webhook", "slack"), receivers))
        yield server


async def settled(server: Server, endpoint: str, count: int) -> list[Attempt]:
    """The attempts at an endpoint, when there are so many."""
    await server.watch.until(lambda: sum(a.endpoint == endpoint for a in server.watch.attempts) >= count)
    return [attempt for attempt in server.watch.attempts if attempt.endpoint == endpoint]


async def listen(server: Server, *event_types: str, **fields: Any) -> str:
    """A new operational webhook endpoint; its id."""
    wanted = {"url": URL, "eventTypes": event_types or None} | fields
    answer = await server.post("/operational-webhook/endpoint", wanted)
    assert answer.status == 201, answer
    endpoint: str = answer.json["id"]
    return endpoint


async def told(server: Server) -> list[tuple[str, Any]]:
    """What was told so far: kind and data, in order."""
    found = await server.store.list_messages(OPERATIONAL, Cursor(limit=99))
    bodies = [msgspec.json.decode(message.payload) for message in found]
    assert [body["type"] for body in bodies] == [message.event_type for message in found]
    return [(body["type"], body["data"]) for body in bodies]


async def test_the_changes_of_an_endpoint_are_told(server: Server) -> None:
    app = await server.app(uid="acme")
    await listen(server)
    endpoint = await server.endpoint(app, uid="main")
    path = f"/app/{app}/endpoint/{endpoint}"
    await server.patch(path, {"description": "d"})
    await server.post(path + "/secret/rotate")
    await server.patch(path, {"disabled": True})
    await server.patch(path, {"disabled": True, "uid": None})
    await server.patch(path, {"disabled": False})
    await server.delete(path)
    who = {"appId": app, "appUid": "acme", "endpointId": endpoint, "endpointUid": "main"}
    nameless = who | {"endpointUid": None}
    assert await told(server) == [
        ("endpoint.created", who),
        ("endpoint.updated", who),
        ("endpoint.updated", who),
        ("endpoint.updated", who),
        ("endpoint.disabled", who | {"failSince": None, "trigger": "manual"}),
        ("endpoint.updated", nameless),
        ("endpoint.updated", nameless),
        ("endpoint.enabled", nameless),
        ("endpoint.deleted", nameless),
    ]
    await server.watch.settled(9)
    sent = [(message.event_type, message.payload) for message, _ in server.recorder.sent]
    assert len(sent) == 9 and sent[0] == (
        "endpoint.created",
        msgspec.json.encode({"type": "endpoint.created", "data": who}),
    )


async def test_the_endpoints_of_a_deleted_application_are_told(server: Server) -> None:
    app = await server.app()
    endpoints = [await server.endpoint(app) for _ in range(2)]
    await listen(server, "endpoint.deleted")
    await server.delete(f"/app/{app}")
    assert [(kind, data["endpointId"]) for kind, data in await told(server)] == [
        ("endpoint.deleted", endpoint) for endpoint in endpoints
    ]


async def test_what_becomes_of_a_message_is_told(server: Server) -> None:
    app = await server.app()
    endpoint = await server.endpoint(app, retrySchedule=[0] * 5)
    await listen(server, "message.attempt.*")
    answers = server.recorder.script[endpoint] = [REFUSED] * 5 + [OK] + [REFUSED] * 6
    await server.message(app, eventId="first")
    attempts = await settled(server, endpoint, 6)
    await server.message(app, eventId="second")
    await settled(server, endpoint, 12)
    assert answers == []
    found = await told(server)
    assert [(kind, data["msgEventId"]) for kind, data in found] == [
        ("message.attempt.failing", "first"), ("message.attempt.recovered", "first"),
        ("message.attempt.failing", "second"), ("message.attempt.exhausted", "second"),
    ]  # fmt: skip
    fourth = attempts[3]
    last = {"id": fourth.id, "responseStatusCode": 500, "timestamp": to_rfc3339(fourth.started_at)}
    assert found[0][1] == {
        "appId": app, "appUid": None, "msgId": fourth.message, "msgEventId": "first", "endpointId": endpoint,
        "endpointUid": None, "lastAttempt": last,
    }  # fmt: skip


async def test_an_endpoint_that_is_gone_is_told_once(server: Server) -> None:
    app = await server.app()
    endpoint = await server.endpoint(app, uid="main", concurrency=8)
    await listen(server, "endpoint.disabled")
    server.recorder.script[endpoint] = [GONE] * 5
    server.recorder.gate.clear()
    for _ in range(5):
        await server.message(app)
    await server.watch.until(lambda: len(server.recorder.sent) == 5)
    server.recorder.gate.set()
    await settled(server, endpoint, 5)
    ((kind, data),) = await told(server)
    assert (kind, data["endpointUid"], data["trigger"]) == ("endpoint.disabled", "main", "automatic")
    assert data["failSince"] is not None
    assert (await server.get(f"/app/{app}/endpoint/main")).json["disabledReason"] == "gone"


async def test_the_end_of_a_task_is_told(server: Server) -> None:
    app = await server.app(uid="acme")
    await listen(server, "background_task.finished")
    for begun in (
        await server.put("/stats/usage/event-types"),
        await server.post(f"/app/{app}/msg/expunge-all-contents"),
    ):
        await server.watch.ended(begun.json["id"])
    first, second = [data for _, data in await told(server)]
    assert (first["task"], first["status"]) == ("event-type.aggregate", "finished")
    assert first["data"]["event_types"][0]["appId"] == app
    assert second == {
        "taskId": begun.json["id"], "task": "application.purge_content", "status": "finished", "data": {"messagesPurged": 0},
    }  # fmt: skip


async def test_a_lifetime_that_ends_is_told(server: Server) -> None:
    """Of one that was never attempted, because its endpoint was disabled, and of one that waits for its retry."""
    app = await server.app()
    endpoint = await server.endpoint(app, retrySchedule=[3600, 3600])
    await listen(server, "message.attempt.exhausted")
    server.recorder.script[endpoint] = [REFUSED]
    tried = await server.message(app)
    (attempt,) = await settled(server, endpoint, 1)
    never = Message(id=server.node.hub.ids.new("msg_", 0), app=app, event_type="a", payload=b"{}", created_at=0)
    waiting = Delivery(message=never.id, endpoint=endpoint, app=app, due_at=2**60, created_at=0, expires_at=2**60)
    await server.store.commit([Accept(never, (waiting,))])
    server.node.upkeep._clock = Later()
    await server.node.upkeep.round()
    found = {data["msgId"]: data["lastAttempt"] for _, data in await told(server)}
    assert found[tried]["id"] == attempt.id
    assert (found[never.id]["id"], found[never.id]["responseStatusCode"]) == ("", 0)
    assert len(found) == len(await told(server)) == 2


async def test_a_lifetime_ends_and_is_told_though_the_endpoint_cannot_be_read(server: Server, tmp_path: Path) -> None:
    """As after a key was lost: the deliveries of such an endpoint wait until their lifetimes end, and upkeep goes on."""
    app = await server.app()
    endpoint = await server.endpoint(app, retrySchedule=[3600, 3600])
    await listen(server, "message.attempt.exhausted")
    server.recorder.script[endpoint] = [REFUSED]
    message = await server.message(app)
    await settled(server, endpoint, 1)
    (database,) = tmp_path.glob("*.db")
    with closing(sqlite3.connect(database)) as db:
        db.execute("UPDATE endpoint SET sealed = x'00' WHERE id = ?", (endpoint,))
        db.commit()
    server.node.catalog.forget_all()
    server.node.upkeep._clock = Later()
    await server.node.upkeep.round()
    assert [data["msgId"] for _, data in await told(server)] == [message]


async def test_nobody_hears_of_what_nobody_wants(server: Server) -> None:
    app = await server.app()
    endpoint = await server.endpoint(app)
    other = await listen(server, "endpoint.enabled")
    switched_off = await listen(server, disabled=True)
    await server.patch(f"/app/{app}/endpoint/{endpoint}", {"description": "d"})
    await server.message(app)
    await server.watch.settled(1)
    assert await told(server) == []
    assert {row["id"] for row in (await server.get("/operational-webhook/endpoint")).json["data"]} == {
        other,
        switched_off,
    }


async def test_channels_choose_applications(server: Server) -> None:
    ours, theirs = await server.app(uid="acme"), await server.app()
    by_uid, by_id = await listen(server, channels=["acme"]), await listen(server, channels=[theirs, "x"])
    await server.endpoint(ours)
    await server.endpoint(theirs)
    await server.put("/stats/usage/event-types")
    await server.watch.settled(2)
    sent = [
        (endpoint.id, msgspec.json.decode(message.payload)["data"]["appId"])
        for message, endpoint in server.recorder.sent
    ]
    assert sorted(sent) == sorted([(by_uid, ours), (by_id, theirs)])


async def test_what_happens_to_operational_webhooks_is_not_told(server: Server) -> None:
    app = await server.app()
    ears = await listen(server, retrySchedule=[0] * 4)
    server.recorder.script[ears] = [REFUSED] * 5
    await server.endpoint(app)
    attempts = await settled(server, ears, 5)
    assert [kind for kind, _ in await told(server)] == ["endpoint.created"]
    shown = (await server.get(f"{OWN}/attempt/endpoint/{ears}")).json["data"]
    assert sorted(one["id"] for one in shown) == sorted(attempt.id for attempt in attempts)
    await server.put(f"/operational-webhook/endpoint/{ears}", {"url": URL + "/2"})
    await server.delete(f"/operational-webhook/endpoint/{ears}")
    assert [kind for kind, _ in await told(server)] == ["endpoint.created"]


async def test_the_servers_own_application(server: Server) -> None:
    assert (await server.get("/app")).json["data"] == []
    assert (await server.get(OWN)).json["id"] == OPERATIONAL
    for change in (server.delete(OWN), server.patch(OWN, {"name": "x"}), server.put(OWN, {"name": "x"})):
        answer = await change
        assert (answer.status, answer.json["code"]) == (403, "insufficient access")
    assert (await server.post("/app", {"name": "x", "uid": OPERATIONAL_UID})).status == 409
    usage = {"since": to_rfc3339(server.node.clock.now() - HOUR), "until": to_rfc3339(server.node.clock.now())}
    for begun in (await server.post("/stats/usage/app", usage), await server.put("/stats/usage/event-types")):
        data = (await server.watch.ended(begun.json["id"])).data
        assert list(data.values()) == [[]]


@pytest.mark.parametrize("path", ["/operational-webhook/endpoint", OWN + "/endpoint"])
async def test_only_events_that_there_are_can_be_listened_to(server: Server, path: str) -> None:
    await server.post("/event-type", {"name": "invoice.paid", "description": ""})
    for wrong in ("invoice.paid", "endpoint.exploded"):
        answer = await server.post(path, {"url": URL, "eventTypes": [wrong]})
        assert answer.status == 422 and answer.json["detail"][0]["loc"] == ["body", "eventTypes"]
    assert (await server.post(path, {"url": URL, "eventTypes": [*EVENTS, "endpoint.*"]})).status == 201


async def test_an_event_is_there_exactly_if_its_cause_is(server: Server) -> None:
    """A verdict that comes after its lease has ended changes nothing, so nothing of it is told."""
    app = await server.app()
    endpoint = await server.endpoint(app)
    await listen(server, "message.attempt.exhausted")
    server.recorder.gate.clear()
    server.recorder.script[endpoint] = [REFUSED]
    message = await server.message(app)
    await server.watch.until(lambda: len(server.recorder.sent) == 1)
    held = await server.store.get_delivery(app, message, endpoint)
    assert held is not None and held.state is State.LEASED
    taken = msgspec.structs.replace(held, lease=held.lease + 1)
    await server.store.commit([Settlement(taken, held.lease)])
    server.recorder.gate.set()
    (attempt,) = await settled(server, endpoint, 1)
    assert attempt.outcome.status == 500
    assert await told(server) == []
    assert server.node.stats.signals == {}


async def test_a_notice_that_cannot_be_made_costs_nobody_a_result(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = await server.app()
    endpoint = await server.endpoint(app)
    await listen(server, "message.attempt.exhausted")
    server.recorder.script[endpoint] = [REFUSED] * 3
    monkeypatch.setattr("tenterhook.engine.notices.of_attempt", lambda *_: 1 / 0)
    first = await server.message(app)
    await settled(server, endpoint, 1)
    assert "could not be planned" in caplog.text
    monkeypatch.undo()
    # two messages of one id: the second cannot be stored
    monkeypatch.setattr(server.node.notices, "_ids", SameId())
    later = [await server.message(app) for _ in range(2)]
    await settled(server, endpoint, 3)
    states = [(await server.store.get_delivery(app, message, endpoint)) for message in (first, *later)]
    assert [delivery.state for delivery in states if delivery is not None] == [State.FAILED] * 3
    [(_, data)] = await told(server)
    assert data["msgId"] in later
