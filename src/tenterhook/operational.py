"""Operational webhooks: what happens to the platform itself, as messages of an application of the server's own.

A notice is planned here and written by whoever writes the change that it tells of, in the same transaction. Nothing is
planned, and nothing read, where no endpoint wants it. What happens to operational webhooks themselves is not told.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tenterhook.catalog import Entry
from tenterhook.clock import Clock
from tenterhook.engine import notices
from tenterhook.errors import NotFound, StoreUnavailable, TenterhookError
from tenterhook.ids import PREFIXES, IdMaker
from tenterhook.model import OPERATIONAL, Application, Attempt, Delivery, Endpoint, Message, Signal, Task
from tenterhook.observe import Instrument
from tenterhook.store.base import Lapsing, Store
from tenterhook.store.queries import Cursor
from tenterhook.store.work import WRITTEN_WITHIN, Accept

log = logging.getLogger(__name__)

Planned = tuple[Accept, ...]
"""Messages with their deliveries, to be written with the change that they tell of."""


class Notifier:
    """Each verb plans what is to be told of one thing, here nothing; `written` follows when that is on the disk."""

    async def endpoint(self, kind: str, endpoint: Endpoint) -> Planned:
        """An endpoint came, changed, went, or was switched on or off by hand. Raises StoreUnavailable."""
        return ()

    async def attempt(
        self,
        signals: Sequence[Signal],
        endpoint: Endpoint,
        message: Message,
        attempt: Attempt,
        failing_since: int | None,
    ) -> Planned:
        """An attempt meant more than its own result. Raises StoreUnavailable."""
        return ()

    async def lapse(self, lapsing: Lapsing) -> Planned:
        """The lifetime of a delivery is over. Raises StoreUnavailable."""
        return ()

    async def task(self, task: Task) -> Planned:
        """A task has ended. Raises StoreUnavailable."""
        return ()

    def written(self, planned: Planned) -> None:
        """They are on the disk."""


NO_NOTICES = Notifier()
_EXHAUSTED = "message.attempt.exhausted"
_TASK = "background_task.finished"


class Notices(Notifier):
    """Plans for the endpoints of the server's own application.

    `catalog` finds applications, `plan` makes the deliveries of a message, `due` is told which endpoint has something since
    when.
    """

    def __init__(
        self,
        store: Store,
        catalog: Callable[[str], Awaitable[Entry]],
        plan: Callable[[Message, Sequence[Endpoint], int], tuple[Delivery, ...]],
        due: Callable[[str, int], None],
        clock: Clock,
        ids: IdMaker,
        instrument: Instrument,
    ) -> None:
        self._store, self._catalog, self._plan, self._due = store, catalog, plan, due
        self._clock, self._ids, self._instrument = clock, ids, instrument

    async def endpoint(self, kind: str, endpoint: Endpoint) -> Planned:
        own, app = await self._listening(kind, endpoint.app)
        if own is None or app is None:
            return ()
        data = notices.of_endpoint(app, endpoint)
        if kind == "endpoint.disabled":
            data = notices.of_disabling(app, endpoint, None, "manual")
        return self._notice(own, kind, app, data)

    async def attempt(
        self,
        signals: Sequence[Signal],
        endpoint: Endpoint,
        message: Message,
        attempt: Attempt,
        failing_since: int | None,
    ) -> Planned:
        planned: list[Accept] = []
        for signal in signals:
            own, app = await self._listening(signal.kind, endpoint.app)
            if own is None or app is None:
                continue
            last = (attempt.id, attempt.outcome.status, attempt.started_at)
            data = notices.of_attempt(app, (message.id, message.event_id), (endpoint.id, endpoint.uid), last)
            if signal.message is None:
                data = notices.of_disabling(app, endpoint, failing_since, "automatic")
            planned += self._notice(own, signal.kind, app, data)
        return tuple(planned)

    async def lapse(self, lapsing: Lapsing) -> Planned:
        delivery, last = lapsing.delivery, lapsing.attempt
        own, app = await self._listening(_EXHAUSTED, delivery.app)
        if own is None or app is None:
            return ()
        if last is None and delivery.attempts:
            last = await self._last(delivery)
        data = notices.of_attempt(
            app, (delivery.message, lapsing.event_id), (delivery.endpoint, lapsing.endpoint_uid),
            last or ("", 0, self._clock.now()),
        )  # fmt: skip
        return self._notice(own, _EXHAUSTED, app, data)

    async def _last(self, delivery: Delivery) -> tuple[str, int, int] | None:
        newest = Cursor(limit=1, descending=True)
        found = await self._store.list_attempts(
            delivery.app, newest, message=delivery.message, endpoint=delivery.endpoint
        )
        return (found[0].id, found[0].outcome.status, found[0].started_at) if found else None

    async def task(self, task: Task) -> Planned:
        if task.app is not None:
            own, app = await self._listening(_TASK, task.app)
        else:
            own, app = await self._own(), None
        return () if own is None else self._notice(own, _TASK, app, notices.of_task(task))

    def written(self, planned: Planned) -> None:
        for one in planned:
            if one.message is not None:
                self._instrument.message_accepted(one.message, len(one.deliveries))
            for delivery in one.deliveries:
                self._due(delivery.endpoint, delivery.created_at)

    async def _listening(self, kind: str, app: str) -> tuple[Entry | None, Application | None]:
        """The server's own application, and the one of which it is told; None where nobody wants to hear of it."""
        own = await self._own()
        if own is None or app == OPERATIONAL or not own.listens(kind):
            return None, None
        try:
            return own, (await self._catalog(app)).application
        except NotFound:  # deleted meanwhile
            return None, None
        except StoreUnavailable:
            raise
        except TenterhookError:  # an endpoint of it cannot be read, and need not be
            found = await self._store.get_application(app)
            return (None, None) if found is None else (own, found)

    async def _own(self) -> Entry | None:
        """The server's own application; None if its endpoints cannot be read: nothing else must fail for that."""
        try:
            return await self._catalog(OPERATIONAL)
        except StoreUnavailable:
            raise
        except TenterhookError as error:
            log.error("operational webhooks are not sent: %s", error)
            return None

    def _notice(self, own: Entry, kind: str, app: Application | None, data: dict[str, Any]) -> Planned:
        """Its channels are the names of the application that it is about."""
        now = self._clock.now()
        channels = () if app is None else (app.id,) if app.uid is None else (app.id, app.uid)
        endpoints = own.router.match(kind, channels)
        if not endpoints:
            return ()
        message = Message(
            id=self._ids.new(PREFIXES["message"], now), app=OPERATIONAL, event_type=kind, payload=notices.body(kind, data),
            channels=channels, created_at=now,
        )  # fmt: skip
        return (Accept(message, self._plan(message, endpoints, now), deadline=now + WRITTEN_WITHIN),)
