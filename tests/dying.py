"""`python -m tests.dying N copy SOURCE TARGET`: the command line, killed at the Nth step of the code that copies.

Steps are calls and returns, those into the database included, on every thread: so it may die before, in and after any
statement. With N = 0 it lives, and prints on standard error how many steps there were.
"""

import os
import signal
import sys
import threading
from itertools import count
from types import FrameType

from tenterhook.cli import main
from tenterhook.store.copying import verbs

MINE = (
    "/store/copying/",
    "/store/sqlite_run.py",
    "/store/postgres_run.py",
    "/asyncpg/connection.py",
    "/asyncpg/transaction.py",
)
steps = count(1)
last = 0


def step(frame: FrameType, event: str, arg: object) -> None:
    global last
    if any(part in frame.f_code.co_filename for part in MINE):
        last = next(steps)
        if last == deadly:
            os.kill(os.getpid(), signal.SIGKILL)


deadly = int(sys.argv.pop(1))
verbs.PAGE_ROWS = 3
threading.setprofile(step)
sys.setprofile(step)
try:
    main()
finally:
    sys.setprofile(None)
    print(f"steps {last}", file=sys.stderr)
