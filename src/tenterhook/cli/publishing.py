"""`tenterhook send`: publish a message through the REST API of a server."""

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from tenterhook.cli.calling import DEFAULT_SERVER, ApiToken, App, Remote, Server
from tenterhook.cli.output import AsJson
from tenterhook.errors import Invalid


def send(
    app: App,
    event_type: Annotated[str, typer.Argument(help="The event type, such as invoice.paid.")],
    payload: Annotated[
        str, typer.Argument(help="A JSON object; @FILE reads it from a file, - from standard input.")
    ] = "{}",
    server: Server = DEFAULT_SERVER,
    token: ApiToken = None,
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
    remote = Remote(server, token)
    document = {
        "eventType": event_type,
        "payload": msgspec.Raw(_payload(payload)),
        "eventId": event_id,
        "channels": channel or None,
        "tags": tag or None,
        "orderingKey": ordering_key,
    }
    key = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
    published = remote.post(_Published, "app", app, "msg", body=document, headers=key, with_content="false")
    typer.echo(published.text if as_json else published.said.id)


class _Published(msgspec.Struct):
    """What matters of the answer."""

    id: str


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
