"""Claims what is due, in pages, when its endpoint has room: retries, what did not fit into memory, what others left."""

import asyncio
import logging

from tenterhook.clock import MILLISECOND, SECOND, Clock, until
from tenterhook.engine.background import Background
from tenterhook.engine.committer import Committer
from tenterhook.engine.endpoints import Endpoints, is_outdated
from tenterhook.engine.lane import Lane
from tenterhook.engine.pending import Pending
from tenterhook.engine.sending import Sending
from tenterhook.engine.settle import expired_lease
from tenterhook.engine.settling import Settling
from tenterhook.engine.throttle import PACED_SECONDS, Throttle
from tenterhook.model import Health, Policy
from tenterhook.store.base import Store
from tenterhook.store.work import Claim, Page

log = logging.getLogger(__name__)

LANES_PER_ROUND = 64
_DUES_PER_PAGE = 1_000

Asked = tuple[Lane, Health, Throttle | None, Claim]
"""A claim for a lane, with the health record that was known when it was made, and the throttle that it counts for."""


class Claiming:
    """Rounds, each for those whose time has come; between them it sleeps until something can be done; `rests` counts that."""

    def __init__(
        self,
        store: Store,
        committer: Committer,
        pending: Pending,
        endpoints: Endpoints,
        settling: Settling,
        sending: Sending,
        background: Background,
        clock: Clock,
        policy: Policy,
    ) -> None:
        self._store, self._committer, self._pending, self._endpoints = store, committer, pending, endpoints
        self._settling, self._sending, self._background = settling, sending, background
        self._clock, self._policy = clock, policy
        self._runner: asyncio.Task[None] | None = None
        self.rests = 0

    def start(self) -> None:
        self._runner = asyncio.create_task(self._run(), name="worker")

    async def stop(self) -> None:
        """Begin no more rounds, once `sending` is stopping."""
        self._pending.agenda.wake.set()
        if self._runner is not None:
            await self._runner

    @property
    def alive(self) -> bool:
        return self._runner is not None and not self._runner.done()

    async def refresh(self) -> None:
        """Ask the database which endpoints have something pending."""
        after: str | None = None
        while True:
            page = await self._store.next_dues(after, _DUES_PER_PAGE)
            for found in page:
                lane = self._pending.lanes.get(found.endpoint)
                if lane is not None and lane.endpoint.updated_at != found.changed_at:
                    await self._endpoints.load(found.endpoint)
                self._pending.note_due(found.endpoint, found.due_at)
                self._pending.schedule(found.endpoint)
            if len(page) < _DUES_PER_PAGE:
                return
            after = page[-1].endpoint

    async def _run(self) -> None:
        while not self._sending.stopping:
            try:
                await self._round()
            except Exception:
                # a defect that one endpoint brings out must not end the deliveries of all
                log.exception("a round of the worker failed; it goes on")
                await until(asyncio.Event(), SECOND)

    async def _round(self) -> None:
        agenda = self._pending.agenda
        agenda.wake.clear()
        claims = await self._ready(self._clock.now())
        if claims:
            await self._claim(claims)
            return
        self.rests += 1
        wakeup = agenda.next_wakeup()
        await until(agenda.wake, None if wakeup is None else max(0, wakeup - self._clock.now()) + MILLISECOND)

    async def _ready(self, now: int) -> list[Asked]:
        """Take what has come up from the heap: start what only waited for time, and say what to claim."""
        claims: list[Asked] = []
        asked = 0
        while len(claims) < LANES_PER_ROUND and (endpoint := self._pending.agenda.pop(now)) is not None:
            try:
                claim = await self._look_at(endpoint, now, asked)
            except Exception:
                # those that have been asked for already must not wait for an answer that nobody reads
                log.exception("a look at endpoint %s failed; it comes again", endpoint)
                self._pending.agenda.push(now + SECOND, endpoint)
                continue
            if claim is not None:
                asked += claim[-1].limit
                claims.append(claim)
        if not claims:
            # those whose turn it was may have had nothing to claim
            self._pending.feed_crowded()
        return claims

    async def _look_at(self, endpoint: str, now: int, asked: int) -> Asked | None:
        """What to claim for an endpoint, while `asked` deliveries are to be claimed for others."""
        pending, memory = self._pending, self._pending.memory
        claim = None
        lane = pending.lanes.get(endpoint) or await self._endpoints.load(endpoint)
        if lane is None:
            return None
        self._sending.pump(lane)
        room = self._room(lane, now)
        limit = min(room, memory.room - asked)
        if room > 0 and (limit <= 0 or memory.full):
            pending.crowded[endpoint] = None
        elif room > 0:
            claim = self._ask(lane, limit, now)
        if lane.throttle is not None:
            pending.move_on(lane.throttle)
        return claim

    def _room(self, lane: Lane, now: int) -> int:
        """How many deliveries a claim should bring now, for what is due in the database."""
        room = 0
        due = self._pending.due.get(lane.endpoint.id)
        if due is not None:
            if max(due, lane.health.open_until or 0) > now:
                self._pending.schedule(lane.endpoint.id)
            else:
                room = lane.room(now)
        if lane.throttle is None:
            return room
        room = min(room, lane.fits(now))
        if self._pending.is_behind(lane.endpoint.id, now) and (room or lane.held):
            lane.throttle.wanting.add(lane.endpoint.id)
        else:
            lane.throttle.wanting.discard(lane.endpoint.id)
        return _in_turn(lane, lane.throttle, room, now)

    def _ask(self, lane: Lane, limit: int, now: int) -> Asked:
        claim = Claim(
            lane.endpoint.id,
            limit,
            now,
            self._pending.new_lease(),
            now + self._policy.lease,
            lane.endpoint.rate_limit,
            now + PACED_SECONDS * SECOND,
            min(self._pending.due[lane.endpoint.id], lane.floor),
        )
        lane.claiming = True
        if lane.throttle is not None:
            lane.throttle.asked += limit
        return lane, lane.health, lane.throttle, claim

    async def _claim(self, claims: list[Asked]) -> None:
        seen = self._pending.rate_changes
        pages = await asyncio.gather(*(self._committer.claim(claim) for *_, claim in claims), return_exceptions=True)
        for asked, page in zip(claims, pages, strict=True):
            lane, _, throttle, claim = asked
            if throttle is not None:
                throttle.asked -= claim.limit
            try:
                if isinstance(page, BaseException):
                    self._pending.agenda.push(self._clock.now() + SECOND, claim.endpoint)
                else:
                    seen = await self._learn(asked, page, seen)
                    self._take(lane, claim, page)
            except Exception:
                log.exception("a claim for endpoint %s failed; it comes again", claim.endpoint)
                self._pending.agenda.push(self._clock.now() + SECOND, claim.endpoint)
            finally:
                self._pending.end_claim(lane)
            if throttle is not None:
                self._pending.move_on(throttle)

    async def _learn(self, asked: Asked, page: Page, seen: int) -> int:
        """What a claim tells of its endpoint; it knows the rate of the application if no other change than `seen` came."""
        lane, known, _, claim = asked
        if page.health is not None and lane.health is known:
            lane.health = page.health
        if is_outdated(lane, page.claimed):
            await self._endpoints.load(claim.endpoint)
        if page.oldest is not None and seen == self._pending.rate_changes:
            self._endpoints.throttle(lane.endpoint.app, page.app_rate)
            seen = self._pending.rate_changes
        self._note_turn(lane, claim, page)
        return seen

    def _note_turn(self, lane: Lane, claim: Claim, page: Page) -> None:
        if lane.throttle is not None:
            if page.next_due is None or page.next_due > claim.now:
                lane.throttle.wanting.discard(claim.endpoint)
            lane.throttle.free_at = max(lane.throttle.free_at, page.app_free_at)
            if page.app_free_at and not page.claimed:
                lane.throttle.first_in_line(claim.endpoint)

    def _take(self, lane: Lane, claim: Claim, page: Page) -> None:
        lane.searched(claim.now, page.oldest)
        if page.next_due is None:
            self._pending.due.pop(claim.endpoint, None)
        else:
            self._pending.due[claim.endpoint] = page.next_due
        self._pending.end_claim(lane)
        for claimed in page.claimed:
            self._pending.memory.hold(claimed.message)
            if is_outdated(lane, [claimed]):
                self._settling.release_soon(claimed)  # it could not be loaded, or is gone
            elif claimed.expired:
                self._background.spawn(self._sending.settle(lane, claimed, claim.now, expired_lease()))
            elif claimed.delivery.expires_at <= claim.now:
                self._background.spawn(self._sending.lapse(claimed, claim.now))
            elif lane.paced_together and not claimed.not_before:
                self._settling.release_soon(claimed)  # nodes have begun to share a rate: it needs an instant of it
            else:
                lane.put(claimed)
        self._sending.pump(lane)
        self._pending.schedule(claim.endpoint)


def _in_turn(lane: Lane, throttle: Throttle, room: int, now: int) -> int:
    """The part of `room` that its application's rate leaves a lane; those that found nothing go first."""
    endpoint = lane.endpoint.id
    its_turn = now >= throttle.free_at and next(iter(throttle.starved), endpoint) == endpoint
    share = min(room, throttle.room(lane.held)) if its_turn else 0
    if room and not share and not lane.held:
        throttle.starved.setdefault(endpoint)
    else:
        throttle.starved.pop(endpoint, None)
    return share
