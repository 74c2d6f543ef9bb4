"""What must happen now and then: lifetimes end, old rejections and idempotency keys go, idle endpoints are forgotten."""

import asyncio
import logging

from tenterhook.clock import SECOND, Clock, until
from tenterhook.engine.worker import Worker
from tenterhook.errors import StoreUnavailable
from tenterhook.model import Signal
from tenterhook.observe import Instrument
from tenterhook.operational import NO_NOTICES, Notifier
from tenterhook.store.base import Store

log = logging.getLogger(__name__)

INTERVAL = 10 * SECOND
_REST = 10
"""How much longer than a round the database is left alone afterwards, at least."""

_PAGE = 1_000


class Upkeep:
    """Runs in the background beside a worker; every round is small, and a failed one is tried again at the next."""

    def __init__(
        self,
        store: Store,
        worker: Worker,
        clock: Clock,
        instrument: Instrument,
        rejections_kept: int = 1_000,
        interval: int = INTERVAL,
        notices: Notifier = NO_NOTICES,
    ) -> None:
        self._store, self._worker, self._clock, self._instrument = store, worker, clock, instrument
        self._rejections_kept, self._interval, self._notices = rejections_kept, interval, notices
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="upkeep")

    async def stop(self) -> None:
        self._stop.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        wait = self._interval
        while not await until(self._stop, wait):
            begun = self._clock.now()
            try:
                await self.round()
            except StoreUnavailable as error:
                log.warning("upkeep waits for the database: %s", error)
            except Exception:
                log.exception("a round of upkeep failed; the next one comes")
            wait = max(self._interval, _REST * (self._clock.now() - begun))

    async def round(self) -> None:
        """One round. Raises StoreUnavailable."""
        now = self._clock.now()
        while await self._lapse(now) == _PAGE:
            pass
        while await self._store.prune(now, self._rejections_kept, _PAGE) >= _PAGE:
            pass
        await self._worker.refresh()
        self._worker.forget_idle()

    async def _lapse(self, now: int) -> int:
        over = [(one.delivery, await self._notices.lapse(one)) for one in await self._store.list_lapsing(now, _PAGE)]
        ended = await self._store.lapse(now, over) if over else []
        told = {(delivery.message, delivery.endpoint): notices for delivery, notices in over}
        for delivery in ended:
            self._notices.written(told[delivery.message, delivery.endpoint])
            self._instrument.signalled(
                Signal("message.attempt.exhausted", delivery.app, delivery.endpoint, delivery.message, "lapsed")
            )
        return len(over)
