"""A connection to the database is cut in the middle of a commit: whatever became of it, each message is stored once."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from bench.load import until

from tests.faults.nodes import ALERT, QUICK, Node, Nodes
from tests.faults.traffic import database, none_pending
from tests.receiver import OK, Peer, Receiver, answering, receiving
from tests.wire import Trap, Wire

NO = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
DEEDS = ["before", "after"]


@pytest.fixture
async def wire(url: str) -> AsyncIterator[Wire]:
    """Between the node and the database."""
    async with Wire(url) as wire:
        yield wire


@pytest.fixture
async def node(nodes: Nodes, wire: Wire) -> Node:
    return await nodes.node(wire.url, **ALERT).start()


def cut(wire: Wire, deed: str, text: bytes, nth: int = 1) -> Trap:
    """Cut the connection before a batch with this text among its values reaches the database, or after it is committed."""
    return (wire.cut_before if deed == "before" else wire.cut_after)(text, kind="B", nth=nth)


async def publish(node: Node, app: str, mark: str) -> str:
    """Publish until it is accepted; the id."""
    body = {"eventType": "invoice.paid", "eventId": mark, "payload": {"mark": mark}}
    while (answer := await node.try_call("POST", f"/app/{app}/msg", body)).status == 503:
        assert "retry-after" in answer.headers
    if answer.status == 202:
        return str(answer.json["id"])
    assert answer.status == 409, answer  # it was accepted, and nobody knew
    return str((await node.call("GET", f"/app/{app}/msg/{mark}"))["id"])


def seen(receiver: Receiver, mark: str) -> bool:
    """Whether a request with this mark has come."""
    return any(mark.encode() in body for _, body in receiver.requests)


async def test_while_a_message_is_accepted(node: Node, wire: Wire, url: str) -> None:
    async with answering(OK) as receiver, database(url) as db:
        app, _ = await node.app({"url": receiver.url(), "ordered": True})
        for deed in DEEDS:
            trap = cut(wire, deed, deed.encode())
            await publish(node, app, deed)
            assert trap.struck.is_set()
            await until(lambda deed=deed: seen(receiver, deed), QUICK, f"the message that was cut {deed}")
        await none_pending(db, QUICK)
        assert await db.fetchval("SELECT count(*) FROM message") == len(DEEDS)
        assert await db.fetchval("SELECT count(*) FROM attempt") == len(DEEDS) == len(receiver.requests)


async def test_while_a_message_is_accepted_and_the_database_is_gone_then(node: Node, wire: Wire, url: str) -> None:
    """Nobody knows whether it was accepted, and the next one of its line must not wait for its lease."""
    async with answering(OK) as receiver, database(url) as db:
        app, _ = await node.app({"url": receiver.url(), "ordered": True})
        await publish(node, app, "first")
        await none_pending(db, QUICK)
        wire.refuse()
        trap = cut(wire, "after", b"lost")
        body = {"eventType": "invoice.paid", "eventId": "lost", "payload": {"mark": "lost"}}
        answer = await node.try_call("POST", f"/app/{app}/msg", body)
        assert trap.struck.is_set()
        assert answer.status == 503, answer
        assert "may" in answer.json["detail"]
        await wire.accept()
        await publish(node, app, "lost")
        await publish(node, app, "next")
        await until(lambda: seen(receiver, "next"), QUICK, "the next message")
        await none_pending(db, QUICK)
        assert [sum(mark in body for _, body in receiver.requests) for mark in (b"first", b"lost", b"next")] == [1] * 3
        assert await db.fetchval("SELECT count(*) FROM message") == 3


async def test_while_a_result_is_written(node: Node, wire: Wire, url: str) -> None:
    ready = asyncio.Event()

    async def answer_when_ready(peer: Peer) -> None:
        while True:
            receiver.requests.append(await peer.request())
            await ready.wait()
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nresult-%d" % len(receiver.requests))

    async with receiving(answer_when_ready) as receiver, database(url) as db:
        app, _ = await node.app({"url": receiver.url(), "ordered": True})
        for n, deed in enumerate(DEEDS):
            ready.clear()
            trap = cut(wire, deed, b"result-%d" % (2 * n + 1))
            for mark in ("one", "two"):
                await publish(node, app, f"{mark}-{deed}")
            ready.set()
            await until(lambda deed=deed: seen(receiver, f"two-{deed}"), QUICK, "the next of the line")
            assert trap.struck.is_set()
            await none_pending(db, QUICK)
        assert len(receiver.requests) == await db.fetchval("SELECT count(*) FROM attempt") == 2 * len(DEEDS)


async def test_while_a_retry_is_claimed(node: Node, wire: Wire, url: str) -> None:
    ready = asyncio.Event()

    async def fail_when_ready(peer: Peer) -> None:
        while True:
            receiver.requests.append(await peer.request())
            await ready.wait()
            peer.send(NO if len(receiver.requests) % 2 else OK)

    async with receiving(fail_when_ready) as receiver, database(url) as db:
        app, (endpoint,) = await node.app({"url": receiver.url()})
        for n, deed in enumerate(DEEDS):
            ready.clear()
            message = await publish(node, app, deed)
            await until(lambda n=n: len(receiver.requests) > 2 * n, QUICK, "the first attempt")
            # of the batches that name the endpoint the first one writes the result
            trap = cut(wire, deed, endpoint.encode(), nth=2)
            ready.set()
            await until(lambda n=n: len(receiver.requests) > 2 * n + 1, QUICK, "the retry")
            assert trap.struck.is_set()
            await none_pending(db, QUICK)
            assert await db.fetchval("SELECT count(*) FROM attempt WHERE message = $1", message) == 2
