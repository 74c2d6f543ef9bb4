"""One request and its answer, as handlers see them: ASGI underneath, JSON above, limits everywhere."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct

from tenterhook.clock import from_rfc3339
from tenterhook.errors import BadRequest, Invalid, TenterhookError, TooLarge
from tenterhook.model import Token

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
T = TypeVar("T")

JSON = b"application/json"
MOST_WORDS = 250
_encode = msgspec.json.Encoder().encode


class Response(Struct):
    """What to answer; the length is added when it is sent."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ((b"content-type", JSON),)


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
    """Every error is a JSON object: `{code, detail}`, or a list of places in `detail` for 422."""
    if isinstance(error, Invalid):
        return json_response(422, {"detail": [{"loc": error.loc, "msg": error.detail, "type": error.kind}]})
    response = json_response(error.status, {"code": error.code, "detail": error.detail})
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
    """A request that has been routed and authorised. `params` are the variables of the path."""

    __slots__ = ("_receive", "_scope", "body_limit", "params", "query_text", "raw_body", "token")

    def __init__(self, scope: Scope, receive: Receive, params: dict[str, str], token: Token | None, limit: int) -> None:
        self._scope, self._receive = scope, receive
        self.params, self.token, self.body_limit = params, token, limit
        self.query_text: bytes = scope["query_string"]
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

    async def json(self, decoder: "msgspec.json.Decoder[T]") -> T:
        """The body, checked against a model. Raises Invalid with the place of the mistake."""
        body = await self.body()
        try:
            return decoder.decode(body or b"{}")
        except msgspec.ValidationError as error:
            raise invalid_at(str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Invalid(f"the body is not JSON: {error}", ("body",), "value_error.jsondecode") from None

    def query(self) -> "Query":
        return Query(self.query_text)


def invalid_at(message: str) -> Invalid:
    """msgspec's `Expected `str`, got `int` - at `$.payload.a[0]`` → an error with that place as `loc`."""
    text, _, place = message.partition(" - at `")
    steps = place.rstrip("`").replace("$", "").replace("[", ".[").split(".")
    kind = "value_error.jsondecode" if text.startswith("Expected") else "value_error"
    return Invalid(text, ("body", *(step for step in steps if step)), kind)


class Query:
    """The query string; unknown parameters are ignored. Raises Invalid or BadRequest for values that do not fit."""

    def __init__(self, text: bytes) -> None:
        self._pairs = parse_qsl(text.decode("latin-1"), keep_blank_values=True) if text else []

    def one(self, name: str) -> str | None:
        return next((value for key, value in reversed(self._pairs) if key == name), None)

    def many(self, name: str) -> tuple[str, ...]:
        """`a=x,y`, `a=x&a=y`, `a[]=x` and `a[0]=x` all mean the same."""
        values = [value for key, value in self._pairs if key == name or key.partition("[")[0] == name]
        words = tuple(word for value in values for word in value.split(",") if word)
        if len(words) > MOST_WORDS:
            raise Invalid(f"at most {MOST_WORDS} values", ("query", name))
        return words

    def flag(self, name: str, default: bool) -> bool:
        value = self.one(name)
        if value is None:
            return default
        if value not in ("true", "false"):
            raise BadRequest(f"{name} must be true or false")
        return value == "true"

    def number(self, name: str, default: int, least: int, most: int) -> int:
        value = self.one(name)
        if value is None:
            return default
        if not (value.isascii() and value.isdigit() and len(value) < 10):
            raise BadRequest(f"{name} must be a whole number")
        if not least <= int(value) <= most:
            raise Invalid(f"{name} must be from {least} to {most}", ("query", name))
        return int(value)

    def instant(self, name: str) -> int | None:
        """An RFC 3339 date-time (µs UTC); one without an offset means UTC."""
        value = self.one(name)
        if value is None:
            return None
        try:
            return from_rfc3339(value.replace(" ", "+"))
        except (ValueError, OverflowError):
            raise BadRequest(f"{name} must be an RFC 3339 date-time such as 2026-01-31T12:00:00Z") from None
