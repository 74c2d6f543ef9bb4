"""Instants as text, and waiting for an event."""

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenterhook.clock import (
    DAY,
    HOUR,
    MILLISECOND,
    MINUTE,
    SECOND,
    RemoteClock,
    SystemClock,
    from_rfc3339,
    steady,
    to_rfc3339,
    until,
)
from tests.simulation.loop import VirtualLoop

INSTANTS = st.integers(0, 250_000_000_000 * SECOND)


@given(INSTANTS)
def test_an_instant_survives_its_text(instant: int) -> None:
    text = to_rfc3339(instant)
    assert from_rfc3339(text) == instant
    assert len(text) == len("2023-11-14T22:13:20.123456Z")


@given(INSTANTS, INSTANTS)
def test_texts_sort_as_their_instants(a: int, b: int) -> None:
    assert (to_rfc3339(a) < to_rfc3339(b)) == (a < b)


@given(st.datetimes(datetime(1970, 1, 2), datetime(9998, 1, 1)), st.integers(-23 * 60, 23 * 60))
def test_offsets_are_taken_off(moment: datetime, minutes: int) -> None:
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    expected = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert from_rfc3339(aware.isoformat()) == expected


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2023-11-14T22:13:20.123456Z", 1_700_000_000_123_456),
        ("2023-11-14T22:13:20", 1_700_000_000 * SECOND),
        ("2023-11-14T23:13:20.5+01:00", 1_700_000_000 * SECOND + SECOND // 2),
        ("2023-11-14 22:13:20-00:00", 1_700_000_000 * SECOND),
    ],
)
def test_forms(text: str, instant: int) -> None:
    assert from_rfc3339(text) == instant


@given(
    st.text(max_size=30) | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", fullmatch=True)
)
def test_any_text_is_an_instant_or_refused(text: str) -> None:
    try:
        assert isinstance(from_rfc3339(text), int)
    except ValueError:
        return


def test_spans() -> None:
    assert (MINUTE, HOUR, DAY) == (60 * SECOND, 3_600 * SECOND, 86_400 * SECOND)


def test_the_system_clock_is_in_microseconds() -> None:
    assert from_rfc3339("2024-01-01T00:00:00Z") < SystemClock().now() < from_rfc3339("2124-01-01T00:00:00Z")


def virtually(work: Coroutine[Any, Any, tuple[bool, float]]) -> tuple[bool, float]:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


async def waited(timeout: int | None, sets_after: float | None) -> tuple[bool, float]:
    """Whether the event came, and how many seconds the wait took."""
    event, loop = asyncio.Event(), asyncio.get_running_loop()
    if sets_after is not None:
        loop.call_later(sets_after, event.set)
    before = loop.time()
    came = await until(event, timeout)
    return came, loop.time() - before


@pytest.mark.parametrize(
    ("timeout", "sets_after", "expected"),
    [
        (10 * SECOND, 3.0, (True, 3.0)),
        (10 * SECOND, None, (False, 10.0)),
        (10 * SECOND, 11.0, (False, 10.0)),
        (None, 86_400.0, (True, 86_400.0)),
        (0, 1.0, (False, 0.0)),
        (-5, 1.0, (False, 0.0)),
    ],
)
def test_until(timeout: int | None, sets_after: float | None, expected: tuple[bool, float]) -> None:
    came, seconds = virtually(waited(timeout, sets_after))
    assert (came, pytest.approx(seconds)) == expected


async def test_until_sees_an_event_that_has_come_already() -> None:
    event = asyncio.Event()
    event.set()
    assert await until(event, 0)
    assert await until(event, SECOND)
    assert await until(event, None)


# a clock elsewhere


def behind(clock: RemoteClock) -> int:
    """By how much it differs from the machine's steady clock."""
    before = steady()
    return clock.now() - (before + steady()) // 2


def test_the_reading_with_the_least_doubt_holds() -> None:
    clock, now = RemoteClock(), steady()
    clock.read(now, now + 200, now + DAY)
    clock.read(now + 300, now + 300 + 20 * MILLISECOND, now + 300 + DAY)  # true too, but it may be 10 ms off
    assert behind(clock) == pytest.approx(DAY, abs=MILLISECOND)


@pytest.mark.parametrize("jump", [10 * MINUTE, -10 * MINUTE])
def test_a_clock_that_was_set_is_believed_at_once(jump: int) -> None:
    """Or the machine slept: leases that end in the past would be taken by others, who would send everything a second time."""
    clock, now = RemoteClock(), steady()
    clock.read(now, now + 200, now + DAY)
    clock.read(now + 300, now + 300 + 20 * MILLISECOND, now + 300 + DAY + jump)
    assert behind(clock) == pytest.approx(DAY + jump, abs=11 * MILLISECOND)
