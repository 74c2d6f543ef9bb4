"""A proxy between a client and PostgreSQL that counts round trips and breaks the connection at a chosen message.

It reads the messages of both sides (PostgreSQL documentation, "Frontend/Backend Protocol", "Message Formats") and changes
none. To be able to read them it refuses encryption on its own.
"""

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from bench.postgres import free_port

OPENINGS = {80877102: "cancel", 80877103: "encrypt", 80877104: "encrypt"}
"""The first message of a connection has no letter but a code; any other is the version that a startup asks for."""

COMPLETE = {"startup", "Q", "S", "F"}
"""Startup, Query, Sync and FunctionCall: the server answers each with one ReadyForQuery."""

ROUND_TRIPS = COMPLETE | {"H"}
"""Those, and Flush: it asks for the answers so far. asyncpg prepares statements with it."""

READY = "Z"


@dataclass(frozen=True, slots=True)
class Message:
    """`kind` is the protocol's letter, or a name for the first message of a client."""

    kind: str
    raw: bytes


class Messages:
    """Cuts the bytes of one direction into messages, however they arrive."""

    def __init__(self, *, opening: bool) -> None:
        self._opening = opening  # what comes next has no letter
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that are complete with these bytes; take all of them before you feed more."""
        self._rest += data
        start = 0
        while message := self._next(start):
            start += len(message.raw)
            yield message
        del self._rest[:start]

    def _next(self, start: int) -> Message | None:
        head = 0 if self._opening else 1
        if len(self._rest) < start + head + 4:
            return None
        (length,) = struct.unpack_from("!i", self._rest, start + head)
        raw = bytes(self._rest[start : start + head + length])
        if len(raw) < head + length:
            return None
        if not self._opening:
            return Message(chr(raw[0]), raw)
        kind = OPENINGS.get(struct.unpack_from("!i", raw, 4)[0], "startup")
        self._opening = kind == "encrypt"  # refused, so that another opening follows
        return Message(kind, raw)


@dataclass(eq=False)
class Trap:
    """Waits for a message of this kind with this text in it to pass for the n-th time, and does something about it."""

    kind: str
    text: bytes
    nth: int
    deed: Literal["tell", "tell after", "cut before", "cut after"]
    struck: asyncio.Event = field(default_factory=asyncio.Event)

    def springs(self, message: Message) -> bool:
        """Whether this message is the one."""
        if (not self.kind or message.kind == self.kind) and self.text in message.raw:
            self.nth -= 1
            return self.nth == 0
        return False


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection as a crash does: what is on its way is lost, the other side gets a reset."""
    if not writer.transport.is_closing():
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Connection:
    """One client's, with its own to the server."""

    def __init__(self, wire: "Wire", client: Stream, server: Stream) -> None:
        self._wire = wire
        self._from_client, self._to_client = client
        self._from_server, self._to_server = server
        self._asked = self._answered = 0
        self._traps: list[Trap] = []
        self._unanswered = 0
        self._awaited: list[tuple[int, Trap]] = []

    def cut(self) -> None:
        """Reset both sides."""
        reset(self._to_client)
        reset(self._to_server)

    async def run(self) -> None:
        """Forward until one side ends."""
        both = [asyncio.create_task(self._requests()), asyncio.create_task(self._answers())]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for task in both:
            task.cancel()
            with suppress(ConnectionError, asyncio.CancelledError):
                await task
        for writer in (self._to_client, self._to_server):
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
        """What arrives until the end; while the wire is paused nothing does, not even the end."""
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                await self._wire.flowing.wait()
                yield data
        await self._wire.flowing.wait()

    async def _requests(self) -> None:
        messages = Messages(opening=True)
        async for data in self._read(self._from_client):
            for message in messages.feed(data):
                self._request(message)
            await self._to_server.drain()

    def _request(self, message: Message) -> None:
        if self._to_server.is_closing():
            return
        if message.kind == "encrypt":
            self._to_client.write(b"N")
            return
        sprung = self._wire.sprung(message)
        if any(trap.deed == "cut before" for trap in sprung):
            self._cut_by(sprung)
            return
        self._to_server.write(message.raw)
        self._wire.seen[message.kind] += 1
        for trap in sprung:
            if trap.deed == "cut after":
                self._traps.append(trap)
                self._unanswered = self._unanswered or self._asked + 1
            elif trap.deed == "tell after":
                self._awaited.append((self._asked + 1, trap))
            else:
                trap.struck.set()
        self._asked += message.kind in COMPLETE

    async def _answers(self) -> None:
        messages = Messages(opening=False)
        async for data in self._read(self._from_server):
            for message in messages.feed(data):
                self._answer(message)
            await self._to_client.drain()

    def _answer(self, message: Message) -> None:
        if not self._traps or self._answered + 1 < self._unanswered:
            self._to_client.write(message.raw)
        self._answered += message.kind == READY
        while self._awaited and self._awaited[0][0] <= self._answered:
            self._awaited.pop(0)[1].struck.set()
        if self._traps and self._answered == self._unanswered:
            self._cut_by(self._traps)

    def _cut_by(self, traps: list[Trap]) -> None:
        self.cut()
        for trap in traps:
            trap.struck.set()


