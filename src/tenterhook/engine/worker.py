"""Claims what is due, sends it, settles it.

Fresh deliveries come in memory, already leased; what does not fit there waits in the database and is claimed in pages
when its endpoint has room. Everything is per endpoint (a `Lane`), so nobody waits for somebody else's receiver. The
rules live elsewhere (`settle`, `breaker`, `limits`); this module only carries them out.

Deadlines and wake-ups go through one heap of (instant, endpoint): entries are hints, checked when they come up.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from random import Random
from typing import TypeVar

from msgspec.structs import replace

from tenterhook.clock import MILLISECOND, SECOND, Clock, until
from tenterhook.engine import limits
from tenterhook.engine.agenda import Agenda, Memory
from tenterhook.engine.breaker import is_open
from tenterhook.engine.committer import Committer, Unstorable
from tenterhook.engine.lane import LEASE_MARGIN, PACED_SECONDS, Lane
from tenterhook.engine.lifecycle import step
from tenterhook.engine.settle import Settled, expired_lease, expired_payload, settle
from tenterhook.errors import StoreUnavailable, TenterhookError
from tenterhook.ids import PREFIXES, IdMaker
from tenterhook.model import (
    Attempt,
    Delivery,
    Endpoint,
    Health,
    Message,
    Outcome,
    Policy,
    Reason,
    Result,
    Signal,
    State,
)
from tenterhook.observe import Instrument
from tenterhook.operational import SILENCE, Planned, Silence
from tenterhook.senders.base import Senders
from tenterhook.store.base import Claim, Claimed, Lapsing, Page, Settlement, Store
from tenterhook.store.base import Settled as Written

log = logging.getLogger(__name__)

LANES_PER_ROUND = 64
_UNREADABLE = 30 * SECOND
_PATIENCE = 50 * MILLISECOND
_TURNS_PER_END = 4
_IDLE_LANES = 10_000
_DUES_PER_PAGE = 1_000


T = TypeVar("T")
Asked = tuple[Lane, Health, Claim]
"""A claim for a lane, with the health record that was known when it was made."""


def _is_outdated(lane: Lane, claimed: Iterable[Claimed]) -> bool:
    """Whether another node has changed the endpoint since it was loaded."""
    return any(one.changed_at not in (None, lane.endpoint.updated_at) for one in claimed)


class Worker:
    """Delivers for one node. `disabled` is called with an endpoint that a verdict has switched off.

    One that does not `send` only plans: what it plans is for the workers of other nodes.
    """

    def __init__(
        self,
        store: Store,
        committer: Committer,
        senders: Senders,
        clock: Clock,
        ids: IdMaker,
        rng: Random,
        instrument: Instrument,
        policy: Policy,
        *,
        memory_deliveries: int = 10_000,
        memory_bytes: int = 64 * 1024 * 1024,
        disabled: Callable[[Endpoint], None] = lambda _: None,
        notices: Silence = SILENCE,
        send: bool = True,
    ) -> None:
        self._store, self._committer, self._senders = store, committer, senders
        self._clock, self._ids, self._rng = clock, ids, rng
        self._instrument, self._policy, self._disabled, self._send = instrument, policy, disabled, send
        self._notices = notices
        self._lanes: dict[str, Lane] = {}
        self._due: dict[str, int] = {}  # endpoint → when the database next has something for it
        self._agenda = Agenda()
        self._memory = Memory(memory_deliveries, memory_bytes)
        self._starved: dict[str, None] = {}  # have work in memory and no slot
        self._crowded: dict[str, None] = {}  # have work in the database and no memory
        self._active: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: asyncio.Task[None] | None = None
        self._stopping = False
        self._lease = rng.getrandbits(62)
        self.in_flight = 0

    # life

    async def start(self) -> None:
        """Learn what is pending and begin to claim it."""
        if not self._send:
            return
        await self.refresh()
        self._runner = asyncio.create_task(self._run(), name="worker")

    async def stop(self, timeout: int) -> None:
        """Start nothing more, hand back what waits, give what is in flight `timeout` µs to end."""
        self._stopping = True
        self._agenda.wake.set()
        if self._runner is not None:
            await self._runner
        for lane in self._lanes.values():
            self._release_queue(lane)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout / SECOND)
        for task in self._tasks:
            # its lease ends by itself: the delivery goes on elsewhere as an attempt of unknown outcome
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def refresh(self) -> None:
        """Ask the database which endpoints have something pending: at the start, and for what other nodes left.

        One that was changed elsewhere is loaded anew: the hint may have been lost, and a lane that is taken for switched
        off would never claim.
        """
        if not self._send:
            return
        after: str | None = None
        while True:
            page = await self._store.next_dues(after, _DUES_PER_PAGE)
            for found in page:
                lane = self._lanes.get(found.endpoint)
                if lane is not None and lane.endpoint.updated_at != found.changed_at:
                    await self._load(found.endpoint)
                self.note_due(found.endpoint, found.due_at)
                self._schedule(found.endpoint)
            if len(page) < _DUES_PER_PAGE:
                return
            after = page[-1].endpoint

    # what the hub tells

    def adopt(self, endpoint: Endpoint, health: Health) -> None:
        """Know an endpoint, or that it has changed; its health is taken only for one not known yet."""
        if not self._send:
            return
        lane = self._lanes.get(endpoint.id)
        if lane is None:
            self._lanes[endpoint.id] = Lane(endpoint, health, self._policy, self._store.shared)
            return
        was_disabled = lane.endpoint.disabled
        lane.configure(endpoint)
        if was_disabled and not endpoint.disabled:
            lane.health = Health()
        if endpoint.disabled:
            self._release_queue(lane)
        self._schedule(endpoint.id)

    async def hear_of(self, endpoint: str) -> None:
        """Another node has changed an endpoint, or what is known of its health."""
        lane = self._lanes.get(endpoint)
        if lane is None:
            return
        known = lane.health
        found = await self._store.load_endpoint(endpoint)
        if found is None:
            self.dismiss(endpoint)
            return
        self.adopt(*found)
        if lane.health is known:
            lane.health = found[1]
        self._pump(lane)
        self._schedule(endpoint)

    async def hear_of_all(self) -> None:
        """Something may have been missed: ask what is pending, and what became of endpoints whose deliveries are in memory."""
        await self.refresh()
        for endpoint in [key for key, lane in self._lanes.items() if lane.queue]:
            await self.hear_of(endpoint)

    def dismiss(self, endpoint: str) -> None:
        """Forget a deleted endpoint."""
        lane = self._lanes.pop(endpoint, None)
        self._due.pop(endpoint, None)
        if lane is not None:
            lane.configure(replace(lane.endpoint, disabled=True))
            self._release_queue(lane)

    def plan(
        self, message: Message, endpoints: Sequence[Endpoint], now: int, lease: bool = True
    ) -> tuple[Delivery, ...]:
        """The deliveries that a new message owes; those with room in memory are leased to this worker at once.

        `planned` must follow, but for a plan without `lease`: that leaves them all to the next claim.
        """
        return tuple([self._plan(message, endpoint, now, lease) for endpoint in endpoints])

    def _plan(self, message: Message, endpoint: Endpoint, now: int, lease: bool) -> Delivery:
        lane = self._lanes.get(endpoint.id) if lease else None
        start = max(now, message.deliver_at or 0)
        leased = start == now and lane is not None and self._takes_more and lane.admits(now)
        if leased and lane is not None:
            lane.reserved += 1
            self._memory.hold(message)
        return Delivery(
            message=message.id,
            endpoint=endpoint.id,
            app=message.app,
            state=State.LEASED if leased else State.DUE,
            due_at=now + self._policy.lease if leased else start,
            lease=self._new_lease() if leased else 0,
            order_key=(message.order_key or "") if endpoint.ordered else None,
            created_at=now,
            expires_at=start + (endpoint.lifetime or self._policy.lifetime),
        )

    @property
    def _takes_more(self) -> bool:
        return self._send and not self._stopping and not self._memory.full

    def planned(
        self, message: Message, deliveries: Iterable[Delivery], waiting: Sequence[str], stored: bool | None
    ) -> None:
        """The plan is on the disk, came to nothing (`stored` False), or nobody knows (None).

        `waiting` went into a FIFO line.
        """
        for delivery in deliveries:
            lane = self._lanes.get(delivery.endpoint)
            if delivery.state is State.LEASED:
                if lane is not None:
                    lane.reserved -= 1
                if stored and delivery.endpoint not in waiting:
                    self._enqueue(Claimed(delivery, message))
                elif stored is None:
                    # its caller was told no: whoever claims it may send it, and its line must not wait for the lease
                    self._spawn(self._release(Claimed(delivery, message)))
                else:
                    self._let_go(message)
            elif stored and delivery.endpoint not in waiting:
                self.note_due(delivery.endpoint, delivery.due_at or 0)

    def note_due(self, endpoint: str, due_at: int) -> None:
        """The database has something for the endpoint at `due_at`."""
        if not self._send:
            return
        known = self._due.get(endpoint)
        if known is None or due_at < known:
            self._due[endpoint] = due_at
            self._schedule(endpoint)

    def probe_now(self, endpoint: str) -> None:
        """Somebody asks for an attempt by hand: an open breaker lets one through."""
        lane = self._lanes.get(endpoint)
        if lane is not None and lane.health.open_until is not None:
            lane.health = replace(lane.health, open_until=None)
        self._schedule(endpoint)

    def forget_idle(self) -> None:
        """Keep the number of known endpoints bounded."""
        if len(self._lanes) > _IDLE_LANES:
            for endpoint in [key for key, lane in self._lanes.items() if lane.idle and key not in self._due]:
                del self._lanes[endpoint]

    # memory

    def _let_go(self, message: Message) -> None:
        self._memory.let_go(message)
        if self._crowded:
            self._feed_crowded()

    def _feed_crowded(self) -> None:
        """There is room in memory: those that found none take turns."""
        for _ in range(0 if self._memory.full else min(_TURNS_PER_END, len(self._crowded))):
            endpoint = next(iter(self._crowded))
            del self._crowded[endpoint]
            self._agenda.push(self._clock.now(), endpoint)

    def _new_lease(self) -> int:
        self._lease = (self._lease + 1) & 0x3FFF_FFFF_FFFF_FFFF or 1
        return self._lease

    # claiming

    def _schedule(self, endpoint: str) -> None:
        """Look at the endpoint again when its next claim can act: not while it is full, not before its breaker allows."""
        due = self._due.get(endpoint)
        if due is None:
            return
        lane = self._lanes.get(endpoint)
        if lane is not None:
            if lane.endpoint.disabled or lane.claiming:
                return
            due = max(due, lane.health.open_until or 0)
        self._agenda.push(due, endpoint)

    def next_wakeup(self) -> int | None:
        """The next instant at which something can be done without an outside event (µs UTC)."""
        return self._agenda.next_wakeup()

    @property
    def alive(self) -> bool:
        """Whether it claims what comes due; if not, only a new start helps."""
        return not self._send or (self._runner is not None and not self._runner.done())

    async def _run(self) -> None:
        while not self._stopping:
            try:
                await self._round()
            except Exception:
                # a defect that one endpoint brings out must not end the deliveries of all
                log.exception("a round of the worker failed; it goes on")
                await until(asyncio.Event(), SECOND)

    async def _round(self) -> None:
        self._agenda.wake.clear()
        claims = await self._ready(self._clock.now())
        if claims:
            await self._claim(claims)
            return
        wakeup = self.next_wakeup()
        await until(self._agenda.wake, None if wakeup is None else max(0, wakeup - self._clock.now()) + MILLISECOND)

    async def _ready(self, now: int) -> list[Asked]:
        """Take what has come up from the heap: start what only waited for time, and say what to claim."""
        claims: list[Asked] = []
        asked = 0
        while len(claims) < LANES_PER_ROUND and (endpoint := self._agenda.pop(now)) is not None:
            lane = self._lanes.get(endpoint) or await self._load(endpoint)
            if lane is None:
                continue
            self._pump(lane)
            due = self._due.get(endpoint)
            if due is None:
                continue
            if max(due, lane.health.open_until or 0) > now:
                self._schedule(endpoint)
                continue
            room = lane.room(now)
            limit = min(room, self._memory.room - asked)
            if room > 0 and (limit <= 0 or self._memory.full):
                self._crowded[endpoint] = None
            elif room > 0:
                lane.claiming = True
                asked += limit
                until_, rate = now + self._policy.lease, lane.endpoint.rate_limit
                paced_until = now + PACED_SECONDS * SECOND
                since = min(due, lane.floor)
                claim = Claim(endpoint, limit, now, self._new_lease(), until_, rate, paced_until, since)
                claims.append((lane, lane.health, claim))
        if not claims:
            # those whose turn it was may have had nothing to claim
            self._feed_crowded()
        return claims

    async def _load(self, endpoint: str) -> Lane | None:
        try:
            found = await self._store.load_endpoint(endpoint)
            if found is None:
                # planned by a node that did not know yet: nobody will ever want these
                self.dismiss(endpoint)
                await self._store.abandon(endpoint)
                return None
        except StoreUnavailable:
            self._agenda.push(self._clock.now() + SECOND, endpoint)
            return None
        except TenterhookError as error:
            log.error("endpoint %s cannot be read, its deliveries wait: %s", endpoint, error)
            self._agenda.push(self._clock.now() + _UNREADABLE, endpoint)
            return None
        self.adopt(*found)
        return self._lanes[endpoint]

    async def _claim(self, claims: list[Asked]) -> None:
        pages = await asyncio.gather(*(self._committer.claim(claim) for _, _, claim in claims), return_exceptions=True)
        for (lane, known, claim), page in zip(claims, pages, strict=True):
            lane.claiming = False
            if isinstance(page, BaseException):
                self._agenda.push(self._clock.now() + SECOND, claim.endpoint)
                continue
            if page.health is not None and lane.health is known:
                lane.health = page.health
            if _is_outdated(lane, page.claimed):
                await self._load(claim.endpoint)
            self._take(lane, claim, page)

    def _take(self, lane: Lane, claim: Claim, page: Page) -> None:
        lane.searched(claim.now, page.oldest)
        if page.next_due is None:
            self._due.pop(claim.endpoint, None)
        else:
            self._due[claim.endpoint] = page.next_due
        for claimed in page.claimed:
            self._memory.hold(claimed.message)
            if _is_outdated(lane, [claimed]):
                self._spawn(self._release(claimed))  # it could not be loaded, or is gone
            elif claimed.expired:
                self._spawn(self._settle(lane, claimed, claim.now, expired_lease()))
            elif claimed.delivery.expires_at <= claim.now:
                self._spawn(self._lapse(claimed, claim.now))
            else:
                lane.queue.append(claimed)
        self._pump(lane)
        self._schedule(claim.endpoint)

    # sending

    def _enqueue(self, claimed: Claimed) -> None:
        """The memory of `claimed` is accounted for already."""
        lane = self._lanes.get(claimed.delivery.endpoint)
        if lane is None or self._stopping:
            self._spawn(self._release(claimed))
            return
        lane.queue.append(claimed)
        self._pump(lane)

    def _pump(self, lane: Lane) -> None:
        """Start what may start."""
        if not lane.queue:
            return
        now = self._clock.now()
        while lane.queue:
            if (lane.queue[0].delivery.due_at or 0) - now < lane.timeout + LEASE_MARGIN:
                self._spawn(self._release(lane.queue.popleft()))
                continue
            share = limits.fair_share(self.in_flight, len(self._active), self._policy.global_concurrency)
            if not lane.may_start(now, share):
                self._hold_up(lane, now)
                return
            claimed = lane.queue.popleft()
            lane.in_flight += 1
            self.in_flight += 1
            self._active.add(lane.endpoint.id)
            self._spawn(self._attempt(lane, claimed, now, lane.timeout))

    def _hold_up(self, lane: Lane, now: int) -> None:
        if lane.endpoint.disabled or is_open(lane.health, now):
            self._release_queue(lane)
            return
        if lane.resume is None and lane.in_flight < limits.slots(lane.health, lane.window, now):
            self._starved[lane.endpoint.id] = None
        # at the latest when the lease becomes too short: one that runs out in the queue would count as an attempt
        too_late = (lane.queue[0].delivery.due_at or 0) - lane.timeout - LEASE_MARGIN + 1
        self._agenda.push(too_late if lane.resume is None else min(too_late, lane.resume), lane.endpoint.id)

    def _release_queue(self, lane: Lane) -> None:
        while lane.queue:
            self._spawn(self._release(lane.queue.popleft()))

    def _feed_starved(self) -> None:
        """A slot is free: those that found none take turns."""
        for _ in range(min(_TURNS_PER_END, len(self._starved))):
            endpoint = next(iter(self._starved))
            del self._starved[endpoint]
            lane = self._lanes.get(endpoint)
            if lane is not None:
                self._pump(lane)

    def _spawn(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attempt(self, lane: Lane, claimed: Claimed, started: int, deadline: int) -> None:
        endpoint = lane.endpoint
        try:
            outcome = await self._outcome(claimed.message, endpoint, started, deadline)
        except asyncio.CancelledError:
            self._let_go(claimed.message)
            raise
        self.in_flight -= 1
        lane.ended(outcome)
        if not lane.in_flight:
            self._active.discard(endpoint.id)
        await self._settle(lane, claimed, started, outcome)

    async def _outcome(self, message: Message, endpoint: Endpoint, started: int, deadline: int) -> Outcome:
        if message.expired:
            return expired_payload()
        try:
            sender = self._senders(endpoint.kind)
            return await sender.send(message, endpoint, deadline=deadline, now=started)
        except Exception as error:
            log.exception("the sender of %s failed on message %s", endpoint.id, message.id)
            return Outcome(result=Result.RETRY, reason=Reason.INTERNAL, detail=type(error).__name__)

    # settling

    async def _settle(self, lane: Lane, claimed: Claimed, started: int, outcome: Outcome) -> None:
        now = self._clock.now()
        before, delivery = lane.health, claimed.delivery
        verdict = settle(delivery, lane.endpoint, before, outcome, now, self._policy, self._rng)
        lane.health = verdict.health
        if verdict.disable is not None and not lane.endpoint.disabled:
            self._switch_off(lane, verdict.disable)
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
        self._feed_starved()  # first, or an endpoint with a long queue would take its own slot again and again
        self._pump(lane)
        self._schedule(delivery.endpoint)
        settlement = Settlement(
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
        notices: Planned = ()
        if verdict.signals:
            since = verdict.health.failing_since
            about = partial(self._notices.attempt, verdict.signals, lane.endpoint, claimed.message, attempt, since)
            notices = await self._told(about)
        written = await self._write(settlement, notices)
        self._let_go(claimed.message)
        if written is not None:
            self._learn(lane, verdict.health, written)
            await self._settled(lane, verdict, attempt, written)

    def _lease_of_next(self, lane: Lane | None, delivery: Delivery) -> int:
        """For the next of a FIFO line, if this one ends; 0 leaves it to the next claim."""
        if delivery.order_key is None or (lane is not None and lane.paced_together):
            return 0
        return self._new_lease()

    def _learn(self, lane: Lane, ours: Health, written: Written) -> None:
        """What other nodes have seen of the endpoint, unless we have seen more since."""
        if written.health is not None and lane.health is ours:
            lane.health = written.health

    async def _settled(self, lane: Lane, verdict: Settled, attempt: Attempt, written: Written) -> None:
        delivery = verdict.delivery
        if verdict.disable is not None:
            await self._switched_off(lane, verdict.disable, written.kept)
        self._instrument.attempt_settled(delivery, attempt, written.kept)
        for signal in verdict.signals if written.kept else ():
            self._instrument.signalled(signal)
        if written.kept and delivery.state is State.DUE and delivery.due_at is not None:
            self.note_due(delivery.endpoint, delivery.due_at)
        elif written.kept and delivery.order_key is not None and lane.paced_together:
            self.note_due(delivery.endpoint, self._clock.now())
        await self._promoted(written)

    async def _promoted(self, written: Written) -> None:
        promoted = written.promoted
        if promoted is None:
            return
        self._memory.hold(promoted.message)
        lane = self._lanes.get(promoted.delivery.endpoint)
        if lane is not None and _is_outdated(lane, [promoted]):
            await self._load(promoted.delivery.endpoint)
        self._enqueue(promoted)

    def _switch_off(self, lane: Lane, reason: str) -> None:
        lane.configure(replace(lane.endpoint, disabled=True, disabled_reason=reason))
        self._release_queue(lane)
        self._disabled(lane.endpoint)

    async def _switched_off(self, lane: Lane, reason: str, kept: bool) -> None:
        """Say it again now that it is on the disk: whoever has read the endpoint in between knows it as it was before."""
        if kept:
            self._switch_off(lane, reason)
        else:
            # the verdict came too late to count
            await self._insist(partial(self.hear_of, lane.endpoint.id))
            self._disabled(lane.endpoint)

    async def _release(self, claimed: Claimed) -> None:
        """Hand a delivery back untried."""
        now = self._clock.now()
        released = step(claimed.delivery, "released", due_at=now)
        written = await self._write(Settlement(released, claimed.delivery.lease, now=now))
        self._let_go(claimed.message)
        if written is not None and written.kept:
            self.note_due(released.endpoint, now)
            self._schedule(released.endpoint)

    async def _lapse(self, claimed: Claimed, now: int) -> None:
        """Its lifetime is over: it ends without another attempt."""
        ended = step(claimed.delivery, "lapsed")
        lane = self._lanes.get(ended.endpoint)
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
        self._let_go(claimed.message)
        if written is not None and written.kept:
            self._instrument.signalled(
                Signal("message.attempt.exhausted", ended.app, ended.endpoint, ended.message, "lapsed")
            )
            await self._promoted(written)

    async def _told(self, plan: Callable[[], Awaitable[Planned]]) -> Planned:
        """What operational webhooks are to tell; a defect there must not cost the result that it is about."""
        try:
            return await self._insist(plan)
        except Exception:
            log.exception("an operational webhook could not be planned")
            return ()

    async def _write(self, settlement: Settlement, notices: Planned = ()) -> Written | None:
        """Keep trying while this process lives: nobody else knows what the receiver said."""
        try:
            written = await self._insist(lambda: self._committer.settle(settlement, notices))
        except Unstorable:
            return await self._write(settlement) if notices else None
        if written.kept:
            self._notices.written(notices)
        return written

    async def _insist(self, work: Callable[[], Awaitable[T]]) -> T:
        """Until the database can be used again."""
        wait = _PATIENCE
        while True:
            try:
                return await work()
            except StoreUnavailable:
                await until(asyncio.Event(), wait)
            wait = min(2 * wait, SECOND)
