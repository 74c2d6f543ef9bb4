"""`python -m tenterhook` is the command `tenterhook`."""

from tenterhook.cli import main

main()
