"""A node that cannot reach the database: it stops sending in time, the others go on, and it finds its way back."""

import asyncio
import time

import psutil
from bench.load import until

from tests.faults.nodes import LEASE, PATIENCE, Node, Nodes
from tests.faults.traffic import database, none_pending
from tests.receiver import OK, Peer, answering, receiving, tick
from tests.wire import Wire

COUNT = 60
WORK = 0.2
"""How long the receiver takes for each (s): what a node holds lasts longer than its leases."""

SOON = 20
"""Within how many seconds a node says that it cannot accept: it gives up after ten at most."""

CUT_OFF = {"eventType": "invoice.paid", "payload": {"cut": "off"}}
BACK = {"eventType": "invoice.paid", "payload": {"back": True}}


def ports(node: Node) -> set[int]:
    """The ports of the node's own connections."""
    found = psutil.Process(node.server.process.pid).net_connections("tcp")
    return {connection.laddr.port for connection in found if connection.raddr}


async def test_it_stops_sending_when_its_leases_end(nodes: Nodes, url: str) -> None:
    arrived: list[tuple[float, int, bytes]] = []
    quick = asyncio.Event()

    async def work(peer: Peer) -> None:
        port = peer._writer.get_extra_info("peername")[1]
        while True:
            _, body = await peer.request()
            arrived.append((time.monotonic(), port, body))
            await tick(0 if quick.is_set() else WORK)
            peer.send(OK)

    async with receiving(work) as receiver, Wire(url) as wire, database(url) as db:
        await nodes.start()
        lost = await nodes.node(wire.url).start()
        app, _ = await lost.app({"url": receiver.url(), "concurrency": 1})
        for n in range(COUNT):
            await lost.message(app, payload={"n": n})
        accepted = time.monotonic()
        wire.pause()
        its_own = ports(lost)
        refused = await lost.try_call("POST", f"/app/{app}/msg", CUT_OFF, SOON)
        assert refused.status == 503, refused
        await until(lambda: any(port not in its_own for _, port, _ in arrived), PATIENCE, "another node's attempt")
        quick.set()
        its_last = max(instant for instant, port, _ in arrived if port in its_own)
        # an attempt begins only if its lease outlasts its deadline, a second, by two; it may take a second to arrive
        assert its_last - accepted < LEASE - 2
        await none_pending(db, PATIENCE, app)
        before = len(arrived)
        wire.resume()
        async with asyncio.timeout(PATIENCE):
            while (await lost.try_call("POST", f"/app/{app}/msg", BACK)).status != 202:
                await tick(0.1)
        await none_pending(db, PATIENCE, app)
        # what it refused may have been on its way: it said so
        assert {body for _, _, body in arrived[before:]} - {b'{"cut": "off"}'} == {b'{"back": true}'}
        assert "may have been accepted" in refused.json["detail"]
        assert {body for _, _, body in arrived[:before]} == {b'{"n": %d}' % n for n in range(COUNT)}


async def test_it_can_be_stopped(nodes: Nodes, url: str) -> None:
    async with answering(OK) as receiver, Wire(url) as wire:
        lost = await nodes.node(wire.url, shutdown_timeout="1s").start()
        app, _ = await lost.app({"url": receiver.url()})
        await lost.message(app)
        await until(lambda: len(receiver.requests) == 1, SOON, "the delivery")
        await lost.call("GET", f"/app/{app}/msg")  # over a connection that it keeps
        wire.pause()
        assert await lost.stop(SOON) == 0
