"""The seam to the outside: a sender turns a message into an attempt's outcome, and never raises for what a receiver does."""

from collections.abc import Callable
from typing import Protocol

from tenterhook.model import Endpoint, Message, Outcome


class Sender(Protocol):
    """One kind of endpoint (`webhook`, `slack` …)."""

    async def send(self, message: Message, endpoint: Endpoint, *, deadline: int, now: int) -> Outcome:
        """Make one attempt within `deadline` µs, connect and answer included; `now` (µs UTC) is signed.

        Whatever a receiver or a network does is an outcome. An exception is a defect of the sender.
        """

    async def close(self) -> None:
        """Let go of pooled connections."""


Senders = Callable[[str], Sender]
"""The registry: kind → sender. Raises KeyError for an unknown kind."""
