"""Paths → handlers, as a table; the router is built from it once."""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from operator import itemgetter
from typing import Any

from msgspec import Struct

from tenterhook.api.http import Call, Response
from tenterhook.errors import MethodNotAllowed, NotFound

Handler = Callable[[Any, Call], Awaitable[Response]]


class Access(StrEnum):
    """Which tokens may call an operation (the scopes of the wire API)."""

    ORGANISATION = "organisation"  # an admin token, not one of a single application
    APPLICATION = "application"  # also the token of the application in the path
    ANY = "any"
    PUBLIC = "public"


class Route(Struct, frozen=True):
    """One operation. Segments of the path in braces are variables; `write` tells what a read-only token may not do."""

    method: str
    path: str
    handler: Handler
    access: Access = Access.APPLICATION
    write: bool = False
    summary: str = ""


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
                return route, {name: parts[n] for n, name in names}
            there = True
        raise MethodNotAllowed if there else NotFound("there is nothing at this path")
