"""The Slack sender against a server of this file: what is sent, what each answer means, what is hidden."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tenterhook.addresses import Rules
from tenterhook.model import Endpoint, Message, Outcome, Reason, Result
from tenterhook.netguard import Guard
from tenterhook.senders.chat import classify, mask_url
from tenterhook.senders.http import HttpClient
from tenterhook.senders.slack import SlackSender
from tests.receiver import DEADLINE

PATH = "/services/T000/B000/s3cr3tPartOfTheAddress01"
NOW = 1_700_000_000_000_000
ISSUE = (files("tenterhook") / "data" / "github" / "issues.opened.payload.json").read_bytes()


class Server:
    """Answers every request with the same bytes and keeps what it was sent."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.requests: list[tuple[bytes, bytes]] = []
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        [length] = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        self.requests.append((head, await reader.readexactly(length)))
        writer.write(self.answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def serving(status: int, body: bytes, *headers: str) -> AsyncIterator[Server]:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Connection: close", *headers]
    server = Server("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    async with listener:
        server.port = listener.sockets[0].getsockname()[1]
        yield server


def endpoint(port: int, headers: tuple[tuple[str, str], ...] = ()) -> Endpoint:
    url = f"http://127.0.0.1:{port}{PATH}"
    return Endpoint(id="ep_1", app="app_1", kind="slack", url=url, headers=headers, created_at=0, updated_at=0)


def message(event_type: str = "github.issues.opened", payload: bytes = ISSUE) -> Message:
    return Message(id="msg_1", app="app_1", event_type=event_type, payload=payload, created_at=NOW)


async def attempt(target: Endpoint, of: Message) -> Outcome:
    client = HttpClient(Guard.of_machine(Rules(allow=(ip_network("127.0.0.0/8"),))))
    sender = SlackSender(client)
    try:
        return await sender.send(of, target, deadline=DEADLINE, now=NOW)
    finally:
        await sender.close()
        await client.close()


async def test_an_issue_is_posted() -> None:
    async with serving(200, b"ok") as server:
        outcome = await attempt(endpoint(server.port, (("X-Extra", "1"),)), message())
    [(head, body)] = server.requests
    assert head.startswith(f"POST {PATH} HTTP/1.1\r\n".encode())
    assert b"application/json" in head
    assert b"x-extra: 1" in head.lower()
    assert json.loads(body)["attachments"][0]["title"] == "#1 Spelling error in the README file"
    assert (outcome.result, outcome.status, outcome.detail) == (Result.OK, 200, "")
    assert outcome.request_body == body


async def test_an_event_that_says_nothing_is_done_without_a_request() -> None:
    async with serving(200, b"ok") as server:
        outcome = await attempt(endpoint(server.port), message("github.push", b'{"commits": [], "forced": false}'))
    assert server.requests == []
    assert outcome.result is Result.OK
    assert outcome.request_body == b""


@pytest.mark.parametrize(("status", "body"), [(200, b"ok"), (404, b"no_service"), (302, b"s3cr3tPartOfTheAddress01")])
async def test_the_secret_is_in_no_part_of_an_outcome(status: int, body: bytes) -> None:
    async with serving(status, body, f"X-Was: {PATH}") as server:
        outcome = await attempt(endpoint(server.port), message())
    assert outcome.url == f"http://127.0.0.1:{server.port}/services/***"
    assert outcome.request_head.startswith(b"POST /services/*** HTTP/1.1\r\n")
    assert "T000/B000" not in repr(outcome)
    assert "s3cr3tPartOfTheAddress01" not in repr(outcome)
    assert b"X-Was: /services/***" in outcome.response_head


async def test_a_secret_that_would_be_cut_in_two_is_not_shown_in_part() -> None:
    async with serving(502, b"x" * 70 + b" cannot POST " + PATH.encode()) as server:
        outcome = await attempt(endpoint(server.port), message())
    assert "T000" not in outcome.detail
    assert outcome.detail.startswith("unexpected answer: 502 xxx")


async def test_a_server_that_is_not_there() -> None:
    async with serving(200, b"ok") as server:
        port = server.port
    outcome = await attempt(endpoint(port), message())
    assert (outcome.result, outcome.reason, outcome.status) == (Result.RETRY, Reason.CONNECT, 0)
    assert outcome.url == f"http://127.0.0.1:{port}/services/***"
    assert outcome.request_body is not None


@pytest.mark.parametrize(
    ("status", "body", "result"),
    [
        (200, b"ok", Result.OK),
        (200, b"<html>welcome</html>", Result.RETRY),
        (204, b"", Result.RETRY),
        (400, b"invalid_payload", Result.DROP),
        (400, b"no_text", Result.DROP),
        (400, b"invalid_blocks", Result.DROP),
        (400, b"too_many_attachments", Result.DROP),
        (400, b"user_not_found", Result.GONE),
        (400, b"something_new", Result.RETRY),
        (403, b"action_prohibited", Result.GONE),
        (403, b"invalid_token", Result.GONE),
        (403, b"<html>proxy</html>", Result.RETRY),
        (404, b"no_service", Result.GONE),
        (404, b"channel_not_found", Result.GONE),
        (404, b"<html>no such page</html>", Result.RETRY),
        (404, b"", Result.RETRY),
        (410, b"channel_is_archived", Result.GONE),
        (413, b"", Result.DROP),
        (429, b"rate_limited", Result.SLOW_DOWN),
        (500, b"rollup_error", Result.RETRY),
        (502, b"", Result.RETRY),
        (503, b"", Result.RETRY),
    ],
)
async def test_what_an_answer_means(status: int, body: bytes, result: Result) -> None:
    async with serving(status, body) as server:
        outcome = await attempt(endpoint(server.port), message())
    assert (outcome.result, outcome.status) == (result, status)
    assert (outcome.detail == "") == (result is Result.OK)


async def test_a_redirect_is_not_followed() -> None:
    async with serving(302, b"", f"Location: {PATH}") as server:
        outcome = await attempt(endpoint(server.port), message())
    assert len(server.requests) == 1
    assert outcome.result is Result.RETRY
    assert "redirect" in outcome.detail


async def test_a_url_that_is_none() -> None:
    target = replace(endpoint(1), url="https://[secretsecret")
    outcome = await attempt(target, message())
    assert outcome.reason is Reason.REFUSED_ADDRESS
    assert outcome.url == "***"
    assert "secretsecret" not in repr(outcome)


async def test_headers_that_cannot_be_sent() -> None:
    outcome = await attempt(endpoint(1, (("bad name", "x"),)), message())
    assert (outcome.result, outcome.reason) == (Result.RETRY, Reason.INVALID_MESSAGE)


async def test_the_wait_that_slack_asks_for_is_kept() -> None:
    async with serving(429, b"rate_limited", "Retry-After: 30") as server:
        outcome = await attempt(endpoint(server.port), message())
    assert outcome.retry_after == 30_000_000


@given(status=st.integers(100, 599), body=st.binary(max_size=300))
def test_only_ok_is_success(status: int, body: bytes) -> None:
    answer = classify("slack", status, body)
    if answer is not None and answer.result is Result.OK:
        assert status == 200
        assert body.strip() == b"ok"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.slack.com/services/T0/B0/x", "https://hooks.slack.com/services/***"),
        ("https://hooks.slack.com/services/T0?a=b#c", "https://hooks.slack.com/services/***"),
        ("https://chat.example:8443/hook", "https://chat.example:8443/***"),
        ("https://user:pass@chat.example/a/b", "https://chat.example/a/***"),
        ("https://chat.example?token=x", "https://chat.example/***"),
        ("not a url", "***"),
        ("https://[", "***"),
    ],
)
def test_masked_urls(url: str, shown: str) -> None:
    assert mask_url(url) == shown


@given(
    secret=st.text("abcXYZ019", min_size=8, max_size=30), form=st.sampled_from(["/a/{}", "/{}", "/a?k={}", "/a/b/{}/c"])
)
def test_no_secret_survives_masking(secret: str, form: str) -> None:
    assert secret not in mask_url("https://hooks.example" + form.format(secret))
