"""Simulated receivers: how they behave is a table; what they saw is the ledger that the invariants are checked against."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from msgspec.structs import replace

from tenterhook.clock import MILLISECOND, SECOND, Clock
from tenterhook.model import OPERATIONAL, Endpoint, Message, Outcome, Policy, Reason, Result
from tests.simulation.loop import for_ever, pause


@dataclass
class Send:
    """One request as the receiver saw it. `ended` is None while it runs; `cut` if its process died under it."""

    number: int
    process: int
    message: str
    endpoint: str
    started: int
    ended: int | None = None
    cut: bool = False
    result: Result | None = None


class SenderBroken(Exception):
    """A planted defect of a sender."""


@dataclass
class Receiver:
    """One endpoint's other side. `rng` is its own, so that it behaves alike whatever happens elsewhere."""

    behaviour: str
    rng: Random
    policy: Policy
    seen: int = 0
    period: int = 60 * SECOND
    heals_at: int | None = None

    def answer(self, now: int, deadline: int) -> tuple[int, Outcome]:
        """How long this request takes (µs), and how it ends."""
        self.seen += 1
        behaviour = "healthy" if self.heals_at is not None and now >= self.heals_at else self.behaviour
        return BEHAVIOURS[behaviour](self, now, deadline)


_OK = Outcome(result=Result.OK, status=200)
_REFUSED = Outcome(result=Result.RETRY, reason=Reason.CONNECT)
_ERROR = Outcome(result=Result.RETRY, status=500)
_TIMEOUT = Outcome(result=Result.RETRY, reason=Reason.TIMEOUT)
_GONE = Outcome(result=Result.GONE, status=410)
_DROP = Outcome(result=Result.DROP, reason=Reason.INVALID_MESSAGE)
_CANCELLED = Outcome(result=Result.CANCELLED, reason=Reason.TRANSFORMATION)


def _healthy(r: Receiver, now: int, deadline: int) -> tuple[int, Outcome]:
    return r.rng.randint(5, 80) * MILLISECOND, _OK


def _slow(r: Receiver, now: int, deadline: int) -> tuple[int, Outcome]:
    return int(deadline * r.rng.uniform(0.5, 0.99)), _OK


def _dead(r: Receiver, now: int, deadline: int) -> tuple[int, Outcome]:
    return 2 * MILLISECOND, _REFUSED


def _failing(r: Receiver, now: int, deadline: int) -> tuple[int, Outcome]:
    return r.rng.randint(5, 800) * MILLISECOND, _ERROR


def _flapping(r: Receiver, now: int, deadline: int) -> tuple[int, Outcome]:
    return r.rng.randint(5, 80) * MILLISECOND, _OK if now // r.period % 2 else _ERROR


def _unsteady(r: Receiver, now: int, deadline: int) -> tuple[int, Outcome]:
    return r.rng.randint(5, 80) * MILLISECOND, _OK if r.rng.random() < 0.6 else _ERROR


def _overrun(r: Receiver, now: int, deadline: int) -> tuple[int, Outcome]:
    if r.rng.random() < 0.5:
        return 5 * MILLISECOND, _OK
    wait = r.rng.choice([None, 0, SECOND, 30 * SECOND, 10**12])
    result = r.rng.choice([Result.SLOW_DOWN, Result.RETRY])
    return 5 * MILLISECOND, Outcome(result=result, status=429, retry_after=wait)


def _gone(r: Receiver, now: int, deadline: int) -> tuple[int, Outcome]:
    return 10 * MILLISECOND, _OK if r.seen < 4 else _GONE


def _hanging(r: Receiver, now: int, deadline: int) -> tuple[int, Outcome]:
    return deadline, _TIMEOUT


def _outlasting(r: Receiver, now: int, deadline: int) -> tuple[int, Outcome]:
    if r.rng.random() < 0.5:
        return _healthy(r, now, deadline)
    return int(r.policy.lease * r.rng.uniform(0.9, 2.5)), r.rng.choice([_OK, _TIMEOUT])


def _picky(r: Receiver, now: int, deadline: int) -> tuple[int, Outcome]:
    return 5 * MILLISECOND, r.rng.choice([_OK, _DROP, _CANCELLED])


def _broken(r: Receiver, now: int, deadline: int) -> tuple[int, Outcome]:
    if r.rng.random() < 0.5:
        raise SenderBroken
    return _healthy(r, now, deadline)


def _instant(r: Receiver, now: int, deadline: int) -> tuple[int, Outcome]:
    return 0, _OK


BEHAVIOURS: dict[str, Callable[[Receiver, int, int], tuple[int, Outcome]]] = {
    "healthy": _healthy,
    "instant": _instant,
    "slow": _slow,
    "dead": _dead,
    "failing": _failing,
    "flapping": _flapping,
    "unsteady": _unsteady,
    "overrun": _overrun,
    "gone": _gone,
    "hanging": _hanging,
    "outlasting": _outlasting,
    "picky": _picky,
    "broken": _broken,
}


@dataclass
class Ledger:
    """What the outside world saw, in order."""

    sends: list[Send] = field(default_factory=list)
    trace: list[tuple[object, ...]] = field(default_factory=list)

    def note(self, *what: object) -> None:
        """One line of the trace that the same seed must repeat."""
        self.trace.append(what)


@dataclass
class Network:
    """The sender of one process: hands each message to the endpoint's receiver and writes the ledger.

    The outcome names the send in `detail`, so that each recorded attempt can be matched with what was seen.
    """

    process: int
    receivers: dict[str, Receiver]
    ledger: Ledger
    clock: Clock
    dead: bool = False

    async def send(self, message: Message, endpoint: Endpoint, *, deadline: int, now: int) -> Outcome:
        if self.dead:
            await for_ever()
        if endpoint.app == OPERATIONAL:
            # what it hears is in the database; how that is sent is no other question than for other endpoints
            await pause(MILLISECOND)
            return _OK
        send = Send(len(self.ledger.sends), self.process, message.id, endpoint.id, self.clock.now())
        self.ledger.sends.append(send)
        self.ledger.note(send.started, "send", message.id, endpoint.id)
        try:
            span, outcome = self.receivers[endpoint.id].answer(now, deadline)
            await pause(span)
        except asyncio.CancelledError:
            send.cut = True
            raise
        except SenderBroken:
            send.ended, send.result = self.clock.now(), Result.RETRY
            raise
        send.ended, send.result = self.clock.now(), outcome.result
        self.ledger.note(send.ended, "answer", message.id, endpoint.id, outcome.result)
        return replace(outcome, detail=str(send.number))

    async def close(self) -> None:
        """Nothing is open."""
