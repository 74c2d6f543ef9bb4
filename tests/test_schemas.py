"""JSON Schemas of event types: what is refused, what is told of a payload, and that no schema can reach or stop us."""

import json
import socket
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tenterhook.errors import Invalid
from tenterhook.schemas import MOST_PROBLEMS, Problem, check_schema, check_schemas, newest, problems

DRAFT_7 = "http://json-schema.org/draft-07/schema#"


def told(schema: Any, value: object) -> list[Problem]:
    return problems(schema, json.dumps(value).encode())


def places(schema: Any, value: object) -> list[str]:
    return [problem.path for problem in told(schema, value)]


def refused(schema: object) -> tuple[tuple[str, ...], str]:
    with pytest.raises(Invalid) as error:
        check_schema(schema)
    return error.value.loc, error.value.detail


def doubling(levels: int, keyword: str = "allOf") -> dict[str, Any]:
    """A few lines that stand for 2^levels parts."""
    shelf: dict[str, Any] = {f"d{n}": {keyword: [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(levels)}
    return {"$ref": "#/$defs/d0", "$defs": shelf | {f"d{levels}": {"type": "object"}}}


def operation(name: str) -> dict[str, Any]:
    sides = {"left": {"$ref": "#/$defs/expression"}, "right": {"$ref": "#/$defs/expression"}}
    return {"type": "object", "required": ["op", *sides], "properties": {"op": {"const": name}} | sides}


TREE = {
    "$ref": "#/$defs/expression",
    "$defs": {"expression": {"oneOf": [{"type": "integer"}, *(operation(name) for name in "+-*/")]}},
}
"""An ordinary recursive schema. Every error of every alternative of a wrong tree of depth n is 4^n errors."""


@pytest.mark.parametrize(
    "schema",
    [
        True,
        False,
        {},
        {"type": "object", "properties": {"a": {"type": ["string", "null"]}}},
        {"$schema": "https://json-schema.org/draft/2020-12/schema"},
        {
            "$schema": DRAFT_7,
            "definitions": {"a": {"$id": "#a"}},
            "allOf": [{"$ref": "#/definitions/a"}, {"$ref": "#a"}],
        },
        {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 1, "exclusiveMinimum": True},
        {"$defs": {"a/b %": {"$anchor": "here"}}, "allOf": [{"$ref": "#/$defs/a~1b%20%25"}, {"$ref": "#here"}]},
        {"$id": "https://example.com/a/b", "$ref": "c", "$defs": {"x": {"$id": "/a/c", "type": "string"}}},
        {"allOf": [{"components": {"a": {}}}], "$ref": "#/allOf/0/components/a"},
        {"const": {"$ref": "https://example.com/data"}, "examples": [{"$ref": "data"}], "x-mine": {"$ref": "data"}},
        {"pattern": r"^\p{L}{1,100}$"},
        TREE,
    ],
)
def test_what_is_taken(schema: Any) -> None:
    check_schema(schema)
    told(schema, {"a": 1})


@pytest.mark.parametrize(
    ("schema", "loc", "words"),
    [
        ([], (), "an object, true or false"),
        (None, (), "an object, true or false"),
        ({"const": {1, 2}.__iter__()}, (), "not JSON"),
        ({"const": "\ud800"}, (), "not JSON"),
        ({"$schema": "https://json-schema.org/draft-03/schema"}, ("$schema",), "draft/2020-12"),
        ({"$schema": 5}, ("$schema",), "draft/2020-12"),
        ({"properties": {"a": {"type": "text"}}}, ("properties", "a", "type"), "a type is array, boolean"),
        ({"allOf": [{}, {"minLength": -1}]}, ("allOf", "[1]", "minLength"), "less than the minimum"),
        ({"items": [{}]}, ("items",), "not of types"),
        ({"required": "a"}, ("required",), "not of type"),
        ({"properties": 5}, ("properties",), "not of type"),
        ({"$defs": {"a": 5}}, ("$defs", "a"), "not of types"),
        ({"$ref": 5}, ("$ref",), "not of type"),
        ({"$ref": "https://example.com/schema"}, ("$ref",), "nothing outside"),
        ({"$ref": "file:///etc/passwd"}, ("$ref",), "nothing outside"),
        ({"$ref": "other.json"}, ("$ref",), "nothing outside"),
        ({"$ref": "https://json-schema.org/draft/2020-12/schema"}, ("$ref",), "nothing outside"),
        ({"$ref": "http://[::1"}, ("$ref",), "nothing outside"),
        ({"items": {"$ref": "#/$defs/a"}}, ("items", "$ref"), "names nothing"),
        ({"allOf": [{}], "$ref": f"#/allOf/{'9' * 5_000}"}, ("$ref",), "names nothing"),
        ({"items": {"$ref": "#/type"}, "type": "array"}, ("items", "$ref"), "names nothing"),
        ({"$defs": {"unused": {"$ref": "https://example.com/"}}}, ("$defs", "unused", "$ref"), "nothing outside"),
        ({"items": {"$dynamicRef": "https://example.com/#a"}}, ("items", "$dynamicRef"), "nothing outside"),
        ({"$ref": "#"}, ("$ref",), "leads back to itself"),
        ({"not": {"$ref": "#"}}, ("not", "$ref"), "leads back to itself"),
        (
            {"items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}},
            ("$defs", "a", "allOf", "[0]", "$ref"), "leads back to itself",
        ),
        ({"items": {"pattern": "(?=a)b"}}, ("items", "pattern"), "linear time"),
        ({"items": {"pattern": r"(a)\1"}}, ("items", "pattern"), "linear time"),
        ({"items": {"pattern": "(("}}, ("items", "pattern"), "linear time"),
        ({"patternProperties": {"(a{1000}){1000}": {}}}, ("patternProperties", "(a{1000}){1000}"), "linear time"),
        ({"patternProperties": {f"a{n}": {} for n in range(257)}}, (), "256 regular expressions"),
        ({"const": "x" * (257 << 10)}, (), "bytes"),
        (doubling(14), (), "10000 parts"),
        (doubling(60), (), "10000 parts"),
        (doubling(60, "anyOf"), (), "10000 parts"),
    ],
)  # fmt: skip
def test_what_is_refused_and_where(schema: object, loc: tuple[str, ...], words: str) -> None:
    where, why = refused(schema)
    assert where == ("body", *loc)
    assert words in why


def test_depth_is_bounded_with_references_and_without() -> None:
    schema: dict[str, Any] = {}
    for _ in range(40):
        schema = {"items": schema}
    check_schema(schema)
    for _ in range(40):
        schema = {"items": schema}
    assert "levels deep" in refused(schema)[1]
    chain: dict[str, Any] = {f"d{n}": {"items": {"$ref": f"#/$defs/d{n + 1}"}} for n in range(70)} | {"d70": {}}
    assert "parts deep" in refused({"$ref": "#/$defs/d0", "$defs": chain})[1]


def test_looking_back_at_each_level_is_bounded() -> None:
    """`unevaluatedProperties` looks at the parts beside it once more, so nested it costs 2^levels."""
    schema: dict[str, Any] = {"properties": {"x": True}}
    for _ in range(20):
        schema = {"allOf": [schema], "unevaluatedProperties": False}
    assert "parts" in refused(schema)[1]


def test_versions() -> None:
    check_schemas({"1": {}, "v2.0-rc": {"type": "object"}})
    for versions, loc in (({"": {}}, ("",)), ({"a b": {}}, ("a b",)), ({"1": {}, "2": {"type": 1}}, ("2", "type"))):
        with pytest.raises(Invalid) as error:
            check_schemas(versions)
        assert error.value.loc == ("body", "schemas", *loc)
    with pytest.raises(Invalid, match="schemas of an event type"):
        check_schemas({"1": {"const": "x" * (200 << 10)}, "2": {"const": "x" * (200 << 10)}})


@pytest.mark.parametrize(
    ("versions", "highest"),
    [
        (["1"], "1"), (["2", "10", "9"], "10"), (["v2", "v10"], "v10"), (["1.10", "1.9"], "1.10"),
        (["2024-01-31", "2023-12-31"], "2024-01-31"), (["beta", "1"], "1"), (["1", "1.0"], "1.0"),
    ],
)  # fmt: skip
def test_the_newest_version_counts(versions: list[str], highest: str) -> None:
    assert newest({version: version for version in versions}) == highest
    assert newest({version: version for version in reversed(versions)}) == highest


def test_without_versions_nothing_counts() -> None:
    assert newest(None) is None
    assert newest({}) is None


@given(st.lists(st.text("0123456789abAB-_.", min_size=1, max_size=6), min_size=1, max_size=5))
def test_any_versions_can_be_compared(versions: list[str]) -> None:
    assert newest(dict(zip(versions, versions))) in versions


SHAPE = {
    "type": "object",
    "required": ["id", "kind"],
    "properties": {
        "id": {"type": "string", "minLength": 3},
        "kind": {"enum": ["a", "b"]},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}, "contains": {"required": ["first"]}},
        "note": {"anyOf": [{"type": "null"}, {"type": "object", "required": ["text"]}]},
        "a/b~c": {"type": "null"},
        "gone": False,
    },
    "patternProperties": {"^x-": {"type": "integer"}},
    "additionalProperties": False,
    "dependentSchemas": {"note": {"required": ["lines"]}},
    "if": {"properties": {"kind": {"const": "b"}}, "required": ["kind"]},
    "then": {"required": ["note"]},
    "$defs": {"line": {"type": "object", "properties": {"n": {"type": "integer", "not": {"const": 0}}}}},
}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"id": 5}, [("/id", "not of type")]),
        ({"id": "i"}, [("/id", "shorter than 3")]),
        ({"kind": "c"}, [("/kind", "not one of")]),
        ({"kind": "b"}, [("", '"note" is missing')]),
        ({"lines": [{"first": 1}, {"n": "x"}, 7]}, [("/lines/1/n", "not of type"), ("/lines/2", "not of type")]),
        ({"lines": [{"first": 1, "n": 0}]}, [("/lines/0/n", "excludes")]),
        ({"lines": []}, [("/lines", "0 items are what the schema asks")]),
        ({"lines": [{"first": 1}], "note": {}}, [("/note", '"text" is missing')]),
        ({"lines": [{"first": 1}], "note": 5}, [("/note", "none of the 2 alternatives of anyOf")]),
        ({"note": None}, [("", '"lines" is missing')]),
        ({"a/b~c": 1}, [("/a~1b~0c", "not of type")]),
        ({"x-1": "a"}, [("/x-1", "not of type")]),
        ({"more": 1}, [("/more", "allows nothing")]),
        ({"gone": 1}, [("/gone", "allows nothing")]),
    ],
)  # fmt: skip
def test_what_is_told_of_a_payload(change: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    check_schema(SHAPE)
    found = told(SHAPE, {"id": "abc", "kind": "a"} | change)
    assert [problem.path for problem in found] == [path for path, _ in expected]
    for problem, (_, words) in zip(found, expected):
        assert words in problem.message


def test_all_that_is_missing_is_told_at_once() -> None:
    assert told(SHAPE, {}) == [Problem("", '"id" is missing'), Problem("", '"kind" is missing')]


@pytest.mark.parametrize(
    ("schema", "value", "path", "words"),
    [
        ({"oneOf": [{"minimum": 1}, {"maximum": 9}]}, 5, "", "fits 2 of the 2 alternatives"),
        ({"oneOf": [{"type": "string"}, {"type": "object", "properties": {"a": {"type": "null"}}}]}, {"a": 1}, "/a", "type"),
        ({"propertyNames": {"maxLength": 2}}, {"abc": 1}, "/abc", "longer than 2"),
        ({"prefixItems": [True, {"const": 1}], "items": {"const": 2}}, [0, 1, 2, 3], "/3", "2 was expected"),
        ({"$schema": DRAFT_7, "items": [True, {"const": 1}], "additionalItems": False}, [0, 1, 2], "/2", "allows nothing"),
        ({"$schema": DRAFT_7, "dependencies": {"a": ["b"]}}, {"a": 1}, "", '"b" is missing beside "a"'),
        ({"$schema": DRAFT_7, "dependencies": {"a": {"maxProperties": 1}}}, {"a": 1, "b": 2}, "", "more than 1"),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, "", "required"),
        ({"properties": {"a": {}}, "unevaluatedProperties": False}, {"b": 1}, "", "does not describe"),
        ({"contains": {"const": 1}, "maxContains": 1}, [1, 1], "", "2 items"),
        ({"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 1, "exclusiveMinimum": True}, 1, "", "fit"),
        (False, 1, "", "allows nothing"),
    ],
)  # fmt: skip
def test_keywords(schema: Any, value: object, path: str, words: str) -> None:
    check_schema(schema)
    (problem,) = told(schema, value)
    assert problem.path == path
    assert words in problem.message


def test_beside_a_reference_keywords_count_since_draft_2019() -> None:
    schema = {"$ref": "#/definitions/a", "type": "string", "definitions": {"a": {}}}
    assert places(schema, 1) == [""]
    assert places({"$schema": DRAFT_7} | schema, 1) == []


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"", "cannot be read as JSON"), (b"<a/>", "cannot be read as JSON"), (b"\xff", "cannot be read as JSON"),
        (b'{"a":1}x', "cannot be read as JSON"), (b"1e999", "cannot be read as JSON"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    ],
)  # fmt: skip
def test_a_payload_that_cannot_be_judged_does_not_fit(payload: bytes, words: str) -> None:
    (problem,) = problems(True, payload)
    assert problem.path == "" and words in problem.message


