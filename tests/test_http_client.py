"""The client against receivers of every kind, over real sockets: what is sent, and that each answer is an outcome."""

import asyncio
import gzip
import time
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenterhook.clock import SECOND
from tenterhook.errors import Invalid
from tenterhook.model import Outcome, Reason, Result
from tenterhook.senders.http import result_of
from tenterhook.senders.limits import Limits
from tests.receiver import (
    DEADLINE,
    HEAD,
    OK,
    SHORT,
    Peer,
    answering,
    both_loops,
    client,
    close_at_once,
    dripping,
    flooding,
    post,
    receiving,
    reset_after_the_request,
    reset_at_once,
    silence,
    tick,
)  # fmt: skip

# what is sent


@both_loops
async def test_request_is_exactly_what_was_asked_for() -> None:
    async with answering(OK) as receiver, client() as made:
        outcome = await made.post(
            receiver.url("/in?a=b%20c"), (("X-Letter-Case", "Kept"), ("x-umlaut", "ü")), b'{"a": 1}', deadline=DEADLINE
        )
        [(head, body)] = receiver.requests
    assert (
        head
        == (
            f"POST /in?a=b%20c HTTP/1.1\r\nhost: 127.0.0.1:{receiver.port}\r\naccept-encoding: identity\r\n"
            "X-Letter-Case: Kept\r\nx-umlaut: ü\r\ncontent-length: 8\r\n\r\n"
        ).encode()
    )
    assert body == b'{"a": 1}'
    assert outcome.request_head == head
    assert outcome.request_body is None
    assert outcome.url == receiver.url("/in?a=b%20c")


@both_loops
async def test_answer_is_kept_as_it_came() -> None:
    head = b"HTTP/1.1 201 Fine, thanks\r\nX-A:  1 \r\nx-a: 2\r\nContent-Length: 3\r\n\r\n"
    async with answering(head + b"\x00\xff!") as receiver, client() as made:
        outcome = await post(made, receiver)
    assert (outcome.result, outcome.reason, outcome.status) == (Result.OK, Reason.STATUS, 201)
    assert outcome.response_head == head
    assert outcome.response_body == b"\x00\xff!"
    assert not outcome.response_cut


@pytest.mark.parametrize(
    "header", [("x", "a\r\nb: c"), ("x", "a\nb"), ("x y", "a"), ("", "a"), ("x", "\x00"), ("x:", "")]
)
@both_loops
async def test_headers_that_would_break_the_head(header: tuple[str, str]) -> None:
    async with client() as made:
        with pytest.raises(Invalid):
            await made.post("http://127.0.0.1:8071/", (header,), b"", deadline=DEADLINE)


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, 3_000_000])
@both_loops
async def test_bodies_of_any_size(size: int) -> None:
    async with answering(OK) as receiver, client() as made:
        outcome = await post(made, receiver, b"x" * size)
        [(_, body)] = receiver.requests
    assert outcome.result is Result.OK
    assert len(body) == size


# what an answer means


@pytest.mark.parametrize(
    ("status", "headers", "result"),
    [
        (200, "", Result.OK),
        (204, "", Result.OK),
        (299, "", Result.OK),
        (302, "Location: http://169.254.169.254/\r\n", Result.RETRY),
        (304, "", Result.RETRY),
        (400, "", Result.RETRY),
        (410, "", Result.GONE),
        (429, "", Result.SLOW_DOWN),
        (500, "Retry-After: 7\r\n", Result.RETRY),
        (502, "Retry-After: 7\r\n", Result.RETRY),
        (503, "", Result.RETRY),
        (503, "retry-after: 7\r\n", Result.SLOW_DOWN),
        (503, "retry-after: soon\r\n", Result.RETRY),
        (504, "", Result.RETRY),
        (999, "", Result.RETRY),
    ],
)
@both_loops
async def test_statuses(status: int, headers: str, result: Result) -> None:
    answer = f"HTTP/1.1 {status} X\r\n{headers}Content-Length: 0\r\n\r\n".encode()
    async with answering(answer) as receiver, client() as made:
        outcome = await post(made, receiver)
    assert (outcome.result, outcome.reason, outcome.status) == (result, Reason.STATUS, status)
    assert outcome.retry_after == (7 * SECOND if ": 7" in headers else None)
    assert receiver.connections == len(receiver.requests) == 1  # nothing was followed


