"""Webhooks, both ways, in one process: send, receive, route, and see every byte."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["AsyncTenterhook", "Refused", "Tenterhook", "Webhook", "WebhookVerificationError", "__version__"]

if TYPE_CHECKING:
    from tenterhook.library.asynchronous import AsyncTenterhook, Refused
    from tenterhook.library.sync import Tenterhook
    from tenterhook.signing import Webhook, WebhookVerificationError

_HOME = {
    "AsyncTenterhook": "tenterhook.library.asynchronous",
    "Refused": "tenterhook.library.asynchronous",
    "Tenterhook": "tenterhook.library.sync",
    "Webhook": "tenterhook.signing",
    "WebhookVerificationError": "tenterhook.signing",
}


def __getattr__(name: str) -> object:
    """Load a public name on first use, so that `from tenterhook import Webhook` imports no server."""
    if name not in _HOME:
        raise AttributeError(f"module 'tenterhook' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
