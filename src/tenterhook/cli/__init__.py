"""The command `tenterhook`. Heavy modules are loaded by the commands that need them.

Exit codes: 0 it worked, 1 it failed, 2 the input or the configuration is wrong.
"""

import sys

from tenterhook.errors import BadRequest, ConfigurationError, Invalid, TenterhookError

WRONG_INPUT = (ConfigurationError, Invalid, BadRequest)


def main() -> None:
    """Run the command line and end the process."""
    from tenterhook.cli.commands import app

    try:
        app(prog_name="tenterhook")
    except TenterhookError as error:
        for line in error.detail.splitlines():
            print(f"error: {line}", file=sys.stderr)
        sys.exit(2 if isinstance(error, WRONG_INPUT) else 1)
