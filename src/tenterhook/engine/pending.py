"""What waits to be sent: where and when the database has something, when to look at which lane, how much is in memory."""

from msgspec.structs import replace

from tenterhook.clock import Clock
from tenterhook.engine.agenda import Agenda, Memory
from tenterhook.engine.lane import Lane
from tenterhook.engine.throttle import Throttle
from tenterhook.model import Message

TURNS_PER_END = 4
"""How many of those that found no room get a turn when something ends."""
_IDLE_LANES = 10_000
_IDLE_THROTTLES = 10_000


class Pending:
    """The lanes of one node, by endpoint, and what is known of the work for them.

    `due` says when the database next has something for an endpoint. `throttles` are the rates of applications that have one,
    `apps` the endpoints known of each; `rate_changes` counts how often one has changed. `active` is whether this node sends
    at all. Deadlines and wake-ups go through `agenda`: entries are hints, checked when they come up.
    """

    def __init__(self, clock: Clock, memory: Memory, lease: int, active: bool) -> None:
        self._clock = clock
        self.memory = memory
        self.active = active
        self.lanes: dict[str, Lane] = {}
        self.apps: dict[str, set[str]] = {}
        self.throttles: dict[str, Throttle] = {}
        self.rate_changes = 0
        self.due: dict[str, int] = {}
        self.agenda = Agenda()
        self.crowded: dict[str, None] = {}  # have work in the database and no memory
        self._lease = lease

    def add(self, lane: Lane) -> None:
        """Know an endpoint."""
        endpoint = lane.endpoint
        self.lanes[endpoint.id] = lane
        self.apps.setdefault(endpoint.app, set()).add(endpoint.id)
        lane.join(self.throttles.get(endpoint.app))

    def remove(self, endpoint: str) -> Lane | None:
        """Forget an endpoint; its lane, if there was one."""
        self.due.pop(endpoint, None)
        lane = self.lanes.pop(endpoint, None)
        if lane is not None:
            known = self.apps[lane.endpoint.app]
            known.discard(endpoint)
            if not known:
                del self.apps[lane.endpoint.app]
        return lane

    def new_lease(self) -> int:
        """A number that no other lease of this process has."""
        self._lease = (self._lease + 1) & 0x3FFF_FFFF_FFFF_FFFF or 1
        return self._lease

    def note_due(self, endpoint: str, due_at: int) -> None:
        """The database has something for the endpoint at `due_at`."""
        if not self.active:
            return
        lane = self.lanes.get(endpoint)
        if lane is not None and lane.claiming and (lane.noted is None or due_at < lane.noted):
            lane.noted = due_at
        known = self.due.get(endpoint)
        if known is None or due_at < known:
            self.due[endpoint] = due_at
            self.schedule(endpoint)

    def end_claim(self, lane: Lane) -> None:
        """`due` says what a claim has left; what was noted while it ran may have come after it."""
        lane.claiming = False
        noted, lane.noted = lane.noted, None
        if noted is not None:
            self.note_due(lane.endpoint.id, noted)

    def schedule(self, endpoint: str) -> None:
        """Look at the endpoint again when its next claim can act: not while it is full, not before its breaker allows."""
        due = self.due.get(endpoint)
        if due is None:
            return
        lane = self.lanes.get(endpoint)
        if lane is not None:
            if lane.endpoint.disabled or lane.claiming:
                return
            due = max(due, lane.health.open_until or 0)
        self.agenda.push(due, endpoint)

    def is_behind(self, endpoint: str, now: int) -> bool:
        """Whether the database has something for the endpoint that is due already."""
        due = self.due.get(endpoint)
        return due is not None and due <= now

    def move_on(self, throttle: Throttle) -> None:
        """Something has changed for the endpoints of a throttled application: whose turn is next?"""
        for turn in (throttle.next_turn(), throttle.next_claim()):
            if turn is not None:
                self.agenda.push(*turn)

    def probe_now(self, endpoint: str) -> None:
        """Somebody asks for an attempt by hand: an open breaker lets one through."""
        lane = self.lanes.get(endpoint)
        if lane is not None and lane.health.open_until is not None:
            lane.health = replace(lane.health, open_until=None)
        self.schedule(endpoint)

    def let_go(self, message: Message) -> None:
        """A delivery of this message is not in memory any more."""
        self.memory.let_go(message)
        if self.crowded:
            self.feed_crowded()

    def feed_crowded(self) -> None:
        """There is room in memory: those that found none take turns."""
        turns = 0 if self.memory.full else min(TURNS_PER_END, self.memory.room, len(self.crowded))
        for _ in range(turns):
            endpoint = next(iter(self.crowded))
            del self.crowded[endpoint]
            self.agenda.push(self._clock.now(), endpoint)

    def forget_idle(self) -> None:
        """Keep the number of known endpoints and rates bounded. What is needed again is loaded with its endpoint."""
        if len(self.lanes) > _IDLE_LANES:
            for endpoint in [key for key, lane in self.lanes.items() if lane.idle and key not in self.due]:
                self.lanes[endpoint].join(None)
                self.remove(endpoint)
        if len(self.throttles) > _IDLE_THROTTLES:
            now = self._clock.now()
            for app in [key for key, one in self.throttles.items() if key not in self.apps and one.is_idle(now)]:
                del self.throttles[app]
