"""The kinds of endpoint there are. A sender's module is loaded when its kind is first used."""

from importlib import import_module
from typing import Any

from tenterhook.senders.base import Sender
from tenterhook.transformations.contract import Transform

KINDS = {
    "webhook": ("tenterhook.senders.webhook", "WebhookSender", ("client", "transform")),
    "slack": ("tenterhook.senders.slack", "SlackSender", ("client",)),
}
"""kind → the module and name of its sender, and what that is made of."""


class SenderRegistry:
    """kind → sender, each made once around the guarded HTTP client, and what runs transformations."""

    def __init__(self, client: Any, transform: Transform) -> None:
        self._client = client
        self._parts = {"client": client, "transform": transform}
        self._made: dict[str, Sender] = {}

    def __call__(self, kind: str) -> Sender:
        """Raises KeyError for an unknown kind."""
        sender = self._made.get(kind)
        if sender is None:
            module, name, parts = KINDS[kind]
            sender = self._made[kind] = getattr(import_module(module), name)(*[self._parts[part] for part in parts])
        return sender

    async def close(self) -> None:
        for sender in self._made.values():
            await sender.close()
        await self._client.close()