@both_loops
async def test_wait_until_a_date_is_counted_from_the_answer_or_else_from_now() -> None:
    until = "Retry-After: Thu, 01 Jan 2026 00:01:00 GMT\r\nContent-Length: 0\r\n\r\n"
    date = "HTTP/1.1 429 X\r\nDate: Thu, 01 Jan 2026 00:00:30 GMT\r\n" + until
    async with answering(date.encode(), f"HTTP/1.1 429 X\r\n{until}".encode()) as receiver, client() as made:
        first, second = [
            await made.post(receiver.url(), (), b"", deadline=DEADLINE, now=1_767_225_600 * SECOND) for _ in "12"
        ]
    assert (first.retry_after, second.retry_after) == (30 * SECOND, 60 * SECOND)


@given(st.integers(100, 999), st.none() | st.integers(0))
def test_every_status_means_something(status: int, wait: int | None) -> None:
    assert (result_of(status, wait) is Result.OK) == (200 <= status <= 299)


# framing


@pytest.mark.parametrize(
    ("head", "body", "shown"),
    [
        ("HTTP/1.0 200 OK\r\n", b"until the end", b"until the end"),
        ("HTTP/1.1 200 OK\r\n", b"until the end", b"until the end"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n", b"as it is", b"as it is"),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n", b"ok", b"ok"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", b"2;x=y\r\nok\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n", b"ok!"),
        ("HTTP/1.1 200\r\nContent-Length: 2\r\n", b"ok", b"ok"),
    ],
)
@both_loops
async def test_ways_to_frame_a_body(head: str, body: bytes, shown: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(f"{head}\r\n".encode() + body)

    async with receiving(script) as receiver, client() as made:
        outcome = await post(made, receiver)
    assert (outcome.result, outcome.response_body, outcome.response_cut) == (Result.OK, shown, False)


@pytest.mark.parametrize("size", [1, 7, 40])
@both_loops
async def test_answer_in_pieces(size: int) -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 3\r\n\r\n"
    final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = early + final + b"2\r\nok\r\n0\r\n\r\n"

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            for at in range(0, len(answer), size):
                peer.send(answer[at : at + size])
                await tick(0)

    async with receiving(script) as receiver, client() as made:
        for _ in range(3):
            outcome = await post(made, receiver)
            assert (outcome.status, outcome.response_head, outcome.response_body) == (200, final, b"ok")
    assert receiver.connections == 1


@both_loops
async def test_a_long_body_is_cut_and_its_status_counts() -> None:
    async with (
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + b"x" * 20_000) as receiver,
        client() as made,
    ):
        for _ in range(2):
            outcome = await post(made, receiver)
            assert (outcome.result, outcome.response_cut) == (Result.OK, True)
            assert outcome.response_body == b"x" * 16_384
    assert receiver.connections == 2


@both_loops
async def test_a_long_body_in_the_smallest_chunks_takes_no_longer_the_longer_it_is() -> None:
    size = 800_000
    answer = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * size + b"0\r\n\r\n"
    async with answering(answer) as receiver, client(Limits(body=size)) as made:
        outcome = await post(made, receiver)
    assert (outcome.result, outcome.response_body == b"x" * size) == (Result.OK, True)
    assert type(outcome.response_body) is bytes


@both_loops
async def test_interim_answers_leave_the_answer_its_room() -> None:
    interim = b"HTTP/1.1 103 X\r\n" + b"Link: " + b"x" * 30_000 + b"\r\n\r\n"
    async with answering(interim * 10 + OK) as receiver, client() as made:
        outcome = await post(made, receiver)
    assert (outcome.result, outcome.status, outcome.response_body) == (Result.OK, 200, b"ok")


@both_loops
async def test_a_body_at_the_limit_is_whole() -> None:
    limits = Limits(body=10)
    async with (
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789") as receiver,
        client(limits) as made,
    ):
        outcomes = [await post(made, receiver) for _ in range(2)]
    assert [(outcome.response_body, outcome.response_cut) for outcome in outcomes] == [(b"0123456789", False)] * 2
    assert receiver.connections == 1


@both_loops
async def test_a_gzip_bomb_stays_small() -> None:
    bomb = gzip.compress(b"\0" * 10_000_000)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()
    async with answering(head + bomb) as receiver, client() as made:
        outcome = await post(made, receiver)
    assert outcome.result is Result.OK
    assert outcome.response_body == bomb[: 16 * 1024]


# hostile receivers


def after_request(
    answer: bytes, then: Callable[[Peer], Awaitable[None]] = Peer.gone
) -> Callable[[Peer], Awaitable[None]]:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(answer)
        await then(peer)

    return script


async def closing(peer: Peer) -> None:
    peer.close()


async def resetting(peer: Peer) -> None:
    await tick(0.02)  # so that what was sent is read before
    peer.reset()


LONG = HEAD + b"Content-Length: 1000\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

HOSTILE = {
    "never answers": (silence, Reason.TIMEOUT, 0),
    "closes at once": (close_at_once, Reason.CLOSED, 0),
    "resets at once": (reset_at_once, Reason.CLOSED, 0),
    "resets after the request": (reset_after_the_request, Reason.CLOSED, 0),
    "closes in the head": (after_request(b"HTTP/1.1 20", closing), Reason.CLOSED, 0),
    "resets in the head": (after_request(b"HTTP/1.1 200 OK\r\nA:", resetting), Reason.CLOSED, 0),
    "closes in the body": (after_request(LONG + b"x", closing), Reason.CLOSED, 200),
    "resets in the body": (after_request(LONG + b"x", resetting), Reason.CLOSED, 200),
    "resets a body until the end": (after_request(HEAD + b"\r\nx", resetting), Reason.CLOSED, 200),
    "closes between chunks": (after_request(CHUNKED + b"1\r\nx\r\n", closing), Reason.CLOSED, 200),
    "stalls in the head": (after_request(b"HTTP/1.1 200 OK\r\nA: b"), Reason.TIMEOUT, 0),
    "stalls in the body": (after_request(LONG + b"x"), Reason.TIMEOUT, 200),
    "drips a head": (after_request(HEAD + b"X: ", dripping(b"x")), Reason.TIMEOUT, 0),
    "drips headers": (after_request(HEAD, dripping(b"A: b\r\n")), Reason.TIMEOUT, 0),
    "drips a body": (after_request(LONG, dripping(b"x")), Reason.TIMEOUT, 200),
    "drips chunks": (after_request(CHUNKED, dripping(b"1\r\nx\r\n")), Reason.TIMEOUT, 200),
    "an endless header": (after_request(HEAD + b"X: ", flooding(b"x" * 4096)), Reason.PROTOCOL, 0),
    "headers without end": (after_request(HEAD, flooding(b"A: b\r\n" * 100)), Reason.PROTOCOL, 0),
    "headers in one bomb": (after_request(HEAD + b"A: b\r\n" * 100 + b"\r\n"), Reason.PROTOCOL, 0),
    "one huge header": (after_request(HEAD + b"A: " + b"b" * 66_000 + b"\r\n\r\n"), Reason.PROTOCOL, 0),
    "an endless chunk extension": (after_request(CHUNKED + b"1;", flooding(b"x" * 4096)), Reason.PROTOCOL, 200),
    "endless trailers": (after_request(CHUNKED + b"0\r\n", flooding(b"A: b\r\n" * 100)), Reason.PROTOCOL, 200),
    "interim answers without end": (flooding(b"HTTP/1.1 100 Continue\r\n\r\n"), Reason.PROTOCOL, 0),
    "eleven interim answers": (after_request(b"HTTP/1.1 102 X\r\n\r\n" * 11 + OK), Reason.PROTOCOL, 0),
    "switches protocols": (after_request(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nx"),
                           Reason.PROTOCOL, 101),
    "switches without saying to what": (after_request(b"HTTP/1.1 101 Switching\r\n\r\n"), Reason.PROTOCOL, 101),
    "speaks SSH": (after_request(b"SSH-2.0-OpenSSH_9.9\r\n"), Reason.PROTOCOL, 0),
    "answers with zeros": (after_request(bytes(100)), Reason.PROTOCOL, 0),
    "HTTP/2": (after_request(b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"), Reason.PROTOCOL, 0),
    "HTTP/0.9": (after_request(b"ok", closing), Reason.PROTOCOL, 0),
    "starts with an empty line": (after_request(b"\r\n\r\n" + OK), Reason.PROTOCOL, 0),
    "status of four digits": (after_request(b"HTTP/1.1 2000 X\r\n\r\n"), Reason.PROTOCOL, 0),
    "status 000": (after_request(b"HTTP/1.1 000 X\r\nContent-Length: 0\r\n\r\n"), Reason.PROTOCOL, 0),
    "two lengths": (after_request(HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nok"), Reason.PROTOCOL, 0),
    "length and chunks": (after_request(HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
                          Reason.PROTOCOL, 0),
    "negative length": (after_request(HEAD + b"Content-Length: -1\r\n\r\n"), Reason.PROTOCOL, 0),
    "length beyond all numbers": (after_request(HEAD + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n"), Reason.PROTOCOL, 0),
    "NUL in a header": (after_request(HEAD + b"A: \0\r\nContent-Length: 0\r\n\r\n"), Reason.PROTOCOL, 0),
    "garbage for chunks": (after_request(CHUNKED + b"zz\r\n"), Reason.PROTOCOL, 200),
    "chunk without its end": (after_request(CHUNKED + b"1\r\nxy\r\n"), Reason.PROTOCOL, 200),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@both_loops
async def test_hostile_receivers_end_as_outcomes(name: str) -> None:
    script, reason, status = HOSTILE[name]
    async with receiving(script) as receiver, client() as made:
        # the status is to have come before the deadline
        deadline = DEADLINE if reason is not Reason.TIMEOUT else SECOND if status else SHORT
        began = time.monotonic()
        outcome = await post(made, receiver, deadline=deadline)
        lasted = time.monotonic() - began
    assert (outcome.result, outcome.reason, outcome.status) == (Result.RETRY, reason, status)
    assert outcome.detail
    assert len(outcome.response_head) <= 64 * 1024
    assert len(outcome.response_body) <= 16 * 1024
    assert lasted < DEADLINE / SECOND / 2
    assert receiver.connections == 1


@pytest.mark.parametrize("then", [flooding(b"x" * 4096), flooding(b"x" * 64)], ids=["fast", "in small pieces"])
@both_loops
async def test_an_endless_body_is_left(then: Callable[[Peer], Awaitable[None]]) -> None:
    left = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(HEAD + b"\r\n")
        try:
            await then(peer)
        finally:
            left.set()

    async with receiving(script) as receiver, client() as made:
        outcome = await post(made, receiver)
        await left.wait()
    assert (outcome.result, outcome.response_cut, len(outcome.response_body)) == (Result.OK, True, 16 * 1024)


@both_loops
async def test_an_answer_of_many_lines_within_the_limit() -> None:
    answer = HEAD + b"A: b\r\n" * 98 + b"Content-Length: 0\r\n\r\n"
    async with answering(b"HTTP/1.1 102 X\r\n\r\n" * 10 + answer) as receiver, client() as made:
        outcome = await post(made, receiver)
    assert (outcome.result, outcome.response_head) == (Result.OK, answer)


@both_loops
async def test_an_answer_before_the_request_is_read() -> None:
    async def script(peer: Peer) -> None:
        await peer.read(10)
        peer.send(b"HTTP/1.1 413 Too large\r\nContent-Length: 0\r\n\r\n")
        await peer.gone()

    async with receiving(script) as receiver, client() as made:
        for _ in range(2):
            outcome = await post(made, receiver, b"x" * 50_000_000)
            assert (outcome.status, outcome.reason) == (413, Reason.STATUS)
    assert receiver.connections == 2  # the first was in the middle of a request


@both_loops
async def test_a_receiver_that_speaks_first() -> None:
    async def script(peer: Peer) -> None:
        peer.send(b"220 mail.example ESMTP\r\n")
        await peer.gone()

    async with receiving(script) as receiver, client() as made:
        outcome = await post(made, receiver)
    assert outcome.reason is Reason.PROTOCOL


@both_loops
async def test_an_answer_that_comes_before_its_request() -> None:
    async def script(peer: Peer) -> None:
        peer.send(HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\nok")
        await peer.gone()

    async with receiving(script) as receiver, client() as made:
        for _ in range(5):
            outcome = await post(made, receiver)
            assert (outcome.result, outcome.response_body) == (Result.OK, b"ok")


@both_loops
async def test_an_answer_in_a_hurry() -> None:
    """Sent and closed before the request: an outcome, and OK only if the request was sent."""

    async def script(peer: Peer) -> None:
        peer.send(OK)
        peer.close()

    async with receiving(script) as receiver, client() as made:
        for _ in range(10):
            outcome = await post(made, receiver)
            assert outcome.reason in (Reason.STATUS, Reason.CLOSED)
            assert (outcome.result is Result.OK) == (outcome.reason is Reason.STATUS)


@given(st.binary(max_size=300), st.booleans(), st.integers(1, 50))
def test_any_bytes_are_an_outcome(noise: bytes, headed: bool, size: int) -> None:
    answer = (HEAD if headed else b"") + noise

    async def scenario() -> Outcome:
        async def script(peer: Peer) -> None:
            await peer.request()
            for at in range(0, len(answer), size):
                peer.send(answer[at : at + size])
                await tick(0)

        async with receiving(script) as receiver, client() as made:
            return await post(made, receiver)

    outcome = asyncio.run(scenario())
    assert outcome.reason in (Reason.STATUS, Reason.PROTOCOL, Reason.CLOSED)
