"""The OpenAPI document: whole, up to date, served, and what the handlers really read."""

import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st

from tenterhook.api.app import ROUTES
from tenterhook.api.http import Call
from tenterhook.api.openapi import ERRORS, encoded
from tenterhook.api.query import Flag, Parameter, Query, Text, Words
from tenterhook.api.routes import VARIABLES
from tenterhook.errors import BadRequest, Invalid
from tests.api import running
from tests.document import DOCUMENT, check
from tests.test_api_routes import World, one_of_everything

FILE = Path(__file__).parent.parent / "docs" / "openapi.json"
PARAMETERS = {parameter: route for route in ROUTES for parameter in route.query}


def test_the_file_is_up_to_date() -> None:
    assert FILE.read_bytes() == encoded(ROUTES), "run make openapi, and look at its diff"


async def test_it_is_served_to_everybody(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        answer = await server.get("/openapi.json", token=None)
    assert answer.status == 200 and answer.body == FILE.read_bytes()


def test_it_is_openapi() -> None:
    schemathesis.openapi.from_dict(DOCUMENT).validate()


def test_every_operation_is_in_it() -> None:
    there = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert there == {(route.method, route.path) for route in ROUTES}


def test_every_component_has_a_plain_name_and_is_used() -> None:
    """Two models with one name would get the names of their modules too."""
    text = msgspec.json.encode(DOCUMENT).decode()
    for kind, components in DOCUMENT["components"].items():
        assert all(re.fullmatch(r"[A-Za-z][A-Za-z_-]*", name) for name in components), components
        if kind != "securitySchemes":
            assert [name for name in components if f'"#/components/{kind}/{name}"' not in text] == []
    assert set(VARIABLES) <= set(DOCUMENT["components"]["parameters"])


def test_every_model_says_what_it_is() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert [name for name, schema in schemas.items() if not schema.get("description")] == []


def test_limits_and_patterns_are_those_of_the_models() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    uid = schemas["ApplicationIn"]["properties"]["uid"]["anyOf"][0]
    assert (uid["minLength"], uid["maxLength"], uid["pattern"]) == (1, 256, r"^[a-zA-Z0-9\-_.]+$")
    assert schemas["MessageIn"]["properties"]["channels"]["anyOf"][0]["maxItems"] == 10
    assert schemas["MessageOut"]["properties"]["timestamp"]["format"] == "date-time"
    assert schemas["ApplicationIn"]["required"] == ["name"]
    assert r"\\Z" not in FILE.read_text()


def test_errors_apply_by_access_method_and_path() -> None:
    def documented(method: str, path: str) -> set[int]:
        return {int(status) for status in DOCUMENT["paths"]["/api/v1" + path][method]["responses"] if status >= "4"}

    assert documented("get", "/health") == {500}
    assert documented("get", "/app/{app_id}") == {401, 403, 404, 500, 503, 429}
    assert documented("get", "/app") == {400, 401, 403, 422, 500, 503, 429}
    assert documented("delete", "/app/{app_id}/source/{source_id}") == {401, 403, 404, 409, 413, 500, 503, 429}
    assert documented("post", "/app/{app_id}/msg") == {400, 401, 403, 404, 409, 413, 422, 423, 500, 503, 429}
    statuses = [error.status for error, _ in ERRORS]
    assert len(set(statuses)) == len(statuses)


# What a handler reads is what its route declares.


async def test_every_declared_parameter_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    read: set[str] = set()

    def watched(verb: Any) -> Any:
        def watching(query: Query, parameter: Parameter[Any]) -> Any:
            read.add(parameter.name)
            return verb(query, parameter)

        return watching

    async with running(tmp_path) as server:
        world = World(server, await one_of_everything(server))
        monkeypatch.setattr(Query, "__getitem__", watched(Query.__getitem__))
        monkeypatch.setattr(Query, "get", watched(Query.get))
        # what deletes comes last, and the innermost first
        for route in sorted(ROUTES, key=lambda route: (route.method == "DELETE", -len(route.path))):
            read.clear()
            assert (await world.call(route, world.things)).status < 500
            assert {one.name for one in route.query} <= read, route.id


def test_what_is_not_declared_cannot_be_read() -> None:
    declared, other = Flag("with_msg", "…"), Text("tag", "…")
    query = Query(b"with_msg=true&tag=a", (declared,))
    assert query[declared] is True
    assert query.get(other) is None
    with pytest.raises(KeyError):
        query[other]


async def test_a_body_that_is_not_declared_cannot_be_read() -> None:
    route = next(route for route in ROUTES if route.id == "v1.application.create")
    other = next(route for route in ROUTES if route.id == "v1.application.patch")

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b'{"name": "a"}'}

    call = Call({"query_string": b"", "headers": []}, receive, route, {}, 100)
    assert route.body is not None and other.body is not None
    with pytest.raises(LookupError, match="does not declare the body ApplicationPatch"):
        await call.json(other.body)
    assert isinstance(await call.json(route.body), route.body)


