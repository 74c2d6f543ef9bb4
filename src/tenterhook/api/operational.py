"""`/operational-webhook/endpoint`: who hears of what happens to the platform itself.

These are the endpoints of the server's own application, so all that is said of endpoints holds for them too.
"""

from typing import TYPE_CHECKING

from tenterhook.api import endpoint_parts, endpoints
from tenterhook.api.endpoint_parts import (
    EndpointHeadersIn,
    EndpointHeadersOut,
    EndpointSecretOut,
    EndpointSecretRotateIn,
)
from tenterhook.api.endpoints import EndpointIn, EndpointOut, EndpointUpsertIn
from tenterhook.api.http import Call, Response
from tenterhook.api.lists import SORTED_PAGE, ListResponse
from tenterhook.api.routes import Access, Route
from tenterhook.model import OPERATIONAL
from tenterhook.tokens import Capability

if TYPE_CHECKING:
    from tenterhook.api.app import Api


async def rotate_secret(api: "Api", call: Call) -> Response:
    """The next secret signs from now on; the old ones do for a while yet."""
    rotated = await endpoint_parts.rotate_secret(api, call)
    # clients of the wire API expect no body here
    return Response(204, b"", tuple([line for line in rotated.headers if line[0] != b"content-type"]))


_ALL = "/api/v1/operational-webhook/endpoint"
_ONE = _ALL + "/{endpoint_id}"
_ID = "v1.operational-webhook.endpoint."
_WHO = Access.ORGANISATION
ROUTES = [
    Route("GET", _ALL, endpoints.listing, _ID + "list", "List operational webhook endpoints",
          {200: ListResponse[EndpointOut]}, _WHO, query=SORTED_PAGE, app=OPERATIONAL),
    Route("POST", _ALL, endpoints.create, _ID + "create", "Create an operational webhook endpoint", {201: EndpointOut},
          _WHO, body=EndpointIn, app=OPERATIONAL),
    Route("GET", _ONE, endpoints.get, _ID + "get", "Read an operational webhook endpoint", {200: EndpointOut}, _WHO,
          app=OPERATIONAL),
    Route("PUT", _ONE, endpoints.put, _ID + "upsert", "Replace or create an operational webhook endpoint",
          {200: EndpointOut, 201: EndpointOut}, _WHO, body=EndpointUpsertIn, app=OPERATIONAL),
    Route("DELETE", _ONE, endpoints.delete, _ID + "delete", "Delete an operational webhook endpoint", {204: None}, _WHO,
          app=OPERATIONAL),
    Route("GET", _ONE + "/secret", endpoint_parts.get_secret, _ID + "get-secret",
          "Read the signing secret of an operational webhook endpoint", {200: EndpointSecretOut}, _WHO, app=OPERATIONAL,
          capability=Capability.VIEW_SECRET),
    Route("POST", _ONE + "/secret/rotate", rotate_secret, _ID + "rotate-secret",
          "Rotate the signing secret of an operational webhook endpoint", {204: None}, _WHO,
          body=EndpointSecretRotateIn, app=OPERATIONAL, capability=Capability.MANAGE_SECRET),
    Route("GET", _ONE + "/headers", endpoint_parts.get_headers, _ID + "get-headers",
          "Read the custom headers of an operational webhook endpoint", {200: EndpointHeadersOut}, _WHO,
          app=OPERATIONAL),
    Route("PUT", _ONE + "/headers", endpoint_parts.put_headers, _ID + "set-headers",
          "Replace the custom headers of an operational webhook endpoint", {204: None}, _WHO, body=EndpointHeadersIn,
          app=OPERATIONAL),
]  # fmt: skip
