"""Which connections are used again, and which are not."""

import asyncio
import re

import pytest

from tenterhook.clock import SECOND
from tenterhook.model import Reason, Result
from tenterhook.senders.limits import Limits
from tests.api import GRACE
from tests.receiver import DEADLINE, HEAD, OK, Peer, answering, both_loops, client, post, receiving, tick


@both_loops
async def test_connections_are_reused_last_in_first_out() -> None:
    async with answering(OK) as receiver, client() as made:
        outcomes = [await post(made, receiver) for _ in range(5)]
    assert receiver.connections == 1
    assert outcomes[0].timing.connect is not None
    assert [outcome.timing.connect for outcome in outcomes[1:]] == [None] * 4


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Connection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        HEAD + b"Keep-Alive: timeout=1\r\nContent-Length: 0\r\n\r\n",
        HEAD + b"KEEP-ALIVE: max=3, timeout=0\r\nContent-Length: 0\r\n\r\n",
        OK + OK,
        OK + b"H",
        OK + b"garbage",
    ],
)
@both_loops
async def test_connections_that_are_not_reused(answer: bytes) -> None:
    async with answering(answer) as receiver, client() as made:
        outcomes = [await post(made, receiver) for _ in range(2)]
    assert [outcome.result for outcome in outcomes] == [Result.OK] * 2
    assert outcomes[0].response_body in (b"", b"ok")
    assert receiver.connections == 2


@pytest.mark.parametrize("limits", [Limits(idle=0), Limits(age=0), Limits(idle_per_target=0), Limits(idle_in_all=0)])
@both_loops
async def test_limits_of_the_pool(limits: Limits) -> None:
    async with answering(OK) as receiver, client(limits) as made:
        await post(made, receiver)
        await post(made, receiver)
    assert receiver.connections == 2


@both_loops
async def test_at_most_so_many_wait_for_one_target() -> None:
    async with answering(OK) as receiver, client(Limits(idle_per_target=3)) as made:
        await asyncio.gather(*(post(made, receiver) for _ in range(10)))
        assert receiver.connections == 10
        await asyncio.gather(*(post(made, receiver) for _ in range(10)))
    assert receiver.connections == 17


@pytest.mark.parametrize("ending", [b"", b"HTTP/1.1 408 Timeout\r\n\r\n"], ids=["closed", "unsolicited bytes"])
@both_loops
async def test_an_idle_connection_that_ends_is_dropped(ending: bytes) -> None:
    ended = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(OK)
        if peer.number == 1:
            await tick(0.01)
            peer.send(ending)
            if not ending:
                peer.close()
            await peer.gone()
            ended.set()
        else:
            await peer.gone()

    async with receiving(script) as receiver, client() as made:
        await post(made, receiver)
        await ended.wait()
        outcome = await post(made, receiver)
    assert (outcome.result, receiver.connections) == (Result.OK, 2)
    assert outcome.timing.connect is not None


@both_loops
async def test_a_request_on_a_connection_that_is_closed_under_it_is_one_attempt() -> None:
    """A receiver that gives up an idle connection just as we use it may have read the request: it is not repeated."""
    requests = 0

    async def script(peer: Peer) -> None:
        nonlocal requests
        await peer.request()
        requests += 1
        peer.send(OK)
        await peer.request()
        requests += 1
        peer.close()

    async with receiving(script) as receiver, client() as made:
        first, second = [await post(made, receiver) for _ in range(2)]
    assert first.result is Result.OK
    assert (second.result, second.reason, second.status) == (Result.RETRY, Reason.CLOSED, 0)
    assert (receiver.connections, requests) == (1, 2)


@both_loops
async def test_idle_connections_are_closed_without_being_used() -> None:
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(OK)
        await peer.gone()
        gone.set()

    async with receiving(script) as receiver, client(Limits(idle=1)) as made:
        assert (await post(made, receiver)).result is Result.OK
        async with asyncio.timeout(GRACE):
            await gone.wait()


@both_loops
async def test_targets_share_no_connection() -> None:
    async with answering(OK) as receiver, client() as made:
        for host in ("a.example", "b.example", "127.0.0.1", "a.example"):
            outcome = await made.post(receiver.url(host=host), (), b"", deadline=DEADLINE)
            assert outcome.result is Result.OK
        hosts = [re.findall(rb"host: ([^:]*)", head)[0] for head, _ in receiver.requests]
    assert receiver.connections == 3
    assert hosts == [b"a.example", b"b.example", b"127.0.0.1", b"a.example"]


@both_loops
async def test_deadlines_of_the_same_span_end_one_by_one() -> None:
    first_ended = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number == 2:
            await first_ended.wait()
            peer.send(OK)
        await peer.gone()

    async with receiving(script) as receiver, client() as made:
        first = asyncio.ensure_future(post(made, receiver, deadline=SECOND))
        first.add_done_callback(lambda _: first_ended.set())
        await tick(0.6)
        second = await post(made, receiver, deadline=SECOND)
        assert (await first).reason is Reason.TIMEOUT
    assert second.result is Result.OK


@both_loops
async def test_close_ends_what_is_under_way() -> None:
    begun = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        begun.set()
        await peer.gone()

    async with receiving(script) as receiver, client() as made:
        task = asyncio.ensure_future(post(made, receiver))
        await begun.wait()
        await made.close()
        assert (await task).reason is Reason.CLOSED
        assert (await post(made, receiver)).reason is Reason.CLOSED


@both_loops
async def test_a_cancelled_request_closes_its_connection() -> None:
    begun, left = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        begun.set()
        await peer.gone()
        left.set()

    async with receiving(script) as receiver, client() as made:
        task = asyncio.ensure_future(post(made, receiver))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(GRACE):
            await left.wait()