def test_the_number_and_the_length_of_problems_are_bounded() -> None:
    assert len(told({"items": {"type": "string"}}, [0] * 200_000)) == MOST_PROBLEMS
    (problem,) = told({"enum": ["x" * 10_000, "y" * 10_000]}, 1)
    assert len(problem.message) < 400


def test_values_are_not_repeated_in_messages() -> None:
    schema = {"properties": {"card": {"type": "integer", "pattern": "^0", "maxLength": 3, "enum": [1], "const": 1}}}
    found = told(schema, {"card": "4111 1111"})
    assert len(found) == 5
    assert "4111" not in str(found)


def test_a_wrong_leaf_of_a_deep_tree_is_found() -> None:
    tree: Any = "wrong"
    for _ in range(40):
        tree = {"op": "*", "left": 1, "right": tree}
    check_schema(TREE)
    assert places(TREE, tree) == ["/right" * 40]


@pytest.mark.parametrize("levels", [200, 900])
def test_below_some_depth_only_the_place_is_told(levels: int) -> None:
    tree: Any = "wrong"
    for _ in range(levels):
        tree = {"op": "*", "left": 1, "right": tree}
    (path,) = places(TREE, tree)
    assert path.startswith("/right/right/right")


def test_a_regular_expression_cannot_stop_us() -> None:
    schema = {"pattern": "^(a+)+$"}
    check_schema(schema)
    assert places(schema, "a" * 100_000 + "!") == [""]