class Wire:
    """The proxy: `async with Wire(url) as wire`, then connect to `wire.url`.

    `seen` counts the messages of clients by kind; clear it to count anew.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._server = parts.hostname or "127.0.0.1", parts.port or 5432
        self._port = free_port()
        who, at, _ = parts.netloc.rpartition("@")
        self.url = parts._replace(netloc=f"{who}{at}127.0.0.1:{self._port}").geturl()
        self.seen: Counter[str] = Counter()
        self.flowing = asyncio.Event()
        self.flowing.set()
        self._traps: list[Trap] = []
        self._connections: set[Connection] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._listener: asyncio.Server | None = None

    @property
    def round_trips(self) -> int:
        """How often clients asked for answers: by connecting (as one), by a simple query, at the end of a pipeline."""
        return sum(self.seen[kind] for kind in ROUND_TRIPS)

    def tell(self, text: bytes = b"", *, kind: str = "", nth: int = 1) -> Trap:
        """Set the trap's `struck` when the message has passed for the n-th time, and do nothing else."""
        return self._set(Trap(kind, text, nth, "tell"))

    def tell_after(self, text: bytes = b"", *, kind: str = "", nth: int = 1) -> Trap:
        """Set the trap's `struck` when the client has been sent the answer to the message, and do nothing else."""
        return self._set(Trap(kind, text, nth, "tell after"))

    def cut_before(self, text: bytes = b"", *, kind: str = "", nth: int = 1) -> Trap:
        """When the message passes for the n-th time, lose it and the connection: the server never sees it."""
        return self._set(Trap(kind, text, nth, "cut before"))

    def cut_after(self, text: bytes = b"", *, kind: str = "", nth: int = 1) -> Trap:
        """Lose the answer to the message, and the connection: the server has done it, the client cannot know."""
        return self._set(Trap(kind, text, nth, "cut after"))

    def cut(self) -> None:
        """Reset all connections."""
        for connection in self._connections:
            connection.cut()

    def pause(self) -> None:
        """Hold back all bytes, as a network that is gone; neither side is told, not even that the other closes."""
        self.flowing.clear()

    def resume(self) -> None:
        """Deliver what was held back, and go on."""
        self.flowing.set()

    def refuse(self) -> None:
        """Refuse new connections; those that are there stay."""
        if self._listener is not None:
            self._listener.close()

    async def accept(self) -> None:
        """Take new connections (again)."""
        self._listener = await asyncio.start_server(self._connected, "127.0.0.1", self._port)

    def sprung(self, message: Message) -> list[Trap]:
        """The traps that this message springs."""
        return [trap for trap in self._traps if trap.springs(message)]

    def _set(self, trap: Trap) -> Trap:
        self._traps.append(trap)
        return trap

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server = await asyncio.open_connection(*self._server)
        except OSError:
            reset(writer)
            return
        connection = Connection(self, (reader, writer), server)
        self._connections.add(connection)
        await connection.run()
        self._connections.remove(connection)

    async def __aenter__(self) -> "Wire":
        await self.accept()
        return self

    async def __aexit__(self, *error: object) -> None:
        self.refuse()
        self.resume()
        self.cut()
        await asyncio.gather(*self._tasks)  # raises what went wrong in the proxy itself
