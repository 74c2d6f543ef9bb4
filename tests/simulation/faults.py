"""The store as one process reaches it: slow at times, failing before or after the fact, and gone with its process."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tenterhook.clock import MILLISECOND, Clock
from tenterhook.errors import OutcomeUnknown, StoreUnavailable
from tenterhook.store.sqlite import SqliteStore
from tenterhook.store.work import Accept, Claim, Page
from tests.simulation.loop import for_ever, pause

_WAITS = (0, 0, 1, 1, 2, 5, 20, 200)


@dataclass
class Faults:
    """How often what goes wrong: `refused` of all calls fail before anything happened, `lost` after it was done.

    `outages` are (from, to) in which every call fails; `slow` calls take time on both sides of the work.
    """

    refused: float = 0.0
    lost: float = 0.0
    slow: bool = False
    outages: list[tuple[int, int]] = field(default_factory=list)

    @property
    def any(self) -> bool:
        """Whether calls may fail."""
        return bool(self.refused or self.lost or self.outages)

    def outage_at(self, now: int) -> bool:
        return any(begin <= now < end for begin, end in self.outages)


@dataclass
class Written:
    """What the database was asked to do. `refused` are the messages whose commit failed before it began."""

    refused: set[str] = field(default_factory=set)
    commits: int = 0
    failures: int = 0
    claims: int = 0
    empty_claims: int = 0


class Line:
    """Every verb of the store, with faults. Once `dead`, a call never returns and nothing more is done."""

    shared = False

    def __init__(self, store: SqliteStore, faults: Faults, rng: Random, clock: Clock, written: Written) -> None:
        self._store, self._faults, self._rng, self._clock = store, faults, rng, clock
        self._written = written
        self.dead = False

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._wait()
            if self._faults.outage_at(self._clock.now()) or self._rng.random() < self._faults.refused:
                self._written.failures += 1
                if verb == "commit":
                    self._written.refused.update(w.message.id for w in args[0] if isinstance(w, Accept) and w.message)
                raise StoreUnavailable("planted: before")
            result = await getattr(self._store, verb)(*args, **kwargs)
            if verb == "commit":
                self._note(args[0], result)
            await self._wait()
            if self._rng.random() < self._faults.lost:
                self._written.failures += 1
                raise OutcomeUnknown("planted: after")
            return result

        return call

    async def _wait(self) -> None:
        if self._faults.slow and not self.dead:
            await pause(self._rng.choice(_WAITS) * MILLISECOND)
        if self.dead:
            await for_ever()

    def _note(self, work: list[Any], done: list[Any]) -> None:
        self._written.commits += 1
        for piece, answer in zip(work, done, strict=True):
            if isinstance(piece, Claim) and isinstance(answer, Page):
                self._written.claims += 1
                self._written.empty_claims += not answer.claimed
