"""The other side of every benchmark, in one process: a publisher of messages and the receiver of their deliveries.

Both are bare asyncio protocols that look at no more bytes than they must, so that what is measured is the server.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: text/plain\r\n\r\nok"


def _length(head: bytes) -> int:
    """The content-length of a head, in whatever letter case."""
    at = head.lower().find(b"\r\ncontent-length:")
    if at < 0:
        return 0
    end = head.find(b"\r\n", at + 2)
    return int(head[at + 17 : end if end > 0 else len(head)])


class Receiver(asyncio.Protocol):
    """Answers every request with 200 and tells `on_request` the head and body."""

    def __init__(self, on_request: Callable[[bytes, bytes], None]) -> None:
        self._on_request = on_request
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            total = end + 4 + _length(self._buffer[:end])
            if len(self._buffer) < total:
                return
            self._on_request(self._buffer[:end], self._buffer[end + 4 : total])
            self._buffer = self._buffer[total:]
            self._transport.write(ANSWER)


class Hanging(asyncio.Protocol):
    """Takes connections and requests, and never answers."""


async def listen(factory: Callable[[], asyncio.BaseProtocol]) -> tuple[asyncio.Server, int]:
    """A server on a free loopback port."""
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0, backlog=1024)
    return server, server.sockets[0].getsockname()[1]


def request(method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    """The bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", "host: bench", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


class _Channel(asyncio.Protocol):
    """One keep-alive connection of a Client: one request at a time."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._buffer = b""
        self.waiting: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        total = end + 4 + _length(self._buffer[:end])
        if len(self._buffer) < total:
            return
        status, body = int(self._buffer[9:12]), self._buffer[end + 4 : total]
        self._buffer = b""
        waiting, self.waiting = self.waiting, None
        self._client.free(self)
        if waiting is not None and not waiting.done():
            waiting.set_result((status, body))

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.lost(self)
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_exception(exc or ConnectionResetError("the server closed the connection"))


class Client:
    """Keep-alive connections to one server. What is lost is not opened again."""

    def __init__(self, port: int, connections: int = 64) -> None:
        self._port, self._count = port, connections
        self._all: set[_Channel] = set()
        self._free: deque[_Channel] = deque()
        self._queue: deque[asyncio.Future[None]] = deque()

    async def open(self) -> "Client":
        """Raises ConnectionError."""
        loop = asyncio.get_running_loop()
        for _ in range(self._count):
            _, channel = await loop.create_connection(lambda: _Channel(self), "127.0.0.1", self._port)
            self._all.add(channel)
            self._free.append(channel)
        return self

    def free(self, channel: _Channel) -> None:
        self._free.append(channel)
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def lost(self, channel: _Channel) -> None:
        self._all.discard(channel)
        if channel in self._free:
            self._free.remove(channel)
        if not self._all:
            for waiter in self._queue:
                if not waiter.done():
                    waiter.set_result(None)

    async def send(self, raw: bytes) -> tuple[int, bytes]:
        """The status and body of the answer. Raises ConnectionError."""
        loop = asyncio.get_running_loop()
        while not self._free:
            if not self._all:
                raise ConnectionResetError("the server has closed all connections")
            waiter = loop.create_future()
            self._queue.append(waiter)
            await waiter
        channel = self._free.pop()
        channel.waiting = loop.create_future()
        channel.transport.write(raw)
        return await channel.waiting

    def close(self) -> None:
        for channel in list(self._all):
            channel.transport.abort()