texts = st.sampled_from(["true", "false", "True", "ascending", "accepted", "ping", "2026-01-01T00:00:00Z", "soon", ""])
values = st.integers(-1, 1_000).map(str) | texts | st.text()


def _as_json(parameter: Parameter[Any], text: str) -> Any:
    """What a client that goes by the schema meant."""
    kind = parameter.schema()["type"]
    if kind == "array":
        return [word for word in text.split(",") if word]
    if kind == "boolean" and text in ("true", "false"):
        return text == "true"
    if kind == "integer" and re.fullmatch("[0-9]{1,9}", text):
        return int(text)
    return text


@given(parameter=st.sampled_from(list(PARAMETERS)), text=values | st.just("\0"))
def test_a_parameter_takes_what_its_schema_says(parameter: Parameter[Any], text: str) -> None:
    try:
        read = parameter.read([(parameter.name, text)])
    except (BadRequest, Invalid) as error:
        assert parameter.name in error.detail
        taken = False
    else:
        taken = True
    fits = jsonschema_rs.is_valid(parameter.schema(), _as_json(parameter, text))
    if parameter.schema().get("format") != "date-time":
        assert taken == fits
    elif not taken:
        assert not jsonschema_rs.Draft202012Validator(parameter.schema(), validate_formats=True).is_valid(text)
    if taken and isinstance(parameter, Words):
        assert list(read) == _as_json(parameter, text)


@pytest.mark.parametrize("parameter", list(PARAMETERS), ids=lambda parameter: parameter.name)
def test_an_absent_parameter_has_its_documented_default(parameter: Parameter[Any]) -> None:
    empty: Any = () if isinstance(parameter, Words) else None
    assert parameter.read([]) == parameter.schema().get("default", empty)
    assert parameter.about.endswith(".")


# The check of answers finds what is wrong.

APP = {
    "id": "app_1",
    "name": "Acme",
    "throttleRate": None,
    "createdAt": "2026-01-31T12:00:00.000000Z",
    "updatedAt": "2026-01-31T12:00:00.000000Z",
    "metadata": {},
}
JSON = {"content-type": "application/json", "content-length": "9"}


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "headers", "body", "what"),
    [
        ("GET", "/api/v1/app/a", b"", 201, JSON, APP, "does not document 201"),
        ("GET", "/api/v1/app/a", b"", 200, JSON | {"server": "x"}, APP, "other headers"),
        ("GET", "/api/v1/app/a", b"", 200, {"content-type": "text/plain"}, APP, "another content type"),
        ("GET", "/api/v1/app/a", b"", 200, JSON, APP | {"more": 1}, "is no ApplicationOut"),
        ("GET", "/api/v1/app/a", b"", 200, JSON, APP | {"createdAt": "yesterday"}, "is no ApplicationOut"),
        ("GET", "/api/v1/app/a", b"", 200, JSON, APP | {"throttleRate": "1"}, "is no ApplicationOut"),
        ("GET", "/api/v1/app/a", b"", 404, JSON, {"detail": "no"}, "is no ErrorOut"),
        ("PUT", "/api/v1/app/a", b"[]", 422, JSON, {"code": "a", "detail": "no"}, "is no InvalidOut"),
        ("PUT", "/api/v1/app/a", b'{"name":7}', 200, JSON, APP, "is no ApplicationIn"),
        ("DELETE", "/api/v1/app/a", b"", 204, JSON, {}, "documents no body"),
        ("GET", "/api/v1/nothing", b"", 200, JSON, {}, "is no operation"),
        ("TRACE", "/api/v1/app", b"", 405, JSON, {}, "is no ErrorOut"),
    ],
)
def test_a_planted_fault_is_found(
    method: str, path: str, sent: bytes, status: int, headers: dict[str, str], body: Any, what: str
) -> None:
    with pytest.raises(AssertionError, match=what):
        check(method, path, sent, status, headers, msgspec.json.encode(body))


def test_a_right_answer_passes() -> None:
    check("PUT", "/api/v1/app/a", b'{"name":"Acme"}', 200, JSON, msgspec.json.encode(APP))
    check("DELETE", "/api/v1/app/a", b"", 204, {}, b"")
