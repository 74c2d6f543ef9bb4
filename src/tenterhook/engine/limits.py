"""How many attempts may run at once, per endpoint and in all, and how fast.

A window per endpoint starts small, doubles with each success up to the endpoint's cap and halves with each failure:
what is unknown or failing holds few slots, and a backlog does not arrive all at once at an endpoint that has just come
back. When half of all slots are taken, each active endpoint gets no more than an equal share of the other half, so that
many hanging endpoints cannot take the slots of those that answer.
"""

from tenterhook.clock import SECOND
from tenterhook.engine.breaker import is_open, is_probing
from tenterhook.model import Health, Outcome, Result

FIRST_WINDOW = 8
QUEUE_PER_SLOT = 16
_PACE_TOLERANCE = 5_000


def next_window(window: int, outcome: Outcome, cap: int) -> int:
    """The window after an attempt."""
    if outcome.result is Result.OK:
        return min(cap, window * 2)
    if outcome.result in (Result.RETRY, Result.SLOW_DOWN):
        return max(1, window // 2)
    return window


def slots(health: Health, window: int, now: int) -> int:
    """How many attempts the endpoint may have in flight by its own record."""
    if is_open(health, now):
        return 0
    return 1 if is_probing(health) else window


def fair_share(in_flight_total: int, active_endpoints: int, global_cap: int) -> int:
    """The most slots that one endpoint may hold now, so that the others find some; 0 when all are taken."""
    if in_flight_total >= global_cap:
        return 0
    if in_flight_total * 2 < global_cap:
        return global_cap
    return max(1, global_cap // (2 * max(1, active_endpoints)))


def pace(next_at: int, rate: int, now: int) -> tuple[bool, int]:
    """Whether an attempt may start under `rate` per second, and the new `next_at` (the GCRA algorithm).

    Attempts are spaced evenly; 5 ms of tolerance absorb the granularity of timers. Whoever waits asks again at `soonest`: an
    attempt that starts a little early moves nothing, while each one that starts late would put off all that follow.
    """
    if next_at - now > _PACE_TOLERANCE:
        return False, next_at
    return True, max(next_at, now) + SECOND // rate


def soonest(next_at: int) -> int:
    """The first instant at which `pace` lets an attempt start."""
    return next_at - _PACE_TOLERANCE
