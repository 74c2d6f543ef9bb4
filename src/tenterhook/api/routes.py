"""The table of operations: what each is called, who may call it, what goes in and what comes out.

The router, the query and body that a handler may read, and the OpenAPI document are all made from a `Route`.
"""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from operator import itemgetter
from typing import Any

from msgspec import Struct

from tenterhook.api.http import Call, Response
from tenterhook.api.query import Parameter
from tenterhook.errors import MethodNotAllowed, NotFound
from tenterhook.tokens import Capability

Handler = Callable[[Any, Call], Awaitable[Response]]

VARIABLES = {
    "app_id": "The id or uid of an application.",
    "attempt_id": "The id of an attempt.",
    "consumer_id": "A name for whoever fetches messages.",
    "endpoint_id": "The id or uid of an endpoint.",
    "event_type_name": "The name of an event type.",
    "integ_id": "The id of an integration.",
    "msg_id": "The id of a message, or its `eventId`.",
    "request_id": "The id of a received request.",
    "sink_id": "The id or uid of an endpoint whose messages are fetched.",
    "source_id": "The id or uid of a source.",
    "task_id": "The id of a background task.",
}
"""The variables of paths, under the names that the wire API gives them."""


class Access(StrEnum):
    """Which tokens may call an operation (the scopes of the wire API)."""

    ORGANISATION = "organisation"  # an admin token, not one of a single application
    APPLICATION = "application"  # also the token of the application in the path
    ANY = "any"
    PUBLIC = "public"


class Route(Struct, frozen=True):
    """One operation.

    Segments of the path in braces are `VARIABLES`. The `id` is the name in the SDKs of the wire API in kebab case
    (`endpoint.get_secret` is `v1.endpoint.get-secret`); what stands in the middle is the group. `answers` has the model of
    the body for each status of success, None for no body; `openapi` adds the errors. The docstring of the handler describes
    the operation. A handler can read no parameter and no body that is not declared here. `app` is the application of an
    operation whose path names none.
    """

    method: str
    path: str
    handler: Handler
    id: str
    summary: str
    answers: dict[int, type[Struct] | None]
    access: Access = Access.APPLICATION
    query: tuple[Parameter[Any], ...] = ()
    body: type[Struct] | None = None
    capability: Capability | None = None
    app: str | None = None

    @property
    def write(self) -> bool:
        """Whether a token that may only read must not call it: what needs more than to look, with whatever method."""
        return self.needs not in (Capability.VIEW, Capability.VIEW_SECRET)

    @property
    def needs(self) -> Capability:
        """What a visitor of the portal must be able to do; without a word of the route's own, to look or to change."""
        return self.capability or (Capability.VIEW if self.method == "GET" else Capability.MANAGE)

    @property
    def takes_key(self) -> bool:
        """Whether an idempotency key has a meaning."""
        return self.method == "POST" and self.write


class _Shape:
    """All paths with variables at the same places: one look-up by their fixed segments finds the methods."""

    def __init__(self, fixed: tuple[int, ...]) -> None:
        self.fixed = fixed
        self.key = itemgetter(*fixed)
        self.paths: dict[object, dict[str, tuple[Route, tuple[tuple[int, str], ...]]]] = {}


class Router:
    """Finds the route of a method and path."""

    def __init__(self, routes: list[Route]) -> None:
        self._by_length: dict[int, list[_Shape]] = {}
        for route in routes:
            self._add(route)
        for shapes in self._by_length.values():
            # more fixed segments first, so that a word of the API is not taken for an id
            shapes.sort(key=lambda shape: -len(shape.fixed))

    def _add(self, route: Route) -> None:
        segments = route.path.strip("/").split("/")
        names = tuple((n, segment[1:-1]) for n, segment in enumerate(segments) if segment.startswith("{"))
        fixed = tuple(n for n, segment in enumerate(segments) if not segment.startswith("{"))
        shapes = self._by_length.setdefault(len(segments), [])
        shape = next((shape for shape in shapes if shape.fixed == fixed), None)
        if shape is None:
            shape = _Shape(fixed)
            shapes.append(shape)
        shape.paths.setdefault(shape.key(segments), {})[route.method] = (route, names)

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """The route and the variables of its path; a trailing slash is ignored. Raises NotFound, MethodNotAllowed."""
        parts = path.strip("/").split("/")
        there = False
        for shape in self._by_length.get(len(parts), ()):
            methods = shape.paths.get(shape.key(parts))
            if methods is None:
                continue
            found = methods.get("GET" if method == "HEAD" else method)
            if found is not None:
                route, names = found
                params = {name: parts[n] for n, name in names}
                return route, params if route.app is None else params | {"app_id": route.app}
            there = True
        raise MethodNotAllowed if there else NotFound("there is nothing at this path")
