"""What one attempt means, as a pure function: the delivery's next state, the endpoint's health, and what to tell whom."""

from random import Random

from msgspec import Struct
from msgspec.structs import replace

from tenterhook.engine import breaker, retry
from tenterhook.engine.lifecycle import step
from tenterhook.model import Delivery, Endpoint, Health, Outcome, Policy, Reason, Result, Signal, State, Trigger

FAILING_AT = 4


class Settled(Struct, frozen=True):
    """The verdict on one attempt. `disable` is the reason to switch the endpoint off, if there is one."""

    delivery: Delivery
    health: Health
    disable: str | None = None
    signals: tuple[Signal, ...] = ()


def settle(
    delivery: Delivery, endpoint: Endpoint, health: Health, outcome: Outcome, now: int, policy: Policy, rng: Random
) -> Settled:
    """The verdict on an attempt that ended at `now` (µs UTC) with `outcome`; the store saves all of it at once."""
    delivery = replace(delivery, attempts=delivery.attempts + 1)
    after = breaker.after(health, outcome, now, policy, rng)
    if outcome.result is Result.OK:
        recovered: tuple[Signal, ...] = (
            _signal("message.attempt.recovered", delivery) if delivery.attempts > FAILING_AT else ()
        )
        return Settled(_ended(step(delivery, "delivered")), after, None, recovered)
    if outcome.result is Result.CANCELLED:
        return Settled(_ended(step(delivery, "cancelled")), after)
    disable = None if endpoint.disabled else _why_disable(outcome, after, now, policy)
    signals: tuple[Signal, ...] = (
        () if disable is None else (Signal("endpoint.disabled", delivery.app, delivery.endpoint, None, disable),)
    )
    moved = _after_failure(delivery, endpoint, outcome, now, policy, rng)
    if moved.state is State.FAILED:
        signals += _signal("message.attempt.exhausted", delivery, outcome.reason.value)
    elif delivery.attempts == FAILING_AT:
        signals += _signal("message.attempt.failing", delivery, outcome.reason.value)
    return Settled(moved, after, disable, signals)


def _after_failure(
    delivery: Delivery, endpoint: Endpoint, outcome: Outcome, now: int, policy: Policy, rng: Random
) -> Delivery:
    if delivery.trigger is Trigger.MANUAL:
        # a manual try stands outside the schedule: its failure leaves the planned retry as it was
        if delivery.resume_at is None:
            return _ended(step(delivery, "exhausted"))
        return replace(
            step(delivery, "retried", due_at=max(delivery.resume_at, now)), trigger=Trigger.SCHEDULED, resume_at=None
        )
    schedule = policy.retry_schedule if endpoint.retry_schedule is None else endpoint.retry_schedule
    wait = None
    if outcome.result is not Result.DROP:
        wait = retry.next_wait(delivery.step, schedule, outcome.retry_after, policy.retry_after_cap, rng)
    if wait is None:
        return _ended(step(delivery, "exhausted"))
    if now + wait >= delivery.expires_at:
        return _ended(step(delivery, "lapsed"))
    return replace(step(delivery, "retried", due_at=now + wait), step=delivery.step + 1)


def expired_lease() -> Outcome:
    """What is known of an attempt whose worker never reported: it may or may not have arrived."""
    return Outcome(
        result=Result.UNKNOWN,
        reason=Reason.LEASE_EXPIRED,
        detail="the worker ended before it could report this attempt",
    )


def expired_payload() -> Outcome:
    """What becomes of a delivery whose payload was removed before this try: it ends, and nothing was sent."""
    return Outcome(
        result=Result.DROP,
        reason=Reason.EXPIRED,
        detail="the payload was removed when its retention was over: nothing was sent",
    )


def _ended(delivery: Delivery) -> Delivery:
    return replace(delivery, trigger=Trigger.SCHEDULED, resume_at=None)


def _why_disable(outcome: Outcome, health: Health, now: int, policy: Policy) -> str | None:
    if outcome.result is Result.GONE:
        return "gone"
    return "failing" if breaker.should_disable(health, now, policy) else None


def _signal(kind: str, delivery: Delivery, detail: str = "") -> tuple[Signal, ...]:
    return (Signal(kind, delivery.app, delivery.endpoint, delivery.message, detail),)
