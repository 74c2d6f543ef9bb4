"""Idempotency keys: what is done once although it is asked for twice."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tenterhook.clock import HOUR, to_rfc3339
from tests.api import REFUSED, URL, Server, running

KEY = {"idempotency-key": "one"}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path) as server:
        yield server


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/app", {"name": "Acme"}, 201),
        ("/app?get_if_exists=true", {"name": "Acme", "uid": "new"}, 201),
        ("/event-type", {"name": "a", "description": ""}, 201),
        ("/app/acme/endpoint", {"url": URL}, 201),
        ("/app/acme/source", {"name": "a", "provider": "none"}, 201),
        ("/app/acme/msg", {"eventType": "a", "payload": {}}, 202),
        ("/app/acme/msg?with_content=false", {"eventType": "a", "payload": {"n": 1}}, 202),
    ],
)
class TestCreating:
    async def test_the_same_again_gets_the_same_answer(
        self, server: Server, path: str, body: dict[str, object], status: int
    ) -> None:
        await server.app(uid="acme")
        first = await server.post(path, body, headers=KEY)
        again = await server.post(path, body, headers=KEY)
        assert (first.status, again.status) == (status, status)
        assert first.body == again.body and again.headers["idempotent-replayed"] == "true"
        assert "idempotent-replayed" not in first.headers
        other = await server.post(path, {**body, "name": "b", "uid": None}, headers={"idempotency-key": "two"})
        assert other.status == status and other.body != first.body

    async def test_another_body_is_a_conflict(
        self, server: Server, path: str, body: dict[str, object], status: int
    ) -> None:
        await server.app(uid="acme")
        assert (await server.post(path, body, headers=KEY)).status == status
        answer = await server.post(path, body | {"x": 1}, headers=KEY)
        assert (answer.status, answer.json["code"]) == (409, "idempotency_mismatch")

    async def test_twins_at_the_same_time(
        self, server: Server, path: str, body: dict[str, object], status: int
    ) -> None:
        await server.app(uid="acme")
        answers = await asyncio.gather(*(server.post(path, body, headers=KEY) for _ in range(5)))
        done = {answer.body for answer in answers if answer.status == status}
        assert len(done) == 1 and {answer.status for answer in answers} <= {status, 423}
        assert all(a.json["code"] == "idempotency_in_progress" for a in answers if a.status == 423)

    async def test_a_failed_request_frees_its_key(
        self, server: Server, path: str, body: dict[str, object], status: int
    ) -> None:
        for wrong, code in ((b"{", {422, 404}), (b"[]", {422, 404}), (b" " * (1 << 21), {413, 404})):
            assert (await server.post(path, wrong, headers=KEY)).status in code
        await server.app(uid="acme")
        assert (await server.post(path, body, headers=KEY)).status == status


async def test_a_key_belongs_to_its_token_and_path(server: Server) -> None:
    app = await server.app()
    body = {"eventType": "a", "payload": {}}
    token = await server.token("admin")
    answers = [
        await server.post(f"/app/{app}/msg", body, headers=KEY),
        await server.post(f"/app/{app}/msg", body, headers=KEY, token=token),
        await server.post(f"/app/{app}/msg?with_content=true", body, headers=KEY),
        await server.post(f"/app/{await server.app()}/msg", body, headers=KEY),
    ]
    assert len({answer.json["id"] for answer in answers}) == 4


async def test_a_message_under_a_repeated_key_is_delivered_once(server: Server) -> None:
    app = await server.app()
    await server.endpoint(app)
    for _ in range(3):
        await server.post(f"/app/{app}/msg", {"eventType": "a", "payload": {}}, headers=KEY)
    await server.message(app)
    await server.watch.settled(2)
    assert len(server.recorder.sent) == 2


async def test_a_payload_that_was_removed_comes_back_in_no_answer(server: Server) -> None:
    app = await server.app()
    made = await server.post(f"/app/{app}/msg", {"eventType": "a", "payload": {"secret": 1}}, headers=KEY)
    assert (await server.delete(f"/app/{app}/msg/{made.json['id']}/content")).status == 204
    again = await server.post(f"/app/{app}/msg", {"eventType": "a", "payload": {"secret": 1}}, headers=KEY)
    assert again.status == 202 and again.headers["idempotent-replayed"] == "true"
    assert again.json == made.json | {"payload": {"expired": True}}


async def test_what_was_accepted_is_answered_alike_when_it_would_be_refused_by_now(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = await server.app()
    now = server.node.clock.now()
    at = to_rfc3339(now + HOUR)
    kinds = {"late": {"eventType": "a", "payload": {}, "deliverAt": at}, "archived": {"eventType": "b", "payload": {}}}
    await server.post("/event-type", {"name": "b", "description": ""})
    made = {
        kind: await server.post(f"/app/{app}/msg", body, headers={"idempotency-key": kind})
        for kind, body in kinds.items()
    }
    await server.delete("/event-type/b")
    monkeypatch.setattr(server.node.clock, "now", lambda: now + HOUR)
    for kind, body in kinds.items():
        again = await server.post(f"/app/{app}/msg", body, headers={"idempotency-key": kind})
        assert (made[kind].status, again.status, again.body) == (202, 202, made[kind].body), kind
        assert (await server.post(f"/app/{app}/msg", body, headers={"idempotency-key": f"{kind} 2"})).status == 422


async def test_a_repeated_answer_without_a_body_has_none_either(server: Server) -> None:
    app = await server.app()
    endpoint = await server.endpoint(app, retrySchedule=[3600])
    server.recorder.outcomes = [REFUSED]
    message = await server.message(app)
    await server.watch.settled(1)
    path = f"/app/{app}/msg/{message}/endpoint/{endpoint}/cancel"
    first, again = [await server.post(path, headers=KEY) for _ in range(2)]
    assert (first.status, again.status, again.body) == (204, 204, b"")
    assert "content-type" not in again.headers and again.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize("text", ["", "a" * 257])
async def test_a_key_that_is_none(server: Server, text: str) -> None:
    answer = await server.post("/app", {"name": "a"}, headers={"idempotency-key": text})
    assert (answer.status, answer.json["code"]) == (400, "generic_error")


async def test_a_key_lives_through_a_restart(tmp_path: Path) -> None:
    bodies = []
    for _ in range(2):
        async with running(tmp_path) as server:
            bodies.append((await server.post("/app", {"name": "Acme"}, headers=KEY)).body)
    assert bodies[0] == bodies[1]
