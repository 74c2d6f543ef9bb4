"""`tenterhook serve`: every setting is a flag, made from the table of settings."""

import os
from inspect import Parameter, Signature
from typing import Annotated

import typer

from tenterhook.cli.output import AsJson
from tenterhook.settings import SETTINGS, Setting

HELP = """Run the server until Ctrl-C or SIGTERM.

What is under way then may finish, for as long as --shutdown-timeout says.

Each option is a setting: --max-payload is TENTERHOOK_MAX_PAYLOAD in the environment, and max_payload in the table
[server] of tenterhook.toml. An option wins over the environment, the environment over the file.

At the first start an admin token is made and printed, once. SIGHUP reads the applications, event types, sources and
endpoints of the file again.

\b
Examples:
  tenterhook serve
  tenterhook serve --port 9000 --database sqlite:////var/lib/tenterhook/hooks.db
  tenterhook serve --config staging.toml --allow-networks 10.0.0.0/8 --log-format json
  tenterhook serve --port 0 --json
"""


def command(as_json: bool = False, **flags: str | bool | None) -> None:
    from tenterhook.cli.session import Session

    Session(os.environ, flags, as_json).run()


def _parameter(setting: Setting) -> Parameter:
    switch = setting.kind.toml == (bool,)
    names = f"{setting.flag}/--no-{setting.flag.removeprefix('--')}" if switch else setting.flag
    option = typer.Option(
        names,
        help=setting.help,
        show_default=setting.show(setting.default) if setting.default not in (None, ()) else False,
        metavar=None if switch else _metavar(setting.kind.noun),
    )
    kind = bool | None if switch else str | None
    return Parameter(setting.name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option])


def _metavar(noun: str) -> str:
    """`duration, 1s to 1m` → `DURATION`, `0 to 65535` → `0-65535`."""
    return noun.partition(",")[0].replace(" to ", "-").replace(" ", "-").upper()


command.__doc__ = HELP
command.__annotations__ = {}
_as_json = Parameter("as_json", Parameter.KEYWORD_ONLY, default=False, annotation=AsJson)
command.__signature__ = Signature([*(_parameter(setting) for setting in SETTINGS), _as_json])  # type: ignore[attr-defined]  # Typer reads it
