"""Event types from OpenAPI documents: what is read, what would change, and where a document is wrong."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tenterhook.errors import BadRequest, Invalid
from tenterhook.event_type_changes import Archive, Change, Upsert
from tenterhook.model import EventType
from tenterhook.openapi_import import MOST_EVENT_TYPES, plan, read
from tenterhook.schemas import problems

NOW = 1_700_000_000_000_000

PETS: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Pets", "version": "1"},
    "webhooks": {
        "pet.new": {
            "post": {
                "summary": "A pet",
                "description": "A pet has come in.",
                "deprecated": True,
                "x-svix-group-name": "pets",
                "x-svix-feature-flags": ["beta", "pets", "beta"],
                "requestBody": {
                    "content": {
                        "text/plain": {"schema": {"type": "string"}},
                        "application/json": {
                            "schema": {"$ref": "#/components/schemas/Pet"},
                            "examples": {"cat": {"value": {"name": "Tom"}}, "dog": {"$ref": "#/components/examples/dog"}},
                        },
                    }
                },
            }
        },
        "pet.gone": {"$ref": "#/components/pathItems/gone"},
    },
    "components": {
        "pathItems": {
            "gone": {"summary": "A pet has gone", "put": {"requestBody": {"$ref": "#/components/requestBodies/id"}}}
        },
        "requestBodies": {"id": {"content": {"application/vnd.pets+json; charset=utf-8": {"schema": {"type": "object"}}}}},
        "examples": {"dog": {"value": {"name": "Rex", "owner": {"name": "Ann", "pets": []}}}},
        "schemas": {
            "Pet": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string", "example": "Tom"}, "owner": {"$ref": "#/components/schemas/Own er~1"}},
            },
            "Own er/": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "pets": {"type": "array", "items": {"$ref": "#/components/schemas/Pet"}},
                },
            },
            "Unused": {"$ref": "#/components/schemas/Pet"},
        },
    },
}  # fmt: skip


def webhook(schema: Any, version: str = "3.1.0", **more: Any) -> dict[str, Any]:
    """A document with one webhook, `a.b`."""
    operation = {"requestBody": {"content": {"application/json": {"schema": schema}}}}
    return {"openapi": version, "webhooks": {"a.b": {"post": operation}}, **more}


def planned(spec: Any, *existing: EventType, replace_all: bool = False) -> list[Change]:
    return plan(existing, read(spec), replace_all=replace_all, now=NOW)


def schema_from(schema: Any, version: str = "3.1.0", **more: Any) -> Any:
    (change,) = planned(webhook(schema, version, **more))
    assert change.event_type.schemas is not None
    return change.event_type.schemas["1"]


def known(name: str, **fields: Any) -> EventType:
    return EventType(**{"name": name, "created_at": 1, "updated_at": 1} | fields)


def refused(spec: Any) -> tuple[tuple[str, ...], str]:
    with pytest.raises(Invalid) as error:
        planned(spec)
    assert error.value.loc[:2] == ("body", "spec")
    return error.value.loc[2:], error.value.detail


def test_a_document() -> None:
    new, gone = (change.event_type for change in planned(PETS))
    assert (new.name, new.description, new.deprecated, new.archived) == ("pet.new", "A pet has come in.", True, False)
    assert (new.group_name, new.feature_flags, new.created_at, new.updated_at) == ("pets", ("beta", "pets"), NOW, NOW)
    assert new.schemas == {
        "1": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string", "examples": ["Tom"]},
                "owner": {"$ref": "#/$defs/Own%20er~1"},
            },
            "$defs": {
                "Own er/": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string"},
                        "pets": {"type": "array", "items": {"$ref": "#/$defs/Pet"}},
                    },
                },
                "Pet": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": {"type": "string", "examples": ["Tom"]},
                        "owner": {"$ref": "#/$defs/Own%20er~1"},
                    },
                },
            },
            "examples": [{"name": "Tom"}, {"name": "Rex", "owner": {"name": "Ann", "pets": []}}],
        }
    }
    assert problems(new.schemas["1"], b'{"name": "Rex", "owner": {"pets": [{"name": 5}]}}') == [
        ("/owner/pets/0/name", 'this value is not of type "string"')
    ]
    assert (gone.name, gone.description, gone.schemas) == ("pet.gone", "A pet has gone", {"1": {"type": "object"}})
    assert (gone.group_name, gone.feature_flags, gone.deprecated) == (None, (), False)


def test_text_is_yaml_or_json() -> None:
    for text in (
        json.dumps(PETS),
        " \n" + json.dumps(PETS, indent=2),
        yaml.safe_dump(PETS),
        "{openapi: 3.1.0, webhooks: {}}",
    ):
        source = read(spec_raw=text)
        expected = PETS if "Pet" in text else {"openapi": "3.1.0", "webhooks": {}}
        assert source.root.value == expected


def test_nothing_changes_the_document() -> None:
    before = json.dumps(PETS)
    planned(PETS)
    assert json.dumps(PETS) == before


def test_both_sections_count() -> None:
    spec = {"openapi": "3.0.0", "x-webhooks": {"a": {"post": {}}}, "webhooks": {"b": {"post": {"summary": "B"}}}}
    assert {(change.event_type.name, change.event_type.description) for change in planned(spec)} == {
        ("a", ""),
        ("b", "B"),
    }


def test_what_the_document_does_not_say_stays() -> None:
    there = known("a.b", description="old", group_name="g", feature_flags=("f",), schemas={"7": {}}, deprecated=True)
    spec: Any = {"openapi": "3.1.0", "webhooks": {"a.b": {"post": {"description": "new"}}}}
    assert planned(spec, there) == [Upsert(replace(there, description="new", updated_at=NOW))]


def test_what_is_archived_comes_back_and_what_is_the_same_is_left_out() -> None:
    first = [change.event_type for change in planned(PETS)]
    assert planned(PETS, *first) == []
    archived = replace(first[1], archived=True)
    assert planned(PETS, first[0], archived) == [Upsert(replace(archived, archived=False, updated_at=NOW))]


def test_replacing_all_archives_the_rest() -> None:
    there = [known("other"), known("sleeping", archived=True), known("pet.new")]
    assert not any(isinstance(change, Archive) for change in planned(PETS, *there))
    archived = [change for change in planned(PETS, *there, replace_all=True) if isinstance(change, Archive)]
    assert archived == [Archive(known("other", archived=True, updated_at=NOW))]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string", "nullable": True}, {"type": ["string", "null"]}),
        ({"type": "string", "nullable": False}, {"type": "string"}),
        ({"type": "string", "enum": ["a"], "nullable": True}, {"type": ["string", "null"], "enum": ["a", None]}),
        ({"nullable": True, "description": "d"}, {"description": "d"}),
        (
            {"nullable": True, "allOf": [{"$ref": "#/components/schemas/A"}]},
            {"anyOf": [{"allOf": [{"$ref": "#/$defs/A"}]}, {"type": "null"}], "$defs": {"A": {"type": "integer"}}},
        ),
        ({"minimum": 1, "exclusiveMinimum": True}, {"exclusiveMinimum": 1}),
        ({"maximum": 1, "exclusiveMaximum": False}, {"maximum": 1}),
        ({"exclusiveMaximum": True}, {}),
        ({"properties": {"example": {"example": 1}}}, {"properties": {"example": {"examples": [1]}}}),
        ({"$ref": "#/components/schemas/A", "description": "does not count"}, {"type": "integer"}),
        (
            {"items": {"$ref": "#/components/schemas/A", "type": "string"}},
            {"items": {"$ref": "#/$defs/A"}, "$defs": {"A": {"type": "integer"}}},
        ),
    ],
)  # fmt: skip
def test_the_dialect_of_3_0(schema: Any, expected: Any) -> None:
    assert schema_from(schema, "3.0.3", components={"schemas": {"A": {"type": "integer"}}}) == expected


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (True, True),
        ({"type": ["string", "null"], "examples": [1], "example": 2}, {"type": ["string", "null"], "examples": [1]}),
        ({"exclusiveMinimum": 1}, {"exclusiveMinimum": 1}),
        (
            {"$ref": "#/components/schemas/A", "maximum": 5},
            {"$ref": "#/$defs/A", "maximum": 5, "$defs": {"A": {"type": "integer"}}},
        ),
        ({"$ref": "#/components/schemas/B"}, {"type": "integer"}),
        (
            {"$defs": {"A": {"const": 1}}, "items": {"$ref": "#/components/schemas/A"}},
            {"items": {"$ref": "#/$defs/A_2"}, "$defs": {"A": {"const": 1}, "A_2": {"type": "integer"}}},
        ),
        (
            {"items": {"$ref": "#here"}, "$defs": {"x": {"$anchor": "here"}}},
            {"items": {"$ref": "#here"}, "$defs": {"x": {"$anchor": "here"}}},
        ),
        (
            {"$id": "https://example.com/x", "items": {"$ref": "#/$defs/y"}, "$defs": {"y": {}}},
            {"$id": "https://example.com/x", "items": {"$ref": "#/$defs/y"}, "$defs": {"y": {}}},
        ),
        ({"const": {"$ref": "#/nothing"}}, {"const": {"$ref": "#/nothing"}}),
    ],
)  # fmt: skip
def test_schemas_of_3_1(schema: Any, expected: Any) -> None:
    components = {"schemas": {"A": {"type": "integer"}, "B": {"$ref": "#/components/schemas/A"}}}
    assert schema_from(schema, components=components) == expected


def test_two_parts_with_one_name_are_both_kept() -> None:
    schema = {"items": {"$ref": "#/components/schemas/A"}, "contains": {"$ref": "#/x-more/A"}}
    found = schema_from(schema, **{"components": {"schemas": {"A": {"const": 1}}}, "x-more": {"A": {"const": 2}}})
    assert found["items"] != found["contains"]
    assert {part["const"] for part in found["$defs"].values()} == {1, 2}


def test_an_example_alone_makes_a_schema() -> None:
    spec = webhook({})
    spec["webhooks"]["a.b"]["post"]["requestBody"]["content"] = {"*/*": {"example": {"n": 1}}}
    (change,) = planned(spec)
    assert change.event_type.schemas == {"1": {"examples": [{"n": 1}]}}


BODY = ("webhooks", "a.b", "post", "requestBody", "content", "application/json", "schema")


@pytest.mark.parametrize(
    ("spec", "loc", "words"),
    [
        ([], (), "must be an object"),
        ({}, (), "no `openapi`"),
        ({"swagger": "2.0"}, (), "no `openapi`"),
        ({"openapi": 3.1}, ("openapi",), "must be text"),
        ({"openapi": "4.0.0"}, ("openapi",), "3.2"),
        ({"openapi": "3.1.0"}, (), "neither `webhooks` nor `x-webhooks`"),
        ({"openapi": "3.1.0", "webhooks": []}, ("webhooks",), "must be an object"),
        ({"openapi": "3.1.0", "webhooks": {"a b": {}}}, ("webhooks", "a b"), "name of an event type"),
        ({"openapi": "3.1.0", "webhooks": {"a": {"post": {}}}, "x-webhooks": {"a": {}}}, ("x-webhooks", "a"), "already"),
        ({"openapi": "3.1.0", "webhooks": {"a": 5}}, ("webhooks", "a"), "must be an object"),
        ({"openapi": "3.1.0", "webhooks": {"a": {}}}, ("webhooks", "a"), "has an operation"),
        ({"openapi": "3.1.0", "webhooks": {"a": {"put": {}, "get": {}}}}, ("webhooks", "a"), "several operations"),
        ({"openapi": "3.1.0", "webhooks": {"a": {"post": 5}}}, ("webhooks", "a", "post"), "must be an object"),
        (
            {"openapi": "3.1.0", "webhooks": {"a": {"post": {"description": "x" * 5_000}}}},
            ("webhooks", "a", "post", "description"), "4096",
        ),
        (
            {"openapi": "3.1.0", "webhooks": {"a": {"post": {"deprecated": 1}}}},
            ("webhooks", "a", "post", "deprecated"), "true or false",
        ),
        (
            {"openapi": "3.1.0", "webhooks": {"a": {"post": {"x-svix-group-name": "a b"}}}},
            ("webhooks", "a", "post", "x-svix-group-name"), "letters",
        ),
        (
            {"openapi": "3.1.0", "webhooks": {"a": {"post": {"x-svix-feature-flags": ["a", 5]}}}},
            ("webhooks", "a", "post", "x-svix-feature-flags", "[1]"), "letters",
        ),
        ({"openapi": "3.1.0", "webhooks": {"a": {"$ref": "#/x"}}}, ("webhooks", "a", "$ref"), "names nothing"),
        ({"openapi": "3.1.0", "webhooks": {"a": {"$ref": "other.yaml#/x"}}}, ("webhooks", "a", "$ref"), "in this document"),
        ({"openapi": "3.1.0", "webhooks": {"a": {"$ref": "#/webhooks/a"}}}, ("webhooks", "a"), "without end"),
        (webhook({"type": "text"}), (*BODY, "type"), "a type is"),
        (webhook([]), BODY, "a JSON Schema is an object"),
        (webhook({"items": {"$ref": "#/components/schemas/X"}}), (*BODY, "items", "$ref"), "names nothing"),
        (webhook({"items": {"$ref": "https://example.com/x"}}), (*BODY, "items", "$ref"), "in this document"),
        (webhook({"items": {"$ref": "#nowhere"}}), (*BODY, "items", "$ref"), "names nothing"),
        (
            webhook({"items": {"$ref": "#/parts/A"}}, parts={"A": {"properties": {"x": {"type": 1}}}}),
            ("parts", "A", "properties", "x", "type"), "a type is",
        ),
        (
            webhook({"$ref": "#/parts/A"}, parts={"A": {"properties": {"x": {"pattern": "(?=a)"}}}}),
            ("parts", "A", "properties", "x", "pattern"), "linear time",
        ),
        (
            webhook({"items": {"$ref": "#/parts/A"}}, parts={"A": {"allOf": [{"$ref": "../b.yaml"}]}}),
            ("parts", "A", "allOf", "[0]", "$ref"), "in this document",
        ),
        ({"openapi": "3.1.0", "webhooks": {}, "x": "\ud800"}, (), "not JSON"),
    ],
)  # fmt: skip
def test_what_is_refused_and_where(spec: Any, loc: tuple[str, ...], words: str) -> None:
    where, why = refused(spec)
    assert where == loc
    assert words in why


def test_the_size_of_an_import_is_bounded() -> None:
    many = {f"e{n}": {"post": {}} for n in range(MOST_EVENT_TYPES + 1)}
    assert "at most" in refused({"openapi": "3.1.0", "webhooks": many})[1]
    shared = {"requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Big"}}}}}
    spec = {
        "openapi": "3.1.0",
        "webhooks": {f"e{n}": {"post": shared} for n in range(200)},
        "components": {"schemas": {"Big": {"description": "x" * 200_000}}},
    }
    assert "all event types" in refused(spec)[1]
    deep: Any = {}
    for _ in range(200):
        deep = {"a": deep}
    assert "levels deep" in refused({"openapi": "3.1.0", "webhooks": {}, "x-deep": deep})[1]


def test_either_a_value_or_text() -> None:
    for given_ in ({}, {"spec": PETS, "spec_raw": json.dumps(PETS)}):
        with pytest.raises(BadRequest):
            read(**given_)
    with pytest.raises(Invalid) as error:
        read(spec_raw="openapi: 3.1.0\nwebhooks: {a: &a [*a]}")
    assert error.value.loc == ("body", "specRaw")
    assert error.value.detail.startswith("line 2, column ")


REFERENCES = st.sampled_from(["#/components/schemas/A", "#/components/schemas/B", "#/components/schemas/C~1~0%20d"])
SCHEMAS = st.recursive(
    st.booleans()
    | st.sampled_from(["string", "integer", "object"]).map(lambda name: {"type": name})
    | REFERENCES.map(lambda reference: {"$ref": reference}),
    lambda inner: st.fixed_dictionaries({}, optional={
        "properties": st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2), "items": inner,
        "anyOf": st.lists(inner, min_size=1, max_size=2), "example": st.integers(), "description": st.just("d"),
    }),
    max_leaves=6,
)  # fmt: skip
VALUES = st.recursive(
    st.integers(-2, 2) | st.just("x"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
    max_leaves=6,
)


@given(SCHEMAS, SCHEMAS, SCHEMAS, SCHEMAS, VALUES)
def test_the_schema_means_what_it_meant_in_the_document(root: Any, a: Any, b: Any, c: Any, value: object) -> None:
    """The document itself is a schema that can look anything up, if the root of it refers to the webhook's."""
    components = {"schemas": {"A": a, "B": b, "C/~ d": c}}
    try:
        found = schema_from(root, components=components)
    except Invalid as error:
        assert "leads back" in error.detail or "without end" in error.detail or "parts" in error.detail
        return
    payload = json.dumps(value).encode()
    whole = {"$ref": "#/root", "root": root, "components": components}
    assert {one.path for one in problems(found, payload)} == {one.path for one in problems(whole, payload)}
    assert "#/components" not in json.dumps(found)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.sampled_from(["3.0.0", "3.1.0", "#/webhooks/a", "#/x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(
            ["webhooks", "x-webhooks", "a", "post", "requestBody", "content", "application/json", "schema", "$ref", "examples",
             "value", "properties", "items", "nullable", "$defs", "x-svix-feature-flags", "description", "deprecated"]
        ),
        inner, max_size=4,
    ),
    max_leaves=15,
)  # fmt: skip


@given(JUNK, JUNK, st.sampled_from(["3.0.0", "3.1.0"]))
def test_any_document_is_read_or_refused(webhooks: Any, schema: Any, version: str) -> None:
    for spec in (webhooks, webhook(schema, version, x=webhooks), {"openapi": version, "webhooks": webhooks}):
        try:
            planned({} if spec is None else spec)
        except Invalid as error:
            assert error.loc[:2] == ("body", "spec")
            assert all(isinstance(step, str) for step in error.loc)
