"""One HTTP/1.1 connection to a receiver: writes a request, reads the answer within limits, is reused or closed.

The other side is a stranger. Whatever it sends ends in an `Answer`; nothing is raised, and no more is kept than the
limits say.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from msgspec import Struct

from tenterhook.clock import SECOND
from tenterhook.model import Reason
from tenterhook.senders.limits import Limits
from tenterhook.urls import Address


class Answer(Struct, frozen=True, gc=False):
    """What came back. `failure` None: the whole answer, or as much of its body as is read (`cut`).

    `status` and `head` are those of the final answer as far as it came; `silent` means that not a byte came.
    `first_byte` and `ended` are readings of the client's ticks (ns).
    """

    status: int
    head: bytes
    body: bytes
    cut: bool
    silent: bool
    first_byte: int
    ended: int
    failure: Reason | None = None
    detail: str = ""


_HEAD_END = b"\r\n\r\n"
_START = b"HTTP/1."
_ONE_WRITE = 64 * 1024
"""Up to here, copying a body behind its head costs less than a second system call."""

_KEEP_ALIVE = re.compile(rb"\r\nkeep-alive:[^\r]*?timeout=\"?([0-9]{1,9})", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length:", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked[ \t]*\r", re.IGNORECASE)

NO_ANSWER = "The receiver did not answer in time."
HALF_ANSWER = "The receiver's answer was not complete in time."
CLOSED_SILENT = "The receiver closed the connection without an answer."
CLOSED_HALF = "The receiver closed the connection before its answer was complete."
NOT_HTTP = "The answer is not HTTP/1.1."
SWITCHED = "The receiver switched protocols."


Line = dict["Connection", float]
"""Connections at work, in the order of their deadlines (the loop's time, s)."""


class Keeper(Protocol):
    """Who a connection belongs to: the pool."""

    loop: asyncio.AbstractEventLoop
    watch: Callable[["Connection", int], Line]
    """Call `expire()` in so many µs, unless the connection is taken out of the line before."""

    def put(self, connection: "Connection") -> None:
        """It may serve another request."""

    def opened(self, connection: "Connection") -> None: ...

    def lost(self, connection: "Connection") -> None: ...


class _Broken(Exception):
    """The answer breaks HTTP or a limit; the text is for people."""


class Connection(asyncio.Protocol):
    """One exchange at a time; `closed` once it can serve no other.

    `key` names the target that it was opened for, `judged` the addresses that were judged for it. Its times are those
    of the event loop (s).
    """

    __slots__ = (
        "_body",
        "_broken",
        "_complete",
        "_cut",
        "_early",
        "_extra",
        "_first_byte",
        "_head",
        "_interim",
        "_keep",
        "_limits",
        "_line",
        "_part",
        "_pool",
        "_status",
        "_ticks",
        "_transport",
        "_waiter",
        "_wire",
        "closed",
        "idle_limit",
        "idle_since",
        "judged",
        "key",
        "opened_at",
        "parser",
    )

    def __init__(
        self, key: str, judged: tuple[Address, ...], pool: Keeper, limits: Limits, ticks: Callable[[], int]
    ) -> None:
        self.key, self.judged = key, judged
        self._pool, self._limits, self._ticks = pool, limits, ticks
        self.closed = False
        self._early: bytes | None = b""
        self.opened_at = self.idle_since = pool.loop.time()
        self.idle_limit = limits.idle / SECOND
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Answer] | None = None
        self._line: Line = {}
        self.parser: HttpResponseParser | None = HttpResponseParser(self)
        self._reset()

    def _reset(self) -> None:
        self._head = b""
        self._body: bytes | bytearray = b""
        self._part = bytearray()
        self._broken = ""
        self._status = self._interim = self._wire = self._first_byte = 0
        self._complete = self._cut = self._extra = self._keep = False

    async def exchange(self, head: bytes, body: bytes, deadline: int) -> Answer:
        """Send one request and read its answer, within `deadline` µs; then it is back in the pool, or closed."""
        transport = self._transport
        if self.closed or transport is None:
            return Answer(0, b"", b"", False, True, 0, self._ticks(), Reason.CLOSED, CLOSED_SILENT)
        self._reset()
        waiter: asyncio.Future[Answer] = self._pool.loop.create_future()
        self._waiter = waiter
        self._line = self._pool.watch(self, deadline)
        if len(body) <= _ONE_WRITE:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)
        early, self._early = self._early, None
        if early:
            self.data_received(early)
        try:
            return await waiter
        except asyncio.CancelledError:
            self._waiter = None
            self._line.pop(self, None)
            self.close()
            raise

    def expire(self) -> None:
        """The deadline has come."""
        self._end(Reason.TIMEOUT, HALF_ANSWER if self._first_byte else NO_ANSWER)

    def close(self) -> None:
        """At once: what is not sent yet is dropped, an exchange under way ends as closed."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    # called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no instances of it
        self._pool.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:
            self._keep_early(data)
            return
        if not self._first_byte:
            self._first_byte = self._ticks()
        try:
            if self._head:
                self._feed(data)
            else:
                self._take_head(data)
        except _Broken as broken:
            self._end(Reason.PROTOCOL, str(broken))
            return
        if self._complete or self._cut:
            self._end()

    def eof_received(self) -> None:
        self._ended()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self._transport = None
        self._ended(torn=error is not None)
        self._pool.lost(self)
        self.parser = None  # it refers back to this object

    # called by the parser

    def on_message_begin(self) -> None:
        if self._complete:
            self._extra = True

    def on_headers_complete(self) -> None:
        if not self._complete and self.parser is not None:
            self._status = self.parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        if self._complete:
            return
        room = self._limits.body - len(self._body)
        if len(data) > room:
            self._cut = True
            data = data[:room]
        if not self._body:
            self._body = data
        elif data:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)  # each addition to bytes would copy all that came before
            self._body += data

    def on_message_complete(self) -> None:
        if self._complete:
            self._extra = True
        elif self._status >= 200:
            self._complete = True
            self._keep = self.parser is not None and self.parser.should_keep_alive()
        else:
            self._pass_interim()

    # our own

    def _keep_early(self, data: bytes) -> None:
        """Nothing was asked. Before the first request it may be an answer in a hurry; later it is the end."""
        if self._early is None or len(self._early) > self._limits.head:
            self.close()
        else:
            self._early += data

    def _pass_interim(self) -> None:
        self._interim += 1
        if self._status < 100:
            self._broken = NOT_HTTP
        elif self._status == 101:
            self._broken = SWITCHED
        elif self._interim > self._limits.interim:
            self._broken = f"There were more than {self._limits.interim} interim answers."
            self._status = 0
        else:
            self._head, self._status, self._wire = b"", 0, 0

    def _take_head(self, data: bytes) -> None:
        """Gather a whole head, so that it can be shown as it came; the parser gets it with what follows."""
        while data:
            if self._part:
                seen = max(len(self._part) - 3, 0)
                self._part += data
                end = self._part.find(_HEAD_END, seen) + 4
                if end > 3:
                    data, self._part = bytes(self._part), bytearray()
            else:
                end = data.find(_HEAD_END) + 4
                if end == 3:
                    self._part += data
            if end == 3:
                self._check_start(self._part, len(self._part))
                return
            self._check_start(data, end)
            if data.count(b"\n", 0, end) > self._limits.lines + 1:
                raise _Broken(f"The answer's head has more than {self._limits.lines} lines.")
            self._head = data[:end]
            if data[9:10] != b"1":
                self._feed(data)
                return
            self._feed(data[:end])
            if self._head:
                raise _Broken(NOT_HTTP)
            data = data[end:]

    def _check_start(self, start: bytes | bytearray, size: int) -> None:
        if not start.startswith(_START[: len(start)]):
            raise _Broken(NOT_HTTP)
        if size > self._limits.head:
            raise _Broken(f"The answer's head has more than {self._limits.head} bytes.")

    def _feed(self, data: bytes) -> None:
        assert self.parser is not None
        self._wire += len(data)
        try:
            self.parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if not (self._complete or self._cut):
                raise _Broken(self._broken or f"The answer is not valid HTTP: {error}.") from None
            self._extra = True
        if self._broken:
            raise _Broken(self._broken)
        if self._wire > self._limits.wire and not (self._complete or self._cut):
            raise _Broken("The answer's body comes in too many small pieces.")

    def _ended(self, torn: bool = False) -> None:
        """No more bytes will come. A body without a length of its own is complete now."""
        if self._waiter is None:
            self.closed = True
        elif torn or not self._status or _LENGTH.search(self._head) or _CHUNKED.search(self._head):
            self._end(Reason.CLOSED, CLOSED_HALF if self._first_byte else CLOSED_SILENT)
        else:
            self._end()

    def _end(self, failure: Reason | None = None, detail: str = "") -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is None:
            return
        self._line.pop(self, None)
        if waiter.done():
            self.close()  # cancelled: nobody waits for the answer
            return
        head = self._head or bytes(self._part[: self._limits.head])
        first = self._first_byte
        waiter.set_result(
            Answer(self._status, head, bytes(self._body), self._cut, not first, first, self._ticks(), failure, detail)
        )
        if failure is None and self._reusable():
            self._pool.put(self)
        else:
            self.close()

    def _reusable(self) -> bool:
        if not self._keep or self._cut or self._extra or self.closed or self._transport is None:
            return False
        if b"imeout=" in self._head and (found := _KEEP_ALIVE.search(self._head)):
            self.idle_limit = min(self.idle_limit, int(found[1]) - 1)
        # an answer that came before the request was out leaves a connection in the middle of a request
        return self.idle_limit > 0 and not self._transport.get_write_buffer_size()
