"""Who uses a PostgreSQL database: nodes side by side, or one copy alone.

The connections that a node keeps open share an advisory lock, which ends with them. A copy takes it for itself.
"""

import os
import socket

import asyncpg

from tenterhook.errors import StoreUnavailable
from tenterhook.store.postgres_run import Session

NAME = f"tenterhook {socket.gethostname()}:{os.getpid()}"[:63]
"""What this node is called in pg_stat_activity; the server keeps 63 bytes."""

_NODES = 0x7E27E2_0003
_PATIENCE_SECONDS = 3
"""How long a copy waits for nodes that are just leaving, and for the end of a copy that was killed."""

_HERE = """
    SELECT DISTINCT coalesce(a.application_name, a.pid::text) FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.classid = $1 AND l.objid = $2
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.pid <> pg_backend_pid()
    ORDER BY 1
"""


async def take_part(connection: Session) -> None:
    """Use the database beside other nodes, until the connection ends. Raises StoreUnavailable while it is copied."""
    if not await connection.fetchval("SELECT pg_try_advisory_lock_shared($1)", _NODES):
        raise StoreUnavailable("this database is being copied: wait for the end of tenterhook copy")


async def take_over(connection: Session) -> None:
    """Use the database alone, until the connection ends. Raises StoreUnavailable, naming who is there."""
    if not await _alone(connection):
        names = [str(row[0]) for row in await connection.fetch(_HERE, _NODES >> 32, _NODES & 0xFFFFFFFF)]
        who = f" ({', '.join(names)})" if names else ""
        count = "1 node is" if len(names) == 1 else f"{len(names)} nodes are"
        raise StoreUnavailable(f"{count} connected to the database{who}: stop every node, then copy")


async def _alone(connection: Session) -> bool:
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = '{_PATIENCE_SECONDS}s'")
            await connection.execute("SELECT pg_advisory_lock($1)", _NODES)
    except asyncpg.LockNotAvailableError:
        return False
    return True
