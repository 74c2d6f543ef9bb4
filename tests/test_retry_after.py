"""How long a receiver asks us to wait: any text gives a sane number or nothing."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenterhook.clock import SECOND
from tenterhook.senders.retry_after import LONGEST, http_date, retry_after

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOW = int(NOON.timestamp()) * SECOND


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("0", 0),
        ("120", 120 * SECOND),
        (" 5 ", 5 * SECOND),
        ("1.5", 1_500_000),
        ("1.", SECOND),
        ("0.0000009", 0),
        ("0.25", 250_000),
        ("999999999999", LONGEST),
        ("9" * 30, LONGEST),
        ("Thu, 01 Jan 2026 12:00:07 GMT", 7 * SECOND),
        ("Thursday, 01-Jan-26 12:00:07 GMT", 7 * SECOND),
        ("Thu Jan  1 12:00:07 2026", 7 * SECOND),
        ("Thu, 01 Jan 2026 12:00:60 GMT", 59 * SECOND),
        ("Thu, 01 Jan 2025 12:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("Thu, 32 Jan 2026 12:00:00 GMT", None),
        ("Thu, 01 Foo 2026 12:00:00 GMT", None),
        ("Thu, 01 Jan 2026 25:00:00 GMT", None),
        ("Thu, 01 Jan 0000 12:00:00 GMT", None),
        ("Thu, 01 Jan 2026 12:00:07 CET", None),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("inf", None),
        ("nan", None),
        ("1e18", None),
        ("1_000", None),
        ("٣", None),
        ("1,5", None),
        ("9" * 5_000, None),
        ("0x10", None),
        ("soon", None),
    ],
)
def test_values(value: str, wait: int | None) -> None:
    assert retry_after(value, now=NOW) == wait


def test_the_date_of_the_answer_comes_first() -> None:
    until = "Thu, 01 Jan 2026 12:01:00 GMT"
    assert retry_after(until, date="Thu, 01 Jan 2026 12:00:30 GMT", now=NOW) == 30 * SECOND
    assert retry_after(until, date="no date", now=NOW) == 60 * SECOND
    assert retry_after(until, now=NOW) == 60 * SECOND
    assert retry_after(until) is None


TEXT = st.text() | st.from_regex(r"[-+]?[0-9]*\.?[0-9]*(e[0-9]+)?", fullmatch=True)
DATES = st.from_regex(r"[A-Z][a-z]{2}, [0-9]{2} (Jan|Feb|Jun) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT", fullmatch=True)


@given(TEXT | DATES, st.none() | TEXT | DATES, st.none() | st.integers(0, 2**62))
def test_any_text_is_a_sane_wait_or_nothing(value: str, date: str | None, now: int | None) -> None:
    wait = retry_after(value, date=date, now=now)
    assert wait is None or 0 <= wait <= LONGEST


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)))
def test_dates_as_python_writes_them(moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    since_1970 = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert http_date(format_datetime(moment, usegmt=True)) == since_1970


@given(st.integers(0, 10**6), st.integers(0, 999_999))
def test_fractions_count(seconds: int, micros: int) -> None:
    assert retry_after(f"{seconds}.{micros:06d}") == seconds * SECOND + micros
