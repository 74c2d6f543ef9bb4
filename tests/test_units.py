"""Durations, instants and sizes: every text is a number or a clear error, and what is shown is read back."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenterhook.clock import DAY, HOUR, MINUTE, SECOND, from_rfc3339, to_rfc3339
from tenterhook.errors import Invalid
from tenterhook.units import LARGEST, LONGEST, format_duration, format_size, parse_duration, parse_instant, parse_size


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("5s", 5 * SECOND),
        ("5m", 5 * MINUTE),
        ("1h30m", 90 * MINUTE),
        ("96h", 4 * DAY),
        ("1d12h", 36 * HOUR),
        ("250ms", 250_000),
        ("1s1us", SECOND + 1),
        ("0s", 0),
        ("007m", 7 * MINUTE),
    ],
)
def test_durations(text: str, span: int) -> None:
    assert parse_duration(text) == span


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "s",
        "5 m",
        "-5s",
        "1.5h",
        "5min",
        "5M",
        "1m1h",
        "5s5s",
        "５s",
        "5s\n",
        "36501d",
        "9" * 18 + "d",
        "1" * 50,
    ],
)
def test_no_durations(text: str) -> None:
    with pytest.raises(Invalid, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("512B", 512), ("16KiB", 16_384), ("1MiB", 1 << 20), ("2 GiB", 2 << 30), ("1kB", 1_000), ("3mb", 3_000_000)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "5", "MiB", "5 M", "-1B", "1.5MiB", "５B", "1MiB\n", "1048577GiB"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(Invalid, match="size"):
        parse_size(text)


@given(st.integers(0, LONGEST))
def test_a_shown_duration_is_read_back(span: int) -> None:
    assert parse_duration(format_duration(span)) == span


@given(st.integers(0, LARGEST))
def test_a_shown_size_is_read_back(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("span", "text"), [(0, "0s"), (60 * SECOND, "1m"), (96 * HOUR, "96h"), (10 * DAY, "10d"), (90 * MINUTE, "1h30m")]
)
def test_durations_are_shown_as_people_write_them(span: int, text: str) -> None:
    assert format_duration(span) == text


@given(st.text() | st.from_regex(r"[0-9]+[a-zA-Z ]+", fullmatch=True))
def test_any_text_is_a_number_or_invalid(text: str) -> None:
    for parse, most in ((parse_duration, LONGEST), (parse_size, LARGEST)):
        with contextlib.suppress(Invalid):
            assert 0 <= parse(text) <= most


NOW = from_rfc3339("2026-01-31T12:00:00Z")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2h", "2026-01-31T10:00:00.000000Z"),
        ("1d12h", "2026-01-30T00:00:00.000000Z"),
        ("36500d", "1970-01-01T00:00:00.000000Z"),
        ("2026-01-31", "2026-01-31T00:00:00.000000Z"),
        ("2026-01-31T12:00:00.5+02:00", "2026-01-31T10:00:00.500000Z"),
        ("2027-01-31T12:00:00", "2027-01-31T12:00:00.000000Z"),
    ],
)
def test_instants(text: str, shown: str) -> None:
    assert to_rfc3339(parse_instant(text, NOW)) == shown


@pytest.mark.parametrize("text", ["", "yesterday", "2", "-2h", "1969-12-31", "0001-01-01", "9999-01-01", "36501d"])
def test_what_is_no_instant(text: str) -> None:
    with pytest.raises(Invalid):
        parse_instant(text, NOW)


@given(st.one_of(st.text(), st.datetimes().map(str)))
def test_any_text_is_an_instant_or_a_clear_error(text: str) -> None:
    with contextlib.suppress(Invalid):
        to_rfc3339(parse_instant(text, NOW))
