"""The circuit breaker and the health record of an endpoint.

Closed: attempts flow. After `breaker_failures` failures in a row it opens: no attempt until `open_until`, then one
probe at a time. A probe is a real attempt and spends one of its delivery's tries; how long a delivery lives does not
depend on how many wait beside it, because each has a lifetime. A probe that fails opens the breaker again for twice
as long, up to a cap; one that succeeds closes it.

What is no fault of the endpoint leaves its record alone: an expired lease (our process died), a message that the
sender could not express or whose payload is gone, a defect of ours.
"""

from random import Random

from tenterhook.engine.retry import JITTER, asked_wait
from tenterhook.model import Health, Outcome, Policy, Reason, Result

HEALTHY = Health()
_SLOW_DOWN = 1_000_000
_NOT_ITS_FAULT = (Reason.INVALID_MESSAGE, Reason.INTERNAL, Reason.LEASE_EXPIRED, Reason.EXPIRED)


def after(health: Health, outcome: Outcome, now: int, policy: Policy, rng: Random) -> Health:
    """The health record after one attempt; the same object when nothing changed, so that nothing needs writing."""
    if outcome.result is Result.OK:
        return health if health == HEALTHY else HEALTHY
    if outcome.result in (Result.UNKNOWN, Result.DROP, Result.CANCELLED) or outcome.reason in _NOT_ITS_FAULT:
        return health
    since = now if health.failing_since is None else health.failing_since
    if outcome.result is Result.SLOW_DOWN:
        pause = now + asked_wait(outcome, _SLOW_DOWN, policy.retry_after_cap)
        return Health(health.failures, since, max(pause, health.open_until or 0), health.opened)
    failures = health.failures + 1
    if is_open(health, now) or (failures < policy.breaker_failures and not health.opened):
        return Health(failures, since, health.open_until, health.opened)
    wait = min(policy.breaker_open << min(health.opened, 20), policy.breaker_open_cap)
    return Health(failures, since, now + wait + int(wait * JITTER * rng.random()), health.opened + 1)


def merged(stored: Health, before: Health, after: Health) -> Health:
    """What is stored, once a node that knew `before` has seen an attempt lead to `after`.

    Several nodes attempt the same endpoint: their failures add up, the longest pause holds, and a success ends it all.
    """
    if after == HEALTHY:
        return HEALTHY
    return Health(
        stored.failures + max(0, after.failures - before.failures),
        _least(stored.failing_since, after.failing_since),
        _most(stored.open_until, after.open_until),
        max(stored.opened, after.opened),
    )


def _least(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else min(a, b)


def _most(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else max(a, b)


def is_open(health: Health, now: int) -> bool:
    """Whether no attempt may start now."""
    return health.open_until is not None and now < health.open_until


def is_probing(health: Health) -> bool:
    """Whether the breaker has opened and no success has closed it since: one attempt at a time."""
    return health.opened > 0


def should_disable(health: Health, now: int, policy: Policy) -> bool:
    """Whether the endpoint has only failed for longer than `disable_after`, and not just once or twice."""
    return (
        health.failing_since is not None
        and health.failures >= policy.breaker_failures
        and now - health.failing_since > policy.disable_after
    )
