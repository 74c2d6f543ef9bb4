"""`tenterhook endpoint`: where the messages of an application go."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import typer
from msgspec import Struct

from tenterhook.cli.calling import DEFAULT_SERVER, ApiToken, App, Remote, Server, moment
from tenterhook.cli.output import AsJson, emit, show_table

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Endpoints of an application, on a running server.")
_FIGURES_OF = "24h"


@app.callback()
def endpoint() -> None:
    """Endpoints of an application, on a running server."""


class _Stats(Struct, frozen=True):
    """How the messages of a time stand at an endpoint."""

    success: int
    pending: int
    sending: int
    fail: int
    canceled: int


class _Endpoint(Struct, rename="camel", frozen=True):
    id: str
    url: str
    disabled: bool
    uid: str | None = None
    event_types: tuple[str, ...] | None = None
    disabled_reason: str | None = None
    failing_since: str | None = None
    paused_until: str | None = None

    @property
    def state(self) -> str:
        if self.disabled:
            return f"disabled: {self.disabled_reason}" if self.disabled_reason else "disabled"
        if self.paused_until is not None:
            return f"paused until {self.paused_until}"
        return "enabled" if self.failing_since is None else f"failing since {self.failing_since}"


@app.command("list")
def listing(
    app: App,
    health: Annotated[
        bool, typer.Option("--health", help="Ask for the health of each, and how the messages of 24 hours stand there.")
    ] = False,
    server: Server = DEFAULT_SERVER,
    token: ApiToken = None,
    as_json: AsJson = False,
) -> None:
    """List the endpoints of an application, newest first.

    With --health, two more requests for each: since when it fails, until when it is paused, and its figures.

    \b
    Examples:
      tenterhook endpoint list acme
      tenterhook endpoint list acme --health
      tenterhook endpoint list acme --json | jq -r '.[] | select(.disabled) | .url'
    """
    remote = Remote(server, token)
    found = remote.walk(_Endpoint, "app", app, "endpoint")
    figures: list[_Stats] = []
    if health:
        found = [remote.get(_Endpoint, "app", app, "endpoint", one.said.id) for one in found]
        since = moment(_FIGURES_OF)
        for one in found:
            reply = remote.get(_Stats, "app", app, "endpoint", one.said.id, "stats", since=since)
            figures.append(reply.said)
    if as_json:
        documents: list[dict[str, Any]] = [msgspec.json.decode(one.text) for one in found]
        emit([one | {"stats": stats} for one, stats in zip(documents, figures)] if health else documents, "", True)
        return
    _show([one.said for one in found], figures)


def _show(endpoints: Sequence[_Endpoint], figures: Sequence[_Stats]) -> None:
    """With the figures of each, if there are any."""
    headings: tuple[str, ...] = ("id", "uid", "event types", "state", "url")
    rows: list[tuple[object, ...]] = [
        (one.id, one.uid, " ".join(one.event_types or ("all",)), one.state, one.url) for one in endpoints
    ]
    if figures:
        headings += ("delivered", "pending", "failed")
        rows = [(*row, n.success, n.pending + n.sending, n.fail) for row, n in zip(rows, figures)]
    show_table(headings, rows)
