"""Holds what the API answers against its OpenAPI document: a status, header or field that is not there is a mistake."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import jsonschema_rs
import msgspec

from tenterhook.api.app import ROUTES
from tenterhook.api.openapi import encoded
from tenterhook.api.routes import Router
from tenterhook.errors import MethodNotAllowed, NotFound

DOCUMENT: dict[str, Any] = msgspec.json.decode(encoded(ROUTES))
EVERYWHERE = {"content-type", "content-length", "access-control-allow-origin"}
_router = Router(ROUTES)


def check(method: str, path: str, sent: bytes, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """One request and its answer; raises AssertionError. What is outside of the operations may only be an error."""
    if method == "OPTIONS":
        return
    operation = _operation(method, path)
    if operation is None:
        assert status in (404, 405), f"{method} {path} is no operation, but answers {status}"
        _fits("ErrorOut", body, closed=True)
        return
    name = operation["operationId"]
    assert str(status) in operation["responses"], f"{name} does not document {status}: {body!r}"
    response = _resolved(operation["responses"][str(status)])
    assert set(headers) <= EVERYWHERE | set(response.get("headers", ())), f"{name} has other headers: {headers}"
    if "content" not in response:
        assert body == b"" and "content-type" not in headers, f"{name} documents no body for {status}: {body!r}"
    else:
        assert headers["content-type"] in response["content"], f"{name} has another content type: {headers}"
        _fits(_model(response), body, closed=True)
    if status < 300 and "requestBody" in operation:
        _fits(_model(operation["requestBody"]), sent or b"{}", closed=False)


def _operation(method: str, path: str) -> dict[str, Any] | None:
    try:
        route, _ = _router.find(method, path)
    except (NotFound, MethodNotAllowed):
        return None
    operation: dict[str, Any] = DOCUMENT["paths"][route.path][route.method.lower()]
    return operation


def _resolved(thing: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in thing:
        return thing
    _, _, kind, name = thing["$ref"].split("/")
    found: dict[str, Any] = DOCUMENT["components"][kind][name]
    return found


def _model(thing: dict[str, Any]) -> str:
    return str(thing["content"]["application/json"]["schema"]["$ref"]).rpartition("/")[2]


def _fits(model: str, body: bytes, *, closed: bool) -> None:
    try:
        _validator(model, closed).validate(msgspec.json.decode(body))
    except (jsonschema_rs.ValidationError, msgspec.DecodeError) as error:
        raise AssertionError(f"{body!r} is no {model}: {error}") from None


@cache
def _validator(model: str, closed: bool) -> Any:
    """`closed` is for what we say: no other fields, and formats to the letter, where a client may write them loosely."""
    schemas = DOCUMENT["components"]["schemas"]
    if closed:
        schemas = {name: _closed(schema) for name, schema in schemas.items()}
    whole = {"$ref": f"#/components/schemas/{model}", "components": {"schemas": schemas}}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=closed)


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    return {"additionalProperties": False} | schema if "properties" in schema else schema
