"""`Retry-After`: how long a receiver asks us to wait (RFC 9110, section 10.2.3). Pure."""

import re
from datetime import UTC, datetime

from tenterhook.clock import DAY, SECOND

LONGEST = 366 * DAY
"""Whatever is asked for, a wait is not longer than this (µs): every sum with an instant stays a sane number."""

_SECONDS = re.compile(r"([0-9]{1,30})(?:\.([0-9]{0,30}))?")
_CLOCK = r"([0-9]{2}):([0-9]{2}):([0-9]{2})"
# RFC 9110, section 5.6.7: the fixed form, and the two old ones that a recipient must take
_FIXED = re.compile(rf"[A-Za-z]{{3}}, ([0-9]{{2}}) ([A-Za-z]{{3}}) ([0-9]{{4}}) {_CLOCK} GMT")
_RFC850 = re.compile(rf"[A-Za-z]{{6,9}}, ([0-9]{{2}})-([A-Za-z]{{3}})-([0-9]{{2}}) {_CLOCK} GMT")
_ASCTIME = re.compile(rf"[A-Za-z]{{3}} ([A-Za-z]{{3}}) ([ 0-9][0-9]) {_CLOCK} ([0-9]{{4}})")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def retry_after(value: str, *, date: str | None = None, now: int | None = None) -> int | None:
    """The wait (µs, 0 to LONGEST) that the header's value asks for; None if it says nothing that can be understood.

    Seconds may have a fraction. A date is taken relative to the response's own `Date` header, else to `now` (µs UTC):
    a receiver whose clock is wrong still means the difference.
    """
    text = value.strip()
    if seconds := _SECONDS.fullmatch(text):
        fraction = (seconds[2] or "").ljust(6, "0")[:6]
        return min(int(seconds[1]) * SECOND + int(fraction), LONGEST)
    until = http_date(text)
    start = now if date is None else http_date(date.strip())
    if start is None:
        start = now
    if until is None or start is None:
        return None
    return min(max(until - start, 0), LONGEST)


def http_date(text: str) -> int | None:
    """An HTTP date in any of its three forms as an instant (µs UTC); None for anything else."""
    if found := _FIXED.fullmatch(text):
        day, month, year, *clock = found.groups()
    elif found := _RFC850.fullmatch(text):
        day, month, short_year, *clock = found.groups()
        # two digits: nobody asks for a wait into the last century
        year = "20" + short_year
    elif found := _ASCTIME.fullmatch(text):
        month, day, *clock, year = found.groups()
    else:
        return None
    return _instant(year, month, day, clock)


def _instant(year: str, month: str, day: str, clock: list[str]) -> int | None:
    hour, minute, second = (int(part) for part in clock)
    try:
        # a leap second is the second before it
        moment = datetime(
            int(year), _MONTHS.index(month.lower()) + 1, int(day), hour, minute, min(second, 59), tzinfo=UTC
        )
    except ValueError:
        return None
    return int(moment.timestamp()) * SECOND
