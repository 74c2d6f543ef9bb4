"""The commands, as one table of functions; each lives in a module of its own."""

from typing import Annotated

import typer

from tenterhook.cli import (
    backing_up,
    checking,
    copying,
    demo,
    endpoints,
    messages,
    outbox,
    pruning,
    publishing,
    replaying,
    serving,
    tokens,
)
from tenterhook.cli.output import AsJson, emit, installed_version

app = typer.Typer(
    name="tenterhook",
    help="Webhooks, both ways, in one process: send, receive, route, and see every byte.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def options(
    show: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Webhooks, both ways, in one process: send, receive, route, and see every byte.

    Begin with: tenterhook demo
    """


@app.command()
def version(as_json: AsJson = False) -> None:
    """Print the version.

    \b
    Examples:
      tenterhook version
      tenterhook --version
      tenterhook version --json
    """
    number = installed_version()
    emit({"version": number}, f"tenterhook {number}", as_json)


app.command("serve")(serving.command)
app.command("send")(publishing.send)
app.command("resend")(replaying.resend)
app.command("replay")(replaying.replay)
app.add_typer(messages.app, name="message")
app.add_typer(endpoints.app, name="endpoint")
app.command("check")(checking.check)
app.command("backup")(backing_up.backup)
app.command("copy")(copying.copy)
app.command("prune")(pruning.prune)
app.command("demo")(demo.demo)
app.add_typer(outbox.app, name="outbox")
app.add_typer(tokens.app, name="token")
