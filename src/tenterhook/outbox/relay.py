"""The relay: what transactions have left in an outbox becomes messages, once each and in order, and its rows go.

A row is published first and deleted then. If the server dies between the two, the row is published again, and the message
is recognised: its event id is the row's id or, where the writer gave one of its own, the hub remembers the event. So
nothing depends on the two databases agreeing, and nothing changes when they are one.

Rows of one application and key are published one after the other; all others at the same time, so that they share commits.
A row whose application is not known is tried again, and those behind it in its key wait. A row that can be no message stays
with its error, and nobody waits for it.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from tenterhook import clock
from tenterhook.clock import HOUR, SECOND, Clock
from tenterhook.config import ConfiguredOutbox
from tenterhook.observe import Stats
from tenterhook.outbox.base import Kept, OpenTable, Reading, Table, Unavailable, Waiting
from tenterhook.outbox.batch import plan
from tenterhook.outbox.publishing import Publisher

log = logging.getLogger(__name__)

READ_BYTES = 16 << 20
"""How many bytes of payloads are held in memory for one outbox, about: one payload may exceed it."""
REOPEN_FIRST, REOPEN_LAST = SECOND, 30 * SECOND
STOP_SECONDS = 5
LOOK = 10 * SECOND
"""How often a relay looks how much waits."""
TOLD, MOST_TOLD = HOUR, 100
"""How long the log is not told the same of an outbox again, and how many different things it is told in that time."""


class Relays:
    """The relays of a server, one for each outbox of its configuration."""

    def __init__(self, publisher: Publisher, clock: Clock, open_table: OpenTable, stats: Stats) -> None:
        self._publisher, self._clock, self._open, self._stats = publisher, clock, open_table, stats
        self._running: dict[str, Relay] = {}

    @property
    def names(self) -> list[str]:
        """The outboxes that are relayed from."""
        return list(self._running)

    @property
    def waiting(self) -> dict[str, Waiting | None]:
        """What waits in each outbox, as it was a moment ago; None for one that is not relayed from here right now."""
        return {name: relay.waiting for name, relay in self._running.items()}

    async def apply(self, outboxes: Iterable[ConfiguredOutbox]) -> None:
        """Relay from these outboxes, and from no others."""
        wanted = {outbox.name: replace(outbox, line=0) for outbox in outboxes}
        changed = [relay for name, relay in self._running.items() if wanted.get(name) != relay.outbox]
        await self._end(changed)
        for name, outbox in wanted.items():
            if name not in self._running:
                self._running[name] = Relay(outbox, self._publisher, self._clock, self._open, self._stats)
                self._running[name].start()

    async def stop(self) -> None:
        """Let each finish what it has read."""
        await self._end(list(self._running.values()))

    async def _end(self, relays: "Sequence[Relay]") -> None:
        await asyncio.gather(*(relay.stop() for relay in relays))
        for relay in relays:
            del self._running[relay.outbox.name]


class Relay:
    """Relays from one outbox, for as long as it takes: whatever happens to the database, it tries again."""

    def __init__(
        self, outbox: ConfiguredOutbox, publisher: Publisher, clock: Clock, open_table: OpenTable, stats: Stats
    ) -> None:
        self.outbox = outbox
        self.waiting: Waiting | None = None
        self._looked_at = 0
        self._publisher, self._clock, self._open, self._stats = publisher, clock, open_table, stats
        self._reading = Reading(outbox.batch, READ_BYTES, publisher.max_payload)
        self._wake, self._ending = asyncio.Event(), asyncio.Event()
        self._failures = 0
        self._told: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"outbox {self.outbox.name}")

    async def stop(self) -> None:
        """End after the rows that were read, within a few seconds; what is cut off is done again at the next start."""
        self._ending.set()
        self._wake.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=STOP_SECONDS)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while not self._ending.is_set():
            try:
                async with self._open(self.outbox, self._wake.set) as table:
                    await self._relay(table)
            except Unavailable as error:
                self._tell(f"waits: {error}", str(error))
            except Exception:
                log.exception("outbox %s: an error of the relay; it goes on", self.outbox.name)
            self.waiting = None
            await clock.until(self._ending, min(REOPEN_LAST, REOPEN_FIRST << min(self._failures, 20)))
            self._failures += 1

    async def _relay(self, table: Table) -> None:
        while not self._ending.is_set():
            self._wake.clear()
            if await table.lead():
                await self._look(table)
                wait = await self.round(table)
            else:
                wait = self.outbox.poll
            self._well()
            await clock.until(self._wake, wait)

    async def _look(self, table: Table) -> None:
        """How much waits, now and then. Raises Unavailable."""
        now = clock.steady()
        if self.waiting is None or now - self._looked_at >= LOOK:
            self.waiting, self._looked_at = await table.waiting(), now

    async def round(self, table: Table) -> int:
        """Read, publish, delete; how long to wait until the next round (µs). Raises Unavailable."""
        rows = await table.take(self._reading, self._clock.now())
        if not rows:
            return await table.rest(self.outbox.poll)
        planned = plan(rows)
        fates = await asyncio.gather(*(self._publisher.line(line) for line in planned.lines))
        kept = [row for fate in fates for row in fate.kept]
        self._explain(kept)
        published = [row for fate in fates for row in fate.published]
        await table.settle(published, [*planned.held, *kept])
        refused = sum(row.retry_at is None for row in kept)
        self._stats.rows_relayed(self.outbox.name, len(published), refused)
        if any(fate.unavailable for fate in fates):
            # lets go of the table, so that another server may do it
            raise Unavailable("messages cannot be stored")
        return 0

    def _explain(self, kept: Sequence[Kept]) -> None:
        for row in kept:
            when = "as it is" if row.retry_at is None else "yet"
            self._tell(f"the row {row.id}, and perhaps others, cannot be published {when}: {row.error}", row.error)

    def _tell(self, text: str, subject: str) -> None:
        """Write to the log, unless it was told of the subject within the hour."""
        now = self._clock.now()
        self._told = {known: at for known, at in self._told.items() if now - at < TOLD}
        if subject not in self._told and len(self._told) < MOST_TOLD:
            self._told[subject] = now
            log.warning("outbox %s: %s", self.outbox.name, text)

    def _well(self) -> None:
        if self._failures:
            log.info("outbox %s: goes on", self.outbox.name)
            self._failures, self._told = 0, {}
