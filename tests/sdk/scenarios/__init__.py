"""One scenario for each operation, a module for each resource. Importing this package registers all."""

from tests.sdk.scenarios import (
    access,
    application,
    endpoint,
    endpoint_parts,
    event_type,
    integration,
    message,
    message_attempt,
    operational_webhook,
    poller,
    tasks,
)

__all__ = [
    "access", "application", "endpoint", "endpoint_parts", "event_type", "integration", "message", "message_attempt",
    "operational_webhook", "poller", "tasks",
]  # fmt: skip
