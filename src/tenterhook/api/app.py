"""The ASGI application: finds the route, checks the token, calls the handler, and turns every error into JSON."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import quote
from weakref import WeakValueDictionary

from tenterhook.api import (
    about,
    applications,
    attempts,
    authentication,
    deliveries,
    endpoint_parts,
    endpoints,
    erasure,
    event_types,
    examples,
    imports,
    inbound,
    integrations,
    messages,
    operational,
    pollers,
    replays,
    sources,
    statistics,
    tasks,
    transformations,
)
from tenterhook.api.auth import Authenticator
from tenterhook.api.http import (
    Call,
    Receive,
    Response,
    Scope,
    Send,
    error_response,
    json_response,
    send_response,
)
from tenterhook.api.idempotency import Idempotency
from tenterhook.api.openapi import encoded
from tenterhook.api.query import Query
from tenterhook.api.quota import Counter, Headers, Quotas
from tenterhook.api.routes import Access, Route, Router
from tenterhook.clock import Clock
from tenterhook.engine.tasks import TaskRunner
from tenterhook.errors import ChangedMeanwhile, NotFound, TenterhookError
from tenterhook.hub import Hub
from tenterhook.registry import Registry
from tenterhook.store.base import Store

log = logging.getLogger(__name__)

BODY_LIMIT = 1 << 20
_CHANGES = 5
T = TypeVar("T")
ROUTES: list[Route] = [
    *applications.ROUTES,
    *authentication.ROUTES,
    *event_types.ROUTES,
    *imports.ROUTES,
    *endpoints.ROUTES,
    *endpoint_parts.ROUTES,
    *transformations.ROUTES,
    *examples.ROUTES,
    *replays.ROUTES,
    *messages.ROUTES,
    *pollers.ROUTES,
    *attempts.ROUTES,
    *deliveries.ROUTES,
    *erasure.ROUTES,
    *sources.ROUTES,
    *integrations.ROUTES,
    *about.ROUTES,
    *operational.ROUTES,
    *tasks.ROUTES,
    *statistics.ROUTES,
]

_CORS = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE, OPTIONS"),
    (b"access-control-max-age", b"600"),
)


class Api:
    """What the handlers work with, and the entry point for the server.

    `ready` says whether the server can do its work, `metrics` makes the page for Prometheus. `public_url` begins the
    URLs of sources, where it is known. One that does not `answer` is of a node that only delivers.
    """

    def __init__(
        self,
        hub: Hub,
        registry: Registry,
        runner: TaskRunner,
        store: Store,
        clock: Clock,
        admin_token: str | None,
        ready: Callable[[], bool],
        metrics: Callable[[], Any],
        body_limit: int = BODY_LIMIT,
        public_url: str | None = None,
        answers: bool = True,
        quotas: Quotas | None = None,
    ) -> None:
        self.hub, self.registry, self.tasks, self.store, self.clock = hub, registry, runner, store, clock
        self.auth = Authenticator(store, clock, admin_token)
        self.idempotency = Idempotency(store, clock)
        self.public_url = (public_url or "").rstrip("/")
        self._changing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._counter = Counter(quotas or Quotas(), clock)
        self._router, self._answers = Router(ROUTES), answers
        self._ready, self._metrics, self._body_limit = ready, metrics, body_limit

    @cached_property
    def openapi(self) -> bytes:
        """The document that describes the API."""
        return encoded(ROUTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            response = await self._respond(scope, receive)
        except TenterhookError as error:
            response = _failure(scope, error)
        except Exception:
            log.exception("%s %s failed", scope["method"], _loggable(scope["path"]))
            response = _failure(scope, TenterhookError())
        await send_response(send, response)

    async def _respond(self, scope: Scope, receive: Receive) -> Response:
        path: str = scope["path"]
        if not self._answers and path.startswith(("/api/", "/in/")):
            raise NotFound("this node has the role worker: ask one with the role api or all")
        if "\0" in path:
            raise NotFound("there is nothing at this path")  # no name has one, and not every database can look for it
        if path.startswith("/api/"):
            return await self._call(scope, receive, path)
        if path.startswith("/in/"):
            return await inbound.respond(self, scope, receive)
        return await self._probe(path)

    async def _call(self, scope: Scope, receive: Receive, path: str) -> Response:
        if scope["method"] == "OPTIONS":
            return Response(204, b"", (*_CORS, *_allowed_headers(scope)))
        route, params = self._router.find(scope["method"], path)
        call = Call(scope, receive, route, params, self._body_limit)
        counted: Headers = ()
        if route.access is not Access.PUBLIC:
            call.token = await self.auth.token(call.header(b"authorization"))
            app = None
            if route.access is Access.APPLICATION and "app_id" in params and call.token.app is not None:
                app = await self._id_of(params["app_id"])
            self.auth.check(call.token, route, app)
            counted = self._counter.take(call.token)
        call.query = Query(call.query_text, route.query)
        response = await self._handle(route, call)
        return Response(response.status, response.body, (*response.headers, *counted, _CORS[0]))

    async def _handle(self, route: Route, call: Call) -> Response:
        if route.method not in ("PUT", "PATCH", "DELETE"):
            return await route.handler(self, call)
        await call.body()  # before the lock, which a slow client must not hold
        return await self.change(call, lambda: route.handler(self, call))

    async def change(self, call: Call, work: Callable[[], Awaitable[T]]) -> T:
        """Do what reads something of an application, changes it and writes it back, so that no change is lost.

        One at a time on this node, and anew when another node was faster. Raises ChangedMeanwhile after some tries.
        """
        async with await self.changing(call):
            for _ in range(_CHANGES - 1):
                with suppress(ChangedMeanwhile):
                    return await work()
            return await work()

    async def changing(self, call: Call) -> asyncio.Lock:
        """Held by whoever changes something of an application on this node."""
        owner = call.params.get("app_id", "")
        return self._changing.setdefault(await self._id_of(owner) if owner else "", asyncio.Lock())

    async def _id_of(self, app: str) -> str:
        """The id of an application given by id or uid; what is none stays as it is."""
        with suppress(NotFound):
            return (await self.registry.application(app)).id
        return app

    async def _probe(self, path: str) -> Response:
        if path == "/healthz":
            return json_response(200, {"status": "ok"})
        if path == "/readyz":
            return json_response(200, {"status": "ok"}) if self._ready() else json_response(503, {"status": "starting"})
        if path == "/metrics":
            page: bytes = await self._metrics()
            return Response(200, page, ((b"content-type", b"text/plain; version=0.0.4; charset=utf-8"),))
        raise NotFound("there is nothing at this path")


def _loggable(path: str) -> str:
    """On one line, and without the token that opens a source."""
    return "/in/..." if path.startswith("/in/") else quote(path)


def _failure(scope: Scope, error: TenterhookError) -> Response:
    response = error_response(error)
    if scope["path"].startswith("/api/"):
        response.headers = (*response.headers, _CORS[0])
    return response


def _allowed_headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    asked = [value for name, value in scope["headers"] if name == b"access-control-request-headers"]
    return [(b"access-control-allow-headers", value) for value in asked[:1]]
