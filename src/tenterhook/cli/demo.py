"""`tenterhook demo`: the main job on a real payload, in a few seconds."""

import os

import typer


def demo() -> None:
    """Turn a GitHub issue into a Slack message.

    And into a signed webhook; every step is shown. It starts a server on a database of its own, and stand-ins for Slack
    and for a receiver on this machine; nothing leaves it. The server goes on until Ctrl-C, and everything is removed
    then; with DEMO_EXIT=1 it ends at once. The exit code is 1 if a step did not happen.

    \b
    Examples:
      tenterhook demo
      DEMO_EXIT=1 tenterhook demo
    """
    from tenterhook.demo import run

    raise typer.Exit(run(keep=os.environ.get("DEMO_EXIT", "") in ("", "0")))
