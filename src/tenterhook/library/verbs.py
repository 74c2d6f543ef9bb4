"""What a program can ask for: the operations of the REST API as methods, which only build requests.

The methods are those of the API and take its fields in snake case. What they return is up to who answers the requests:
the document itself (`Tenterhook`), or something to await (`AsyncTenterhook`).
"""

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Struct

JSON = dict[str, Any]
R = TypeVar("R")


class Request(Struct, frozen=True):
    """One call of the API; `target` is the path below `/api/v1` with its query."""

    method: str
    target: str
    body: bytes = b""
    idempotency_key: str | None = None


def request(
    method: str, *steps: str, query: Mapping[str, Any] | None = None, body: object = None, key: str | None = None
) -> Request:
    """`steps` are words of the path, escaped here; None in the query is left out."""
    path = "/" + "/".join(quote(step, safe="") for step in steps)
    asked = {name: _text(value) for name, value in (query or {}).items() if value is not None}
    target = f"{path}?{urlencode(asked)}" if asked else path
    return Request(method, target, b"" if body is None else msgspec.json.encode(body), key)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, list | tuple) else str(value)


def camel(fields: Mapping[str, Any]) -> JSON:
    """`throttle_rate` → `throttleRate`, as the API writes it."""
    return {_camel(name): value for name, value in fields.items()}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


class Noun(Generic[R]):
    """Operations on one kind of thing. `do` answers a request."""

    def __init__(self, do: Callable[[Request], R]) -> None:
        self._do = do

    def _list(self, *steps: str, **query: Any) -> R:
        return self._do(request("GET", *steps, query=query))

    def _make(self, *steps: str, key: str | None, fields: Mapping[str, Any]) -> R:
        return self._do(request("POST", *steps, body=camel(fields), key=key))


class Applications(Noun[R]):
    """`/app`: the consumers of events. An application is named by its id or uid everywhere."""

    def list(self, *, limit: int | None = None, iterator: str | None = None, order: str | None = None) -> R:
        return self._list("app", limit=limit, iterator=iterator, order=order)

    def create(self, name: str, *, idempotency_key: str | None = None, **fields: Any) -> R:
        """`fields` are `uid`, `throttle_rate`, `metadata` …"""
        return self._make("app", key=idempotency_key, fields={"name": name, **fields})

    def get_or_create(self, name: str, uid: str, **fields: Any) -> R:
        """The application with this uid, made if there is none."""
        body = camel({"name": name, "uid": uid, **fields})
        return self._do(request("POST", "app", query={"get_if_exists": True}, body=body))

    def get(self, app: str) -> R:
        return self._do(request("GET", "app", app))

    def change(self, app: str, **fields: Any) -> R:
        """Only the fields that are given."""
        return self._do(request("PATCH", "app", app, body=camel(fields)))

    def delete(self, app: str) -> R:
        return self._do(request("DELETE", "app", app))


class Endpoints(Noun[R]):
    """`/app/{app}/endpoint`: where the messages of an application go."""

    def list(self, app: str, *, limit: int | None = None, iterator: str | None = None, order: str | None = None) -> R:
        return self._list("app", app, "endpoint", limit=limit, iterator=iterator, order=order)

    def create(self, app: str, url: str, *, idempotency_key: str | None = None, **fields: Any) -> R:
        """`fields` are `uid`, `event_types`, `channels`, `kind`, `secret`, `throttle_rate` …"""
        return self._make("app", app, "endpoint", key=idempotency_key, fields={"url": url, **fields})

    def get(self, app: str, endpoint: str) -> R:
        return self._do(request("GET", "app", app, "endpoint", endpoint))

    def change(self, app: str, endpoint: str, **fields: Any) -> R:
        """Only the fields that are given; the very next attempt goes by them."""
        return self._do(request("PATCH", "app", app, "endpoint", endpoint, body=camel(fields)))

    def delete(self, app: str, endpoint: str) -> R:
        return self._do(request("DELETE", "app", app, "endpoint", endpoint))

    def secret(self, app: str, endpoint: str) -> R:
        """`{"key": "whsec_…"}`."""
        return self._do(request("GET", "app", app, "endpoint", endpoint, "secret"))

    def rotate_secret(self, app: str, endpoint: str, **fields: Any) -> R:
        """`fields` are `key` and `grace_period_seconds`."""
        return self._make("app", app, "endpoint", endpoint, "secret", "rotate", key=None, fields=fields)

    def recover(self, app: str, endpoint: str, since: str, **fields: Any) -> R:
        """Send again what failed for good since then (RFC 3339)."""
        return self._make("app", app, "endpoint", endpoint, "recover", key=None, fields={"since": since, **fields})


