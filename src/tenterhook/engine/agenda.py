"""When a worker should look at which endpoint again, and how much it may hold in memory meanwhile."""

import asyncio
import heapq

from tenterhook.model import Message


class Agenda:
    """A heap of (instant, endpoint): entries are hints, and only the earliest of an endpoint counts.

    `wake` is set when something comes up earlier than the runner that waits for it knows.
    """

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self._heap: list[tuple[int, str]] = []
        self._counting: dict[str, int] = {}

    def push(self, instant: int, endpoint: str) -> None:
        """Look at the endpoint at `instant` (µs UTC), unless that is going to happen earlier anyway."""
        known = self._counting.get(endpoint)
        if known is not None and known <= instant:
            return
        self._counting[endpoint] = instant
        if not self._heap or instant < self._heap[0][0]:
            self.wake.set()
        heapq.heappush(self._heap, (instant, endpoint))

    def pop(self, now: int) -> str | None:
        """The next endpoint whose time has come."""
        while self._heap and self._heap[0][0] <= now:
            instant, endpoint = heapq.heappop(self._heap)
            if self._counting.get(endpoint) == instant:
                del self._counting[endpoint]
                return endpoint
        return None

    def next_wakeup(self) -> int | None:
        """The next instant at which something can be done without an outside event (µs UTC)."""
        return self._heap[0][0] if self._heap else None


class Memory:
    """The deliveries that a worker holds, each with its message, and the bounds of that.

    With room for none nothing would ever be sent, so there is room for one at least.
    """

    def __init__(self, deliveries: int, size: int) -> None:
        self._most, self._most_bytes = max(1, deliveries), max(1, size)
        self._held = self._held_bytes = 0

    def hold(self, message: Message) -> None:
        self._held += 1
        self._held_bytes += len(message.payload)

    def let_go(self, message: Message) -> None:
        self._held -= 1
        self._held_bytes -= len(message.payload)

    @property
    def full(self) -> bool:
        return self._held >= self._most or self._held_bytes >= self._most_bytes

    @property
    def room(self) -> int:
        """How many more deliveries there is room for, as far as their number goes."""
        return self._most - self._held
