"""Nodes as users run them: processes of `tenterhook serve` on one database, which can be killed, frozen and restarted."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any, NamedTuple

from bench.harness import Server
from bench.load import headers
from bench.peer import request

PATIENCE = 90
"""How long anything may take that is not measured (s)."""

LEASE = 11
"""The shortest lease that the settings allow (s): an attempt of a second, and ten to write its result."""

SETTINGS = {
    "secret": "a master key of more than 32 characters",
    "lease": f"{LEASE}s",
    "delivery_timeout": "1s",
    "retry_schedule": ",".join(["200ms"] * 100),
    "log_level": "warning",
}
PATIENT = {"lease": "60s", "delivery_timeout": "30s"}
"""Settings for tests in which no lease ends and no attempt: one that a busy machine makes slow is not given up and repeated."""

ALERT = {**PATIENT, "module": "tests.faults.runner", "faults_upkeep": "3600"}
"""Moreover nothing is found again that was forgotten: what is due must be known."""

QUICK = 30
"""What is known needs no longer (s): half of a lease."""


class Answer(NamedTuple):
    """What a node answered; the names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """One keep-alive connection to a node, opened at the first request."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, raw: bytes) -> Answer:
        """Raises OSError when the connection ends before the answer does."""
        if self._stream is None:
            self._stream = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._stream
        writer.write(raw)
        try:
            status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
            fields = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            body = await reader.readexactly(int(fields.get("content-length", 0)))
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("the node closed the connection") from error
        return Answer(int(status.split()[1]), fields, body)

    def close(self) -> None:
        if self._stream is not None:
            self._stream[1].transport.abort()


class Place(NamedTuple):
    """Where a node works: a folder of its own, and the database that it shares."""

    folder: Path
    url: str


class Node:
    """One node in all its lives, with the same settings. `module` runs the program in a way of its own."""

    def __init__(self, place: Place, settings: dict[str, str], module: str) -> None:
        self.place, self._settings, self._module = place, settings, module
        self._server: Server | None = None
        place.folder.mkdir()

    async def start(self) -> "Node":
        """Return when it answers. Raises bench.harness.Failed when it refuses to run."""
        async with asyncio.timeout(PATIENCE):
            self._server = await Server.start(self.place, self._module, **self._settings)
        return self

    @property
    def server(self) -> Server:
        assert self._server is not None
        return self._server

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def running(self) -> bool:
        return self._server is not None and self._server.alive

    def kill(self) -> None:
        """At once."""
        if self._server is not None:
            self.server.kill()

    def freeze(self) -> None:
        """Stop it in its tracks: its connections stay open, and it does not know."""
        self.server.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.server.process.send_signal(signal.SIGCONT)

    async def stop(self, seconds: float = PATIENCE) -> int:
        """Ask it to end; its exit code. Raises TimeoutError."""
        self.server.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(seconds):
            code = await asyncio.to_thread(self.server.process.wait)
        self.kill()
        return code

    async def call(self, method: str, path: str, body: object = None, seconds: float = PATIENCE) -> Any:
        """The decoded answer of the API. Raises AssertionError for an error."""
        answer = await self.try_call(method, path, body, seconds)
        assert answer.status < 300, f"{method} {path}: {answer}"
        return answer.json if answer.body else None

    async def try_call(self, method: str, path: str, body: object = None, seconds: float = PATIENCE) -> Answer:
        """The answer of the API, whatever it is. Raises OSError, TimeoutError."""
        payload = b"" if body is None else json.dumps(body).encode()
        return await self._ask(request(method, f"/api/v1{path}", headers(), payload), seconds)

    async def _ask(self, raw: bytes, seconds: float) -> Answer:
        connection = Connection(self.port)
        try:
            async with asyncio.timeout(seconds):
                return await connection.ask(raw)
        finally:
            connection.close()

    async def app(self, *endpoints: dict[str, Any]) -> tuple[str, list[str]]:
        """A new application and its endpoints, by id."""
        app = (await self.call("POST", "/app", {"name": "faults"}))["id"]
        made = [await self.call("POST", f"/app/{app}/endpoint", endpoint) for endpoint in endpoints]
        return app, [endpoint["id"] for endpoint in made]

    async def receive(self, token: str, body: bytes = b"{}", seconds: float = PATIENCE) -> Answer:
        """What a source answers. Raises OSError, TimeoutError."""
        return await self._ask(request("POST", f"/in/{token}", {"content-type": "application/json"}, body), seconds)

    async def message(self, app: str, **fields: Any) -> str:
        """The id of a new message."""
        body = {"eventType": "invoice.paid", "payload": {"n": 1}} | fields
        return str((await self.call("POST", f"/app/{app}/msg", body))["id"])


class Nodes:
    """The nodes of a test."""

    def __init__(self, url: str, where: Path) -> None:
        self.url, self._where = url, where
        self.all: list[Node] = []

    def node(self, url: str | None = None, module: str = "tenterhook", **settings: str) -> Node:
        """One more node, which has to be started; by default on the database of all."""
        place = Place(self._where / f"node-{len(self.all)}", url or self.url)
        node = Node(place, {**SETTINGS, **settings}, module)
        self.all.append(node)
        return node

    async def start(self, count: int = 1, **settings: str) -> list[Node]:
        """More nodes, started."""
        return list(await asyncio.gather(*(self.node(**settings).start() for _ in range(count))))

    @property
    def running(self) -> list[Node]:
        return [node for node in self.all if node.running]

    def last_words(self) -> str:
        """The end of the log of each node."""
        logs = ((node.place.folder.name, node.server.last_words()) for node in self.all if node._server is not None)
        return "\n".join(f"--- {name}\n{words}" for name, words in logs)

    def end(self) -> None:
        """Kill what runs, and print the logs for whoever looks into a failure."""
        for node in self.all:
            node.kill()
        print(self.last_words())
