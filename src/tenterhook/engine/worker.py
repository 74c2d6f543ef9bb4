"""Delivers for one node: the parts of that, and what the rest of the program tells and asks of it.

Fresh deliveries come in memory, already leased (`plan`, `planned`); all others are found by `claiming`. `sending` starts
attempts, `settling` writes what became of them, `endpoints` knows who they are for, `pending` what is still to do.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random

from tenterhook.clock import Clock
from tenterhook.engine.agenda import Memory
from tenterhook.engine.background import Background
from tenterhook.engine.claiming import Claiming
from tenterhook.engine.committer import Committer
from tenterhook.engine.endpoints import Endpoints
from tenterhook.engine.lane import Lane
from tenterhook.engine.pending import Pending
from tenterhook.engine.sending import Sending
from tenterhook.engine.settling import Settling
from tenterhook.engine.throttle import Throttle
from tenterhook.ids import IdMaker
from tenterhook.model import Delivery, Endpoint, Health, Message, Policy, State
from tenterhook.observe import Instrument
from tenterhook.operational import NO_NOTICES, Notifier
from tenterhook.senders.base import Senders
from tenterhook.store.base import Store
from tenterhook.store.work import Claimed


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
        notices: Notifier = NO_NOTICES,
        send: bool = True,
    ) -> None:
        memory = Memory(memory_deliveries, memory_bytes)
        self._pending = pending = Pending(clock, memory, rng.getrandbits(62), send)
        self._policy, self._send, self._memory = policy, send, memory
        self._background = background = Background()
        self._settling = settling = Settling(
            pending, background, committer, clock, ids, rng, instrument, policy, notices
        )
        self._endpoints = endpoints = Endpoints(store, pending, settling, clock, policy, disabled)
        self._sending = sending = Sending(pending, endpoints, settling, background, senders, clock, policy)
        self._claiming = Claiming(store, committer, pending, endpoints, settling, sending, background, clock, policy)

    # life

    async def start(self) -> None:
        """Learn what is pending and begin to claim it."""
        if self._send:
            await self._claiming.refresh()
            self._claiming.start()

    async def stop(self, timeout: int) -> None:
        """Start nothing more, hand back what waits, give what is in flight `timeout` µs to end.

        What has not ended by then goes on elsewhere when its lease is over, as an attempt of unknown outcome.
        """
        self._sending.stopping = True
        await self._claiming.stop()
        for lane in self._pending.lanes.values():
            self._settling.release_queue(lane)
        await self._background.finish(timeout)

    @property
    def alive(self) -> bool:
        """Whether it claims what comes due; if not, only a new start helps."""
        return not self._send or self._claiming.alive

    @property
    def rests(self) -> int:
        """How often it has found nothing to do."""
        return self._claiming.rests

    @property
    def in_flight(self) -> int:
        """Attempts under way."""
        return self._sending.in_flight

    @property
    def lanes(self) -> Mapping[str, Lane]:
        """What it knows of endpoints, by their ids."""
        return self._pending.lanes

    @property
    def throttles(self) -> Mapping[str, Throttle]:
        """The rates of applications that it knows, by their ids."""
        return self._pending.throttles

    def next_wakeup(self) -> int | None:
        """The next instant at which something can be done without an outside event (µs UTC)."""
        return self._pending.agenda.next_wakeup()

    # what others tell

    async def refresh(self) -> None:
        """Ask the database which endpoints have something pending: at the start, and for what other nodes left.

        One that was changed elsewhere is loaded anew: the hint may have been lost, and a lane that is taken for switched
        off would never claim.
        """
        if self._send:
            await self._claiming.refresh()

    def adopt(self, endpoint: Endpoint, health: Health) -> None:
        """Know an endpoint, or that it has changed; its health is taken only for one not known yet."""
        self._endpoints.adopt(endpoint, health)

    def dismiss(self, endpoint: str) -> None:
        """Forget a deleted endpoint."""
        self._endpoints.dismiss(endpoint)

    def throttle(self, app: str, rate: int | None) -> None:
        """Know the most attempts per second to all endpoints of an application, None for any number."""
        self._endpoints.throttle(app, rate)

    async def hear_of_application(self, app: str) -> None:
        """Another node has changed an application, perhaps its rate. Raises StoreUnavailable."""
        await self._endpoints.update_rate(app)

    async def hear_of(self, endpoint: str) -> None:
        """Another node has changed an endpoint, or what is known of its health. Raises StoreUnavailable."""
        await self._sending.hear_of(endpoint)

    async def hear_of_all(self) -> None:
        """Something may have been missed: ask what is pending, and what became of endpoints whose deliveries are in memory."""
        await self.refresh()
        for app in {lane.endpoint.app for lane in self._pending.lanes.values() if not lane.idle}:
            await self._endpoints.update_rate(app)
        for endpoint in [key for key, lane in self._pending.lanes.items() if lane.queue]:
            await self._sending.hear_of(endpoint)

    def note_due(self, endpoint: str, due_at: int) -> None:
        """The database has something for the endpoint at `due_at`."""
        self._pending.note_due(endpoint, due_at)

    def probe_now(self, endpoint: str) -> None:
        """Somebody asks for an attempt by hand: an open breaker lets one through."""
        self._pending.probe_now(endpoint)

    def forget_idle(self) -> None:
        """Keep the number of known endpoints and rates bounded."""
        self._pending.forget_idle()

    # planning

    def plan(
        self, message: Message, endpoints: Sequence[Endpoint], now: int, lease: bool = True
    ) -> tuple[Delivery, ...]:
        """The deliveries that a new message owes; those with room in memory are leased to this worker at once.

        `planned` must follow, but for a plan without `lease`: that leaves them all to the next claim.
        """
        return tuple([self._plan(message, endpoint, now, lease) for endpoint in endpoints])

    def _plan(self, message: Message, endpoint: Endpoint, now: int, lease: bool) -> Delivery:
        lane = self._pending.lanes.get(endpoint.id) if lease else None
        start = max(now, message.deliver_at or 0)
        leased = start == now and lane is not None and self._takes_more and lane.admits(now)
        if leased and lane is not None and lane.throttle is not None:
            leased = not self._pending.is_behind(endpoint.id, now)
        if leased and lane is not None:
            lane.reserve()
            self._memory.hold(message)
        return Delivery(
            message=message.id,
            endpoint=endpoint.id,
            app=message.app,
            state=State.LEASED if leased else State.DUE,
            due_at=now + self._policy.lease if leased else start,
            lease=self._pending.new_lease() if leased else 0,
            order_key=(message.order_key or "") if endpoint.ordered else None,
            created_at=now,
            expires_at=start + (endpoint.lifetime or self._policy.lifetime),
        )

    @property
    def _takes_more(self) -> bool:
        return self._send and not self._sending.stopping and not self._memory.full

    def planned(
        self, message: Message, deliveries: Iterable[Delivery], waiting: Sequence[str], stored: bool | None
    ) -> None:
        """The plan is on the disk, came to nothing (`stored` False), or nobody knows (None).

        `waiting` went into a FIFO line.
        """
        for delivery in deliveries:
            lane = self._pending.lanes.get(delivery.endpoint)
            if delivery.state is State.LEASED:
                if lane is not None:
                    lane.unreserve()
                if stored and delivery.endpoint not in waiting:
                    self._sending.enqueue(Claimed(delivery, message))
                elif stored is None:
                    # its caller was told no: whoever claims it may send it, and its line must not wait for the lease
                    self._settling.release_soon(Claimed(delivery, message))
                else:
                    self._pending.let_go(message)
                    if lane is not None and lane.throttle is not None:
                        self._pending.move_on(lane.throttle)
            elif stored and delivery.endpoint not in waiting:
                self._pending.note_due(delivery.endpoint, delivery.due_at or 0)
