"""The real server inside a test, called through ASGI: everything of ours is real, only what is sent goes to a recorder."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec

from tenterhook import netguard
from tenterhook.addresses import Rules
from tenterhook.api.app import Api
from tenterhook.clock import Clock
from tenterhook.model import Attempt, Delivery, Endpoint, Message, Outcome, Result, Task
from tenterhook.observe import Instrument
from tenterhook.registry import create_token
from tenterhook.serve import Node
from tenterhook.settings import Settings
from tenterhook.store.base import Store
from tenterhook.store.sqlite import SqliteStore
from tenterhook.vault import Vault
from tests import document

ADMIN = "an-admin-token-of-the-tests"
URL = "https://receiver.example/hook"
OK = Outcome(result=Result.OK, status=200, url=URL, response_body=b"thanks")
REFUSED = Outcome(result=Result.RETRY, status=500, url=URL, response_body=b"no")
GRACE = 60
"""How long a test waits for what must happen (s): only against hanging."""


class Recorder:
    """The sender: keeps what it is given and answers by script, the last line again and again."""

    def __init__(self) -> None:
        self.sent: list[tuple[Message, Endpoint]] = []
        self.outcomes: list[Outcome] = [OK]

    async def send(self, message: Message, endpoint: Endpoint, *, deadline: int, now: int) -> Outcome:
        self.sent.append((message, endpoint))
        return self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]

    async def close(self) -> None:
        """Nothing is kept open."""


class Watch(Instrument):
    """Lets a test wait until attempts are on the disk."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.tasks: list[Task] = []
        self._more = asyncio.Event()

    def attempt_settled(self, delivery: Delivery, attempt: Attempt, kept: bool) -> None:
        self.attempts.append(attempt)
        self.happened()

    def task_ended(self, task: Task) -> None:
        self.tasks.append(task)
        self.happened()

    def happened(self) -> None:
        """Something that a test may wait for."""
        self._more.set()

    async def settled(self, count: int) -> list[Attempt]:
        """At least `count` attempts, since the server began."""
        await self.until(lambda: len(self.attempts) >= count)
        return self.attempts

    async def ended(self, task: str) -> Task:
        """A task, when it has ended."""
        await self.until(lambda: any(one.id == task for one in self.tasks))
        return next(one for one in self.tasks if one.id == task)

    async def until(self, done: Callable[[], bool]) -> None:
        """Until that holds of what has happened."""
        async with asyncio.timeout(GRACE):
            while not done():
                self._more.clear()
                await self._more.wait()


async def attempts_of(servers: Sequence["Server"], count: int) -> list[Attempt]:
    """At least `count` attempts of all servers together, in the order in which they began."""

    def made() -> list[Attempt]:
        return sorted((one for server in servers for one in server.watch.attempts), key=lambda one: one.started_at)

    async with asyncio.timeout(GRACE):
        while len(made()) < count:
            more = [asyncio.create_task(server.watch.settled(len(server.watch.attempts) + 1)) for server in servers]
            await asyncio.wait(more, return_when=asyncio.FIRST_COMPLETED)
            for waiting in more:
                waiting.cancel()
    return made()


class PublicNames:
    """Every name is that of a public address."""

    async def resolve(self, host: str) -> list[IPv4Address]:
        return [IPv4Address("93.184.215.14")]


