"""One request and its answer, as handlers see them: ASGI underneath, JSON above, limits everywhere."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import Struct

from tenterhook.api.query import Query
from tenterhook.api.quota import headers as quota_headers
from tenterhook.clock import SECOND
from tenterhook.errors import BadRequest, Invalid, TenterhookError, TooLarge, TooManyRequests
from tenterhook.model import Token

if TYPE_CHECKING:
    from tenterhook.api.routes import Route

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
T = TypeVar("T")

JSON = b"application/json"
_encode = msgspec.json.Encoder().encode


class Response(Struct):
    """What to answer; the length is added when it is sent."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ((b"content-type", JSON),)


class ErrorOut(Struct):
    """An error: decide by status and code, `detail` is for people."""

    code: str
    detail: str


class Problem(Struct):
    """What is wrong and where: `loc` begins with `body`, `query` or `path`, and an index is written `"[0]"`."""

    loc: tuple[str, ...]
    msg: str
    type: str


class InvalidOut(Struct):
    """Values that are not acceptable."""

    detail: list[Problem]


NO_CONTENT = Response(204, b"", ())


def json_response(status: int, value: object) -> Response:
    """A value (a Struct, a dict …) as JSON."""
    return Response(status, _encode(value))


async def send_response(send: Send, response: Response) -> None:
    headers = [*response.headers]
    if response.status != 204:
        headers.append((b"content-length", b"%d" % len(response.body)))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


def error_response(error: TenterhookError) -> Response:
    """Every error is a JSON object, of one shape for 422 and of another for the rest."""
    if isinstance(error, Invalid):
        return json_response(422, InvalidOut([Problem(*place) for place in error.places()]))
    response = json_response(error.status, ErrorOut(error.code, error.detail))
    if isinstance(error, TooManyRequests):
        retry = (b"retry-after", b"%d" % -(-error.wait // SECOND))
        response.headers = (*response.headers, *quota_headers(error.rate, 0, error.wait), retry)
    if error.status == 503:
        response.headers = (*response.headers, (b"retry-after", b"1"))
    return response


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body. Raises TooLarge, before reading where the length is announced, else on the way."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            raise TooLarge(f"the body may have at most {limit} bytes")
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("the client went away before the end of the body")
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise TooLarge(f"the body may have at most {limit} bytes")
        parts.append(part)
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


class Call:
    """A request that has been routed. `params` are the variables of the path.

    `token` and `query` are there for handlers: they are set when the caller has been authorised.
    """

    __slots__ = ("_receive", "_scope", "body_limit", "params", "query", "query_text", "raw_body", "route", "token")

    def __init__(self, scope: Scope, receive: Receive, route: "Route", params: dict[str, str], limit: int) -> None:
        self._scope, self._receive = scope, receive
        self.route, self.params, self.body_limit = route, params, limit
        self.query_text: bytes = scope["query_string"]
        self.token: Token | None = None
        self.query: Query
        self.raw_body: bytes | None = None

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header; `name` in lower case."""
        for key, value in self._scope["headers"]:
            if key == name:
                return bytes(value)
        return None

    @property
    def path(self) -> str:
        return str(self._scope["path"])

    async def body(self) -> bytes:
        """Raises TooLarge."""
        if self.raw_body is None:
            self.raw_body = await read_body(self._scope, self._receive, self.body_limit)
        return self.raw_body

    async def json(self, model: type[T]) -> T:
        """The body, checked against the model that the route declares. Raises Invalid with the place of the mistake."""
        if model is not self.route.body:
            raise LookupError(f"{self.route.id} does not declare the body {model.__name__}")
        body = await self.body()
        try:
            return msgspec.json.decode(body or b"{}", type=model)
        except msgspec.ValidationError as error:
            raise invalid_at(str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Invalid(f"the body is not JSON: {error}", ("body",), "value_error.jsondecode") from None


def invalid_at(message: str) -> Invalid:
    """msgspec's `Expected `str`, got `int` - at `$.payload.a[0]`` → an error with that place as `loc`."""
    text, _, place = message.partition(" - at `")
    steps = place.rstrip("`").replace("$", "").replace("[", ".[").split(".")
    kind = "value_error.jsondecode" if text.startswith("Expected") else "value_error"
    return Invalid(text, ("body", *(step for step in steps if step)), kind)
