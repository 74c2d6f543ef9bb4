"""Receivers on loopback that follow a script: raw bytes over real sockets, paced by events and by nothing else."""

import asyncio
import functools
import inspect
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any

import pytest
import uvloop

from tenterhook.clock import MILLISECOND, SECOND
from tenterhook.model import Outcome
from tenterhook.netguard import Guard, Resolver, Rules
from tenterhook.senders.dial import Dial, dial
from tenterhook.senders.http import HttpClient
from tenterhook.senders.limits import Limits
from tenterhook.urls import Address

DEADLINE = 30 * SECOND
"""Of a request that ends by itself."""

SHORT = 150 * MILLISECOND
"""Of a request that nothing is to come of."""

HEAD = b"HTTP/1.1 200 OK\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LOOPBACK = Rules.parse(allow="127.0.0.0/8")


class Peer:
    """The receiver's side of one connection; `number` counts connections from 1."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self._reader, self._writer, self.number = reader, writer, number

    async def request(self) -> tuple[bytes, bytes]:
        """The next request: its head with the empty line, its body. Raises IncompleteReadError at the end."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: ([0-9]+)\r\n", head)
        assert length is not None, head
        return head, await self._reader.readexactly(int(length[1]))

    async def read(self, size: int) -> bytes:
        return await self._reader.readexactly(size)

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def flood(self, data: bytes) -> None:
        """Write the same bytes until the other side is gone."""
        while True:
            self._writer.write(data)
            await self._writer.drain()

    async def drip(self, data: bytes) -> None:
        """A byte at a time, for ever."""
        while True:
            for at in range(len(data)):
                self._writer.write(data[at : at + 1])
                await tick(0.002)

    async def gone(self) -> None:
        """Until the other side closes or resets."""
        try:
            while await self._reader.read(65_536):
                pass
        except ConnectionError:
            pass

    def close(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        """Close with RST: the system drops what was not sent."""
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


async def tick(seconds: float) -> None:
    """The pace of a slow receiver."""
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, event.set)
    await event.wait()


Script = Callable[[Peer], Awaitable[None]]


async def silence(peer: Peer) -> None:
    await peer.gone()


async def close_at_once(peer: Peer) -> None:
    peer.close()


async def reset_at_once(peer: Peer) -> None:
    peer.reset()


async def reset_after_the_request(peer: Peer) -> None:
    await peer.request()
    peer.reset()


def dripping(data: bytes) -> Callable[[Peer], Awaitable[None]]:
    return lambda peer: peer.drip(data)


def flooding(data: bytes) -> Callable[[Peer], Awaitable[None]]:
    return lambda peer: peer.flood(data)


class Receiver:
    """A listening server; `requests` are those that `answering` read."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.requests: list[tuple[bytes, bytes]] = []

    def url(self, path: str = "/hook", host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"


@asynccontextmanager
async def receiving(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """A receiver that runs `script` for each connection, and closes the connection when the script has ended."""
    receiver = Receiver()
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        receiver.connections += 1
        writers.append(writer)
        try:
            await script(Peer(reader, writer, receiver.connections))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listener = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=tls)
    try:
        receiver.port = listener.sockets[0].getsockname()[1]
        yield receiver
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


@asynccontextmanager
async def answering(*answers: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """A receiver that reads whole requests and gives the answers in turn, the last one for ever, over any connection."""
    given = 0

    async def script(peer: Peer) -> None:
        nonlocal given
        while True:
            receiver.requests.append(await peer.request())
            peer.send(answers[min(given, len(answers) - 1)])
            given += 1

    async with receiving(script, tls) as receiver:
        yield receiver


class Names:
    """A resolver with an answer for each call, the last one for ever; `asked` are the names."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = answers
        self.asked: list[str] = []

    async def resolve(self, host: str) -> list[Address]:
        self.asked.append(host)
        return [ip_address(text) for text in self._answers[min(len(self.asked), len(self._answers)) - 1]]


def guard(resolver: Resolver | None = None, rules: Rules = LOOPBACK) -> Guard:
    """By default a guard that lets loopback pass and leads every name there."""
    return Guard(rules, resolver or Names(["127.0.0.1"]))


@asynccontextmanager
async def client(
    limits: Limits | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    over: Guard | None = None,
    dial: Dial = dial,
) -> AsyncIterator[HttpClient]:
    """A client that is closed at the end."""
    made = HttpClient(over or guard(), limits=limits or Limits(), tls=tls, dial=dial)
    try:
        yield made
    finally:
        await made.close()


async def post(made: HttpClient, receiver: Receiver, body: bytes = b"{}", deadline: int = DEADLINE) -> Outcome:
    return await made.post(receiver.url(), (), body, deadline=deadline)


def both_loops(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an asynchronous test under asyncio's own loop and under uvloop."""
    signature = inspect.signature(test)

    @functools.wraps(test)
    def run(loop_factory: Callable[[], asyncio.AbstractEventLoop], **arguments: Any) -> None:
        async def scenario() -> None:
            await test(**arguments)

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(scenario())

    loop = inspect.Parameter("loop_factory", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]  # what pytest reads
        parameters=[*signature.parameters.values(), loop]
    )
    loops = [asyncio.new_event_loop, uvloop.new_event_loop]
    return pytest.mark.parametrize("loop_factory", loops, ids=["asyncio", "uvloop"])(run)
