"""One endpoint as the worker sees it: its configuration and health, what is in flight, and what waits in memory."""

from collections import deque

from tenterhook.clock import SECOND
from tenterhook.engine import limits
from tenterhook.engine.breaker import is_open, is_probing
from tenterhook.engine.throttle import PACED_SECONDS, Throttle
from tenterhook.model import Endpoint, Health, Outcome, Policy
from tenterhook.store.work import Claimed

LEASE_MARGIN = 2 * SECOND
"""An attempt starts only if its lease outlasts the deadline by this, so that the report is on the disk in time."""

LATENESS = 10 * SECOND
"""How long after it is due a delivery may come into sight: its commit took so long. One that is later still is found when
the worker asks for all that is pending."""


class Lane:
    """The mutable state of one endpoint inside one worker.

    `reserved` counts deliveries that are being committed as leased; they enter `queue` when they are on the disk.
    `claiming` tells that a claim is under way, `noted` is the earliest due time that was heard of meanwhile. `resume` is when
    to ask again after time alone stopped an attempt. `shared` tells that other nodes send to it too. `floor`: nothing that is
    pending was due earlier, so claims need not look there. `throttle` is the rate of its application, if that has one.
    """

    __slots__ = (
        "cap", "claiming", "endpoint", "floor", "health", "in_flight", "next_at", "noted", "policy", "queue",
        "reserved", "resume", "shared", "throttle", "timeout", "window",
    )  # fmt: skip

    def __init__(self, endpoint: Endpoint, health: Health, policy: Policy, shared: bool = False) -> None:
        self.policy = policy
        self.shared = shared
        self.health = health
        self.queue: deque[Claimed] = deque()
        self.reserved = 0
        self.in_flight = 0
        self.claiming = False
        self.noted: int | None = None
        self.floor = 0
        self.next_at = 0
        self.resume: int | None = None
        self.throttle: Throttle | None = None
        self.window = limits.FIRST_WINDOW
        self.configure(endpoint)

    def configure(self, endpoint: Endpoint) -> None:
        """Take over a changed endpoint: the very next attempt goes by it."""
        self.endpoint = endpoint
        self.cap = endpoint.concurrency or self.policy.concurrency
        # a deadline that no lease outlasts would be claimed and handed back for ever
        longest = self.policy.lease - 2 * LEASE_MARGIN
        self.timeout = max(1, min(endpoint.timeout or self.policy.timeout, longest))
        self.window = min(self.window, self.cap)

    def join(self, throttle: Throttle | None) -> None:
        """From now on its attempts count for this one."""
        if self.throttle is not None:
            self.throttle.forget(self.endpoint.id)
            self.throttle.held -= self.held
        self.throttle = throttle
        if throttle is not None:
            throttle.held += self.held

    def reserve(self) -> None:
        """A delivery is being committed as leased."""
        self.reserved += 1
        if self.throttle is not None:
            self.throttle.held += 1

    def unreserve(self) -> None:
        """It is on the disk, or came to nothing."""
        self.reserved -= 1
        if self.throttle is not None:
            self.throttle.held -= 1

    def put(self, claimed: Claimed) -> None:
        """It waits here to be sent."""
        self.queue.append(claimed)
        if self.throttle is not None:
            self.throttle.held += 1

    def take(self) -> Claimed:
        """The first of those that wait."""
        claimed = self.queue.popleft()
        if self.throttle is not None:
            self.throttle.held -= 1
            if not self.queue:
                self.throttle.leave(self.endpoint.id)
        return claimed

    @property
    def held(self) -> int:
        """Deliveries of this lane in memory that are not in flight yet."""
        return len(self.queue) + self.reserved

    @property
    def paced_together(self) -> bool:
        """Whether nodes share a rate: then each delivery needs an instant from a claim."""
        return self.shared and (self.endpoint.rate_limit is not None or self.throttle is not None)

    @property
    def takes_next(self) -> bool:
        """Whether the next of a FIFO line may be leased with the end of the one before."""
        return not self.paced_together and (self.throttle is None or not self.throttle.full)

    def admits(self, now: int) -> bool:
        """Whether a fresh delivery may be leased to memory, or should wait in the database for its turn."""
        if self.endpoint.disabled or is_open(self.health, now):
            return False
        if self.paced_together or (self.shared and is_probing(self.health)):
            return False  # only the database can share out what all nodes together may send
        if self.endpoint.rate_limit is not None and self.held >= self.endpoint.rate_limit * PACED_SECONDS:
            return False
        if self.throttle is not None and not (self.throttle.admits(self.held) and self.fits(now)):
            return False
        return self.held < limits.slots(self.health, self.window, now) * limits.QUEUE_PER_SLOT

    def room(self, now: int) -> int:
        """How many deliveries a claim should bring: enough to keep the window full until the next one.

        None while half of that is still there: a claim for each free slot would cost a commit each.
        """
        if self.endpoint.disabled or self.claiming:
            return 0
        slots = limits.slots(self.health, self.window, now)
        wanted = 2 * slots - self.held - self.in_flight
        if wanted < slots:
            return 0
        if self.endpoint.rate_limit is not None:
            wanted = min(wanted, self.endpoint.rate_limit * PACED_SECONDS - self.held)
        return max(0, wanted)

    def fits(self, now: int) -> int:
        """How many more a lane of a throttled application may hold: what it cannot send soon would take the room of others.

        That is no more than there are free slots for, and no more than a second's worth of its own rate.
        """
        most = limits.slots(self.health, self.window, now) - self.in_flight
        if self.endpoint.rate_limit is not None:
            most = min(most, self.endpoint.rate_limit)
        return max(0, most - self.held)

    def searched(self, now: int, oldest: int | None) -> None:
        """A claim at `now` has seen everything that was pending; the first of it is due at `oldest`."""
        self.floor = (now if oldest is None else min(now, oldest)) - LATENESS

    def may_start(self, now: int, share: int) -> bool:
        """Whether one more attempt may start at once; `resume` then says when to ask again, if time alone will help."""
        free = self._has_slot(now, share)
        if self.endpoint.rate_limit is None and self.throttle is None:
            return free
        if free:
            return self._has_time(now)
        if self.throttle is not None:
            self.throttle.leave(self.endpoint.id)
        return False

    def _has_slot(self, now: int, share: int) -> bool:
        self.resume = None
        if self.endpoint.disabled:
            return False
        if self.queue and self.queue[0].not_before > now:
            self.resume = self.queue[0].not_before
            return False
        if is_open(self.health, now):
            self.resume = self.health.open_until
            return False
        return self.in_flight < min(limits.slots(self.health, self.window, now), share)

    def _has_time(self, now: int) -> bool:
        """Whether both rates allow an attempt, which then counts for both."""
        next_at = self.next_at
        if self.endpoint.rate_limit is not None:
            free, next_at = limits.pace(self.next_at, self.endpoint.rate_limit, now)
            if not free:
                self.resume = limits.soonest(next_at)
                if self.throttle is not None:
                    self.throttle.leave(self.endpoint.id)
                return False
        if self.throttle is not None:
            self.resume = self.throttle.take_turn(self.endpoint.id, now)
            if self.resume is not None:
                return False
        self.next_at = next_at
        return True

    def ended(self, outcome: Outcome) -> None:
        """An attempt is over."""
        self.in_flight -= 1
        self.window = limits.next_window(self.window, outcome, self.cap)

    @property
    def idle(self) -> bool:
        """Whether the lane can be forgotten without losing anything."""
        return not (self.queue or self.reserved or self.in_flight or self.claiming)
