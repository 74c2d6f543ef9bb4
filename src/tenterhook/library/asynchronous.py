"""The pipeline on the event loop of the program that uses it."""

import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Self
from urllib.parse import unquote

import msgspec

from tenterhook import config
from tenterhook.api.http import Scope
from tenterhook.library.verbs import JSON, Request, Verbs
from tenterhook.observe import Instrument
from tenterhook.outbox import databases
from tenterhook.serve import Node, running
from tenterhook.settings import Settings, load

Outboxes = Sequence[Mapping[str, object]]


class Refused(Exception):
    """The request was not accepted: what the API answers, with its `status`, `code` and `detail`."""

    def __init__(self, status: int, document: JSON) -> None:
        detail = document.get("detail")
        if isinstance(detail, list):
            detail = "; ".join(f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in detail)
        self.status, self.document = status, document
        self.code: str = document.get("code", "value_error")
        self.detail = str(detail)
        super().__init__(f"{status} {self.code}: {self.detail}")


def settings_of(database: str, given: dict[str, str | bool | int]) -> tuple[Settings, str]:
    """The settings, with a token by which only this program calls its own API. Raises ConfigurationError."""
    token = str(given.get("admin_token") or secrets.token_urlsafe(32))
    flags = {"log_level": "warning", **given, "database": database, "admin_token": token}
    return load({}, {}, flags), token


class AsyncTenterhook(Verbs[Awaitable[JSON]]):
    """`async with AsyncTenterhook("sqlite:///hooks.db") as hooks: await hooks.send(…)`.

    It delivers in the background until it is closed; what is pending then goes on at the next start. A SQLite file is for
    one process; with a `postgresql://` database any number of processes share the work.
    """

    def __init__(
        self,
        database: str = "sqlite:///tenterhook.db",
        *,
        outboxes: Outboxes = (),
        watch: Instrument | None = None,
        **settings: str | bool | int,
    ) -> None:
        """`settings` are those of the server, as one writes them: `retry_schedule="5s,5m"`; so are `outboxes`, tables with
        the keys of `[[outbox]]`. Raises ConfigurationError."""
        super().__init__()
        self._outboxes = config.of_outboxes(outboxes, os.environ)
        databases.check(self._outboxes)
        self._settings, self._token = settings_of(database, settings)
        self._watch = watch
        self._open = AsyncExitStack()
        self._node: Node | None = None

    async def open(self) -> Self:
        """Begin to deliver. Raises StoreUnavailable, SchemaMismatch."""
        if self._node is None:
            node = await self._open.enter_async_context(running(self._settings, watch=self._watch))
            await node.relay(self._outboxes.outboxes)
            self._node = node
        return self

    async def close(self) -> None:
        """Let what is in flight end, write everything down."""
        self._node = None
        await self._open.aclose()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def each(self, verb: Callable[..., Awaitable[JSON]], *args: Any, **query: Any) -> AsyncIterator[JSON]:
        """Every item of a list: `async for endpoint in hooks.each(hooks.endpoint.list, "acme")`."""
        iterator: str | None = None
        while True:
            page = await verb(*args, **query, iterator=iterator)
            for item in page["data"]:
                yield item
            if page["done"]:
                return
            iterator = page["iterator"]

    async def _do(self, asked: Request) -> JSON:
        """Raises Refused, StoreUnavailable."""
        if self._node is None:
            raise RuntimeError("open it first: `async with AsyncTenterhook(…) as hooks`")
        status, body = await _answered(self._node, asked, self._token)
        document: JSON = msgspec.json.decode(body) if body else {}
        if status >= 300:
            raise Refused(status, document)
        return document


async def _answered(node: Node, asked: Request, token: str) -> tuple[int, bytes]:
    """What the API of the node says, without a network in between."""
    path, _, query = asked.target.partition("?")
    headers = [(b"authorization", b"Bearer " + token.encode())]
    if asked.idempotency_key is not None:
        headers.append((b"idempotency-key", asked.idempotency_key.encode()))
    scope: Scope = {
        "type": "http", "method": asked.method, "path": unquote(f"/api/v1{path}"), "query_string": query.encode(),
        "headers": headers,
    }  # fmt: skip
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": asked.body, "more_body": False}

    async def send(part: Any) -> None:
        sent.append(part)

    await node.api(scope, receive, send)
    return sent[0]["status"], b"".join(part["body"] for part in sent[1:])
