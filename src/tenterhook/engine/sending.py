"""Starts attempts when they may start, and what follows from their end.

Everything is per endpoint (a `Lane`), so nobody waits for somebody else's receiver. The rules live elsewhere (`limits`,
`breaker`); this module only carries them out.
"""

import asyncio
import logging

from tenterhook.clock import Clock
from tenterhook.engine import limits
from tenterhook.engine.background import Background
from tenterhook.engine.breaker import is_open
from tenterhook.engine.endpoints import Endpoints, is_outdated
from tenterhook.engine.lane import LEASE_MARGIN, Lane
from tenterhook.engine.pending import TURNS_PER_END, Pending
from tenterhook.engine.settle import expired_payload
from tenterhook.engine.settling import Settling, insist
from tenterhook.model import Endpoint, Message, Outcome, Policy, Reason, Result
from tenterhook.senders.base import Senders
from tenterhook.store.work import Claimed, Settled

log = logging.getLogger(__name__)


class Sending:
    """The attempts of one node; from `stopping` on it starts none."""

    def __init__(
        self,
        pending: Pending,
        endpoints: Endpoints,
        settling: Settling,
        background: Background,
        senders: Senders,
        clock: Clock,
        policy: Policy,
    ) -> None:
        self._pending, self._endpoints, self._settling, self._background = pending, endpoints, settling, background
        self._senders, self._clock, self._policy = senders, clock, policy
        self._starved: dict[str, None] = {}  # have work in memory and no slot
        self._active: set[str] = set()
        self.in_flight = 0
        self.stopping = False

    def enqueue(self, claimed: Claimed) -> None:
        """Send it when it may be sent. Its memory is accounted for already."""
        lane = self._pending.lanes.get(claimed.delivery.endpoint)
        if lane is None or self.stopping:
            self._settling.release_soon(claimed)
            return
        if lane.paced_together and not claimed.not_before:
            self._settling.release_soon(claimed)  # nodes have begun to share a rate: it needs an instant of it
            return
        lane.put(claimed)
        self.pump(lane)

    def pump(self, lane: Lane) -> None:
        """Start what may start."""
        if lane.queue:
            self._start(lane, self._clock.now())
        if lane.throttle is not None:
            self._pending.move_on(lane.throttle)

    def _start(self, lane: Lane, now: int) -> None:
        while lane.queue:
            if (lane.queue[0].delivery.due_at or 0) - now < lane.timeout + LEASE_MARGIN:
                self._settling.release_soon(lane.take())
                continue
            share = limits.fair_share(self.in_flight, len(self._active), self._policy.global_concurrency)
            if not lane.may_start(now, share):
                self._hold_up(lane, now)
                return
            claimed = lane.take()
            lane.in_flight += 1
            self.in_flight += 1
            self._active.add(lane.endpoint.id)
            self._background.spawn(self._attempt(lane, claimed, now, lane.timeout))

    def _hold_up(self, lane: Lane, now: int) -> None:
        if lane.endpoint.disabled or is_open(lane.health, now):
            self._settling.release_queue(lane)
            return
        if lane.resume is None and lane.in_flight < limits.slots(lane.health, lane.window, now):
            self._starved[lane.endpoint.id] = None
        # at the latest when the lease becomes too short: one that runs out in the queue would count as an attempt
        too_late = (lane.queue[0].delivery.due_at or 0) - lane.timeout - LEASE_MARGIN + 1
        self._pending.agenda.push(too_late if lane.resume is None else min(too_late, lane.resume), lane.endpoint.id)

    def _feed_starved(self) -> None:
        """A slot is free: those that found none take turns."""
        for _ in range(min(TURNS_PER_END, len(self._starved))):
            endpoint = next(iter(self._starved))
            del self._starved[endpoint]
            lane = self._pending.lanes.get(endpoint)
            if lane is not None:
                self.pump(lane)

    async def _attempt(self, lane: Lane, claimed: Claimed, started: int, deadline: int) -> None:
        endpoint = lane.endpoint
        try:
            outcome = await self._outcome(claimed.message, endpoint, started, deadline)
        except asyncio.CancelledError:
            self._pending.let_go(claimed.message)
            raise
        self.in_flight -= 1
        lane.ended(outcome)
        if not lane.in_flight:
            self._active.discard(endpoint.id)
        await self.settle(lane, claimed, started, outcome)

    async def _outcome(self, message: Message, endpoint: Endpoint, started: int, deadline: int) -> Outcome:
        if message.expired:
            return expired_payload()
        try:
            sender = self._senders(endpoint.kind)
            return await sender.send(message, endpoint, deadline=deadline, now=started)
        except Exception as error:
            log.exception("the sender of %s failed on message %s", endpoint.id, message.id)
            return Outcome(result=Result.RETRY, reason=Reason.INTERNAL, detail=type(error).__name__)

    async def settle(self, lane: Lane, claimed: Claimed, started: int, outcome: Outcome) -> None:
        """An attempt has ended: judge it, go on at once, and write it down."""
        judged = self._settling.judge(lane, claimed, started, outcome)
        disable = judged[0].disable
        if disable is not None and not lane.endpoint.disabled:
            self._endpoints.switch_off(lane, disable)
        self._feed_starved()  # first, or an endpoint with a long queue would take its own slot again and again
        self.pump(lane)
        self._pending.schedule(lane.endpoint.id)
        written = await self._settling.record(lane, claimed, judged)
        if written is None:
            return
        if disable is not None and written.kept:
            self._endpoints.switched_off(lane, disable)
        elif disable is not None:
            await insist(lambda: self.hear_of(lane.endpoint.id))
        await self._promoted(written)

    async def lapse(self, claimed: Claimed, now: int) -> None:
        """Its lifetime is over: it ends without another attempt, and the line behind it moves on."""
        written = await self._settling.lapse(claimed, now)
        if written is not None and written.kept:
            await self._promoted(written)

    async def _promoted(self, written: Settled) -> None:
        promoted = written.promoted
        if promoted is None:
            return
        self._pending.memory.hold(promoted.message)
        lane = self._pending.lanes.get(promoted.delivery.endpoint)
        if lane is not None and is_outdated(lane, [promoted]):
            await self._endpoints.load(promoted.delivery.endpoint)
        self.enqueue(promoted)

    async def hear_of(self, endpoint: str) -> None:
        """Another node has changed an endpoint, or what is known of its health. Raises StoreUnavailable."""
        lane = await self._endpoints.update(endpoint)
        if lane is not None:
            self.pump(lane)
            self._pending.schedule(endpoint)
