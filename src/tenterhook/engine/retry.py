"""When to try again: the schedule, jitter, and the receiver's `Retry-After`."""

from random import Random

from tenterhook.model import Outcome

JITTER = 0.2


def next_wait(
    step: int, schedule: tuple[int, ...], retry_after: int | None, retry_after_cap: int, rng: Random
) -> int | None:
    """How long to wait before the next try (µs), or None when the schedule is used up.

    `step` counts the retries already spent. `Retry-After` (RFC 9110 §10.2.3) may lengthen a wait, up to `retry_after_cap`
    or twice the scheduled wait, whichever is more: a receiver may slow us down, not park us. Jitter only adds (0–20 %),
    so that no retry comes earlier than documented.
    """
    if step >= len(schedule):
        return None
    base = schedule[step]
    if retry_after is not None:
        base = max(base, min(retry_after, max(retry_after_cap, 2 * base)))
    return base + int(base * JITTER * rng.random())


def asked_wait(outcome: Outcome, default: int, cap: int) -> int:
    """How long a receiver that is overrun wants the whole endpoint to pause (µs): at least `default`, at most `cap`."""
    return default if outcome.retry_after is None else max(default, min(outcome.retry_after, cap))
