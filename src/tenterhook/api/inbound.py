"""`/in/{token}`: where providers deliver their webhooks. Any method; answered after the commit."""

from typing import TYPE_CHECKING

from tenterhook.api.http import Receive, Response, Scope, read_body
from tenterhook.model import Request

if TYPE_CHECKING:
    from tenterhook.api.app import Api

_QUIET = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))


async def respond(api: "Api", scope: Scope, receive: Receive) -> Response:
    """Raises NotFound for an unknown token, TooLarge, StoreUnavailable."""
    token = scope["path"][len("/in/") :].strip("/")
    _, source = await api.hub.catalog.source(token)
    body = await read_body(scope, receive, api.hub.size_limit(source))
    request = Request(
        method=scope["method"],
        path=scope.get("raw_path", scope["path"].encode()).partition(b"?")[0].decode("latin-1"),
        query=scope["query_string"],
        headers=tuple(scope.get("tenterhook.headers") or scope["headers"]),
        body=body,
    )
    reply = await api.hub.receive(token, request)
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers]
    return Response(reply.status, reply.body, (*headers, *_QUIET))
