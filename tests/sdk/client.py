"""The official Python SDK, a client that we did not write: blocking or not, behind one face, with what it has requested."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import httpx
from svix.api import (
    ApplicationIn,
    BackgroundTaskOut,
    BackgroundTaskStatus,
    EndpointIn,
    MessageIn,
    MessageOut,
    Svix,
    SvixAsync,
    SvixOptions,
)

from tenterhook.serve import http_server, listen
from tests.api import ADMIN, GRACE, URL, Server, running

Kind = Literal["sync", "async"]


class Request(NamedTuple):
    """What an operation asked for, and the status of the answer."""

    operation: str
    method: str
    path: str
    status: int


class Sdk:
    """`await sdk.application.get(app)` calls the SDK; a blocking one gets a thread for it."""

    def __init__(self, server: Server, url: str, kind: Kind, token: str = ADMIN) -> None:
        self.server, self.requests = server, list[Request]()
        self._url, self._kind = url, kind
        self._clients: list[Svix | SvixAsync] = []
        self._client = self._made(token)

    def __getattr__(self, group: str) -> "Face":
        return Face(self, getattr(self._client, group), group)

    def login(self, token: str) -> "Sdk":
        """The same with another token."""
        other = object.__new__(Sdk)
        other.__dict__ = dict(self.__dict__)
        other._client = self._made(token)
        return other

    def _made(self, token: str) -> Svix | SvixAsync:
        options = SvixOptions(server_url=self._url, retry_schedule=[])
        client = Svix(token, options) if self._kind == "sync" else SvixAsync(token, options)
        self._clients.append(client)
        return client

    async def close(self) -> None:
        """The SDK has no way to close its connections."""
        for client in self._clients:
            if isinstance(client, Svix):
                client._httpx_client.close()
            else:
                await client._httpx_client.aclose()

    async def app(self, **fields: Any) -> str:
        """The id of a new application."""
        application = await self.application.create(ApplicationIn(**{"name": "Acme"} | fields))
        return str(application.id)

    async def endpoint_of(self, app: str, **fields: Any) -> str:
        """The id of a new endpoint."""
        endpoint = await self.endpoint.create(app, EndpointIn(**{"url": URL} | fields))
        return str(endpoint.id)

    async def publish(self, app: str, **fields: Any) -> MessageOut:
        """A new message."""
        message = MessageIn(**{"event_type": "invoice.paid", "payload": {"n": 1}} | fields)
        published: MessageOut = await self.message.create(app, message)
        return published

    async def delivered(self, **fields: Any) -> tuple[str, str, str]:
        """A new application, its endpoint, and a message that has been attempted there."""
        app = await self.app()
        endpoint = await self.endpoint_of(app)
        before = len(self.server.watch.attempts)
        message = await self.publish(app, **fields)
        await self.server.watch.settled(before + 1)
        return app, endpoint, message.id

    async def finished(self, task: str) -> BackgroundTaskOut:
        """A background task when it has ended; each question is a round trip, so nothing spins."""
        async with asyncio.timeout(GRACE):
            while True:
                found: BackgroundTaskOut = await self.background_task.get(task)
                if found.status is not BackgroundTaskStatus.RUNNING:
                    return found


class Face:
    """A resource of the SDK, or one of its operations."""

    def __init__(self, sdk: Sdk, target: Any, name: str) -> None:
        self._sdk, self._target, self._name = sdk, target, name

    def __getattr__(self, name: str) -> "Face":
        return Face(self._sdk, getattr(self._target, name), f"{self._name}.{name}")

    async def __call__(self, *args: Any) -> Any:
        sent: list[httpx.Response] = []
        client = self._target.__self__._httpx_client
        blocking = isinstance(client, httpx.Client)
        hook = sent.append if blocking else _later(sent.append)
        client.event_hooks = {"response": [hook]}
        try:
            return await (asyncio.to_thread(self._target, *args) if blocking else self._target(*args))
        finally:
            self._sdk.requests.extend(
                Request(self._name, answer.request.method, answer.request.url.path, answer.status_code)
                for answer in sent
            )


def _later(hook: Callable[[httpx.Response], None]) -> Callable[[httpx.Response], Any]:
    async def hooked(answer: httpx.Response) -> None:
        hook(answer)

    return hooked


def operations_of(resource: Any, prefix: str = "") -> Iterator[str]:
    """The names of all methods of a client that make a request, `message.poller.poll` for example."""
    for name, member in inspect.getmembers(type(resource)):
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            yield from operations_of(getattr(resource, name), f"{prefix}{name}.")
        elif inspect.isfunction(member):
            yield prefix + name


@asynccontextmanager
async def connected(path: Path, kind: Kind) -> AsyncIterator[Sdk]:
    """The SDK and a real server on a loopback port, with an empty database."""
    async with running(path) as server:
        sock = listen("127.0.0.1", 0)
        http = http_server(server.api)
        serving = asyncio.create_task(http.serve([sock]))
        sdk = Sdk(server, f"http://127.0.0.1:{sock.getsockname()[1]}", kind)
        try:
            yield sdk
        finally:
            await sdk.close()
            http.should_exit = True
            await serving
