"""The kinds of endpoint there are. A sender's module is loaded when its kind is first used."""

from importlib import import_module
from typing import Any

from tenterhook.senders.base import Sender

KINDS = {
    "webhook": ("tenterhook.senders.webhook", "WebhookSender"),
    "slack": ("tenterhook.senders.slack", "SlackSender"),
}


class SenderRegistry:
    """kind → sender, each made once around the guarded HTTP client."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._made: dict[str, Sender] = {}

    def __call__(self, kind: str) -> Sender:
        """Raises KeyError for an unknown kind."""
        sender = self._made.get(kind)
        if sender is None:
            module, name = KINDS[kind]
            sender = self._made[kind] = getattr(import_module(module), name)(self._client)
        return sender

    async def close(self) -> None:
        for sender in self._made.values():
            await sender.close()
        await self._client.close()
