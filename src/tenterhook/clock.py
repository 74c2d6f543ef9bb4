"""The only place that reads the time. Instants are integer microseconds since 1970 UTC, everywhere."""

import asyncio
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

MILLISECOND = 1_000
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Clock(Protocol):
    """What the engine asks for the time: the system, or a simulation in virtual time."""

    def now(self) -> int:
        """The instant (µs UTC)."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        return time.time_ns() // 1_000  # noqa: TID251 (this is the one reader)


async def until(event: asyncio.Event, timeout: int | None) -> bool:
    """Wait for `event`, at most `timeout` µs (None: for ever); whether it came."""
    if timeout is None:
        return await event.wait()
    if timeout <= 0:
        return event.is_set()
    try:
        async with asyncio.timeout(timeout / SECOND):
            return await event.wait()
    except TimeoutError:
        return False


def to_rfc3339(instant: int) -> str:
    """`1_700_000_000_123_456` → `2023-11-14T22:13:20.123456Z`."""
    seconds, rest = divmod(instant, SECOND)
    return f"{_seconds_text(seconds)}.{rest:06d}Z"


@lru_cache(maxsize=64)
def _seconds_text(seconds: int) -> str:
    """Most instants that are written in a row share their second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def from_rfc3339(text: str) -> int:
    """Any RFC 3339 date-time; one without an offset means UTC (the Python SDK sends those). Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    whole = int(moment.replace(microsecond=0).timestamp())
    return whole * SECOND + moment.microsecond


class RemoteClock:
    """A clock elsewhere, kept by its readings and the machine's steady clock, whatever the machine's own clock says.

    A reading counts for half-way between asking and hearing; the one with the least doubt (half the time that it took)
    holds, until doubt has grown over it: two clocks drift apart by at most some 50 µs per second. One that cannot be true
    beside it holds at once: then a clock was set, or the machine was suspended, for which its steady clock stood still.
    """

    def __init__(self) -> None:
        self._offset: int | None = None
        self._doubt = 0
        self._read_at = 0

    def now(self) -> int:
        if self._offset is None:
            raise RuntimeError("the clock was never read")
        return steady() + self._offset

    def read(self, asked: int, heard: int, instant: int) -> None:
        """Between `asked` and `heard` (`steady`, µs) the clock showed `instant`."""
        doubt = (heard - asked) // 2
        grown = self._doubt + (heard - self._read_at) // _DRIFT
        offset = instant - asked - doubt
        if self._offset is None or doubt <= grown or abs(offset - self._offset) > doubt + grown:
            self._offset, self._doubt, self._read_at = offset, doubt, heard


_DRIFT = 20_000


def steady() -> int:
    """A clock that nobody sets (µs from some instant of this machine's)."""
    return time.monotonic_ns() // 1_000
