"""Sortable ids."""

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenterhook.clock import MILLISECOND, SECOND
from tenterhook.ids import ALPHABET, EPOCH, LENGTH, PREFIXES, IdMaker, ceiling, floor, instant_of, is_id

STEP = 4 * MILLISECOND
INSTANTS = st.integers(EPOCH * SECOND, (EPOCH + 2**32 - 1) * SECOND)


@given(st.lists(INSTANTS, min_size=1, max_size=50), st.integers())
def test_ids_of_one_process_strictly_increase_even_if_the_clock_goes_back(instants: list[int], seed: int) -> None:
    maker = IdMaker(Random(seed))
    made = [maker.new("msg_", instant) for instant in instants]
    assert all(a < b for a, b in pairwise(made))


def test_a_burst_within_one_step_stays_in_it() -> None:
    maker, now = IdMaker(), 1_800_000_000 * SECOND
    made = [maker.new("msg_", now) for _ in range(10_000)]
    assert made == sorted(set(made))
    assert made[-1] < floor("msg_", now + STEP)


@given(INSTANTS, st.integers())
def test_the_floor_bounds_a_window(instant: int, seed: int) -> None:
    made = IdMaker(Random(seed)).new("ep_", instant)
    assert floor("ep_", instant) <= made
    assert made < floor("ep_", instant + STEP)


@given(INSTANTS, st.sampled_from(sorted(PREFIXES.values())))
def test_an_id_tells_when_it_was_made(instant: int, prefix: str) -> None:
    made = IdMaker().new(prefix, instant)
    assert 0 <= instant - instant_of(made) < STEP
    assert is_id(made, prefix)
    assert len(made) == len(prefix) + LENGTH
    assert set(made.removeprefix(prefix)) <= set(ALPHABET)


@given(INSTANTS, INSTANTS)
def test_ids_sort_by_time_whoever_made_them(a: int, b: int) -> None:
    first, second = (IdMaker().new("msg_", instant) for instant in (a, b))
    if a != b:
        assert (first < second) == (a < b)


@given(INSTANTS, st.integers(0, STEP))
def test_a_moment_later_is_later_whoever_makes_the_id(instant: int, wait: int) -> None:
    first, second = IdMaker().new("msg_", instant), IdMaker().new("msg_", instant + 1 + wait)
    assert first < second


@pytest.mark.parametrize(
    "text", ["", "msg_", "msg_short", "msg_" + "é" * LENGTH, "msg_" + "-" * LENGTH, "ep_" + "0" * 28]
)
def test_what_is_not_an_id_is_refused(text: str) -> None:
    assert not is_id(text, "msg_")
    with pytest.raises(ValueError, match="is not an id"):
        instant_of(text)


def test_an_id_of_another_kind_is_not_of_this_one() -> None:
    made = IdMaker().new("ep_", 1_800_000_000 * SECOND)
    assert is_id(made, "ep_")
    assert not is_id(made, "msg_")


@given(st.text(max_size=40))
def test_any_text_is_an_id_or_refused(text: str) -> None:
    try:
        instant_of(text)
    except ValueError:
        return
    assert is_id(text, text[:-LENGTH])


def test_two_makers_do_not_collide() -> None:
    now = 1_800_000_000 * SECOND
    made = {IdMaker().new("", now) for _ in range(200)}
    assert len(made) == 200


@given(st.integers(EPOCH * SECOND + 1, (EPOCH + 2**31) * SECOND))
def test_the_ceiling_leaves_out_nothing_that_came_before(instant: int) -> None:
    assert IdMaker().new("ep_", instant - 1) < ceiling("ep_", instant)
    assert floor("ep_", instant) <= ceiling("ep_", instant) <= floor("ep_", instant + STEP)


def test_what_is_later_than_ids_can_tell_is_the_latest_of_all() -> None:
    last = (EPOCH + 2**32 - 1) * SECOND
    for beyond in (SECOND, 2**31 * SECOND, 2**40 * SECOND):
        assert floor("msg_", last + beyond) >= floor("msg_", last)
