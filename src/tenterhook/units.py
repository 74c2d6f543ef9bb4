"""Durations, instants and sizes as people write them (`1h30m`, `25MiB`), to and from whole microseconds and bytes."""

import re

from tenterhook.clock import DAY, HOUR, MILLISECOND, MINUTE, SECOND, from_rfc3339
from tenterhook.errors import Invalid

DURATIONS = {"d": DAY, "h": HOUR, "m": MINUTE, "s": SECOND, "ms": MILLISECOND, "us": 1}
"""Unit → microseconds, longest first: the order in which the parts of a duration are written."""

SIZES = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "GB": 10**9, "MB": 10**6, "kB": 10**3, "B": 1}
"""Unit → bytes: `KiB` counts by 1024, `kB` by 1000."""

LONGEST = 36_500 * DAY
"""A century: any instant of ours plus a duration stays far inside 63 bits."""

LAST = 253_370_764_800 * SECOND
"""The beginning of the year 9999: whatever the offset, every instant before it can be written."""

LARGEST = 1 << 50

_PART = re.compile(r"([0-9]{1,18})(ms|us|d|h|m|s)")
_DURATION = re.compile(r"(?:[0-9]{1,18}(?:ms|us|d|h|m|s))+")
_SIZE = re.compile(r"([0-9]{1,18}) ?([A-Za-z]+)")
_SIZE_UNITS = {unit.lower(): scale for unit, scale in SIZES.items()}


def parse_duration(text: str) -> int:
    """`5m` → 300_000_000 (µs). Parts add up, the longest unit first: `1h30m`.

    Units are d, h, m, s, ms, us; numbers are whole. Raises Invalid.
    """
    if not _DURATION.fullmatch(text):
        raise Invalid(f"{text!r} is not a duration: write whole numbers with their units, such as 30s, 5m, 1h30m, 10d")
    parts = _PART.findall(text)
    scales = [DURATIONS[unit] for _, unit in parts]
    if scales != sorted(set(scales), reverse=True):
        raise Invalid(f"{text!r} is not a duration: each unit may come once, the longest first, such as 1h30m")
    total = sum(int(number) * scale for (number, _), scale in zip(parts, scales))
    if total > LONGEST:
        raise Invalid(f"{text!r} is too long: a duration has at most {format_duration(LONGEST)}")
    return total


def format_duration(span: int) -> str:
    """The shortest form that `parse_duration` reads back: 5_400_000_000 → `1h30m`, 0 → `0s`."""
    parts = []
    for unit, scale in DURATIONS.items():
        # as people write it: 24h and 96h, but 10d
        if unit == "d" and (span % scale or span < 7 * scale):
            continue
        number, span = divmod(span, scale)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0s"


def parse_instant(text: str, now: int) -> int:
    """`2h` → two hours before `now`; `2026-01-31T12:00:00Z`, `2026-01-31` → that instant (µs UTC).

    It is from 1970 to 9998. Raises Invalid.
    """
    if _DURATION.fullmatch(text):
        return max(0, now - parse_duration(text))
    try:
        instant = from_rfc3339(text)
    except ValueError:
        instant = -1
    if not 0 <= instant < LAST:
        raise Invalid(
            f"{text!r} is not an instant: write how long ago, such as 2h, or a time, such as 2026-01-31T12:00:00Z"
        )
    return instant


def parse_size(text: str) -> int:
    """`25MiB` → 26_214_400 (bytes). Units are B, kB, MB, GB (by 1000), KiB, MiB, GiB (by 1024), in any letter case.

    Raises Invalid.
    """
    found = _SIZE.fullmatch(text)
    if found is None or found[2].lower() not in _SIZE_UNITS:
        raise Invalid(f"{text!r} is not a size: write a whole number with its unit, such as 512B, 64KiB, 25MiB, 1GB")
    total = int(found[1]) * _SIZE_UNITS[found[2].lower()]
    if total > LARGEST:
        raise Invalid(f"{text!r} is too large: a size has at most {format_size(LARGEST)}")
    return total


def format_size(size: int) -> str:
    """The size in the largest unit by 1024 that leaves no rest: 65_536 → `64KiB`."""
    unit = next(unit for unit in ("GiB", "MiB", "KiB", "B") if (size and size % SIZES[unit] == 0) or unit == "B")
    return f"{size // SIZES[unit]}{unit}"
