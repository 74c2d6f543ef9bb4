"""The seam between the relay and a database with an outbox: rows, and what is done with them."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from msgspec import Struct

from tenterhook.config import ConfiguredOutbox


class Unavailable(Exception):
    """The table cannot be used right now; the text says why and holds no secret."""


class Row(Struct, frozen=True, kw_only=True):
    """A row as it was read; nothing in it is checked, as any program may have written it.

    `payload` is None where it has more bytes (`size`) than were asked for. `retry_at` is None as long as nothing went
    wrong. `behind` is the `retry_at` of the nearest earlier row of the same application and key that has one.
    """

    id: str
    application: str
    event_type: str
    payload: str | bytes | None
    size: int
    key: str | None
    event_id: str | None
    channels: str
    tags: str
    attempts: int
    retry_at: int | None
    behind: int | None


class Kept(Struct, frozen=True):
    """A row that stays: to be read again at `retry_at` (µs UTC), or not at all (None). `error` is for people."""

    id: str
    attempts: int
    retry_at: int | None
    error: str


class Reading(Struct, frozen=True):
    """How much is read at once: `rows` that are new and as many that are due again, up to `size` bytes of payloads.

    A payload of more than `payload` bytes is not read.
    """

    rows: int
    size: int
    payload: int


class Waiting(Struct, frozen=True):
    """What waits in an outbox: how many `rows`, counted up to COUNTED, and since when (µs UTC) the `oldest` does."""

    rows: int
    oldest: int | None


COUNTED = 10_000
"""A longer outbox is not counted to its end."""


class Table(Protocol):
    """An open outbox. Each verb raises Unavailable; then nothing is known of what it did."""

    async def lead(self) -> bool:
        """Whether this is the one server that relays from the table; asking again is cheap."""

    async def take(self, reading: Reading, now: int) -> list[Row]:
        """Rows whose transaction has committed: those due again by `retry_at`, then new ones, each by position."""

    async def rest(self, poll: int) -> int:
        """Nothing was there: how long (µs) to wait before looking again, unless the table calls first; at most `poll`."""

    async def settle(self, published: Sequence[str], kept: Sequence[Kept]) -> None:
        """Delete the rows with the ids `published`, and write down the others, in one transaction."""

    async def waiting(self) -> Waiting:
        """What waits; rows that can be no message do not count."""


OpenTable = Callable[[ConfiguredOutbox, Callable[[], None]], AbstractAsyncContextManager[Table]]
"""Opens the outbox that is configured; the second argument is called when there may be something new."""
