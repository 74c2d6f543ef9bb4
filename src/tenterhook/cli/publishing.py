"""`tenterhook send`: publish a message through the REST API of a server."""

import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import msgspec
import typer

from tenterhook.cli.output import AsJson
from tenterhook.errors import Invalid

DEFAULT_SERVER = "http://127.0.0.1:8071"


def send(
    app: Annotated[str, typer.Argument(help="The application, by uid or id.")],
    event_type: Annotated[str, typer.Argument(help="The event type, such as invoice.paid.")],
    payload: Annotated[
        str, typer.Argument(help="A JSON object; @FILE reads it from a file, - from standard input.")
    ] = "{}",
    server: Annotated[
        str, typer.Option(envvar="TENTERHOOK_URL", help="The server's URL.", metavar="URL")
    ] = DEFAULT_SERVER,
    token: Annotated[str | None, typer.Option(envvar="TENTERHOOK_TOKEN", help="An API token.", metavar="TOKEN")] = None,
    event_id: Annotated[
        str | None, typer.Option(help="Your own id of the event; a second one with it is refused.")
    ] = None,
    channel: Annotated[list[str] | None, typer.Option(help="A channel of the message; may be repeated.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag of the message; may be repeated.")] = None,
    ordering_key: Annotated[
        str | None, typer.Option(help="Messages with the same key reach ordered endpoints one after the other.")
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Sending again with the same key does not make a second message.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Publish a message to an application.

    Prints the message's id when the server has it on its disk. The payload is sent byte for byte as it is given.

    \b
    Examples:
      tenterhook send acme invoice.paid '{"id": 7, "amount": 1200}'
      tenterhook send acme invoice.paid @invoice.json --event-id inv-7
      jq -c .invoice order.json | tenterhook send acme invoice.paid - --json
    """
    from tenterhook import remote

    if not token:
        raise Invalid("a token is needed: --token or TENTERHOOK_TOKEN; make one with: tenterhook token create")
    document = {
        "eventType": event_type,
        "payload": msgspec.Raw(_payload(payload)),
        "eventId": event_id,
        "channels": channel or None,
        "tags": tag or None,
        "orderingKey": ordering_key,
    }
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    if idempotency_key is not None:
        headers["Idempotency-Key"] = idempotency_key
    try:
        body = msgspec.json.encode({name: value for name, value in document.items() if value is not None})
        path = f"/api/v1/app/{quote(app, safe='')}/msg?with_content=false"
    except UnicodeEncodeError:
        raise Invalid("the arguments must be UTF-8 text") from None
    answer = remote.call(server, "POST", path, headers=_checked(headers), body=body)
    published = _published(answer.body) if answer.ok else None
    if published is None:
        typer.echo(f"error: {answer.problem()}", err=True)
        raise typer.Exit(2 if answer.status in (400, 413, 422) else 1)
    typer.echo(answer.body.decode() if as_json else published.id)


class _Published(msgspec.Struct):
    """What matters of the answer."""

    id: str


def _published(body: bytes) -> _Published | None:
    """None for an answer that no Tenterhook gives."""
    try:
        return msgspec.json.decode(body, type=_Published)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _payload(given: str) -> bytes:
    """The bytes of the payload, found to be a JSON object. Raises Invalid."""
    try:
        data = _bytes(given)
        if not isinstance(msgspec.json.decode(data), dict):
            raise Invalid("the payload must be a JSON object")
    except OSError as error:
        raise Invalid(f"{given[1:]}: cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Invalid(f"the payload is not JSON: {error}") from None
    return data


def _bytes(given: str) -> bytes:
    if given == "-":
        return sys.stdin.buffer.read().strip()
    return Path(given[1:]).read_bytes().strip() if given.startswith("@") else given.encode().strip()


def _checked(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not value.isascii() or not value.isprintable():
            raise Invalid(f"{name} must consist of visible ASCII characters")
    return headers
