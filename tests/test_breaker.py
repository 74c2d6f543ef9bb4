"""The circuit breaker and the health record."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenterhook.clock import HOUR, MINUTE, SECOND
from tenterhook.engine import breaker
from tenterhook.engine.retry import JITTER
from tenterhook.engine.settle import expired_payload
from tenterhook.model import Health, Outcome, Policy, Reason, Result

NOW = 1_800_000_000 * SECOND
OK = Outcome(result=Result.OK, status=200)
FAILED = Outcome(result=Result.RETRY, status=500)
NOT_ITS_FAULT = [
    Outcome(result=Result.UNKNOWN, reason=Reason.LEASE_EXPIRED),
    Outcome(result=Result.DROP, reason=Reason.INVALID_MESSAGE),
    Outcome(result=Result.DROP, status=400),
    Outcome(result=Result.RETRY, reason=Reason.INTERNAL),
    expired_payload(),
]

POLICIES = st.builds(
    Policy,
    breaker_failures=st.integers(1, 10),
    breaker_open=st.integers(SECOND, 10 * SECOND),
    breaker_open_cap=st.integers(10 * SECOND, HOUR),
    retry_after_cap=st.integers(0, HOUR),
)
OUTCOMES = st.builds(
    Outcome,
    result=st.sampled_from(Result),
    reason=st.sampled_from(Reason),
    retry_after=st.none() | st.integers(0, 10**15),
)
HEALTHS = st.builds(
    Health,
    failures=st.integers(0, 50),
    failing_since=st.none() | st.integers(0, NOW),
    open_until=st.none() | st.integers(0, NOW + HOUR),
    opened=st.integers(0, 100),
)
RANDOMS = st.randoms(use_true_random=False)


def after_failures(count: int, policy: Policy, health: Health = breaker.HEALTHY, now: int = NOW) -> Health:
    for _ in range(count):
        health = breaker.after(health, FAILED, now, policy, Random(1))
    return health


@given(HEALTHS, POLICIES, RANDOMS)
def test_a_success_forgives_everything(health: Health, policy: Policy, rng: Random) -> None:
    assert breaker.after(health, OK, NOW, policy, rng) == breaker.HEALTHY


@pytest.mark.parametrize("outcome", NOT_ITS_FAULT, ids=lambda o: f"{o.result}-{o.reason}")
@given(health=HEALTHS, policy=POLICIES, rng=RANDOMS)
def test_what_is_not_its_fault_leaves_the_record_alone(
    outcome: Outcome, health: Health, policy: Policy, rng: Random
) -> None:
    assert breaker.after(health, outcome, NOW, policy, rng) is health


@given(POLICIES)
def test_it_opens_after_so_many_failures_in_a_row_and_not_before(policy: Policy) -> None:
    before = after_failures(policy.breaker_failures - 1, policy)
    assert not breaker.is_open(before, NOW)
    assert not breaker.is_probing(before)
    opened = after_failures(1, policy, before)
    assert breaker.is_open(opened, NOW)
    assert breaker.is_probing(opened)
    assert opened.failing_since == NOW


@given(POLICIES, st.integers(0, 40), RANDOMS)
def test_each_failed_probe_doubles_the_wait_up_to_the_cap(policy: Policy, probes: int, rng: Random) -> None:
    health = after_failures(policy.breaker_failures, policy)
    now = NOW
    for _ in range(probes):
        now = health.open_until or 0
        assert not breaker.is_open(health, now)
        assert breaker.is_probing(health)
        health = breaker.after(health, FAILED, now, policy, rng)
    wait = min(policy.breaker_open * 2**probes, policy.breaker_open_cap)
    assert now + wait <= (health.open_until or 0) <= now + wait + wait * JITTER


@given(POLICIES, st.integers(1, 30))
def test_stragglers_of_an_open_breaker_do_not_lengthen_it(policy: Policy, stragglers: int) -> None:
    opened = after_failures(policy.breaker_failures, policy)
    later = after_failures(stragglers, policy, opened, (opened.open_until or 0) - 1)
    assert (later.open_until, later.opened) == (opened.open_until, opened.opened)
    assert later.failures == opened.failures + stragglers


@given(HEALTHS, POLICIES, OUTCOMES, RANDOMS)
def test_no_outcome_but_success_lets_an_open_breaker_close_early(
    health: Health, policy: Policy, outcome: Outcome, rng: Random
) -> None:
    after = breaker.after(health, outcome, NOW, policy, rng)
    if outcome.result is not Result.OK and breaker.is_open(health, NOW):
        assert (after.open_until or 0) >= (health.open_until or 0)
        assert after.opened >= health.opened
        assert after.failing_since is not None or health.failing_since is None


@given(HEALTHS, POLICIES, st.none() | st.integers(0, 10**15), RANDOMS)
def test_a_429_pauses_the_endpoint_and_is_no_failure(
    health: Health, policy: Policy, asked: int | None, rng: Random
) -> None:
    outcome = Outcome(result=Result.SLOW_DOWN, status=429, retry_after=asked)
    after = breaker.after(health, outcome, NOW, policy, rng)
    assert breaker.is_open(after, NOW)
    assert (after.failures, after.opened) == (health.failures, health.opened)
    longest = max(policy.retry_after_cap, SECOND)
    assert NOW + SECOND <= (after.open_until or 0) <= max(NOW + longest, health.open_until or 0)


def test_only_long_and_repeated_failure_disables() -> None:
    policy = Policy(disable_after=HOUR, breaker_failures=3)
    assert not breaker.should_disable(Health(), NOW, policy)
    assert not breaker.should_disable(Health(2, NOW - 2 * HOUR), NOW, policy)
    assert not breaker.should_disable(Health(9, NOW - HOUR), NOW, policy)
    assert breaker.should_disable(Health(3, NOW - HOUR - 1), NOW, policy)


def test_the_default_waits() -> None:
    """As the docs say: 5 s, doubling, 10 minutes at most."""
    policy, health, now, waits = Policy(), after_failures(8, Policy()), NOW, []
    for _ in range(9):
        waits.append((health.open_until or 0) - now)
        now = health.open_until or 0
        health = after_failures(1, policy, health, now)
    expected = [5 * SECOND * 2**n for n in range(7)] + [10 * MINUTE] * 2
    assert all(e <= w <= 1.2 * e for e, w in zip(expected, waits, strict=True))
