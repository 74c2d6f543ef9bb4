"""Copying SQLite's log into the file without making the writer wait for it.

A checkpoint by the writer stops every commit for as long as the copying and the flush take, which a caller feels. So a
thread with a connection of its own copies what there is while the writer goes on, and the writer itself copies only
the short rest, after which the log begins anew instead of growing for ever.
"""

import logging
import sqlite3
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 0.2
REST_PAGES = 1_000
"""From this length of the log on, the writer finishes what the thread has begun."""

FALLBACK_PAGES = 20_000
"""Where SQLite's own checkpoints begin, should the thread not get through."""

_COPY = "PRAGMA wal_checkpoint(PASSIVE)"


class Checkpointer:
    """One per writer. `connect` opens the thread's own connection."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._stop = threading.Event()
        self._written = self._rest_due = False
        self._thread = threading.Thread(target=self._run, name="sqlite-checkpoints", daemon=True)
        self._thread.start()

    def committed(self, writer: sqlite3.Connection) -> None:
        """To be called after each commit, on the writer's thread."""
        self._written = True
        if self._rest_due:
            self._rest_due = False
            writer.execute(_COPY)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        db = self._connect()
        while not self._stop.wait(INTERVAL_SECONDS):
            if not self._written:
                continue
            self._written = False
            try:
                _, pages, _ = db.execute(_COPY).fetchone()
            except sqlite3.Error as error:
                log.warning("the database's log could not be copied now: %s", error)
                continue
            self._rest_due = pages >= REST_PAGES
        db.close()
