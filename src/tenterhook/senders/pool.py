"""Connections that wait for their next request, and the deadlines of those that work."""

import asyncio
from collections.abc import Callable

from tenterhook.clock import SECOND
from tenterhook.senders.connection import Connection, Keeper, Line
from tenterhook.senders.limits import Limits

_SWEEP = 1.0
_SLACK = 0.001
"""uvloop's clock moves in steps of a millisecond (s)."""


class Deadlines:
    """Ends exchanges that last too long; one timer for all that were given the same span, as nearly all are.

    With equal spans the order of beginning is the order of ending: adding and removing is an entry of a dict.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lines: dict[int, Line] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}

    def add(self, connection: Connection, span: int) -> Line:
        """Call `connection.expire()` in `span` µs, unless it is taken out of the line before."""
        line = self._lines.get(span)
        if line is None:
            line = self._lines[span] = {}
            self._timers[span] = self._loop.call_later(max(span, 0) / SECOND, self._due, span)
        line[connection] = self._loop.time() + span / SECOND
        return line

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._lines.clear()

    def _due(self, span: int) -> None:
        line = self._lines[span]
        now = self._loop.time()
        while line:
            connection, end = next(iter(line.items()))
            if end > now + _SLACK:
                self._timers[span] = self._loop.call_later(end - now, self._due, span)
                return
            del line[connection]
            connection.expire()
        del self._lines[span], self._timers[span]


class Pool:
    """The connections of one client: those that wait are taken last in, first out, and closed when their time is over."""

    def __init__(self, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._deadlines = Deadlines(loop)
        self.watch: Callable[[Connection, int], Line] = self._deadlines.add
        self._limits = limits
        self._age = limits.age / SECOND
        self._idle: dict[str, list[Connection]] = {}
        self._idle_count = 0
        self._open: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closing: asyncio.Future[None] | None = None

    def take(self, key: str) -> Connection | None:
        """A connection that was opened for this target and may serve another request."""
        waiting = self._idle.get(key)
        if not waiting:
            return None
        now = self.loop.time()
        while waiting:
            connection = waiting.pop()
            self._idle_count -= 1
            if not self._over(connection, now):
                return connection
            connection.close()
        return None

    def put(self, connection: Connection) -> None:
        """Let it wait for its next request, if there is room."""
        waiting = self._idle.get(connection.key)
        if waiting is None:
            waiting = self._idle[connection.key] = []
        if (
            len(waiting) >= self._limits.idle_per_target
            or self._idle_count >= self._limits.idle_in_all
            or self._closing is not None
        ):
            connection.close()
            return
        connection.idle_since = self.loop.time()
        waiting.append(connection)
        self._idle_count += 1
        if self._sweeper is None:
            self._sweeper = self.loop.call_later(_SWEEP, self._sweep)

    def opened(self, connection: Connection) -> None:
        self._open.add(connection)
        if self._closing is not None:
            connection.close()

    def lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if self._closing is not None and not self._open and not self._closing.done():
            self._closing.set_result(None)

    @property
    def closed(self) -> bool:
        return self._closing is not None

    async def close(self) -> None:
        """Close all connections, those at work too, and see them closed."""
        self._closing = self.loop.create_future()
        for connection in list(self._open):
            connection.close()
        if self._open:
            await self._closing
        self._deadlines.close()
        if self._sweeper is not None:
            self._sweeper.cancel()

    def _over(self, connection: Connection, now: float) -> bool:
        return (
            connection.closed
            or now - connection.idle_since >= connection.idle_limit
            or now - connection.opened_at >= self._age
        )

    def _sweep(self) -> None:
        now = self.loop.time()
        for key, waiting in list(self._idle.items()):
            over = [connection for connection in waiting if self._over(connection, now)]
            if over:
                waiting[:] = [connection for connection in waiting if connection not in over]
                self._idle_count -= len(over)
            for connection in over:
                connection.close()
            if not waiting:
                del self._idle[key]
        self._sweeper = self.loop.call_later(_SWEEP, self._sweep) if self._idle else None


_: type[Keeper] = Pool
