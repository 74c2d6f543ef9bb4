"""`/health`, `/openapi.json`: the server about itself."""

from typing import TYPE_CHECKING

from tenterhook.api.http import NO_CONTENT, Call, Response
from tenterhook.api.openapi import Document
from tenterhook.api.routes import Access, Route

if TYPE_CHECKING:
    from tenterhook.api.app import Api


async def health(_: "Api", __: Call) -> Response:
    """Alive: 204, without touching anything."""
    return NO_CONTENT


async def openapi(api: "Api", _: Call) -> Response:
    """This document."""
    return Response(200, api.openapi)


ROUTES = [
    Route("GET", "/api/v1/health", health, "v1.health.get", "Alive", {204: None}, Access.PUBLIC),
    Route("GET", "/api/v1/openapi.json", openapi, "v1.openapi.get", "Describe the API", {200: Document}, Access.PUBLIC),
]
