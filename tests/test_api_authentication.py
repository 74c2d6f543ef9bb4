"""Tokens for visitors of the portal: what they may do, and how they end."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tenterhook.clock import HOUR
from tests.api import ADMIN, Server, running

URL = "https://receiver.example/hook"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path) as server:
        yield server


@pytest.fixture
async def app(server: Server) -> str:
    made = await server.call("POST", "/app", {"name": "Acme", "uid": "acme"})
    await server.call("POST", "/app", {"name": "Other", "uid": "other"})
    await server.call("POST", "/app/acme/endpoint", {"url": URL, "uid": "hook"})
    return str(made.json["id"])


async def visitor(server: Server, **given: Any) -> str:
    answer = await server.call("POST", "/auth/app-portal-access/acme", given)
    assert answer.status == 200, answer
    assert answer.json["url"].endswith(f"#key={answer.json['token']}")
    return str(answer.json["token"])


async def statuses(server: Server, token: str) -> list[int]:
    """Look, change, read a secret, rotate it, send again, publish, look elsewhere."""
    calls: list[tuple[str, str, object]] = [
        ("GET", "/app/acme/endpoint/hook", None),
        ("PATCH", "/app/acme/endpoint/hook", {"description": "d"}),
        ("GET", "/app/acme/endpoint/hook/secret", None),
        ("POST", "/app/acme/endpoint/hook/secret/rotate", {}),
        ("POST", "/app/acme/endpoint/hook/recover", {"since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"}),
        ("POST", "/app/acme/msg", {"eventType": "a", "payload": {}}),
        ("GET", "/app/other", None),
    ]
    return [(await server.call(method, path, body, token=token)).status for method, path, body in calls]


async def test_a_visitor_may_do_what_a_customer_does(server: Server, app: str) -> None:
    assert await statuses(server, await visitor(server)) == [200, 200, 200, 200, 202, 403, 404]


async def test_who_only_reads_sees_no_secrets(server: Server, app: str) -> None:
    assert await statuses(server, await visitor(server, readOnly=True)) == [200, 403, 403, 403, 403, 403, 404]


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        (["ViewBase"], [200, 403, 403, 403, 403, 403, 404]),
        (["ViewBase", "ManageEndpoint"], [200, 200, 403, 403, 403, 403, 404]),
        (["ViewBase", "ViewEndpointSecret"], [200, 403, 200, 403, 403, 403, 404]),
        (["ViewBase", "ManageEndpointSecret"], [200, 403, 403, 200, 403, 403, 404]),
        (["ViewBase", "CreateAttempts"], [200, 403, 403, 403, 202, 403, 404]),
        ([], [403, 403, 403, 403, 403, 403, 404]),
    ],
)
async def test_capabilities(server: Server, app: str, capabilities: list[str], expected: list[int]) -> None:
    assert await statuses(server, await visitor(server, capabilities=capabilities)) == expected


async def test_feature_flags_open_event_types(server: Server, app: str) -> None:
    await server.call("POST", "/event-type", {"name": "beta", "description": "", "featureFlags": ["early"]})
    for flags, seen in ((["early"], 200), (["late"], 404), (None, 404)):
        token = await visitor(server, **({} if flags is None else {"featureFlags": flags}))
        assert (await server.call("GET", "/event-type/beta", token=token)).status == seen


async def test_logout_ends_the_token_that_is_used(server: Server, app: str) -> None:
    for given in ({}, {"readOnly": True}, {"capabilities": ["ViewBase"]}):
        first, second = await visitor(server, **given), await visitor(server, **given)
        assert (await server.call("POST", "/auth/logout", token=first)).status == 204
        assert (await server.call("GET", "/app/acme", token=first)).status == 401
        assert (await server.call("GET", "/app/acme", token=second)).status == 200
    assert (await server.call("POST", "/auth/logout", token=ADMIN)).status == 403


async def test_all_sessions_or_some_are_ended(server: Server, app: str) -> None:
    named, other, nameless = (
        await visitor(server, sessionId="a"),
        await visitor(server, sessionId="b"),
        await visitor(server),
    )

    async def alive() -> list[bool]:
        answers = [await server.call("GET", "/app/acme", token=token) for token in (named, other, nameless)]
        return [answer.status == 200 for answer in answers]

    assert (await server.call("POST", "/auth/app/acme/expire-all", {"sessionIds": ["a"]})).status == 204
    assert await alive() == [False, True, True]
    assert (await server.call("POST", "/auth/app/acme/expire-all", {"expiry": 3600})).status == 204
    assert await alive() == [False, True, True]
    assert (await server.call("POST", "/auth/app/acme/expire-all", {})).status == 204
    assert await alive() == [False, False, False]
    assert (await server.call("GET", "/app/acme")).status == 200


async def test_a_visit_ends_and_is_forgotten(server: Server, app: str) -> None:
    token = await visitor(server, expiry=3600)
    assert await server.store.list_tokens() == []
    later = server.node.clock.now() + HOUR + 1
    assert await server.store.prune(later, 0, 100) == 1
    server.api.auth.forget()
    assert (await server.call("GET", "/app/acme", token=token)).status == 401


async def test_the_application_can_be_made_on_the_way(server: Server) -> None:
    path = "/auth/app-portal-access/new"
    assert (await server.call("POST", path, {})).status == 404
    for application, kind in (({"name": "n"}, "missing"), ({"name": "n", "uid": "x"}, "mismatch")):
        answer = await server.call("POST", path, {"application": application})
        assert answer.status == 422
        (problem,) = answer.json["detail"]
        assert (problem["type"], problem["loc"]) == (f"application_uid_{kind}", ["body", "application", "uid"])
    for _ in range(2):
        assert (await server.call("POST", path, {"application": {"name": "n", "uid": "new"}})).status == 200
    assert (await server.call("GET", "/app/new")).json["name"] == "n"


@pytest.mark.parametrize(
    "given",
    [{"expiry": 3599}, {"expiry": 604_801}, {"sessionId": "a b"}, {"capabilities": ["Fly"]}, {"featureFlags": []}],
)
async def test_what_is_not_acceptable_is_refused(server: Server, app: str, given: dict[str, Any]) -> None:
    assert (await server.call("POST", "/auth/app-portal-access/acme", given)).status == 422


async def test_another_request_with_the_same_key_gets_another_token(server: Server, app: str) -> None:
    answers = [
        await server.call("POST", "/auth/app-portal-access/acme", {}, headers={"idempotency-key": "k"})
        for _ in range(2)
    ]
    assert answers[0].json["token"] != answers[1].json["token"]
