"""The OpenAPI 3.1 document, made from the table of operations.

Descriptions are the docstrings of the handlers, models and errors; limits are those that the models check.
"""

import inspect
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec import Struct

from tenterhook import errors
from tenterhook.api.http import ErrorOut, InvalidOut
from tenterhook.api.idempotency import LONGEST_KEY
from tenterhook.api.query import Parameter, Words
from tenterhook.api.routes import VARIABLES, Access, Route
from tenterhook.api.shapes import Out
from tenterhook.errors import TenterhookError

Json = dict[str, Any]

DESCRIPTION = """\
The wire API of Svix and, by the same conventions, what is ours alone. JSON in UTF-8 with names in camelCase; unknown fields
and unknown query parameters are ignored. Instants are RFC 3339, in answers in UTC. A token that may only read is good for
every GET that needs an admin token."""

CALLERS = {
    Access.ORGANISATION: "For admin tokens.",
    Access.APPLICATION: "For admin tokens and tokens of this application.",
    Access.ANY: "For every valid token.",
    Access.PUBLIC: "Needs no token.",
}

SUCCESSES = {200: "OK", 201: "Created", 202: "Accepted", 204: "No Content"}

ERRORS: list[tuple[type[TenterhookError], Callable[[Route], bool]]] = [
    (errors.BadRequest, lambda route: bool(route.query) or route.takes_key),
    (errors.Unauthenticated, lambda route: route.access is not Access.PUBLIC),
    (errors.Forbidden, lambda route: route.access is not Access.PUBLIC),
    (errors.NotFound, lambda route: "{" in route.path),
    (errors.Conflict, lambda route: route.write),
    (errors.TooLarge, lambda route: route.write or route.body is not None),
    (errors.Invalid, lambda route: bool(route.query) or route.body is not None),
    (errors.IdempotencyInProgress, lambda route: route.takes_key),
    (errors.TooManyRequests, lambda route: route.access is not Access.PUBLIC),
    (errors.TenterhookError, lambda route: True),
    (errors.StoreUnavailable, lambda route: route.access is not Access.PUBLIC),
]
"""Which errors an operation may answer, each standing for all of its status; see docs/errors.md for the codes."""


class Document(Out):
    """An OpenAPI document."""

    openapi: str
    info: Json
    servers: list[Json]
    security: list[Json]
    tags: list[Json]
    paths: dict[str, Json]
    components: Json


def document(routes: Iterable[Route]) -> Document:
    """Describe these operations."""
    table = list(routes)
    shared = _shared(table)
    paths: dict[str, Json] = {}
    for route in table:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, shared)
    return Document(
        openapi="3.1.0",
        info={"title": "Tenterhook", "version": "v1", "description": DESCRIPTION},
        servers=[{"url": "/"}],
        security=[{"bearer": []}],
        tags=_tags(table),
        paths=paths,
        components={
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "parameters": _parameters(table, shared),
            "headers": _HEADERS,
            "responses": {error.__name__: _failure(error) for error, _ in ERRORS},
            "schemas": _schemas(table),
        },
    )


def encoded(routes: Iterable[Route]) -> bytes:
    """The document as text that people can read and compare."""
    return msgspec.json.format(msgspec.json.encode(document(routes)), indent=2) + b"\n"


def _group(route: Route) -> str:
    """`v1.message-attempt.get` → `Message Attempt`."""
    return " ".join(route.id.split(".")[1:-1]).replace("-", " ").title()


def _tags(routes: list[Route]) -> list[Json]:
    modules = {_group(route): route.handler.__module__ for route in reversed(routes)}
    groups = dict.fromkeys(_group(route) for route in routes)
    return [{"name": group, "description": inspect.getdoc(sys.modules[modules[group]])} for group in groups]


