"""The rate of one application inside one worker: all its endpoints together, in turn.

An endpoint takes a turn to start an attempt, and one to bring more of its work into memory. Both queues hold only those
that nothing else keeps from it, so a slow or failing endpoint lets the others pass.
"""

from collections import OrderedDict

from tenterhook.clock import SECOND
from tenterhook.engine import limits

PACED_SECONDS = 5
"""What is throttled holds no more in memory than it may be sent in this time: leases must not run out in the queue."""


class Throttle:
    """`held` and `asked`: deliveries that are in memory and not in flight, or are being brought there.

    `starting`: endpoints whose next attempt waits for the rate alone. `wanting`: those that the rate keeps from what is due in
    the database; `starved`: those of them that found no room and hold nothing. Before `free_at` claims find nothing: other
    nodes have taken what there is.
    """

    __slots__ = ("asked", "free_at", "held", "next_at", "rate", "starting", "starved", "wanting")

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.next_at = 0
        self.held = self.asked = 0
        self.free_at = 0
        self.starting: dict[str, None] = {}
        self.starved: OrderedDict[str, None] = OrderedDict()
        self.wanting: set[str] = set()

    def change(self, rate: int) -> None:
        """Another rate, from the next attempt on."""
        self.next_at = self.next_at - SECOND // self.rate + SECOND // rate
        self.rate = rate
        self.free_at = 0

    @property
    def full(self) -> bool:
        """Whether memory holds all that it should."""
        return self.held + self.asked >= self.rate * PACED_SECONDS

    def room(self, held: int) -> int:
        """How many more deliveries an endpoint that holds `held` may bring into memory.

        At most its share of a second's worth, so that all have had a turn after a second; and half of what is free, so that a
        newcomer finds room. Nothing before it is a step worth a claim, as large as what is there still.
        """
        free = self.rate * PACED_SECONDS - self.held - self.asked
        share = max(1, self.rate // max(1, len(self.wanting)))
        room = min(share - held, (free - held + 1) // 2)
        return room if room >= max(1, held) else 0

    def is_idle(self, now: int) -> bool:
        """Whether a new one would be as good: it holds nothing, and keeps nobody waiting."""
        return not (self.held or self.asked) and max(self.next_at, self.free_at) <= now

    def admits(self, held: int) -> bool:
        """Whether a fresh delivery may go to memory: not past those that wait for room."""
        return not self.starved and not self.full and held < self.rate

    def take_turn(self, endpoint: str, now: int) -> int | None:
        """Start an attempt: None if it may start at once, else the instant at which to ask again at the latest."""
        first = next(iter(self.starting), endpoint)
        if first == endpoint:
            free, self.next_at = limits.pace(self.next_at, self.rate, now)
            if free:
                self.starting.pop(endpoint, None)
                return None
        self.starting[endpoint] = None
        return limits.soonest(self.next_at) + (len(self.starting) - 1) * (SECOND // self.rate)

    def first_in_line(self, endpoint: str) -> None:
        """It was its turn to claim, and nothing was left."""
        self.starved[endpoint] = None
        self.starved.move_to_end(endpoint, last=False)

    def leave(self, endpoint: str) -> None:
        """It has nothing to start, or something else keeps it from that."""
        self.starting.pop(endpoint, None)

    def forget(self, endpoint: str) -> None:
        """It is not known any more, or belongs to no throttled application."""
        self.leave(endpoint)
        self.starved.pop(endpoint, None)
        self.wanting.discard(endpoint)

    def next_turn(self) -> tuple[int, str] | None:
        """Who may start the next attempt, and when."""
        for endpoint in self.starting:
            return limits.soonest(self.next_at), endpoint
        return None

    def next_claim(self) -> tuple[int, str] | None:
        """Who may claim next, and from when on; None while there is no room."""
        if not self.full:
            for endpoint in self.starved:
                return self.free_at, endpoint
        return None