def test_a_changed_schema_is_read_anew() -> None:
    schema = {"type": "string"}
    assert places(schema, 1) == [""]
    schema["type"] = "integer"
    assert places(schema, 1) == []


def test_nothing_is_ever_fetched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/schema"
        tricks: list[Any] = [
            {"$ref": url},
            {"$schema": url},
            {"$dynamicRef": url + "#a"},
            {"$schema": "https://json-schema.org/draft/2019-09/schema", "$recursiveRef": url},
            {"$id": url, "$ref": "other"},
            {"$id": url, "$ref": url},
            {"$defs": {"a": {"$schema": url, "$id": "a"}}, "$ref": "a"},
            {"$vocabulary": {url: True}},
            {"$comment": url, "const": {"$ref": url}, "enum": [{"$ref": url}], "x": {"$ref": url}},
            {"allOf": [{"const": {"$ref": url}}, {"items": {"$defs": {"a": {"$ref": url}}}}]},
        ]
        for schema in tricks:
            try:
                check_schema(schema)
            except Invalid:
                continue
            told(schema, {"$ref": url})
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()


NAMES = st.sampled_from(["a", "b", "c/d", "$ref", "items"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "abc"]) | st.just(0.5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
TYPES = st.sampled_from(["object", "array", "string", "integer", "number", "null", "boolean"])
REFERENCE = st.sampled_from(["#", "#/$defs/one", "#/$defs/two", "#three"]).map(lambda name: {"$ref": name})
PLAIN = st.fixed_dictionaries(
    {},
    optional={
        "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True), "const": VALUES,
        "enum": st.lists(VALUES, min_size=1, max_size=3), "minimum": st.integers(-2, 2), "maxLength": st.integers(0, 2),
        "required": st.lists(NAMES, max_size=2, unique=True), "maxItems": st.integers(0, 2), "uniqueItems": st.booleans(),
        "pattern": st.sampled_from(["^a", "c$"]), "minProperties": st.integers(0, 2),
    },
)  # fmt: skip


def with_structure(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    named = st.dictionaries(NAMES, inner, max_size=2)
    return st.builds(
        lambda plain, more: plain | more,
        PLAIN,
        st.fixed_dictionaries(
            {},
            optional={
                "properties": named, "items": inner, "allOf": st.lists(inner, min_size=1, max_size=2),
                "prefixItems": st.lists(inner, min_size=1, max_size=2), "dependentSchemas": named,
                "additionalProperties": inner.filter(lambda schema: schema is not False),
                "patternProperties": st.dictionaries(st.sampled_from(["a", "^c"]), inner, max_size=2),
                "if": inner, "then": inner, "else": inner,
            },
        ),
    )  # fmt: skip


def with_choice(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=3)
    optional = {
        "anyOf": several, "oneOf": several, "not": inner, "contains": inner, "unevaluatedProperties": inner,
        "unevaluatedItems": inner, "minContains": st.integers(0, 2), "propertyNames": inner,
        "additionalProperties": st.just(False),
    }  # fmt: skip
    choices = st.fixed_dictionaries({}, optional=optional)
    return st.builds(lambda structure, choice: structure | choice, with_structure(inner), choices)


LEAVES = st.booleans() | PLAIN | REFERENCE
CERTAIN = st.recursive(LEAVES, with_structure, max_leaves=6)
"""Schemas whose failures have a place that cannot be disputed: no alternatives; for a property that must not be there we
name the property, where the library names the object."""
SCHEMAS = st.recursive(LEAVES, lambda inner: with_structure(inner) | with_choice(inner), max_leaves=6)


def with_shelf(schema: Any, one: Any, two: Any) -> Any:
    shelf = {"one": one, "two": two, "three": {"$anchor": "three", "maxLength": 1}}
    return schema | {"$defs": shelf} if isinstance(schema, dict) else {"allOf": [schema], "$defs": shelf}


def accepted(schema: Any) -> bool:
    try:
        check_schema(schema)
    except Invalid as error:
        assert "parts" in error.detail or "leads back" in error.detail
        return False
    return True


def at(value: Any, path: str) -> Any:
    """The value at a JSON pointer. Raises LookupError."""
    for token in path.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


@given(st.builds(with_shelf, SCHEMAS, SCHEMAS, SCHEMAS), VALUES)
@example({"not": {"$ref": "#"}}, 1)
def test_what_fits_has_no_problem_and_what_does_not_has_one(schema: Any, value: object) -> None:
    assume(accepted(schema))
    found = told(schema, value)
    assert (not found) is jsonschema_rs.Draft202012Validator(schema).is_valid(value)
    for problem in found:
        at(value, problem.path)


@given(st.builds(with_shelf, CERTAIN, CERTAIN, CERTAIN), VALUES)
def test_the_places_are_those_of_the_library(schema: Any, value: object) -> None:
    assume(accepted(schema))
    errors = jsonschema_rs.Draft202012Validator(schema).iter_errors(value)
    expected = {
        "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in e.instance_path) for e in errors
    }
    found = places(schema, value)
    assume(len(found) < MOST_PROBLEMS)
    assert set(found) == expected


ANYTHING = st.recursive(
    VALUES | st.text(max_size=5),
    lambda inner: st.dictionaries(
        st.sampled_from(
            ["$id", "$ref", "$anchor", "$schema", "$defs", "properties", "items", "allOf", "not", "pattern", "type", "if",
             "required", "dependencies", "patternProperties", "contains", "minContains", "unevaluatedProperties", "a"]
        ),
        inner | st.lists(inner, max_size=2),
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(ANYTHING, VALUES)
def test_any_document_is_taken_or_refused(document: Any, value: object) -> None:
    try:
        check_schema(document, ("body", "schemas", "1"))
    except Invalid as error:
        assert error.loc[:3] == ("body", "schemas", "1")
        assert all(isinstance(step, str) for step in error.loc)
    else:
        told(document, value)


@given(st.binary(max_size=40))
def test_any_bytes_are_judged(payload: bytes) -> None:
    assert problems(SHAPE, payload)
