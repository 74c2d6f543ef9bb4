"""Environments: what is exported can be imported, and importing takes nothing away."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenterhook.environment import EnvironmentIn, export, plan
from tenterhook.errors import Invalid
from tenterhook.event_type_changes import Upsert
from tenterhook.model import EventType

NOW = 1_700_000_000_000_000
NAMES = st.text("abc.-_0", min_size=1, max_size=4)
EVENT_TYPES = st.builds(
    EventType,
    name=NAMES,
    description=st.text("ab \n", max_size=5),
    archived=st.booleans(),
    deprecated=st.booleans(),
    schemas=st.none() | st.dictionaries(st.sampled_from(["1", "2"]), st.just({"type": "object"}), max_size=2),
    group_name=st.none() | NAMES,
    feature_flags=st.lists(NAMES, max_size=2, unique=True).map(tuple),
    created_at=st.just(1),
    updated_at=st.just(2),
)


def sent(event_types: list[EventType]) -> EnvironmentIn:
    """As another server reads it from the wire."""
    return msgspec.json.decode(msgspec.json.encode(export(event_types, NOW)), type=EnvironmentIn)


@given(st.lists(EVENT_TYPES, unique_by=lambda one: one.name, max_size=4))
def test_what_is_exported_can_be_imported(event_types: list[EventType]) -> None:
    made = [change.event_type for change in plan([], sent(event_types), now=7)]
    expected = [msgspec.structs.replace(one, created_at=7, updated_at=7) for one in event_types]
    assert made == sorted(expected, key=lambda one: one.name)
    assert plan(event_types, sent(event_types), now=7) == []


@given(st.lists(EVENT_TYPES, unique_by=lambda one: one.name, max_size=4), EVENT_TYPES)
def test_importing_takes_nothing_away(existing: list[EventType], coming: EventType) -> None:
    there = {one.name: one for one in existing}
    for change in plan(existing, sent([coming]), now=7):
        assert isinstance(change, Upsert)
        assert change.event_type.name == coming.name
        assert change.event_type.created_at == (1 if coming.name in there else 7)


def test_the_wire() -> None:
    event_type = EventType(name="a.b", feature_flags=("f",), created_at=0, updated_at=1_500_000)
    assert msgspec.to_builtins(export([event_type], NOW)) == {
        "version": 1,
        "createdAt": "2023-11-14T22:13:20.000000Z",
        "settings": None,
        "connectors": [],
        "eventTypes": [
            {
                "name": "a.b", "description": "", "archived": False, "deprecated": False, "schemas": None, "groupName": None,
                "featureFlags": ("f",), "featureFlag": "f", "createdAt": "1970-01-01T00:00:00.000000Z",
                "updatedAt": "1970-01-01T00:00:01.500000Z",
            }
        ],
    }  # fmt: skip


@pytest.mark.parametrize("body", [b"{}", b'{"eventTypes": null, "connectors": null, "settings": {"colour": "red"}}'])
def test_nothing_to_import_is_no_error(body: bytes) -> None:
    assert plan([], msgspec.json.decode(body, type=EnvironmentIn), now=NOW) == []


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        (b'{"connectors": [{"name": "x"}]}', ("body", "connectors")),
        (b'{"eventTypes": [{"name": "a"}, {"name": "a"}]}', ("body", "eventTypes", "[1]", "name")),
        (
            b'{"eventTypes": [{"name": "a", "schemas": {"1": {"items": {"type": "x"}}}}]}',
            ("body", "eventTypes", "[0]", "schemas", "1", "items", "type"),
        ),
    ],
)
def test_what_is_refused_and_where(body: bytes, loc: tuple[str, ...]) -> None:
    with pytest.raises(Invalid) as error:
        plan([], msgspec.json.decode(body, type=EnvironmentIn), now=NOW)
    assert error.value.loc == loc


@pytest.mark.parametrize(
    "body", [b'{"eventTypes": [{"name": "a b"}]}', b'{"eventTypes": [{"name": "a", "featureFlags": [""]}]}']
)
def test_names_have_their_form(body: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(body, type=EnvironmentIn)


def test_a_feature_flag_in_the_old_form_is_kept() -> None:
    given = msgspec.json.decode(b'{"eventTypes": [{"name": "a", "featureFlag": "beta"}]}', type=EnvironmentIn)
    assert [change.event_type.feature_flags for change in plan([], given, now=NOW)] == [("beta",)]
