"""From a row of an outbox to a message, exactly once: what publishing it said, and what becomes of the row."""

import logging
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Protocol

import msgspec
from msgspec import Struct

from tenterhook.clock import DAY, MINUTE, SECOND, Clock
from tenterhook.errors import (
    Conflict,
    IdempotencyInProgress,
    Invalid,
    InvalidPayload,
    NotFound,
    StoreUnavailable,
    TenterhookError,
)
from tenterhook.hub import Draft, Published
from tenterhook.model import Message
from tenterhook.outbox.base import Kept, Row
from tenterhook.outbox.event import Event, event_of
from tenterhook.store.work import Remember

log = logging.getLogger(__name__)

REMEMBERED = 30 * DAY
"""How long an event with an id of its own is told from another with the same id."""
RETRY_FIRST, RETRY_LAST = 5 * SECOND, 10 * MINUTE
SOON = SECOND


class Publish(Protocol):
    """`Hub.publish`."""

    async def __call__(
        self, app: str, draft: Draft, remember: Callable[[Message], Remember] | None = None, /
    ) -> Published: ...


class Fate(Struct, frozen=True):
    """What became of a line: rows that are messages now, and those that stay; `unavailable` if others were not tried."""

    published: list[str]
    kept: list[Kept]
    unavailable: bool = False


class Refused(Exception):
    """The row can never be a message as it is; the text says why."""


class Publisher:
    """Publishes rows through the hub. `max_payload` is in bytes."""

    def __init__(self, publish: Publish, clock: Clock, max_payload: int) -> None:
        self._publish, self._clock, self.max_payload = publish, clock, max_payload

    async def line(self, rows: Sequence[Row]) -> Fate:
        """Publish rows one after the other, up to the first that must be tried again; one that is refused is passed over.

        What is behind it is read again, and held then.
        """
        published: list[str] = []
        kept: list[Kept] = []
        for row in rows:
            try:
                await self._row(row)
            except Refused as refused:
                kept.append(Kept(row.id, row.attempts + 1, None, str(refused)))
            except StoreUnavailable:
                return Fate(published, kept, unavailable=True)
            except IdempotencyInProgress as error:
                return Fate(published, [*kept, Kept(row.id, row.attempts, self._clock.now() + SOON, error.detail)])
            except Exception as error:
                again = self._clock.now() + backoff(row.attempts)
                return Fate(published, [*kept, Kept(row.id, row.attempts + 1, again, _explained(row, error))])
            else:
                published.append(row.id)
        return Fate(published, kept)

    async def _row(self, row: Row) -> None:
        """Make it a message, if it is none yet. Raises Refused, and what Hub.publish raises."""
        try:
            event = event_in(row, self.max_payload)
        except Invalid as wrong:
            raise Refused(wrong.detail) from None
        draft = Draft(
            event_type=event.event_type,
            payload=event.payload.encode(),
            event_id=event.event_id or row.id,
            channels=event.channels,
            tags=event.tags,
            order_key=event.key,
        )
        remember = None if event.event_id is None else memory(event)
        try:
            found = (await self._publish(event.application, draft, remember)).remembered
        except NotFound:
            raise NotFound(f"there is no application {event.application!r}") from None
        except InvalidPayload as wrong:
            raise Refused(f"the payload does not fit the schema of {event.event_type}: {wrong.detail}") from None
        except Invalid as wrong:
            raise Refused(wrong.detail) from None
        except Conflict:
            if event.event_id is None:
                return  # nobody else gives a message the id of a row: it is the message that an earlier try has left
            raise Refused(f"there is another message with the event id {event.event_id!r}") from None
        if found is not None and found.body_hash != fingerprint(event):
            raise Refused(f"another event with the event id {event.event_id!r} has been published")


def _explained(row: Row, error: Exception) -> str:
    if isinstance(error, TenterhookError):
        return error.detail
    log.error("the row %s of an outbox cannot be published", row.id, exc_info=error)
    return "an error of the server: see its log"


def backoff(attempts: int) -> int:
    """How long (µs) a row waits that has failed once more than `attempts` times: 5 s, then twice as long, to 10 min."""
    return min(RETRY_LAST, RETRY_FIRST << min(attempts, 20))


def event_in(row: Row, max_payload: int) -> Event:
    """The event of a row. Raises Invalid."""
    if row.payload is None:
        raise Invalid(f"the payload has {row.size} bytes, and the setting max_payload allows {max_payload}")
    try:
        channels, tags = msgspec.json.decode(row.channels), msgspec.json.decode(row.tags)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise Invalid("channels and tags must be JSON arrays of text") from None
    return event_of(
        row.payload,
        application=row.application,
        event_type=row.event_type,
        key=row.key,
        event_id=row.event_id,
        channels=channels,
        tags=tags,
    )


def fingerprint(event: Event) -> bytes:
    return sha256(msgspec.json.encode(event)).digest()


def memory(event: Event) -> Callable[[Message], Remember]:
    """What the hub keeps with the message of an event that has an id of its own."""
    key = sha256(f"outbox\0{event.application}\0{event.event_id}".encode()).digest()
    return lambda message: Remember(
        key, fingerprint(event), 202, b"", message.created_at + REMEMBERED, message.created_at
    )
