"""What the commands that talk to a running server share: which server, with which token, and how its answers are read."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import quote, urlencode

import msgspec
import typer
from msgspec import Raw, Struct

from tenterhook.clock import SystemClock, to_rfc3339
from tenterhook.errors import Invalid
from tenterhook.remote import Answer, Refused, call
from tenterhook.units import parse_instant

DEFAULT_SERVER = "http://127.0.0.1:8071"

Server = Annotated[str, typer.Option("--server", envvar="TENTERHOOK_URL", help="The server's URL.", metavar="URL")]
ApiToken = Annotated[
    str | None, typer.Option("--token", envvar="TENTERHOOK_TOKEN", help="An API token.", metavar="TOKEN")
]
App = Annotated[str, typer.Argument(help="The application, by uid or id.")]

_WRONG_INPUT = (400, 413, 422)
_ADVICE = {
    401: "give another with --token or TENTERHOOK_TOKEN, or make one with: tenterhook token create",
    403: "take a token that may, or make one with: tenterhook token create",
    404: "look at the names in the command",
}
_PAGE = 250
"""As long as a page of the API may be."""

Query = str | int | Sequence[str]
T = TypeVar("T")


class Reply(Struct, Generic[T], frozen=True):
    """An answer of the server: as it came, and what was read from it."""

    text: str
    said: T


class _Page(Struct, frozen=True):
    data: list[Raw]
    iterator: str | None
    done: bool


class Remote:
    """The REST API of a server, used with one token. Raises Invalid where that, or what is asked, cannot be right."""

    def __init__(self, server: str, token: str | None) -> None:
        if not token:
            raise Invalid("a token is needed: --token or TENTERHOOK_TOKEN; make one with: tenterhook token create")
        self._server, self._headers = server, {"Authorization": f"Bearer {token}"}

    def get(self, said: type[T], *place: str, **query: Query | None) -> Reply[T]:
        """What is at a place: `get(Message, "app", "acme", "msg", "msg_1")`. Raises Refused, ServerUnreachable."""
        return self._ask("GET", said, place, query)

    def post(
        self,
        said: type[T],
        *place: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        **query: Query | None,
    ) -> Reply[T]:
        """Members of `body` that are None are left out. Raises Refused, ServerUnreachable."""
        given = {name: value for name, value in (body or {}).items() if value is not None}
        return self._ask("POST", said, place, query, {"Content-Type": "application/json", **(headers or {})}, given)

    def walk(self, item: type[T], *place: str, limit: int | None = None, **query: Query | None) -> list[Reply[T]]:
        """The first `limit` items of a list, or all: as many pages as that takes. Raises Refused, ServerUnreachable."""
        found: list[Reply[T]] = []
        iterator: str | None = None
        while limit is None or len(found) < limit:
            wanted = _PAGE if limit is None else min(_PAGE, limit - len(found))
            reply = self.get(_Page, *place, limit=wanted, iterator=iterator, **query)
            found += [_read(Answer(200, bytes(raw)), item) for raw in reply.said.data]
            iterator = reply.said.iterator
            if reply.said.done or iterator is None:
                break
        return found

    def _ask(
        self,
        method: str,
        said: type[T],
        place: tuple[str, ...],
        query: Mapping[str, Query | None],
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Reply[T]:
        try:
            path = "/api/v1/" + "/".join(quote(part, safe="") for part in place)
            asked = urlencode({name: value for name, value in query.items() if value is not None}, doseq=True)
            data = None if body is None else msgspec.json.encode(body)
        except UnicodeEncodeError:
            raise Invalid("the arguments must be UTF-8 text") from None
        whole = _checked({**self._headers, **(headers or {})})
        answer = call(self._server, method, f"{path}?{asked}" if asked else path, headers=whole, body=data)
        if answer.ok:
            return _read(answer, said)
        if answer.status in _WRONG_INPUT:
            raise Invalid(answer.problem())
        advice = _ADVICE.get(answer.status)
        raise Refused(answer.problem() if advice is None else f"{answer.problem()} ({advice})")


def moment(text: str | None) -> str | None:
    """`2h` (ago) or an instant, as the API takes it. Raises Invalid."""
    return None if text is None else to_rfc3339(parse_instant(text, SystemClock().now()))


def _read(answer: Answer, said: type[T]) -> Reply[T]:
    """Raises Refused for an answer that no Tenterhook gives."""
    try:
        return Reply(answer.body.decode(), msgspec.json.decode(answer.body, type=said))
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refused(answer.problem()) from None


def _checked(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not value.isascii() or not value.isprintable():
            raise Invalid(f"{name} must consist of visible ASCII characters")
    return headers
