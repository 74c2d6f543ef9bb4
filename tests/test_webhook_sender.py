"""The sender of kind `webhook`: what a receiver gets, verified by a library that we did not write."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from standardwebhooks import Webhook

from tenterhook.clock import SECOND
from tenterhook.model import Endpoint, Message, Outcome, Reason, Result, Secret
from tenterhook.senders.webhook import LONGEST_CONTENT_TYPE, WebhookSender, message_lines, user_agent
from tenterhook.transformations.runner import Runner
from tests.receiver import DEADLINE, OK, Receiver, answering, both_loops, client

TRANSFORM = Runner(1 << 20)
FIRST = "whsec_" + "QUJD" * 8
SECOND_KEY = "whsec_" + "WFla" * 8
PAYLOAD = '{"type": "invoice.paid",  "data": {"name": "Zoë"}}'.encode()
MESSAGE = Message(
    id="msg_2x4NKaJpJTkHe0Nu0XbF2hvZ5Yq", app="app_1", event_type="invoice.paid", payload=PAYLOAD, created_at=0
)


def now() -> int:
    """The real time, as the verifying library reads it too."""
    return time.time_ns() // 1_000


def endpoint(receiver: Receiver, *secrets: Secret, headers: tuple[tuple[str, str], ...] = ()) -> Endpoint:
    url = receiver.url("/in")
    return Endpoint(id="ep_1", app="app_1", url=url, secrets=secrets, headers=headers, created_at=0, updated_at=0)


async def send(sender: WebhookSender, to: Endpoint, message: Message = MESSAGE, at: int | None = None) -> Outcome:
    return await sender.send(message, to, deadline=DEADLINE, now=at or now())


def headers_of(head: bytes) -> dict[str, str]:
    lines = head.decode().split("\r\n")[1:-2]
    return dict(line.split(": ", 1) for line in lines)


@both_loops
async def test_credentials_are_sent_and_not_recorded() -> None:
    secret = (("AUTHORIZATION", "Bearer sesame"), ("x-api-key", "open"), ("X-Plain", "seen"))
    async with answering(OK) as receiver, client() as made:
        outcome = await send(WebhookSender(made, TRANSFORM), endpoint(receiver, Secret(FIRST), headers=secret))
        [(head, _)] = receiver.requests
    assert b"AUTHORIZATION: Bearer sesame\r\nx-api-key: open\r\nX-Plain: seen\r\n" in head
    assert b"AUTHORIZATION: ***\r\nx-api-key: ***\r\nX-Plain: seen\r\n" in outcome.request_head
    assert outcome.request_head.count(b"\r\n") == head.count(b"\r\n")


@both_loops
async def test_what_a_receiver_gets() -> None:
    async with answering(OK) as receiver, client() as made:
        outcome = await send(
            WebhookSender(made, TRANSFORM), endpoint(receiver, Secret(FIRST), headers=(("X-Key", "k"),))
        )
        [(head, body)] = receiver.requests
    assert outcome.result is Result.OK
    assert body == PAYLOAD
    names = [line.split(":")[0] for line in head.decode().split("\r\n")[1:-2]]
    assert names == [
        "host", "accept-encoding", "user-agent", "X-Key", "content-type", "tenterhook-event-type",
        "webhook-id", "webhook-timestamp", "webhook-signature", "content-length",
    ]  # fmt: skip
    headers = headers_of(head)
    assert headers["user-agent"] == user_agent()
    assert user_agent().startswith("Tenterhook/")
    assert headers["content-type"] == "application/json"
    assert headers["tenterhook-event-type"] == "invoice.paid"
    assert headers["webhook-id"] == MESSAGE.id
    Webhook(FIRST).verify(body, headers)


@both_loops
async def test_each_attempt_is_signed_anew_and_all_living_secrets_sign() -> None:
    start = now()
    old = Secret(SECOND_KEY, expires_at=start + 2 * SECOND)
    async with answering(OK) as receiver, client() as made:
        sender = WebhookSender(made, TRANSFORM)
        rotating = endpoint(receiver, Secret(FIRST), old)
        for at in (start, start + SECOND, start + 2 * SECOND):
            await send(sender, rotating, at=at)
        heads = [headers_of(head) for head, _ in receiver.requests]
    assert [len(head["webhook-signature"].split(" ")) for head in heads] == [2, 2, 1]
    assert [int(head["webhook-timestamp"]) for head in heads] == [start // SECOND + later for later in range(3)]
    assert len({head["webhook-signature"] for head in heads}) == 3
    for key in (FIRST, SECOND_KEY):
        Webhook(key).verify(PAYLOAD, heads[0])
    Webhook(FIRST).verify(PAYLOAD, heads[2])


@both_loops
async def test_changes_of_the_endpoint_take_effect_at_once() -> None:
    async with answering(OK) as receiver, client() as made:
        sender = WebhookSender(made, TRANSFORM)
        before = endpoint(receiver, Secret(FIRST))
        await send(sender, before)
        await send(sender, replace(before, secrets=(Secret(SECOND_KEY),)))
        await send(sender, replace(before, headers=(("X-New", "1"),)))
        await send(sender, replace(before, url=receiver.url("/other")))
        first, keyed, headed, moved = [head for head, _ in receiver.requests]
    Webhook(FIRST).verify(PAYLOAD, headers_of(first))
    Webhook(SECOND_KEY).verify(PAYLOAD, headers_of(keyed))
    assert headers_of(headed)["X-New"] == "1"
    assert moved.startswith(b"POST /other ")
    assert receiver.connections == 1


@both_loops
async def test_the_cache_is_bounded_and_forgets_nothing_that_matters() -> None:
    async with answering(OK) as receiver, client() as made:
        sender = WebhookSender(made, TRANSFORM, most_prepared=2)
        plain = endpoint(receiver, Secret(FIRST))
        for number in (1, 2, 3, 1, 2, 3, 3, 1):
            to = replace(plain, id=f"ep_{number}", url=receiver.url(f"/{number}"))
            assert (await send(sender, to)).result is Result.OK
        paths = [head.split(b" ")[1] for head, _ in receiver.requests]
    assert paths == [b"/1", b"/2", b"/3", b"/1", b"/2", b"/3", b"/3", b"/1"]


@both_loops
async def test_nothing_is_sent_unsigned() -> None:
    async with answering(OK) as receiver, client() as made:
        sender = WebhookSender(made, TRANSFORM)
        for secrets in ((), (Secret(FIRST, expires_at=1),), (Secret("whsec_short"),)):
            outcome = await send(sender, endpoint(receiver, *secrets))
            assert (outcome.result, outcome.reason) == (Result.RETRY, Reason.INVALID_MESSAGE)
            assert outcome.detail
    assert receiver.connections == 0


@both_loops
async def test_a_url_that_is_refused_is_an_outcome() -> None:
    async with answering(OK) as receiver, client() as made:
        bad = replace(endpoint(receiver, Secret(FIRST)), url="http://user@127.0.0.1/")
        outcome = await send(WebhookSender(made, TRANSFORM), bad)
    assert (outcome.result, outcome.reason) == (Result.RETRY, Reason.REFUSED_ADDRESS)


@pytest.mark.parametrize(
    ("content_type", "event_type", "lines"),
    [
        (
            "text/plain; charset=utf-8",
            "a.b",
            b"content-type: text/plain; charset=utf-8\r\ntenterhook-event-type: a.b\r\n",
        ),
        ("", "a", b"content-type: application/octet-stream\r\ntenterhook-event-type: a\r\n"),
        ("a\r\nx: y", "a", b"content-type: application/octet-stream\r\ntenterhook-event-type: a\r\n"),
        ("a/b", "a\r\nx: y", b"content-type: a/b\r\ntenterhook-event-type: a%0D%0Ax:%20y\r\n"),
        ("a/b", "größe", b"content-type: a/b\r\ntenterhook-event-type: gr%C3%B6%C3%9Fe\r\n"),
    ],
)
def test_lines_about_the_message(content_type: str, event_type: str, lines: bytes) -> None:
    assert message_lines(content_type, event_type) == lines


@given(st.text(), st.text())
def test_no_message_makes_a_third_line(content_type: str, event_type: str) -> None:
    assert message_lines(content_type, event_type).count(b"\r\n") == 2
    assert message_lines(content_type, event_type).count(b"\n") == 2


@both_loops
async def test_a_content_type_of_any_length_is_bounded() -> None:
    async with answering(OK) as receiver, client() as made:
        sender = WebhookSender(made, TRANSFORM)
        message_lines.cache_clear()
        for size in (LONGEST_CONTENT_TYPE - 2, LONGEST_CONTENT_TYPE - 1, 60_000):
            await send(sender, endpoint(receiver, Secret(FIRST)), replace(MESSAGE, content_type="a/" + "b" * size))
        shown = [headers_of(head)["content-type"] for head, _ in receiver.requests]
    assert shown == ["a/" + "b" * (LONGEST_CONTENT_TYPE - 2), "application/octet-stream", "application/octet-stream"]
    assert message_lines.cache_info().currsize == 2


@both_loops
async def test_close_leaves_the_client_to_its_owner() -> None:
    async with answering(OK) as receiver, client() as made:
        sender = WebhookSender(made, TRANSFORM)
        await send(sender, endpoint(receiver, Secret(FIRST)))
        await sender.close()
        assert (await send(sender, endpoint(receiver, Secret(FIRST)))).result is Result.OK
    assert receiver.connections == 1
