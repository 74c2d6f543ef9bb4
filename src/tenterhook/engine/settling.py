"""From the end of an attempt to what is on the disk.

What the end means is decided by `settle`, a pure rule; this module carries it there, and keeps trying while the process
lives. A delivery that is handed back untried, or whose lifetime is over, goes the same way.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import TypeVar

from tenterhook.clock import MILLISECOND, SECOND, Clock, until
from tenterhook.engine.background import Background
from tenterhook.engine.committer import Committer, Unstorable
from tenterhook.engine.lane import Lane
from tenterhook.engine.lifecycle import step
from tenterhook.engine.pending import Pending
from tenterhook.engine.settle import Settled, settle
from tenterhook.errors import StoreUnavailable
from tenterhook.ids import PREFIXES, IdMaker
from tenterhook.model import Attempt, Delivery, Outcome, Policy, Signal, State
from tenterhook.observe import Instrument
from tenterhook.operational import Notifier, Planned
from tenterhook.store.base import Lapsing
from tenterhook.store.work import Claimed, Settlement
from tenterhook.store.work import Settled as Written

log = logging.getLogger(__name__)

_PATIENCE = 50 * MILLISECOND

T = TypeVar("T")
Judged = tuple[Settled, Settlement]
"""What an attempt means, and how it is to be written."""


class Settling:
    """Judges and writes; what a commit brings to send next is for the caller."""

    def __init__(
        self,
        pending: Pending,
        background: Background,
        committer: Committer,
        clock: Clock,
        ids: IdMaker,
        rng: Random,
        instrument: Instrument,
        policy: Policy,
        notices: Notifier,
    ) -> None:
        self._pending, self._background, self._committer = pending, background, committer
        self._clock, self._ids, self._rng = clock, ids, rng
        self._instrument, self._policy, self._notices = instrument, policy, notices

    def judge(self, lane: Lane, claimed: Claimed, started: int, outcome: Outcome) -> Judged:
        """An attempt is over: from now on the lane goes by what that means, before it is on the disk."""
        now = self._clock.now()
        before, delivery = lane.health, claimed.delivery
        verdict = settle(delivery, lane.endpoint, before, outcome, now, self._policy, self._rng)
        lane.health = verdict.health
        attempt = Attempt(
            id=self._ids.new(PREFIXES["attempt"], now),
            app=delivery.app,
            message=delivery.message,
            endpoint=delivery.endpoint,
            number=verdict.delivery.attempts,
            trigger=delivery.trigger,
            started_at=started,
            outcome=outcome,
        )
        return verdict, Settlement(
            delivery=verdict.delivery,
            lease=delivery.lease,
            attempt=attempt,
            health=None if verdict.health is before else verdict.health,
            disable=verdict.disable,
            now=now,
            next_lease=self._lease_of_next(lane, delivery),
            next_until=now + self._policy.lease,
            before=before,
        )

    async def record(self, lane: Lane, claimed: Claimed, judged: Judged) -> Written | None:
        """Put it on the disk; None if that can never be."""
        verdict, settlement = judged
        attempt = settlement.attempt
        assert attempt is not None
        notices: Planned = ()
        if verdict.signals:
            since = verdict.health.failing_since
            about = partial(self._notices.attempt, verdict.signals, lane.endpoint, claimed.message, attempt, since)
            notices = await self._told(about)
        written = await self._write(settlement, notices)
        self._pending.let_go(claimed.message)
        if written is not None:
            self._learn(lane, verdict, settlement, written)
        return written

    def _learn(self, lane: Lane, verdict: Settled, settlement: Settlement, written: Written) -> None:
        # what other nodes have seen of the endpoint, unless we have seen more since
        if written.health is not None and lane.health is verdict.health:
            lane.health = written.health
        delivery = verdict.delivery
        if settlement.attempt is not None:
            self._instrument.attempt_settled(delivery, settlement.attempt, written.kept)
        for signal in verdict.signals if written.kept else ():
            self._instrument.signalled(signal)
        if written.kept and delivery.state is State.DUE and delivery.due_at is not None:
            self._pending.note_due(delivery.endpoint, delivery.due_at)
        elif written.kept and delivery.order_key is not None and not settlement.next_lease:
            self._pending.note_due(delivery.endpoint, self._clock.now())

    def _lease_of_next(self, lane: Lane | None, delivery: Delivery) -> int:
        """For the next of a FIFO line, if this one ends; 0 leaves it to the next claim."""
        if delivery.order_key is None or (lane is not None and not lane.takes_next):
            return 0
        return self._pending.new_lease()

    async def release(self, claimed: Claimed) -> None:
        """Hand a delivery back untried."""
        now = self._clock.now()
        released = step(claimed.delivery, "released", due_at=now)
        written = await self._write(Settlement(released, claimed.delivery.lease, now=now))
        self._pending.let_go(claimed.message)
        if written is not None and written.kept:
            self._pending.note_due(released.endpoint, now)
            self._pending.schedule(released.endpoint)

    def release_soon(self, claimed: Claimed) -> None:
        """Hand a delivery back untried, without waiting for that."""
        self._background.spawn(self.release(claimed))

    def release_queue(self, lane: Lane) -> None:
        """Hand back all that waits in a lane."""
        while lane.queue:
            self.release_soon(lane.take())
        if lane.throttle is not None:
            self._pending.move_on(lane.throttle)

    async def lapse(self, claimed: Claimed, now: int) -> Written | None:
        """Its lifetime is over: it ends without another attempt. None if that can never be written."""
        ended = step(claimed.delivery, "lapsed")
        lane = self._pending.lanes.get(ended.endpoint)
        uid = None if lane is None else lane.endpoint.uid
        notices = await self._told(partial(self._notices.lapse, Lapsing(ended, claimed.message.event_id, uid)))
        settlement = Settlement(
            ended,
            claimed.delivery.lease,
            now=now,
            next_lease=self._lease_of_next(lane, ended),
            next_until=now + self._policy.lease,
        )
        written = await self._write(settlement, notices)
        self._pending.let_go(claimed.message)
        if written is not None and written.kept:
            if ended.order_key is not None and not settlement.next_lease:
                self._pending.note_due(ended.endpoint, self._clock.now())
            self._instrument.signalled(
                Signal("message.attempt.exhausted", ended.app, ended.endpoint, ended.message, "lapsed")
            )
        return written

    async def _told(self, plan: Callable[[], Awaitable[Planned]]) -> Planned:
        """What operational webhooks are to tell; a defect there must not cost the result that it is about."""
        try:
            return await insist(plan)
        except Exception:
            log.exception("an operational webhook could not be planned")
            return ()

    async def _write(self, settlement: Settlement, notices: Planned = ()) -> Written | None:
        """Keep trying while this process lives: nobody else knows what the receiver said."""
        try:
            written = await insist(lambda: self._committer.settle(settlement, notices))
        except Unstorable:
            return await self._write(settlement) if notices else None
        if written.kept:
            self._notices.written(notices)
        return written


async def insist(work: Callable[[], Awaitable[T]]) -> T:
    """Until the database can be used again."""
    wait = _PATIENCE
    while True:
        try:
            return await work()
        except StoreUnavailable:
            await until(asyncio.Event(), wait)
        wait = min(2 * wait, SECOND)
