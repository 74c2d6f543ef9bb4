"""The retry schedule, jitter, and Retry-After."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tenterhook.clock import HOUR, MINUTE, SECOND
from tenterhook.engine.retry import JITTER, asked_wait, next_wait
from tenterhook.model import Outcome, Policy, Result

SPANS = st.integers(1, 48 * HOUR)
ASKED = st.none() | st.integers(0, 10**18)
SCHEDULES = st.lists(SPANS, max_size=10).map(tuple)


@given(st.integers(0, 12), SCHEDULES, ASKED, st.integers(0, 2 * HOUR), st.randoms(use_true_random=False))
def test_a_wait_is_the_scheduled_one_lengthened_by_jitter_and_wish(
    step: int, schedule: tuple[int, ...], asked: int | None, cap: int, rng: Random
) -> None:
    wait = next_wait(step, schedule, asked, cap, rng)
    if step >= len(schedule):
        assert wait is None
        return
    base = schedule[step]
    longest = max(base, min(asked or 0, max(cap, 2 * base)))
    assert wait is not None
    assert longest <= wait <= longest + longest * JITTER


def test_retry_after_cannot_park_us() -> None:
    class Still(Random):
        def random(self) -> float:
            return 0.0

    schedule = (MINUTE, 24 * HOUR)
    assert next_wait(0, schedule, None, HOUR, Still()) == MINUTE
    assert next_wait(0, schedule, SECOND, HOUR, Still()) == MINUTE
    assert next_wait(0, schedule, 20 * MINUTE, HOUR, Still()) == 20 * MINUTE
    assert next_wait(0, schedule, 10**15, HOUR, Still()) == HOUR
    assert next_wait(1, schedule, 10**15, HOUR, Still()) == 48 * HOUR
    assert next_wait(2, schedule, None, HOUR, Still()) is None


@given(st.integers(0, 10**18) | st.none(), SPANS, SPANS)
def test_a_pause_is_at_least_the_default_and_at_most_the_cap(asked: int | None, default: int, cap: int) -> None:
    wait = asked_wait(Outcome(result=Result.SLOW_DOWN, retry_after=asked), default, cap)
    assert default <= wait <= max(default, cap)
    if asked is not None and default <= asked <= cap:
        assert wait == asked


def test_the_default_schedule_fits_into_the_default_lifetime() -> None:
    policy = Policy()
    assert sum(policy.retry_schedule) * (1 + JITTER) < policy.lifetime
    assert list(policy.retry_schedule) == sorted(policy.retry_schedule)
