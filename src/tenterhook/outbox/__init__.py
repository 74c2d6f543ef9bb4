"""The transactional outbox: an event is written in the caller's own transaction, and sent if and only if that commits.

What a program needs to write is here and light: no server, no event loop, no driver is imported. The server's side is in
`outbox.relay`.
"""

from tenterhook.outbox.schema import TABLE, ddl
from tenterhook.outbox.writing import write

__all__ = ["TABLE", "ddl", "write"]