def _operation(route: Route, shared: list[Parameter[Any]]) -> Json:
    said = inspect.getdoc(route.handler)
    operation: Json = {
        "operationId": route.id,
        "summary": route.summary,
        "description": "\n\n".join([said, CALLERS[route.access]] if said else [CALLERS[route.access]]),
        "tags": [_group(route)],
    }
    if route.access is Access.PUBLIC:
        operation["security"] = []
    parameters = [
        *(_to("parameters", name) for name in re.findall(r"{(\w+)}", route.path)),
        *(_to("parameters", one.name) if one in shared else _in_query(one) for one in route.query),
        *([_to("parameters", "idempotency-key")] if route.takes_key else []),
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        required = any(field.required for field in msgspec.structs.fields(route.body))
        operation["requestBody"] = {"required": required, "content": _content(route.body)}
    operation["responses"] = {str(status): _success(route, status) for status in sorted(route.answers)} | {
        str(error.status): _to("responses", error.__name__) for error, applies in ERRORS if applies(route)
    }
    return operation


def _success(route: Route, status: int) -> Json:
    model = route.answers[status]
    response: Json = {"description": SUCCESSES[status]}
    named = ["idempotent-replayed"] if route.takes_key else []
    named += _QUOTA if route.access is not Access.PUBLIC else []
    if named:
        response["headers"] = {name: _to("headers", name) for name in named}
    return response if model is None else response | {"content": _content(model)}


def _failure(error: type[TenterhookError]) -> Json:
    model = InvalidOut if error is errors.Invalid else ErrorOut
    response = {"description": inspect.getdoc(error), "content": _content(model)}
    named = {errors.StoreUnavailable: ["retry-after"], errors.TooManyRequests: ["retry-after", *_QUOTA]}.get(error)
    if named:
        response["headers"] = {name: _to("headers", name) for name in named}
    return response


_HEADERS = {
    "idempotent-replayed": {
        "description": "Present when this is the answer to an earlier request with the same idempotency key.",
        "schema": {"const": "true"},
    },
    "retry-after": {"description": "Seconds to wait before trying again.", "schema": {"type": "integer"}},
    "ratelimit-limit": {
        "description": "How many requests per second the token may make, where that is limited.",
        "schema": {"type": "integer"},
    },
    "ratelimit-remaining": {"description": "How many it may make at once now.", "schema": {"type": "integer"}},
    "ratelimit-reset": {
        "description": "In how many seconds it may make all of them at once again.",
        "schema": {"type": "integer"},
    },
}
_QUOTA = ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"]


def _content(model: type[Struct]) -> Json:
    return {"application/json": {"schema": _to("schemas", _name(model))}}


def _to(kind: str, name: str) -> Json:
    return {"$ref": f"#/components/{kind}/{name}"}


def _shared(routes: list[Route]) -> list[Parameter[Any]]:
    """The query parameters that several operations have, unless another has the same name."""
    uses = Counter(parameter for route in routes for parameter in route.query)
    names = Counter(parameter.name for parameter in uses)
    return [parameter for parameter, count in uses.items() if count > 1 and names[parameter.name] == 1]


def _parameters(routes: list[Route], shared: list[Parameter[Any]]) -> Json:
    variables = sorted({name for route in routes for name in re.findall(r"{(\w+)}", route.path)})
    return {
        **{name: _in_path(name) for name in variables},
        **{parameter.name: _in_query(parameter) for parameter in shared},
        "idempotency-key": {
            "name": "idempotency-key",
            "in": "header",
            "description": "The request is done once: with the same key and body, it gets the same answer for twelve hours.",
            "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY},
        },
    }


def _in_path(name: str) -> Json:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": VARIABLES[name],
        "schema": {"type": "string", "minLength": 1},
    }


def _in_query(parameter: Parameter[Any]) -> Json:
    listed = {"style": "form", "explode": False} if isinstance(parameter, Words) else {}
    return {
        "name": parameter.name,
        "in": "query",
        "description": parameter.about,
        "schema": parameter.schema(),
        **listed,
    }


def _schemas(routes: list[Route]) -> Json:
    """The models of all bodies, and what they consist of."""
    models = [model for route in routes for model in (route.body, *route.answers.values()) if model is not None]
    _, schemas = msgspec.json.schema_components(
        [*models, ErrorOut, InvalidOut], ref_template="#/components/schemas/{name}"
    )
    return {_flat(name): _portable(schema) for name, schema in sorted(schemas.items())}


def _name(model: type[Struct]) -> str:
    """The name of a model among the components."""
    (reference,), _ = msgspec.json.schema_components([model], ref_template="{name}")
    return _flat(reference["$ref"])


def _flat(name: str) -> str:
    """`ListResponse_EndpointOut_` → `ListResponseEndpointOut`."""
    return name.replace("_", "")


def _portable(schema: Any) -> Any:
    """Without the titles, which repeat the names, and with patterns that other languages than Python know."""
    if isinstance(schema, list):
        return [_portable(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _portable(inner) for key, inner in schema.items() if not (key == "title" and isinstance(inner, str))}
    if "$ref" in kept:
        kept["$ref"] = "/".join([*kept["$ref"].split("/")[:-1], _flat(kept["$ref"].rpartition("/")[2])])
    if isinstance(kept.get("pattern"), str):
        kept["pattern"] = kept["pattern"].replace(r"\Z", "$")
    return kept
