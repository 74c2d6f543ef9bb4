"""Which endpoints want a message; and that remembering the answer changes nothing."""

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenterhook.model import Endpoint
from tenterhook.routing import Router, wants

NAMES = st.sampled_from(["invoice", "invoice.paid", "invoice.paid.late", "user.created", "a*b", "Invoice.Paid", ""])
PATTERNS = NAMES | st.sampled_from(["*", "invoice.*", "*.created", "inv*paid", "user.?reated", "[iu]*", "user.c[!x]*"])
CHANNELS = st.sampled_from(["one", "two", "three"])
MESSAGES = st.tuples(NAMES, st.lists(CHANNELS, max_size=3).map(tuple))


def endpoint(
    number: int, types: tuple[str, ...] | None, channels: tuple[str, ...] | None, disabled: bool = False
) -> Endpoint:
    return Endpoint(
        id=f"ep_{number}", app="a", url="https://a.example", event_types=types, channels=channels, disabled=disabled,
        created_at=1, updated_at=1,
    )  # fmt: skip


ENDPOINTS = st.builds(
    endpoint,
    st.integers(0, 10**6),
    st.none() | st.lists(PATTERNS, max_size=3).map(tuple),
    st.none() | st.lists(CHANNELS, max_size=2).map(tuple),
    st.booleans(),
)


@pytest.mark.parametrize(
    ("types", "channels", "wanted"),
    [
        (None, None, True),
        (("invoice.paid",), None, True),
        (("invoice",), None, False),
        (("user.created", "invoice.*"), None, True),
        (("*.paid",), None, True),
        (("Invoice.*",), None, False),
        ((), None, False),
        (None, ("two",), True),
        (None, ("three",), False),
        (None, (), False),
        (("invoice.*",), ("three",), False),
    ],
)
def test_filters(types: tuple[str, ...] | None, channels: tuple[str, ...] | None, wanted: bool) -> None:
    assert wants(endpoint(1, types, channels), "invoice.paid", ("one", "two")) is wanted


def test_an_endpoint_with_channels_wants_no_message_without() -> None:
    assert not wants(endpoint(1, None, ("one",)), "x", ())
    assert wants(endpoint(1, None, None), "x", ())


@given(NAMES, PATTERNS)
def test_a_pattern_is_exact_unless_it_has_a_star(name: str, pattern: str) -> None:
    expected = fnmatchcase(name, pattern) or name == pattern if "*" in pattern else name == pattern
    assert wants(endpoint(1, (pattern,), None), name, ()) == expected


@given(st.lists(ENDPOINTS, max_size=6), st.lists(MESSAGES, min_size=1, max_size=30))
def test_a_router_answers_as_asking_each_endpoint_would(
    endpoints: list[Endpoint], messages: list[tuple[str, tuple[str, ...]]]
) -> None:
    router = Router(endpoints)
    for name, channels in messages * 2:
        expected = [e for e in endpoints if not e.disabled and wants(e, name, channels)]
        assert list(router.match(name, channels)) == expected


def test_what_a_router_remembers_is_bounded_and_forgetting_changes_nothing() -> None:
    router = Router([endpoint(1, ("t.1*",), None)])
    for _ in range(2):
        for number in range(2_500):
            assert bool(router.match(f"t.{number}", ())) == str(number).startswith("1")
