"""Windows, fair shares and rates."""

from hypothesis import given
from hypothesis import strategies as st

from tenterhook.clock import MILLISECOND, SECOND
from tenterhook.engine.limits import FIRST_WINDOW, fair_share, next_window, pace, slots
from tenterhook.model import Health, Outcome, Result

NOW = 1_800_000_000 * SECOND
TOLERANCE = 5 * MILLISECOND
OK, FAILED = Outcome(result=Result.OK), Outcome(result=Result.RETRY)
RESULTS = st.lists(st.sampled_from(Result), max_size=60)


@given(RESULTS, st.integers(1, 200))
def test_a_window_stays_between_one_and_the_cap(results: list[Result], cap: int) -> None:
    window = min(FIRST_WINDOW, cap)
    for result in results:
        window = next_window(window, Outcome(result=result), cap)
        assert 1 <= window <= cap


@given(st.integers(1, 1_000))
def test_successes_open_a_window_in_steps_and_failures_close_it(cap: int) -> None:
    window, rounds = 1, 0
    while window < cap:
        window, rounds = next_window(window, OK, cap), rounds + 1
    assert rounds == (cap - 1).bit_length()
    for _ in range(cap.bit_length()):
        window = next_window(window, FAILED, cap)
    assert window == 1


@given(st.integers(1, 64), st.sampled_from([Result.DROP, Result.GONE, Result.UNKNOWN]))
def test_what_says_nothing_of_the_load_leaves_the_window(window: int, result: Result) -> None:
    assert next_window(window, Outcome(result=result), 64) == window


def test_slots_follow_the_breaker() -> None:
    assert slots(Health(), 8, NOW) == 8
    assert slots(Health(9, NOW, NOW + 1, 1), 8, NOW) == 0
    assert slots(Health(9, NOW, NOW, 1), 8, NOW) == 1
    assert slots(Health(0, NOW, NOW, 0), 8, NOW) == 8


@given(st.integers(0, 2_000), st.integers(0, 3_000), st.integers(1, 1_000))
def test_a_fair_share_is_free_room_and_never_more_than_there_is(taken: int, active: int, cap: int) -> None:
    share = fair_share(taken, active, cap)
    assert 0 <= share <= cap
    assert (share == 0) == (taken >= cap)


@given(st.integers(1, 40), st.integers(2, 200))
def test_greedy_endpoints_leave_room_for_the_next(greedy: int, cap: int) -> None:
    """However many hang, one more finds a slot while there are at least four slots for each of them."""
    if cap < 4 * greedy:
        return
    held = [0] * greedy
    for _ in range(cap):
        for number in range(greedy):
            if held[number] < fair_share(sum(held), greedy, cap):
                held[number] += 1
    assert sum(held) < cap
    assert fair_share(sum(held), greedy + 1, cap) > 0


@given(st.integers(1, 2_000), st.lists(st.integers(0, 2 * SECOND), min_size=1, max_size=300))
def test_a_pace_is_never_exceeded(rate: int, waits: list[int]) -> None:
    now, next_at, starts = NOW, 0, []
    for wait in waits:
        now += wait // 100
        free, next_at = pace(next_at, rate, now)
        if free:
            starts.append(now)
    spacing = SECOND // rate
    for first, begin in enumerate(starts):
        for count, later in enumerate(starts[first:]):
            assert later - begin >= count * spacing - TOLERANCE


@given(st.integers(1, 2_000), st.integers(2, 50))
def test_a_pace_is_kept_up(rate: int, count: int) -> None:
    """Whoever asks again when told starts exactly on the pace: it never falls behind the rate."""
    now, next_at, starts = NOW, 0, []
    while len(starts) < count:
        free, next_at = pace(next_at, rate, now)
        if free:
            starts.append(now)
        else:
            now = next_at
    assert all(start <= NOW + number * (SECOND // rate) for number, start in enumerate(starts))


@given(st.integers(1, 1_000), st.integers(0, 10**18))
def test_idleness_saves_up_nothing(rate: int, next_at: int) -> None:
    """After a pause of any length one attempt starts at once, and the next one a spacing later."""
    now = next_at + 10**9
    free, after = pace(next_at, rate, now)
    assert free
    assert after == now + SECOND // rate
