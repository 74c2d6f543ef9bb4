"""`tenterhook message`: what was published to an application, and what became of it."""

from collections.abc import Sequence
from typing import Annotated, TypeVar

import msgspec
import typer
from msgspec import Raw, Struct

from tenterhook.cli.calling import DEFAULT_SERVER, ApiToken, App, Remote, Reply, Server, moment
from tenterhook.cli.output import AsJson, emit, printable, show_table

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Messages of an application, on a running server: list and show."
)
T = TypeVar("T")
_LONGEST_PAYLOAD = 2_000
_FUTURE = "9998-01-01T00:00:00Z"
"""The end of a window that has none: with only a beginning, the API would give the oldest messages."""


class _Message(Struct, rename="camel", frozen=True):
    id: str
    event_type: str
    timestamp: str
    payload: Raw
    event_id: str | None = None
    channels: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    ordering_key: str | None = None
    deliver_at: str | None = None


class _Destination(Struct, rename="camel", frozen=True):
    """An endpoint that a message is owed to."""

    id: str
    url: str
    status_text: str
    attempts: int
    deleted: bool
    next_attempt: str | None = None
    uid: str | None = None

    @property
    def name(self) -> str:
        return self.uid or self.id


class _Attempt(Struct, rename="camel", frozen=True):
    timestamp: str
    endpoint_id: str
    status_text: str
    response_status_code: int
    response_duration_ms: int
    response: str
    reason: str


@app.command("list")
def listing(
    app: App,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.", metavar="NUMBER")] = 20,
    event_type: Annotated[
        list[str] | None, typer.Option(help="Only messages of this event type; may be repeated.")
    ] = None,
    before: Annotated[
        str | None, typer.Option(help="Only older ones than this: 2h (ago), or an instant.", metavar="TIME")
    ] = None,
    after: Annotated[
        str | None, typer.Option(help="Only what has come since then: 2h (ago), or an instant.", metavar="TIME")
    ] = None,
    server: Server = DEFAULT_SERVER,
    token: ApiToken = None,
    as_json: AsJson = False,
) -> None:
    """List the newest messages of an application.

    \b
    Examples:
      tenterhook message list acme
      tenterhook message list acme --event-type invoice.paid --after 2h --limit 100
      tenterhook message list acme --before 2026-01-31T12:00:00Z --json
    """
    found = Remote(server, token).walk(
        _Message, "app", app, "msg", limit=limit, with_content="false", event_types=event_type or None,
        before=moment(before) or _FUTURE, after=moment(after),
    )  # fmt: skip
    if as_json:
        emit(_raw(found), "", True)
        return
    messages = [reply.said for reply in found]
    show_table(
        ("id", "time", "event type", "tags"), [(m.id, m.timestamp, m.event_type, _words(m.tags)) for m in messages]
    )


@app.command()
def show(
    app: App,
    message: Annotated[str, typer.Argument(help="The message, by id (msg_…) or by your own id of the event.")],
    limit: Annotated[int, typer.Option(min=1, help="How many attempts at most.", metavar="NUMBER")] = 20,
    server: Server = DEFAULT_SERVER,
    token: ApiToken = None,
    as_json: AsJson = False,
) -> None:
    """Show a message, how it stands at each endpoint, and its newest attempts.

    \b
    Examples:
      tenterhook message show acme msg_2x4NKaJpJTkHe0Nu0XbF2hvZ5Yq
      tenterhook message show acme inv-7
      tenterhook message show acme inv-7 --json | jq .destinations
    """
    remote = Remote(server, token)
    found = remote.get(_Message, "app", app, "msg", message)
    one = found.said
    destinations = remote.walk(_Destination, "app", app, "msg", one.id, "endpoint")
    attempts = remote.walk(_Attempt, "app", app, "attempt", "msg", one.id, limit=limit)
    if as_json:
        document = {"message": _raw([found])[0], "destinations": _raw(destinations), "attempts": _raw(attempts)}
        emit(document, "", True)
        return
    _show_message(one)
    owed = [reply.said for reply in destinations]
    _show_destinations(owed)
    _show_attempts([reply.said for reply in attempts], {to.id: to.name for to in owed})


def _show_message(one: _Message) -> None:
    rows = (
        ("id", one.id),
        ("event type", one.event_type),
        ("time", one.timestamp),
        ("event id", one.event_id),
        ("channels", _words(one.channels)),
        ("tags", _words(one.tags)),
        ("ordering key", one.ordering_key),
        ("not before", one.deliver_at),
        ("payload", _shortened(bytes(one.payload).decode())),
    )
    for name, value in rows:
        if value:
            typer.echo(f"{name:<12}  {printable(value)}")


def _show_destinations(owed: Sequence[_Destination]) -> None:
    typer.echo()
    if not owed:
        typer.echo("no endpoint was to get it")
        return
    show_table(
        ("endpoint", "status", "attempts", "next attempt", "url"),
        [(to.name, to.status_text, to.attempts, to.next_attempt, "deleted" if to.deleted else to.url) for to in owed],
    )


def _show_attempts(attempts: Sequence[_Attempt], names: dict[str, str]) -> None:
    if not attempts:
        return
    typer.echo()
    show_table(
        ("attempt", "endpoint", "result", "code", "took", "reason"),
        [
            (
                tried.timestamp, names.get(tried.endpoint_id, tried.endpoint_id), tried.status_text,
                tried.response_status_code or None, f"{tried.response_duration_ms:,} ms", _why(tried),
            )
            for tried in attempts
        ],
    )  # fmt: skip


def _why(tried: _Attempt) -> str:
    """The reason of a failure; without an answer `response` has it in words."""
    if tried.status_text == "success":
        return ""
    answered = tried.response_status_code or not tried.response
    return tried.reason if answered else f"{tried.reason}: {tried.response}"


def _words(words: tuple[str, ...] | None) -> str:
    return " ".join(words or ())


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_PAYLOAD else f"{text[:_LONGEST_PAYLOAD]}… (all of it: --json)"


def _raw(replies: Sequence[Reply[T]]) -> list[Raw]:
    return [msgspec.Raw(reply.text.encode()) for reply in replies]
