"""What operational webhooks tell, and in which words: the bodies of the wire API.

They are messages of an application of the server's own, whose endpoints are the operational webhook endpoints.
"""

from typing import Any

import msgspec

from tenterhook.clock import to_rfc3339
from tenterhook.model import Application, Endpoint, Task

EVENTS = {
    "endpoint.created": "An endpoint was created.",
    "endpoint.updated": "An endpoint was changed, or its secret rotated.",
    "endpoint.deleted": "An endpoint was deleted, alone or with its application.",
    "endpoint.enabled": "An endpoint was switched on again.",
    "endpoint.disabled": "An endpoint was switched off: by hand, or its receiver answered 410 or only failed for too long.",
    "message.attempt.failing": "A delivery has failed for the fourth time; it goes on being retried.",
    "message.attempt.exhausted": "A delivery has failed for good: its schedule or its lifetime is used up.",
    "message.attempt.recovered": "A delivery succeeded after at least four failures.",
    "background_task.finished": "A background task is finished, or has failed.",
}
"""Every kind of event, with what it means: docs/operational-webhooks.md lists the same."""


def body(kind: str, data: dict[str, Any]) -> bytes:
    """The payload of a message of this kind."""
    return msgspec.json.encode({"type": kind, "data": data})


def of_endpoint(app: Application, endpoint: Endpoint) -> dict[str, Any]:
    return {"appId": app.id, "appUid": app.uid, "endpointId": endpoint.id, "endpointUid": endpoint.uid}


def of_disabling(app: Application, endpoint: Endpoint, failing_since: int | None, trigger: str) -> dict[str, Any]:
    """`trigger` is manual or automatic."""
    since = None if failing_since is None else to_rfc3339(failing_since)
    return {**of_endpoint(app, endpoint), "failSince": since, "trigger": trigger}


def of_attempt(
    app: Application, message: tuple[str, str | None], endpoint: tuple[str, str | None], last: tuple[str, int, int]
) -> dict[str, Any]:
    """A message and an endpoint by their ids and names, and the last attempt: its id, the status, when it began (µs UTC)."""
    attempt, status, started_at = last
    return {
        "appId": app.id,
        "appUid": app.uid,
        "msgId": message[0],
        "msgEventId": message[1],
        "endpointId": endpoint[0],
        "endpointUid": endpoint[1],
        "lastAttempt": {"id": attempt, "responseStatusCode": status, "timestamp": to_rfc3339(started_at)},
    }


def of_task(task: Task) -> dict[str, Any]:
    return {"taskId": task.id, "task": task.kind, "status": task.state.value, "data": task.data}
