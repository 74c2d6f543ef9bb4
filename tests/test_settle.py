"""The verdict on an attempt: nothing is lost, nothing goes on for ever, and the right people hear of it."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tenterhook.clock import DAY, HOUR, MINUTE, SECOND
from tenterhook.engine.breaker import HEALTHY
from tenterhook.engine.notices import EVENTS
from tenterhook.engine.settle import Settled, expired_lease, settle
from tenterhook.model import Delivery, Endpoint, Health, Outcome, Policy, Reason, Result, State, Trigger

NOW = 1_800_000_000 * SECOND
OK = Outcome(result=Result.OK, status=200)
FAILED = Outcome(result=Result.RETRY, status=500)
POLICY = Policy()


def endpoint(**changes: object) -> Endpoint:
    return replace(Endpoint(id="e", app="a", url="https://a.example", created_at=1, updated_at=1), **changes)


def leased(**changes: object) -> Delivery:
    delivery = Delivery(
        message="m", endpoint="e", app="a", state=State.LEASED, due_at=NOW + MINUTE, lease=9, created_at=NOW,
        expires_at=NOW + 4 * DAY,
    )  # fmt: skip
    return replace(delivery, **changes)


def verdict(
    delivery: Delivery, outcome: Outcome, health: Health = HEALTHY, now: int = NOW, **kwargs: object
) -> Settled:
    return settle(delivery, endpoint(**kwargs), health, outcome, now, POLICY, Random(1))


LEASED = st.builds(
    leased,
    attempts=st.integers(0, 30),
    step=st.integers(0, 12),
    expires_at=st.integers(NOW - HOUR, NOW + 5 * DAY),
    order_key=st.none() | st.just("k"),
)
BY_HAND = st.builds(
    lambda delivery, planned: replace(delivery, trigger=Trigger.MANUAL, resume_at=planned),
    LEASED,
    st.none() | st.integers(NOW - HOUR, NOW + DAY),
)
OUTCOMES = st.builds(
    Outcome,
    result=st.sampled_from(Result),
    reason=st.sampled_from(Reason),
    retry_after=st.none() | st.integers(0, 10**15),
)
HEALTHS = st.builds(
    Health, st.integers(0, 50), st.none() | st.integers(NOW - 9 * DAY, NOW), st.none() | st.integers(0, NOW + HOUR),
    st.integers(0, 30),
)  # fmt: skip
ENDPOINTS = st.builds(
    endpoint, retry_schedule=st.none() | st.lists(st.integers(1, DAY), max_size=5).map(tuple), disabled=st.booleans()
)
RANDOMS = st.randoms(use_true_random=False)


@given(LEASED | BY_HAND, ENDPOINTS, HEALTHS, OUTCOMES, RANDOMS)
def test_no_delivery_is_lost(
    delivery: Delivery, endpoint: Endpoint, health: Health, outcome: Outcome, rng: Random
) -> None:
    done = settle(delivery, endpoint, health, outcome, NOW, POLICY, rng)
    after = done.delivery
    assert after.attempts == delivery.attempts + 1
    assert after.lease == 0
    assert (after.message, after.endpoint, after.order_key, after.expires_at) == (
        delivery.message, delivery.endpoint, delivery.order_key, delivery.expires_at,
    )  # fmt: skip
    assert delivery.step <= after.step <= delivery.step + 1
    assert (after.trigger, after.resume_at) == (Trigger.SCHEDULED, None)
    if after.state is State.DUE:
        assert after.due_at is not None
        assert after.due_at >= NOW
        assert outcome.result is not Result.OK
    else:
        assert after.state in (State.DELIVERED, State.FAILED, State.CANCELLED)
        assert after.due_at is None
    assert (after.state is State.DELIVERED) == (outcome.result is Result.OK)
    assert (after.state is State.CANCELLED) == (outcome.result is Result.CANCELLED)
    assert all(signal.kind in EVENTS for signal in done.signals)


@given(ENDPOINTS, st.lists(OUTCOMES, min_size=20, max_size=20), RANDOMS)
def test_every_delivery_ends_within_its_schedule_and_its_lifetime(
    endpoint: Endpoint, outcomes: list[Outcome], rng: Random
) -> None:
    schedule = POLICY.retry_schedule if endpoint.retry_schedule is None else endpoint.retry_schedule
    delivery, health, now = leased(), HEALTHY, NOW
    for outcome in outcomes:
        done = settle(delivery, endpoint, health, outcome, now, POLICY, rng)
        delivery, health = done.delivery, done.health
        if delivery.state is not State.DUE:
            break
        assert now < (delivery.due_at or 0) < delivery.expires_at
        now = delivery.due_at or 0
        delivery = replace(delivery, state=State.LEASED, due_at=now + MINUTE, lease=9)
    assert delivery.state in (State.DELIVERED, State.FAILED, State.CANCELLED)
    assert delivery.attempts <= len(schedule) + 1


@given(st.integers(0, 12), st.integers(1, DAY))
def test_a_wait_beyond_the_lifetime_ends_it_now(step: int, left: int) -> None:
    after = verdict(leased(step=step, expires_at=NOW + left), FAILED).delivery
    schedule = POLICY.retry_schedule
    if step >= len(schedule) or schedule[step] >= left:
        assert after.state is State.FAILED
    elif schedule[step] * 1.2 < left:
        assert after.state is State.DUE


def test_a_drop_ends_the_delivery_and_leaves_the_endpoint_healthy() -> None:
    done = verdict(leased(), Outcome(result=Result.DROP, reason=Reason.INVALID_MESSAGE))
    assert (done.delivery.state, done.health, done.disable) == (State.FAILED, HEALTHY, None)


@pytest.mark.parametrize(
    "delivery", [leased(), leased(attempts=3), leased(trigger=Trigger.MANUAL, resume_at=NOW + DAY)]
)
def test_what_a_transformation_cancels_ends_without_a_word(delivery: Delivery) -> None:
    failing = Health(7, NOW - 9 * DAY, None, 0)
    done = verdict(delivery, Outcome(result=Result.CANCELLED, reason=Reason.TRANSFORMATION), failing)
    assert (done.delivery.state, done.health, done.disable, done.signals) == (State.CANCELLED, failing, None, ())


def test_a_transformation_that_fails_counts_as_a_failure_of_its_endpoint() -> None:
    done = verdict(leased(), Outcome(result=Result.RETRY, reason=Reason.TRANSFORMATION))
    assert (done.delivery.state, done.health.failures) == (State.DUE, 1)


def test_gone_disables_the_endpoint_and_the_delivery_goes_on_for_the_day_it_is_enabled() -> None:
    done = verdict(leased(), Outcome(result=Result.GONE, status=410))
    assert done.disable == "gone"
    assert done.delivery.state is State.DUE
    assert [(s.kind, s.endpoint, s.message, s.detail) for s in done.signals] == [
        ("endpoint.disabled", "e", None, "gone")
    ]


def test_an_endpoint_that_only_failed_for_long_is_disabled() -> None:
    health = Health(50, NOW - POLICY.disable_after - 1, None, 7)
    assert verdict(leased(), FAILED, health).disable == "failing"
    assert verdict(leased(), FAILED, replace(health, failing_since=NOW - HOUR)).disable is None
    assert verdict(leased(), OK, health).disable is None


def test_an_expired_lease_spends_a_try_and_leaves_the_endpoint_healthy() -> None:
    done = verdict(leased(), expired_lease())
    assert (done.delivery.state, done.delivery.attempts, done.delivery.step) == (State.DUE, 1, 1)
    assert done.health is HEALTHY


@given(st.sampled_from([FAILED, expired_lease(), Outcome(result=Result.DROP)]), st.none() | st.integers(0, 2 * NOW))
def test_a_manual_try_that_fails_leaves_the_plan_as_it_was(outcome: Outcome, planned: int | None) -> None:
    after = verdict(leased(trigger=Trigger.MANUAL, resume_at=planned, step=2), outcome).delivery
    assert after.step == 2
    if planned is None:
        assert after.state is State.FAILED
    else:
        assert (after.state, after.due_at) == (State.DUE, max(planned, NOW))


@pytest.mark.parametrize(
    ("before", "outcome", "kinds"),
    [
        (2, FAILED, []),
        (3, FAILED, ["message.attempt.failing"]),
        (4, FAILED, []),
        (3, OK, []),
        (4, OK, ["message.attempt.recovered"]),
        (0, OK, []),
    ],
)
def test_who_hears_of_what(before: int, outcome: Outcome, kinds: list[str]) -> None:
    assert [s.kind for s in verdict(leased(attempts=before), outcome).signals] == kinds


def test_the_last_failure_is_told_as_such_even_if_it_is_the_fourth() -> None:
    done = verdict(leased(attempts=3), FAILED, retry_schedule=())
    assert [(s.kind, s.message, s.detail) for s in done.signals] == [("message.attempt.exhausted", "m", "status")]