class Answer:
    """What the server answered."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status, self.body, self.lines = status, body, headers
        self.headers = {name.decode(): value.decode() for name, value in headers}

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    def __repr__(self) -> str:
        return f"{self.status} {self.body[:300]!r}"


class Server:
    """A running server. Paths are below `/api/v1` unless they begin with `//`."""

    def __init__(self, node: Node, recorder: Recorder, watch: Watch) -> None:
        self.node, self.recorder, self.watch = node, recorder, watch
        self.api: Api = node.api
        self.store = node.store

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = ADMIN,
        headers: Mapping[str, str] | None = None,
        chunks: list[bytes] | None = None,
    ) -> Answer:
        """`body` as JSON, or bytes as they are; `chunks` instead, to send it in pieces without a length.

        Whatever is answered must be as documented.
        """
        target = path[1:] if path.startswith("//") else "/api/v1" + path
        raw, _, query = target.partition("?")
        lines = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        if token is not None:
            lines.append((b"authorization", b"Bearer " + token.encode()))
        data = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
        if chunks is None:
            chunks = [data]
            lines.append((b"content-length", str(len(data)).encode()))
        scope: dict[str, Any] = {
            "type": "http", "method": method, "path": unquote(raw), "raw_path": raw.encode(),
            "query_string": query.encode(), "headers": lines,
        }  # fmt: skip
        answer = await _asgi(self.api, scope, chunks)
        if target.startswith(("/api/", "/ingest/")):
            document.check(method, scope["path"], b"".join(chunks), answer.status, answer.headers, answer.body)
        return answer

    async def get(self, path: str, **more: Any) -> Answer:
        return await self.call("GET", path, **more)

    async def post(self, path: str, body: object = None, **more: Any) -> Answer:
        return await self.call("POST", path, body, **more)

    async def put(self, path: str, body: object = None, **more: Any) -> Answer:
        return await self.call("PUT", path, body, **more)

    async def patch(self, path: str, body: object = None, **more: Any) -> Answer:
        return await self.call("PATCH", path, body, **more)

    async def delete(self, path: str, **more: Any) -> Answer:
        return await self.call("DELETE", path, **more)

    async def app(self, **fields: Any) -> str:
        """The id of a new application."""
        return made(await self.post("/app", {"name": "Acme"} | fields))

    async def endpoint(self, app: str, **fields: Any) -> str:
        """The id of a new endpoint."""
        return made(await self.post(f"/app/{app}/endpoint", {"url": URL} | fields))

    async def message(self, app: str, **fields: Any) -> str:
        """The id of a new message."""
        return made(await self.post(f"/app/{app}/msg", {"eventType": "invoice.paid", "payload": {"n": 1}} | fields))

    async def source(self, app: str, **fields: Any) -> dict[str, Any]:
        """A new source."""
        answer = await self.post(f"/app/{app}/source", {"name": "Anyone", "provider": "none"} | fields)
        made(answer)
        source: dict[str, Any] = answer.json
        return source

    async def token(self, scope: str, app: str | None = None) -> str:
        """The text of a new token."""
        return (await create_token(self.store, self.store.clock, name="of a test", scope=scope, app=app))[1]


async def _asgi(api: Api, scope: dict[str, Any], chunks: list[bytes]) -> Answer:
    events = [
        {"type": "http.request", "body": chunk, "more_body": n < len(chunks)} for n, chunk in enumerate(chunks, start=1)
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return events.pop(0) if events else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await api(scope, receive, send)
    start, *parts = sent
    return Answer(start["status"], start["headers"], b"".join(part["body"] for part in parts))


def made(answer: Answer) -> str:
    """The id of what was created."""
    assert answer.status in (200, 201, 202), answer
    name: str = answer.json["id"]
    return name


@asynccontextmanager
async def running(
    path: Path, store: Store | None = None, clock: Clock | None = None, **settings: Any
) -> AsyncIterator[Server]:
    """A server on an empty database under `path`, or on another one; it goes by the clock of the database or another one."""
    recorder, watch = Recorder(), Watch()
    store = store or SqliteStore.open(path / "t.db", Vault([b"0" * 32]), synchronous="OFF")
    chosen = {"admin_token": ADMIN, "log_level": "error", "retry_schedule": ()} | settings
    node = Node(Settings(**chosen), store, clock=clock, watch=watch)
    node.guard = netguard.Guard(Rules(), PublicNames())
    node.senders._made.update(dict.fromkeys(("webhook", "slack"), recorder))  # the seam to the outside
    await node.start()
    try:
        yield Server(node, recorder, watch)
    finally:
        await node.stop()
