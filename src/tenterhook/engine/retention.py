"""Retention: what is old goes, application by application, in steps so small that nobody who waits for the database feels
them. Every node may do it: a step that another has done finds nothing to do.

Where the store keeps its history in days, whole days are dropped at once, and row by row goes only what that leaves: what
an application keeps for a shorter time than others do, and days in which something is still pending.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial

from msgspec import Struct

from tenterhook.clock import DAY, MILLISECOND, MINUTE, SECOND, Clock, until
from tenterhook.errors import StoreUnavailable
from tenterhook.model import OPERATIONAL, Application, Retention
from tenterhook.observe import Instrument
from tenterhook.store.base import Cutoff, Store, Swept
from tenterhook.store.queries import Cursor

log = logging.getLogger(__name__)

FIRST_LOOK, INTERVAL = 5 * SECOND, MINUTE
_FIRST_STEP, _LEAST, _MOST = 200, 100, 2_000
_STEP = 5 * MILLISECOND
_SHORTEST_REST = MILLISECOND
_PAGE = 250
_RETIRED = 1_000
_LINGER = DAY
"""What happened in a deleted application stays for so long: attempts under way may still bring their results."""


class Removed(Struct, frozen=True):
    """What one step removed; `what` is records or, of those that stay, payloads."""

    what: str
    messages: int
    requests: int
    days: int = 0


class Pace:
    """How many rows a step may touch, so that it takes about `_STEP` on this machine, with these messages.

    The rest behind it is `rests` times as long: of ten parts of the time one is for removing, nine are for the others.
    """

    def __init__(self, clock: Clock, rests: int = 9) -> None:
        self._clock, self._rests = clock, rests
        self._limit = _FIRST_STEP
        self._took = 0

    async def step(self, work: Callable[[int], Awaitable[Swept]]) -> Swept:
        """`work` with the limit. Raises StoreUnavailable."""
        begun = self._clock.now()
        swept = await work(self._limit)
        self._took = max(1, self._clock.now() - begun)
        self._limit = max(_LEAST, min(_MOST, 2 * self._limit, self._limit * _STEP // self._took))
        return swept

    @property
    def rest(self) -> int:
        """How long to leave the database to others after a step (µs)."""
        return max(_SHORTEST_REST, self._rests * self._took)


def cutoffs(retention: Retention, apps: Sequence[Application], now: int, grace: int = 0) -> list[Cutoff]:
    """What is too old in these applications.

    Records that go no earlier than those of all others have `grace` for the day they are in to be dropped. Payloads that
    are kept as long as their records go with them.
    """
    terms = [retention.of(app) for app in apps]
    longest = max([retention.records, *(one.records for one in terms)])
    return [
        Cutoff(
            app.id,
            payloads=max(0, now - one.payloads) if one.payloads < one.records else 0,
            records=max(0, now - one.records - (grace if one.records == longest else 0)),
        )
        for app, one in zip(apps, terms, strict=True)
    ]


async def all_applications(store: Store) -> list[Application]:
    """With the server's own, which is in no list. Raises StoreUnavailable."""
    found: list[Application] = []
    while True:
        page = await store.list_applications(Cursor(limit=_PAGE, after=found[-1].id if found else None))
        found += page
        if len(page) < _PAGE:
            own = await store.get_application(OPERATIONAL)
            return found if own is None else [*found, own]


async def sweep_all(
    store: Store, pace: Pace, retention: Retention, apps: Sequence[Application], now: int, *, dry: bool = False
) -> AsyncGenerator[Removed, None]:
    """Remove what is too old by these terms in all applications, which are `apps`, and in deleted ones.

    `dry` counts, but not payloads that were promised to go. Raises StoreUnavailable.
    """
    if not dry:
        async for swept in _repeated(pace, partial(store.expire_due, now)):
            yield Removed("payloads", swept.messages, swept.requests)
    longest = max([retention.records, *(retention.of(app).records for app in apps)])
    wanted = cutoffs(retention, apps, now, store.grace)
    async for removed in sweep(store, pace, wanted, days_before=max(0, now - longest), dry=dry):
        yield removed
    for app in await store.list_retired(_RETIRED):
        async for removed in _sweep_one(store, pace, Cutoff(app, 0, now - _LINGER), dry):
            yield removed


async def sweep(
    store: Store, pace: Pace, wanted: Sequence[Cutoff], *, days_before: int = 0, dry: bool = False
) -> AsyncGenerator[Removed, None]:
    """Remove (`dry`: count) what is older; one item for each step. Whole days that ended before `days_before` come first.

    Raises StoreUnavailable.
    """
    if not dry:
        async for swept in _repeated(pace, partial(store.drop_days, days_before)):
            yield Removed("records", swept.messages, swept.requests, swept.days)
    for start in range(0, len(wanted), _PAGE):
        for cutoff in await store.overdue(wanted[start : start + _PAGE]):
            async for removed in _sweep_one(store, pace, cutoff, dry):
                yield removed


async def _repeated(pace: Pace, work: Callable[[int], Awaitable[Swept]]) -> AsyncGenerator[Swept, None]:
    more = True
    while more:
        swept = await pace.step(work)
        more = swept.after is not None
        yield swept


async def _sweep_one(store: Store, pace: Pace, cutoff: Cutoff, dry: bool) -> AsyncGenerator[Removed, None]:
    for what, verb in (("records", store.forget), ("payloads", store.expire)):
        after: str | None = ""
        while after is not None:
            swept = await pace.step(partial(verb, cutoff, after, dry=dry))
            after = swept.after
            yield Removed(what, swept.messages, swept.requests)


class Sweeper:
    """Does it in the background, all the time that a node runs."""

    def __init__(
        self, store: Store, clock: Clock, instrument: Instrument, retention: Retention, interval: int = INTERVAL
    ) -> None:
        self._store, self._clock, self._instrument = store, clock, instrument
        self._retention, self._interval = retention, interval
        self._pace = Pace(clock)
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="retention")

    async def stop(self) -> None:
        self._stop.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        wait = min(FIRST_LOOK, self._interval)
        while not await until(self._stop, wait):
            wait = self._interval
            try:
                await self.round()
            except StoreUnavailable as error:
                log.warning("retention waits for the database: %s", error)
            except Exception:
                log.exception("a round of retention failed; the next one comes")

    async def round(self) -> None:
        """Once through everything, unless it is stopped. Raises StoreUnavailable."""
        now = self._clock.now()
        await self._store.add_days(now)
        apps = await all_applications(self._store)
        steps = sweep_all(self._store, self._pace, self._retention, apps, now)
        async with aclosing(steps):
            async for removed in steps:
                self._instrument.removed(removed.what, removed.messages, removed.requests)
                if await until(self._stop, self._pace.rest):
                    return
