"""What sources answer: over the same entry point as the API, without a token of it."""

import hmac
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenterhook import hub
from tenterhook.clock import SECOND, SystemClock
from tests.api import Answer, Server, running

SECRET = "It's a Secret to Everybody"
BODY = b'{"action":"opened", "issue":{"number":42}}'


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path, max_received=4_096, rejection_body=16) as server:
        yield server


@pytest.fixture
async def app(server: Server) -> str:
    return await server.app()


def signed(body: bytes = BODY, event: str = "issues", delivery: str = "d1") -> dict[str, str]:
    digest = hmac.new(SECRET.encode(), body, "sha256").hexdigest()
    return {
        "X-Hub-Signature-256": f"sha256={digest}", "X-GitHub-Event": event, "X-GitHub-Delivery": delivery,
        "Content-Type": "application/json",
    }  # fmt: skip


async def github(server: Server, app: str) -> dict[str, Any]:
    return await server.source(app, name="GitHub", provider="github", secrets=[SECRET])


async def deliver(server: Server, source: dict[str, Any], body: bytes = BODY, **headers: str) -> Answer:
    return await server.post("/" + source["url"], body, token=None, headers=headers)


async def requests(server: Server, source: dict[str, Any], app: str, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await server.get(f"/app/{app}/source/{source['id']}/request{query}")).json["data"]
    return found


async def test_a_signed_webhook_is_on_the_disk_when_it_is_answered(server: Server, app: str) -> None:
    source = await github(server, app)
    await server.endpoint(app, eventTypes=["github.issues.*"])
    answer = await deliver(server, source, **signed())
    assert answer.status == 200 and answer.json["status"] == "accepted"
    assert answer.headers["cache-control"] == "no-store" and answer.headers["x-content-type-options"] == "nosniff"
    message = await server.store.get_message(app, answer.json["id"])
    assert message is not None and message.payload == BODY
    assert (message.event_type, message.source) == ("github.issues.opened", source["id"])
    await server.watch.settled(1)
    assert server.recorder.sent[0][0].id == message.id
    (request,) = await requests(server, source, app)
    assert (request["verdict"], request["msgId"], request["dedupKey"]) == ("accepted", message.id, "d1")


async def test_a_bad_signature_is_refused_and_shown(server: Server, app: str) -> None:
    source = await github(server, app)
    answer = await deliver(server, source, b'{"action":"closed"}', **signed())
    assert answer.status == 401 and answer.json["code"] == "signature_refused"
    assert "signature_mismatch" in answer.json["detail"]
    (request,) = await requests(server, source, app, "?verdict=rejected")
    assert request["reason"].startswith("signature_mismatch: ") and request["msgId"] is None
    whole = (await server.get(f"/app/{app}/source/{source['id']}/request/{request['id']}")).json
    assert whole["body"] == '{"action":"close'  # no more of it is kept
    assert (await server.get(f"/app/{app}/msg")).json["data"] == []
    assert (await deliver(server, source)).status == 401


async def test_a_duplicate_is_shown_and_not_delivered(server: Server, app: str) -> None:
    source = await github(server, app)
    await server.endpoint(app)
    first = await deliver(server, source, **signed())
    again = await deliver(server, source, **signed())
    assert again.status == 200 and again.json == {"status": "duplicate", "id": first.json["id"]}
    assert [one["verdict"] for one in await requests(server, source, app)] == ["duplicate", "accepted"]
    await deliver(server, source, **signed(delivery="d2"))
    await server.watch.settled(2)
    assert len(server.recorder.sent) == 2


async def test_too_large(server: Server, app: str) -> None:
    source = await github(server, app)
    big = b" " * 4_097
    assert (await deliver(server, source, big, **signed(big))).status == 413
    in_pieces = await server.call("POST", "/" + source["url"], chunks=[b" " * 4_096, b" "], token=None)
    assert (in_pieces.status, in_pieces.json["code"]) == (413, "payload_too_large")
    assert (await deliver(server, source, big[:-1], **signed(big[:-1]))).status == 200


async def test_a_caller_that_goes_away_before_the_body_has_said_nothing(server: Server, app: str) -> None:
    source = await server.source(app)
    answer = await server.call("POST", "/" + source["url"], chunks=[], token=None)
    assert answer.status == 400
    assert await requests(server, source, app) == []


@pytest.mark.parametrize("path", ["//in/nobody", "//in/", "//in", "//in/a/b", "//in/%00", "//in/é"])
async def test_an_unknown_token(server: Server, path: str) -> None:
    answer = await server.post(path, b"{}", token=None)
    assert (answer.status, answer.json["code"]) == (404, "not_found")


async def test_a_ping_is_answered_and_shown_but_no_message(server: Server, app: str) -> None:
    source = await github(server, app)
    answer = await deliver(server, source, **signed(event="ping"))
    assert answer.status == 200
    (request,) = await requests(server, source, app)
    assert request["verdict"] == "ping"
    assert (await server.get(f"/app/{app}/msg")).json["data"] == []


async def test_the_challenge_of_slack(server: Server, app: str) -> None:
    source = await server.source(app, name="Slack", provider="slack", secrets=["8f742231b10e8888abcd99yyyzzz85a5"])
    body = b'{"type":"url_verification","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}'
    stamp = str(SystemClock().now() // SECOND)
    digest = hmac.new(b"8f742231b10e8888abcd99yyyzzz85a5", f"v0:{stamp}:".encode() + body, "sha256").hexdigest()
    headers = {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={digest}"}
    answer = await deliver(server, source, body, **headers)
    assert answer.status == 200 and answer.body == b"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"
    assert await requests(server, source, app) == []


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
async def test_any_method_will_do(server: Server, app: str, method: str) -> None:
    source = await server.source(app)
    assert (await server.call(method, "/" + source["url"], b"x", token=None)).status == 200
    assert (await requests(server, source, app))[0]["method"] == method


async def test_a_flood_of_rejections_is_bounded(server: Server, app: str) -> None:
    source, other = await github(server, app), await github(server, app)
    for _ in range(hub.REJECTIONS_PER_MINUTE + 20):
        assert (await deliver(server, source)).status == 401
    kept = await requests(server, source, app, "?limit=250")
    # the minute may have turned meanwhile
    assert hub.REJECTIONS_PER_MINUTE <= len(kept) <= hub.REJECTIONS_PER_MINUTE + 20
    await deliver(server, other)
    assert len(await requests(server, other, app)) == 1
    assert (await deliver(server, source, **signed())).status == 200


TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)


@given(
    body=st.binary(max_size=200) | st.recursive(st.none() | st.text(), st.lists, max_leaves=4).map(msgspec.json.encode),
    method=st.sampled_from(["GET", "POST", "PUT", "BREW"]),
    query=TEXT.filter(lambda text: "#" not in text),
    headers=st.dictionaries(
        st.sampled_from(
            ["x-hub-signature-256", "x-github-event", "content-type", "stripe-signature", "x-slack-signature"]
        ),
        TEXT,
    ),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
async def test_whatever_comes_is_answered(
    server: Server, body: bytes, method: str, query: str, headers: dict[str, str]
) -> None:
    app = await server.app()
    for provider, secrets in (("github", [SECRET]), ("stripe", ["whsec_a"]), ("slack", ["a"]), ("none", [])):
        source = await server.source(app, provider=provider, secrets=secrets)
        answer = await server.call(method, f"/{source['url']}?{query}", body, token=None, headers=headers)
        assert answer.status in (200, 400, 401), answer
        assert isinstance(answer.json, dict) or not answer.body
