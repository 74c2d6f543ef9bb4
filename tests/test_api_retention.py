"""Retention over the API: what is asked for, what is shown when it is over, and what is refused then."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tenterhook.clock import DAY, HOUR, to_rfc3339
from tenterhook.model import State
from tests.api import GRACE, REFUSED, Server, running


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path) as server:
        yield server


async def expire(server: Server) -> None:
    """As if an hour had passed for what was to be kept for one."""
    await server.store.expire_due(server.node.clock.now() + HOUR, 100)


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"payloadRetentionPeriod": 3}, 3 * DAY), ({"payloadRetentionHours": 2}, 2 * HOUR), ({}, None),
        ({"payloadRetentionPeriod": None, "payloadRetentionHours": 2_160}, 90 * DAY),
    ],
)  # fmt: skip
async def test_a_message_may_have_a_retention_of_its_own(
    server: Server, fields: dict[str, Any], kept: int | None
) -> None:
    app = await server.app()
    message = await server.store.get_message(app, await server.message(app, **fields))
    assert message is not None
    assert message.payload_until == (None if kept is None else message.created_at + kept)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"payloadRetentionPeriod": 0}, "payloadRetentionPeriod"), ({"payloadRetentionPeriod": 91}, "payloadRetentionPeriod"),
        ({"payloadRetentionHours": 0}, "payloadRetentionHours"), ({"payloadRetentionHours": 2161}, "payloadRetentionHours"),
        ({"payloadRetentionHours": 1.5}, "payloadRetentionHours"),
        ({"payloadRetentionPeriod": 1, "payloadRetentionHours": 1}, "payloadRetentionHours"),
    ],
)  # fmt: skip
async def test_a_retention_that_cannot_be(server: Server, fields: dict[str, Any], field: str) -> None:
    app = await server.app()
    answer = await server.post(f"/app/{app}/msg", {"eventType": "a", "payload": {}} | fields)
    assert (answer.status, answer.json["detail"][0]["loc"]) == (422, ["body", field])


async def test_what_is_shown_of_an_expired_message(server: Server) -> None:
    app = await server.app()
    endpoint = await server.endpoint(app)
    message = await server.message(app, payloadRetentionHours=1)
    await server.watch.settled(1)
    await expire(server)
    path = f"/app/{app}/msg/{message}"
    assert (await server.get(path)).json["payload"] == {"expired": True}
    assert (await server.get(path + "?with_content=false")).json["payload"] == {}
    assert (await server.get(f"/app/{app}/msg")).json["data"][0]["payload"] == {"expired": True}
    listed = f"/app/{app}/attempt/endpoint/{endpoint}"
    (attempt,) = (await server.get(listed + "?with_msg=true")).json["data"]
    assert (attempt["response"], attempt["responseStatusCode"]) == ("EXPUNGED", 200)
    assert attempt["msg"]["payload"] == {"expired": True}
    assert (await server.get(listed + "?with_content=false")).json["data"][0]["response"] == "{}"
    whole = (await server.get(f"{path}/attempt/{attempt['id']}")).json
    assert whole["response"] == "EXPUNGED" and whole["request"]["body"] is None


async def test_an_expired_message_is_not_sent_again(server: Server) -> None:
    server.recorder.outcomes = [REFUSED]
    app = await server.app()
    endpoint = await server.endpoint(app)
    message = await server.message(app, payloadRetentionHours=1)
    await server.watch.settled(1)
    late = await server.endpoint(app)
    await expire(server)
    for target in (endpoint, late):
        answer = await server.post(f"/app/{app}/msg/{message}/endpoint/{target}/resend")
        assert (answer.status, answer.json["code"]) == (400, "missing_payload")
    window = {"since": to_rfc3339(server.node.clock.now() - HOUR)}
    for target, verb in ((endpoint, "recover"), (late, "replay-missing")):
        answer = await server.post(f"/app/{app}/endpoint/{target}/{verb}", window)
        assert answer.status == 202
        assert (await server.watch.ended(answer.json["id"])).data == {"messagesSent": 0}
    assert len(server.recorder.sent) == 1


async def test_a_planned_attempt_ends_without_its_payload(tmp_path: Path) -> None:
    async with running(tmp_path, retry_schedule=(HOUR,)) as server:
        server.recorder.outcomes = [REFUSED]
        app = await server.app()
        endpoint = await server.endpoint(app)
        message = await server.message(app, payloadRetentionHours=1)
        await server.watch.settled(1)
        await expire(server)
        health = await server.store.load_endpoint(endpoint)
        # the retry is due: the clock of the store's row is moved instead of waiting for an hour
        await server.store._transaction(lambda db: db.execute("UPDATE delivery SET due_at = 1"))
        server.node.worker.note_due(endpoint, 1)
        _, last = await server.watch.settled(2)
        assert (last.outcome.reason, last.outcome.status, last.number) == ("expired", 0, 2)
        delivery = await server.store.get_delivery(app, message, endpoint)
        assert delivery is not None and delivery.state is State.FAILED
        assert await server.store.load_endpoint(endpoint) == health
        assert server.node.stats.signals["message.attempt.exhausted"] == 1
        assert len(server.recorder.sent) == 1


async def test_an_expired_request_says_so(server: Server) -> None:
    app = await server.app()
    source = await server.source(app)
    await server.post("/" + source["url"], b"hello", token=None)
    path = f"/app/{app}/source/{source['id']}/request"
    (before,) = (await server.get(path)).json["data"]
    assert (before["expired"], before["bodySize"]) == (False, 5)
    await server.store._transaction(lambda db: db.execute("UPDATE message SET payload_until = 1"))
    await expire(server)
    after = (await server.get(f"{path}/{before['id']}")).json
    assert (after["expired"], after["bodySize"], after["body"], after["verdict"]) == (True, 0, "", "accepted")


async def test_retention_of_an_application(server: Server) -> None:
    fields = {"payloadRetentionHours": 24, "recordRetentionHours": 24 * 30}
    answer = await server.post("/app", {"name": "Acme", "uid": "acme"} | fields)
    assert answer.json | fields == answer.json
    stored = await server.store.get_application("acme")
    assert stored is not None
    assert (stored.payload_retention, stored.record_retention) == (DAY, 30 * DAY)
    # clients that do not know them leave them alone
    assert (await server.put("/app/acme", {"name": "New", "uid": "acme"})).json | fields == answer.json | {
        "name": "New", "updatedAt": (await server.get("/app/acme")).json["updatedAt"]
    }  # fmt: skip
    changed = (await server.patch("/app/acme", {"payloadRetentionHours": None, "recordRetentionHours": 999})).json
    assert (changed["payloadRetentionHours"], changed["recordRetentionHours"]) == (None, 999)
    assert (await server.put("/app/acme", {"name": "A", "recordRetentionHours": None})).json[
        "recordRetentionHours"
    ] is None


async def test_records_outlive_deliveries(server: Server) -> None:
    refused = {"name": "Acme", "uid": "acme", "recordRetentionHours": 96}
    app = await server.app()
    for answer in (await server.post("/app", refused), await server.patch(f"/app/{app}", refused)):
        assert (answer.status, answer.json["detail"][0]["loc"]) == (422, ["body", "recordRetentionHours"])
    assert (await server.get("/app/acme")).status == 404
    assert (await server.post("/app", refused | {"recordRetentionHours": 97})).status == 201
    for hours in (0, 876_001, 1.5, "24"):
        assert (await server.patch(f"/app/{app}", {"payloadRetentionHours": hours})).status == 422


async def test_it_goes_by_itself(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        app = await server.app(payloadRetentionHours=1)
        message = await server.message(app)
        await server.node.sweeper.round()
        assert (await server.get(f"/app/{app}/msg/{message}")).json["payload"] == {"n": 1}
        server.node.sweeper._clock = _Later(server.node.clock.now() + HOUR + 1_000_000)
        await server.node.sweeper.round()
        assert (await server.get(f"/app/{app}/msg/{message}")).json["payload"] == {"expired": True}
        page = (await server.get("//metrics", token=None)).body.decode()
        assert 'tenterhook_removed_total{of="messages",what="payloads"} 1.0' in page


class _Later:
    def __init__(self, now: int) -> None:
        self._now = now

    def now(self) -> int:
        return self._now


async def test_a_deleted_application_leaves_nothing(server: Server) -> None:
    app = await server.app()
    message = await server.message(app)
    await server.delete(f"/app/{app}")
    await server.node.sweeper.round()
    assert await server.store.get_message(app, message) is not None
    server.node.sweeper._clock = _Later(server.node.clock.now() + DAY + 1_000_000)
    await asyncio.wait_for(server.node.sweeper.round(), GRACE)
    assert await server.store.get_message(app, message) is None
    assert await server.store.list_retired(9) == []
