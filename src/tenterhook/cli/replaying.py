"""`tenterhook resend` and `tenterhook replay`: sending again, one message or what an endpoint missed."""

import threading
from itertools import chain, repeat
from typing import Annotated, Any, NoReturn

import typer
from msgspec import Struct

from tenterhook.cli.calling import DEFAULT_SERVER, ApiToken, App, Remote, Reply, Server, moment
from tenterhook.cli.output import AsJson, emit
from tenterhook.errors import Invalid, TenterhookError

Endpoint = Annotated[str, typer.Argument(help="The endpoint, by uid or id.")]
_WAITS, _LONGEST_WAIT = (0.1, 0.2, 0.5, 1.0), 2.0
"""Seconds between looks at a task; the longest again and again."""


class _Task(Struct, frozen=True):
    id: str
    status: str
    data: dict[str, Any] = {}
    error: str | None = None

    @property
    def sent(self) -> str:
        count = self.data.get("messagesSent", 0)
        return f"{count:,} message{'' if count == 1 else 's'}"


def resend(
    app: App,
    message: Annotated[str, typer.Argument(help="The message, by id (msg_…) or by your own id of the event.")],
    endpoint: Endpoint,
    server: Server = DEFAULT_SERVER,
    token: ApiToken = None,
    as_json: AsJson = False,
) -> None:
    """Send a message to an endpoint once more, at once.

    That is an attempt beside the schedule, whatever the filters of the endpoint say. It is done when the server has it
    on its disk; `tenterhook message show` tells how it went.

    \b
    Examples:
      tenterhook resend acme msg_2x4NKaJpJTkHe0Nu0XbF2hvZ5Yq main
      tenterhook resend acme inv-7 main --json
    """
    place = ("app", app, "msg", message, "endpoint", endpoint, "resend")
    reply = Remote(server, token).post(dict[str, Any], *place)
    emit(reply.said, f"{message} is on its way to {endpoint}", as_json)


def replay(
    app: App,
    endpoint: Endpoint,
    since: Annotated[
        str, typer.Option(help="Messages that have come since then: 2h (ago), or an instant.", metavar="TIME")
    ],
    until: Annotated[str | None, typer.Option(help="Up to then.", metavar="TIME", show_default="now")] = None,
    missing: Annotated[bool, typer.Option("--missing", help="What was never sent to the endpoint.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="What has failed for good; 14 days at most.")] = False,
    every: Annotated[bool, typer.Option("--all", help="All that was sent, also what was delivered.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Print the id of the task, and do not follow it.")] = False,
    server: Server = DEFAULT_SERVER,
    token: ApiToken = None,
    as_json: AsJson = False,
) -> None:
    """Send again what an endpoint missed: one of --missing, --failed and --all.

    A background task of the server does it; the command follows it until it is finished. Ctrl-C ends the command, not
    the task. The exit code is 1 if the task has failed.

    \b
    Examples:
      tenterhook replay acme main --since 2h --failed
      tenterhook replay acme main --since 2026-01-31 --until 2026-02-02T12:00:00Z --missing
      tenterhook replay acme main --since 10m --all --no-wait
    """
    chosen = [
        verb for verb, wanted in (("replay-missing", missing), ("recover", failed), ("bulk-replay", every)) if wanted
    ]
    if len(chosen) != 1:
        raise Invalid("say what to send again: one of --missing, --failed and --all")
    remote = Remote(server, token)
    place = ("app", app, "endpoint", endpoint, chosen[0])
    begun = remote.post(_Task, *place, body={"since": moment(since), "until": moment(until)})
    if no_wait:
        typer.echo(begun.text if as_json else begun.said.id)
        return
    ended = _followed(remote, begun.said.id)
    if as_json:
        typer.echo(ended.text)
    if ended.said.error is not None:
        typer.echo(f"error: the task {ended.said.id} failed after {ended.said.sent}: {ended.said.error}", err=True)
        raise typer.Exit(1)
    if not as_json:
        typer.echo(f"{ended.said.sent} on the way to {endpoint}")


def _followed(remote: Remote, task: str) -> Reply[_Task]:
    """Wait until a task has ended, and show on a terminal how far it is."""
    from rich.console import Console

    try:
        with Console(stderr=True).status("sending again") as status:
            waits = chain(_WAITS, repeat(_LONGEST_WAIT))
            while True:
                reply = remote.get(_Task, "background-task", task)
                if reply.said.status != "running":
                    return reply
                status.update(f"sending again: {reply.said.sent} so far")
                threading.Event().wait(next(waits))
    except KeyboardInterrupt:
        _left(task, "interrupted")
    except TenterhookError as error:
        _left(task, error.detail)


def _left(task: str, why: str) -> NoReturn:
    """Say that the task goes on without the command."""
    typer.echo(f"error: {why}", err=True)
    typer.echo(f"the task goes on at the server: GET /api/v1/background-task/{task} tells how", err=True)
    raise typer.Exit(1) from None