class EventTypes(Noun[R]):
    """`/event-type`: the named kinds of events."""

    def list(self, *, limit: int | None = None, iterator: str | None = None, with_content: bool | None = None) -> R:
        return self._list("event-type", limit=limit, iterator=iterator, with_content=with_content)

    def create(self, name: str, description: str = "", **fields: Any) -> R:
        """`fields` are `schemas`, `group_name`, `feature_flags` …"""
        return self._make("event-type", key=None, fields={"name": name, "description": description, **fields})

    def get(self, name: str) -> R:
        return self._do(request("GET", "event-type", name))

    def delete(self, name: str) -> R:
        """Archive it."""
        return self._do(request("DELETE", "event-type", name))


class Messages(Noun[R]):
    """`/app/{app}/msg`: events."""

    def create(
        self, app: str, event_type: str, payload: object, *, idempotency_key: str | None = None, **fields: Any
    ) -> R:
        """Publish: when it is answered, message and deliveries are on the disk.

        `payload` is a JSON object: of Python, or its text as bytes, which are sent as they are. `fields` are `event_id`,
        `channels`, `tags`, `ordering_key`, `deliver_at` …
        """
        body = {"event_type": event_type, "payload": _raw(payload), **fields}
        return self._make("app", app, "msg", key=idempotency_key, fields=body)

    def list(self, app: str, **query: Any) -> R:
        """Newest first; `query` are `limit`, `iterator`, `event_types`, `channel`, `tag`, `before`, `after` …"""
        return self._list("app", app, "msg", **query)

    def get(self, app: str, message: str) -> R:
        return self._do(request("GET", "app", app, "msg", message))

    def destinations(self, app: str, message: str) -> R:
        """The endpoints that it is owed to, each with its status and next attempt."""
        return self._list("app", app, "msg", message, "endpoint")


def _raw(payload: object) -> object:
    return msgspec.Raw(payload) if isinstance(payload, bytes) else payload


class Attempts(Noun[R]):
    """Tries of deliveries, newest first."""

    def of_message(self, app: str, message: str, **query: Any) -> R:
        """`query` are `limit`, `iterator`, `status`, `endpoint_id` …"""
        return self._list("app", app, "attempt", "msg", message, **query)

    def of_endpoint(self, app: str, endpoint: str, **query: Any) -> R:
        """`query` are `limit`, `iterator`, `status`, `with_msg` …"""
        return self._list("app", app, "attempt", "endpoint", endpoint, **query)

    def resend(self, app: str, message: str, endpoint: str) -> R:
        """One more attempt at once, beside the schedule."""
        return self._make("app", app, "msg", message, "endpoint", endpoint, "resend", key=None, fields={})


class Verbs(Generic[R]):
    """The nouns of the API, and `send`, which most programs need alone."""

    def __init__(self) -> None:
        self.application: Applications[R] = Applications(self._do)
        self.endpoint: Endpoints[R] = Endpoints(self._do)
        self.event_type: EventTypes[R] = EventTypes(self._do)
        self.message: Messages[R] = Messages(self._do)
        self.attempt: Attempts[R] = Attempts(self._do)

    def _do(self, asked: Request) -> R:
        raise NotImplementedError

    def send(
        self, app: str, event_type: str, payload: object, *, idempotency_key: str | None = None, **fields: Any
    ) -> R:
        """`message.create`."""
        return self.message.create(app, event_type, payload, idempotency_key=idempotency_key, **fields)

    def call(self, method: str, *steps: str, body: object = None, **query: Any) -> R:
        """Any other operation of the API: `call("GET", "app", "acme", "source", limit=5)`."""
        return self._do(request(method, *steps, query=query, body=body))
