"""What the operator grants a receiver."""

from msgspec import Struct

from tenterhook.clock import MINUTE, SECOND


class Limits(Struct, frozen=True):
    """Spans in µs, sizes in bytes.

    head: status line and headers of one answer. lines: of one head. interim: 1xx answers before the real one.
    body: what is kept of a body; where it is longer, the rest is not read. idle, age: how long a connection may wait
    for its next request, and live. idle_per_target, idle_in_all: how many may wait. connect: TCP and TLS together.
    """

    head: int = 64 * 1024
    lines: int = 100
    interim: int = 10
    body: int = 16 * 1024
    idle: int = 4 * SECOND
    age: int = 5 * MINUTE
    idle_per_target: int = 64
    idle_in_all: int = 1_000
    connect: int = 10 * SECOND

    @property
    def wire(self) -> int:
        """How much may come in all: a body in chunks of a byte each brings its framing, but not without end."""
        return self.head + 8 * self.body
